//! What `step` has to remember of a pod between calls, and across a restart of the agent.
//!
//! Everything here was once decided or absorbed from a fact; nothing is a copy of what the Pod
//! says. Must not know: how it is stored ([`crate::checkpoint`]) or who reads it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};

use crate::action::{Cause, ProbeKind};
use crate::allocation::Allocation;
use crate::observed::{Exit, ExitKind, Failure, Image, Verdict};

/// What is remembered of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// `status.startTime`: when the pod was first seen here.
    pub start_time: Option<Timestamp>,
    /// What the node decided of the pod: sticky, so that a restart admits no pod twice. Only
    /// `Admitted` and `Refused` are kept; the others become [`Memory::terminating`].
    pub verdict: Option<Verdict>,
    /// The pod is being ended. Once set it is never unset.
    pub terminating: Option<Terminating>,
    /// The pod's folders.
    pub folders: Effort,
    /// The pod's addresses.
    pub address: Effort,
    /// The pod's addresses, once it has them; kept when they are given back, as the status keeps them.
    pub ips: Vec<IpAddr>,
    /// By container name, init containers too.
    pub containers: BTreeMap<String, Container>,
    /// The init containers were done once (they are not run again), or there were none.
    pub initialized: bool,
    /// All containers are being brought down, to begin anew.
    pub restarting: bool,
    /// What the pod was given of the resources that it asks for.
    pub resize: Resize,
    /// The conditions as last given, by type.
    pub conditions: BTreeMap<String, Condition>,
    /// The last phase that was given; a terminal one stays.
    pub phase: Option<Phase>,
    /// The pod was over when it was first seen here, so its status stays as the API has it.
    pub inherited: bool,
    /// The pod was here before this agent: it comes from a checkpoint. In no checkpoint itself.
    #[serde(skip)]
    pub adopted: bool,
}

impl Memory {
    /// Takes over from another what no checkpoint has.
    pub fn take_counts(&mut self, from: &Memory) {
        self.adopted = from.adopted;
        for (name, container) in &mut self.containers {
            let known = from.containers.get(name);
            container.probes = known.map(|one| one.probes).unwrap_or_default();
        }
    }

    /// True if a checkpoint of the one does for the other: they differ in what none has.
    pub fn same_checkpoint(&self, other: &Memory) -> bool {
        let Memory {
            start_time,
            verdict,
            terminating,
            folders,
            address,
            ips,
            containers,
            initialized,
            restarting,
            resize,
            conditions,
            phase,
            inherited,
            adopted: _,
        } = self;
        *start_time == other.start_time
            && *verdict == other.verdict
            && *terminating == other.terminating
            && *folders == other.folders
            && *address == other.address
            && *ips == other.ips
            && *initialized == other.initialized
            && *restarting == other.restarting
            && *resize == other.resize
            && *conditions == other.conditions
            && *phase == other.phase
            && *inherited == other.inherited
            && containers.len() == other.containers.len()
            && containers
                .iter()
                .zip(&other.containers)
                .all(|(one, other)| one.0 == other.0 && one.1.same_checkpoint(other.1))
    }
}

/// A pod's resources, which may change while it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resize {
    /// What the node gave; `None` before it was admitted.
    pub allocated: Option<Allocation>,
    /// PodResizePending: the Pod asks for what the node did not give.
    pub pending: Option<ResizeCondition>,
    /// PodResizeInProgress: what the node gave is not in effect yet.
    pub progress: Option<ResizeCondition>,
}

/// A condition of a resize, which is there while it is true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeCondition {
    /// `Deferred`, `Infeasible`, `Error`; empty if there is nothing to say.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// `metadata.generation` of the Pod that it is about.
    pub generation: Option<i64>,
    /// Since when it has this reason.
    pub since: Timestamp,
}

/// Phases of a pod, as `status.phase` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not every container has been started.
    Pending,
    /// Every container was started and one still runs or will again.
    Running,
    /// Every container ended with 0 and none will run again.
    Succeeded,
    /// Every container ended, one of them not with 0; or the pod was refused or evicted.
    Failed,
}

impl Phase {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        }
    }

    /// True of those that a pod never leaves.
    pub fn is_terminal(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }
}

/// Why and until when a pod is being ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminating {
    /// What came first.
    pub cause: Cause,
    /// `status.reason` and `status.message` that the end brings with phase Failed (an eviction, a
    /// shutdown, a deadline); `None` where the containers' exits decide.
    pub failed: Option<(String, String)>,
    /// When it began.
    pub since: Timestamp,
    /// When the grace ends. Only ever moves towards the past.
    pub until: Timestamp,
    /// The node wants it gone with no grace at all: no container gets the least window either.
    pub at_once: bool,
}

/// Something of the pod's own that is made and later unmade (its folders, its addresses). Each try
/// to make it has a new attempt; it is unmade under the attempt that made it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Effort {
    /// The try that is due, under way or done.
    pub attempt: u32,
    /// How far it is.
    pub state: EffortState,
}

/// How far an [`Effort`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EffortState {
    /// Not asked for.
    #[default]
    Idle,
    /// Asked for.
    Asked,
    /// It failed.
    Failed {
        /// When the next try is due (`None`: a retry can't help).
        retry_at: Option<Timestamp>,
    },
    /// It stands.
    Done,
    /// Its end was asked for.
    Undoing {
        /// When to ask again, after a failure.
        retry_at: Option<Timestamp>,
    },
    /// It was undone, or never was and never will be.
    Undone,
}

/// What is remembered of a container.
///
/// A run's way, and what moves it:
///
/// ```text
///           its turn,                 the pod is                  the root
///           no backoff      image     ready            root       stands     guest
///  Waiting ──────────► Pulling ──► Pulled ──► Mounting ──► Starting ──► Running
///   ▲  ▲                │                       │  fails      │  fails     │ exits,
///   │  │ fails: backoff │                       ▼             ▼            │ is lost
///   │  └────────────────┘      retry_at ◄── Failed ◄──────────┤            │
///   │  new attempt                │                           │ RunContainerError
///   ├─────────────────────────────┘                           ▼            ▼
///   └──────────────────────────────────────── restart? ── yes/no ──► Over
/// ```
///
/// A pod that is being ended moves each of them to `Over`, through Stop where a guest may run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// The attempt of Mount, Start, Stop and Unmount of the current run. At least
    /// `restart_count`: a run whose root or guest could not be made has used its attempt too.
    pub attempt: u32,
    /// `restartCount`.
    pub restart_count: u32,
    /// What `restartCount` will be when the next guest runs.
    pub next_count: u32,
    /// The current run.
    pub run: Run,
    /// How the latest run that ended did: the state until another runs, then `lastState`.
    pub ended: Option<Ended>,
    /// How the one before that ended.
    pub last: Option<Ended>,
    /// The image that the current run has or had.
    pub image: Option<Resolved>,
    /// The resources that the current run has; `None` is none.
    pub applied: Option<Box<ResourceRequirements>>,
    /// How far a change of them is.
    pub resizing: Resizing,
    /// The pulls.
    pub pull: Pull,
    /// The crash backoff.
    pub crash: Option<Backoff>,
    /// The latest run that ended has raised the crash backoff, and its wait is over.
    pub backed_off: bool,
    /// All containers began anew, and this one has not run since.
    pub anew: bool,
    /// Why it waits, for the status, where that is not plain from `run`.
    pub waiting: Option<Waiting>,
    /// Roots of runs that are over, by attempt, that are still to be unmade: `None` if that was
    /// asked for, else when it is to be.
    pub leftovers: BTreeMap<u32, Option<Timestamp>>,
    /// The current run's postStart hook.
    pub post_start: HookState,
    /// That hook failed: what the wait after the run says.
    pub hook_failed: Option<Waiting>,
    /// The current run's startup probe has succeeded.
    pub started: bool,
    /// The current run's readiness probe succeeds.
    pub ready: bool,
    /// What only counts towards that. In no checkpoint, as the kubelet keeps its own in memory alone.
    #[serde(skip)]
    pub probes: Probes,
}

impl Container {
    /// Why the current run is being ended, if it runs and is.
    pub fn ends_for(&self) -> Option<Cause> {
        match &self.run {
            Run::Running { stop, .. } => stop.as_ref().map(|stop| stop.cause),
            _ => None,
        }
    }

    /// As [`Memory::same_checkpoint`].
    fn same_checkpoint(&self, other: &Container) -> bool {
        let Container {
            attempt,
            restart_count,
            next_count,
            run,
            ended,
            last,
            image,
            applied,
            resizing,
            pull,
            crash,
            backed_off,
            anew,
            waiting,
            leftovers,
            post_start,
            hook_failed,
            started,
            ready,
            probes: _,
        } = self;
        *attempt == other.attempt
            && *restart_count == other.restart_count
            && *next_count == other.next_count
            && *run == other.run
            && *ended == other.ended
            && *last == other.last
            && *image == other.image
            && *applied == other.applied
            && *resizing == other.resizing
            && *pull == other.pull
            && *crash == other.crash
            && *backed_off == other.backed_off
            && *anew == other.anew
            && *waiting == other.waiting
            && *leftovers == other.leftovers
            && *post_start == other.post_start
            && *hook_failed == other.hook_failed
            && *started == other.started
            && *ready == other.ready
    }
}

/// A change of the limits of a guest that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resizing {
    /// The attempt that is under way or comes next: counted over all runs.
    pub attempt: u32,
    /// What was asked for.
    pub target: Option<Box<ResourceRequirements>>,
    /// It failed, and is tried again then.
    pub retry_at: Option<Timestamp>,
}

impl Resizing {
    /// None, once that attempt was used.
    pub(crate) fn after(attempt: u32) -> Resizing {
        Resizing {
            attempt: attempt.saturating_add(1),
            ..Resizing::default()
        }
    }
}

/// How far a lifecycle hook is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookState {
    /// It is to be run.
    Due,
    /// It was asked for.
    Asked,
    /// It has ended, or there is none.
    #[default]
    Over,
}

impl HookState {
    /// True if nothing waits for it any more.
    pub fn is_over(self) -> bool {
        self == HookState::Over
    }
}

/// The probes of the current run, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// startupProbe
    pub startup: Probing,
    /// livenessProbe
    pub liveness: Probing,
    /// readinessProbe
    pub readiness: Probing,
}

impl Probes {
    /// Those of a kind.
    pub fn of(&self, kind: ProbeKind) -> &Probing {
        match kind {
            ProbeKind::Startup => &self.startup,
            ProbeKind::Liveness => &self.liveness,
            ProbeKind::Readiness => &self.readiness,
        }
    }

    /// Those of a kind, to change.
    pub(crate) fn of_mut(&mut self, kind: ProbeKind) -> &mut Probing {
        match kind {
            ProbeKind::Startup => &mut self.startup,
            ProbeKind::Liveness => &mut self.liveness,
            ProbeKind::Readiness => &mut self.readiness,
        }
    }
}

/// Probes of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probing {
    /// The attempt of the next one: counted over all runs, so that no key is used twice.
    pub next: u32,
    /// The attempt of the one that is under way.
    pub asked: Option<u32>,
    /// When the next one is due.
    pub due: Option<Timestamp>,
    /// The latest result.
    pub last: Option<bool>,
    /// How often it came in a row.
    pub row: u32,
    /// It has failed for good: the run is to end, and is not probed again.
    pub failed: bool,
}

/// How far a container's run is; see [`Container`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Run {
    /// Not begun, or waiting for its turn or a backoff.
    #[default]
    Waiting,
    /// Its image was asked for.
    Pulling,
    /// Its image is there.
    Pulled,
    /// Its root was asked for.
    Mounting,
    /// Making its root or its guest failed.
    Failed {
        /// When the next attempt is due (`None`: a retry can't help).
        retry_at: Option<Timestamp>,
    },
    /// Its guest was asked for.
    Starting {
        /// Its end was asked for already.
        stop: Option<Stopping>,
    },
    /// Its guest runs, as far as is known.
    Running {
        /// Since when.
        started_at: Timestamp,
        /// `coracle://<id>`.
        container_id: String,
        /// Its end was asked for.
        stop: Option<Stopping>,
    },
    /// It is over and no other will follow.
    Over,
}

/// A run's end that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Why.
    pub cause: Cause,
    /// When its grace ends, as it was asked.
    pub until: Timestamp,
    /// When the executor said that it has ended. Its exit should be known by then or soon.
    pub answered: Option<Timestamp>,
    /// When to ask again, after a failure.
    pub retry_at: Option<Timestamp>,
    /// It was asked for before the guest was known to run, so its answer is no proof: there may
    /// have been nothing to stop yet.
    #[serde(default)]
    pub early: bool,
    /// The preStop hook, which comes first.
    #[serde(default)]
    pub pre_stop: HookState,
}

/// How a run ended, as `state.terminated` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// 0 to 255.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    /// What was said of it.
    pub message: String,
    /// `None` if it never ran or nobody knows.
    pub started_at: Option<Timestamp>,
    /// When it was over, or was found to be.
    pub finished_at: Timestamp,
    /// `coracle://<id>`; empty if it never ran.
    pub container_id: String,
}

/// An image that a reference resolved to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// As in the Pod.
    pub reference: String,
    /// As in [`Image::id`].
    pub id: String,
}

/// The pulls of a container's image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pull {
    /// The try that is due, under way or done.
    pub attempt: u32,
    /// The reference, as in the Pod, that it is of.
    pub reference: String,
    /// How far it is.
    pub state: PullState,
    /// The image pull backoff.
    pub backoff: Option<Backoff>,
}

/// How far a pull is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullState {
    /// Not asked for under this attempt.
    #[default]
    Idle,
    /// Asked for.
    Asked {
        /// The Pulling event was given.
        told: bool,
    },
    /// It succeeded.
    Done,
    /// It failed.
    Failed {
        /// How.
        failure: Failure,
        /// When.
        at: Timestamp,
        /// When the next try is due (`None`: only a changed image helps).
        retry_at: Option<Timestamp>,
        /// The BackOff event was given, and ImagePullBackOff is shown.
        backing_off: bool,
    },
}

/// An exponential backoff as client-go's `flowcontrol.Backoff` keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// The delay now, seconds.
    pub seconds: u32,
    /// When it was last raised.
    pub updated: Timestamp,
}

/// Why a container waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// `ErrImagePull`, `CrashLoopBackOff`, …
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// A condition as last given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `True`, `False` as a bool.
    pub status: bool,
    /// When the status last changed.
    pub since: Timestamp,
}

impl Ended {
    /// What a guest's exit is to the status.
    pub fn of(exit: &Exit, container_id: String) -> Ended {
        let reason = match exit.kind {
            ExitKind::OomKilled => "OOMKilled",
            ExitKind::Lost => "ContainerStatusUnknown",
            _ if exit.code == 0 => "Completed",
            _ => "Error",
        };
        Ended {
            exit_code: exit.code,
            reason: reason.to_owned(),
            message: exit.message.clone(),
            started_at: Some(exit.started_at),
            finished_at: exit.finished_at,
            container_id,
        }
    }
}

impl Resolved {
    /// What `reference` resolved to.
    pub fn of(reference: &str, image: &Image) -> Resolved {
        Resolved {
            reference: reference.to_owned(),
            id: image.id.clone(),
        }
    }
}
