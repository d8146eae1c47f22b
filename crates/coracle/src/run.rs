//! `coracle run`: one pod, in this process, until it ends.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use agent::{Agent, Clock, Config, Ports, TokioClock, Volatile};
use anyhow::{Context, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lifecycle::{Costs, Resources};
use runtime::{Host, Local, LocalConfig};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::cli::run::Args;
use crate::cli::user_root;
use crate::dirs::Dirs;
use crate::hands::{Hands, Place, Streams};
use crate::outlet::{End, TerminalOutlet};
use crate::progress::Reporter;
use crate::runs::{self, Alive};
use crate::{facts, program};

/// What a shell reports of a process that SIGINT ended: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

/// A guest that is stopped at once, as by SIGTERM: 128 + 15.
const TERMINATED: i32 = 143;

/// Runs the pod that `args` describe; gives the exit code.
///
/// # Errors
/// When no guest of it ran.
pub(crate) fn run(args: Args) -> anyhow::Result<u8> {
    program::log("warn");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(Run::start(args)?.into_code());
    // The pod has let go of everything: nothing that a thread still does is waited for.
    runtime.shutdown_background();
    code
}

/// What one `run` holds.
struct Run {
    pod: Pod,
    hands: Arc<Hands>,
    host: Arc<Host>,
    /// Until nothing of the pod is left.
    _alive: Alive,
}

impl Run {
    fn start(args: Args) -> anyhow::Result<Run> {
        let pod = args.pod(&program::uid())?;
        let root = match &args.root_dir {
            Some(root) => root.clone(),
            None => user_root()?,
        };
        let dirs = Dirs::open(&root)?;
        runs::sweep(&dirs);
        let alive = Alive::take(&dirs, pod.metadata.uid.as_deref().unwrap_or_default())?;
        let config = LocalConfig {
            // One guest runs on one thread at a time, and all there is is its own.
            workers: Some(1),
            room: Some((u64::MAX, u64::MAX)),
        };
        let host = Arc::new(Host::Local(Local::new(config)?));
        let hands = Hands::new(
            dirs.clone(),
            image::Store::open(&dirs.images())?,
            program::compiler(&dirs)?,
            host.clone(),
            Place {
                pod_ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
                host_ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
                streams: Streams::Attached(args.attach()),
                local_images: true,
            },
            Reporter::new(!args.quiet),
        );
        Ok(Run {
            pod,
            hands: Arc::new(hands),
            host,
            _alive: alive,
        })
    }

    async fn into_code(self) -> anyhow::Result<u8> {
        let (outlet, end, released) = TerminalOutlet::new();
        let clock = Arc::new(TokioClock::default());
        let ports = Ports {
            hands: self.hands.clone(),
            outlet: Arc::new(outlet),
            checkpoints: Arc::new(Volatile),
            clock: clock.clone(),
        };
        let config = Config {
            allocatable: whole_machine(),
            costs: Costs::default(),
            host_ips: self.hands.place.host_ips.clone(),
        };
        let (agent, _) = Agent::start(config, ports).await?;
        agent.guests_known(Vec::new(), clock.now());
        agent.apply(self.pod.clone())?;
        agent.sources_ready();
        let outcome = Waiting::new(&agent, &self.pod, &self.host)?
            .until(end, released)
            .await;
        agent.abandon();
        outcome
    }
}

/// A laptop has one pod at a time: nothing is counted.
fn whole_machine() -> Resources {
    Resources {
        cpu_milli: u64::MAX,
        memory: u64::MAX,
        pods: u64::MAX,
        mappings: u64::MAX,
        descriptors: u64::MAX,
        ephemeral_storage: u64::MAX,
    }
}

/// Waits for the end, and for whoever wants it sooner.
struct Waiting<'a> {
    agent: &'a Agent,
    pod: &'a Pod,
    exits: runtime::Events,
    interrupts: Signal,
    terminations: Signal,
    asked: u32,
    interrupted: bool,
}

impl<'a> Waiting<'a> {
    fn new(agent: &'a Agent, pod: &'a Pod, host: &Host) -> anyhow::Result<Waiting<'a>> {
        Ok(Waiting {
            agent,
            pod,
            exits: host.events(),
            interrupts: signal(SignalKind::interrupt()).context("can't listen for Ctrl-C")?,
            terminations: signal(SignalKind::terminate()).context("can't listen for SIGTERM")?,
            asked: 0,
            interrupted: false,
        })
    }

    async fn until(
        mut self,
        mut end: watch::Receiver<Option<End>>,
        mut released: watch::Receiver<bool>,
    ) -> anyhow::Result<u8> {
        let mut ended = false;
        loop {
            tokio::select! {
                Some(exited) = self.exits.next() => facts::tell(self.agent, &exited),
                Some(()) = self.interrupts.recv() => { self.interrupted = true; self.stop()?; }
                Some(()) = self.terminations.recv() => self.stop()?,
                Ok(found) = end.wait_for(Option::is_some), if !ended => {
                    ended = true;
                    if matches!(*found, Some(End::Never(_))) {
                        // What failed to begin would be tried again for ever.
                        self.agent.gone(self.pod.metadata.uid.as_deref().unwrap_or_default());
                    }
                }
                Ok(_) = released.wait_for(|released| *released) => break,
            }
        }
        let end = end.borrow().clone();
        self.code(end)
    }

    /// The first time as a deletion does, then with no grace at all.
    fn stop(&mut self) -> anyhow::Result<()> {
        self.asked += 1;
        if self.asked > 1 {
            self.agent.shutdown(0);
            return Ok(());
        }
        let mut pod = self.pod.clone();
        let grace = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds);
        pod.metadata.deletion_timestamp = Some(Time(Timestamp::now()));
        pod.metadata.deletion_grace_period_seconds = grace;
        Ok(self.agent.apply(pod)?)
    }

    fn code(&self, end: Option<End>) -> anyhow::Result<u8> {
        match end {
            Some(End::Exited {
                code: TERMINATED, ..
            }) if self.interrupted => Ok(INTERRUPTED),
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
            Some(End::Never(_)) | None if self.interrupted => Ok(INTERRUPTED),
            Some(End::Never(message)) => bail!(message),
            None => bail!("the pod ended before its guest began"),
        }
    }
}
