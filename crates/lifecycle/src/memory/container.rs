//! What is remembered of a container from run to run: its attempts and counts, its image and pulls, its
//! backoffs, its resources.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::run::{Ended, HookState, Probes, Run};
use crate::action::Cause;
use crate::allocation::Amounts;
use crate::observed::{Failure, Image};

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
    /// The guest host that the current run's guest was asked of; see [`crate::Observed::guest_host`].
    pub guest_host: Option<u64>,
    /// How the latest run that ended did: the state until another runs, then `lastState`.
    pub ended: Option<Box<Ended>>,
    /// How the one before that ended.
    pub last: Option<Box<Ended>>,
    /// The image that the current run has or had.
    pub image: Option<Resolved>,
    /// The resources that the current run has; `None` is none.
    pub applied: Option<Box<Amounts>>,
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
    pub hook_failed: Option<Box<Waiting>>,
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

    /// As [`Memory::same_checkpoint`](super::Memory::same_checkpoint).
    pub(super) fn same_checkpoint(&self, other: &Container) -> bool {
        let Container {
            attempt,
            restart_count,
            next_count,
            run,
            guest_host,
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
            && *guest_host == other.guest_host
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
    pub target: Option<Box<Amounts>>,
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

/// An image that a reference resolved to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// As in the Pod.
    pub reference: String,
    /// As in [`Image::id`].
    pub id: String,
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
        failure: Box<Failure>,
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
