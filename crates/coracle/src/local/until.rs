//! Waits until a session's pods have ended, and for whoever wants that sooner.

use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use lifecycle::node::Period;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::board::Known;
use super::end::{self, End};
use super::session::{Session, name_of};

/// What a shell reports of a process that SIGINT ended: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

/// No pod gets any grace.
const AT_ONCE: Period = Period {
    priority: 0,
    seconds: 0,
};

/// A guest that is stopped at once, as by SIGTERM: 128 + 15.
const TERMINATED: i32 = 143;

/// Who asks for the end, and how often.
struct Signals {
    interrupts: Signal,
    terminations: Signal,
    asked: u32,
    interrupted: bool,
}

impl Signals {
    fn new() -> anyhow::Result<Signals> {
        Ok(Signals {
            interrupts: signal(SignalKind::interrupt()).context("can't listen for Ctrl-C")?,
            terminations: signal(SignalKind::terminate()).context("can't listen for SIGTERM")?,
            asked: 0,
            interrupted: false,
        })
    }

    /// Resolves when somebody asks; tells how often that was.
    async fn asked(&mut self) -> u32 {
        tokio::select! {
            Some(()) = self.interrupts.recv() => self.interrupted = true,
            Some(()) = self.terminations.recv() => {}
        }
        self.asked += 1;
        self.asked
    }
}

impl Session {
    /// Runs until every pod has ended, or a signal ends them: SIGINT or SIGTERM gracefully, a second
    /// one at once. Gives the code to exit with: the first that is not 0, in the order of the pods.
    ///
    /// # Errors
    /// When no guest of a pod ran, and why.
    pub(crate) async fn until_done(self) -> anyhow::Result<u8> {
        let mut signals = Signals::new()?;
        let mut changes = self.inner.board.changes();
        loop {
            self.inner.tidy();
            let ending = self.inner.ending.load(Ordering::Relaxed);
            let lasts = self.inner.options.lasting && signals.asked == 0 && !ending;
            if !lasts && self.inner.is_over() {
                break;
            }
            tokio::select! {
                changed = changes.changed() => changed.context("the board is gone")?,
                asked = signals.asked() => self.end(asked),
            }
        }
        let outcome = self.code(signals.interrupted);
        self.inner.agent.abandon();
        self.inner.save_at_the_end();
        self.inner.close();
        outcome
    }

    /// The first time as a deletion does, then with no grace at all.
    fn end(&self, asked: u32) {
        match asked {
            1 => self.stop_all(),
            _ => self.inner.agent.shutdown(vec![AT_ONCE]),
        }
    }

    fn code(&self, interrupted: bool) -> anyhow::Result<u8> {
        let given_up = self.inner.all_given_up();
        let many = given_up.len() > 1;
        let why: Vec<String> = given_up
            .values()
            .map(|it| match many {
                true => format!("pod {}: {}", it.name, it.why),
                false => it.why.clone(),
            })
            .collect();
        let mut pods = self.inner.board.all();
        pods.sort_by_key(|known| known.order);
        let codes: Vec<anyhow::Result<u8>> = pods
            .iter()
            .filter(|known| !given_up.contains_key(known.uid()))
            .map(|known| code(known, interrupted))
            .collect();
        if !why.is_empty() && !interrupted {
            bail!(why.join("\n"));
        }
        let first = codes
            .into_iter()
            .find(|code| !matches!(code, Ok(0)))
            .transpose()?;
        let interrupted = (interrupted && !why.is_empty()).then_some(INTERRUPTED);
        Ok(first.or(interrupted).unwrap_or(0))
    }
}

/// The code of one pod that has ended.
fn code(known: &Known, interrupted: bool) -> anyhow::Result<u8> {
    let (namespace, name) = name_of(&known.pod);
    match end::end_of(&known.status) {
        Some(End::Exited {
            code: TERMINATED, ..
        }) if interrupted => Ok(INTERRUPTED),
        Some(End::Exited {
            code,
            reason,
            message,
        }) => {
            if reason == "OOMKilled" {
                eprintln!("coracle: {reason}: {message}");
            }
            Ok(u8::try_from(code).unwrap_or(u8::MAX))
        }
        Some(End::Never(_)) | None if interrupted => Ok(INTERRUPTED),
        Some(End::Never(message)) => bail!(message),
        None => bail!("the pod {namespace}/{name} ended before its guest began"),
    }
}
