//! Keeps a session's records on disk: each change is written, by a task of its own, off the thread on
//! which pods are decided on. A disk that is full is told, and ends nothing that runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::board::Known;
use super::record::{Record, VERSION};
use super::session::Inner;
use super::{alive, names};
use crate::hands::Streams;

/// After a write that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Which revision of each pod is on disk.
#[derive(Debug, Default)]
pub(super) struct Written(Mutex<BTreeMap<String, u64>>);

impl Inner {
    /// What is told of a pod, on disk and over the socket.
    pub(super) fn record(&self, known: &Known) -> Record {
        Record {
            version: VERSION,
            pod: known.pod(),
            command: self.options.command.clone(),
            pid: std::process::id(),
            kept: self.options.kept,
            logged: matches!(self.options.streams, Streams::Logs),
            events: known.events.clone(),
        }
    }

    /// All pods, in the order in which they came.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut all = self.board.all();
        all.sort_by_key(|known| known.order);
        all.iter().map(|known| self.record(known)).collect()
    }

    /// Writes down what has changed, and removes what is of pods that are gone. Blocks.
    ///
    /// # Errors
    /// The first one; what could be written is.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        if !self.options.kept {
            return Ok(());
        }
        // One at a time, so that an older state never takes the place of a later one.
        let mut written = self
            .written
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let all = self.board.all();
        let mut outcome = Ok(());
        for known in &all {
            if written.get(known.uid()) == Some(&known.revision) {
                continue;
            }
            match self.record(known).write(&self.alive.site().folder()) {
                Ok(()) => {
                    written.insert(known.uid().to_owned(), known.revision);
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        let gone: Vec<String> = written
            .keys()
            .filter(|uid| !all.iter().any(|known| known.uid() == uid.as_str()))
            .cloned()
            .collect();
        for uid in gone {
            match self.forget(&uid) {
                Ok(()) => {
                    written.remove(&uid);
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }

    /// Removes what is left of a pod that is gone. Blocks.
    ///
    /// # Errors
    /// When something can't be removed.
    pub(super) fn finish(&self, uid: &str) -> anyhow::Result<()> {
        match self.options.kept {
            true => self.save(),
            false => self.forget(uid),
        }
    }

    /// Removes the record, the logs and the name of a pod that is gone.
    fn forget(&self, uid: &str) -> anyhow::Result<()> {
        alive::remove_logs(&self.dirs, uid)?;
        alive::gone(&Record::path(&self.alive.site().folder(), uid))?;
        names::free(&self.dirs, &self.options.id, Some(uid));
        Ok(())
    }
}

/// Writes whenever something has changed, for as long as the session lives.
pub(super) async fn keep(inner: Weak<Inner>) {
    let Some(mut changes) = inner.upgrade().map(|inner| inner.board.changes()) else {
        return;
    };
    let mut told = false;
    loop {
        let saved = match inner.upgrade() {
            Some(inner) => tokio::task::spawn_blocking(move || inner.save()).await,
            None => return,
        };
        match saved {
            Ok(Ok(())) => told = false,
            Ok(Err(error)) => {
                tell(&error, &mut told);
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Err(_) => return,
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Once, until it goes well again.
fn tell(error: &anyhow::Error, told: &mut bool) {
    if !std::mem::replace(told, true) {
        tracing::error!(
            error = format!("{error:#}"),
            "a record can't be written; the pods go on, and it is tried again"
        );
    }
}

impl Inner {
    /// The last time: what can't be written now never is.
    pub(super) fn save_at_the_end(self: &Arc<Self>) {
        if let Err(error) = self.save() {
            tracing::error!(
                error = format!("{error:#}"),
                "the end of a pod can't be written down: `ps` will show it as lost"
            );
        }
    }
}
