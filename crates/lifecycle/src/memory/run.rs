//! What is remembered of a run of a container: how far it is, its hooks and probes, how it is being
//! ended and how it ended.

use jiff::Timestamp;
use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use crate::action::{Cause, ProbeKind};
use crate::observed::{Exit, ExitKind};

/// How far a container's run is; see [`Container`](super::Container).
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes(LiteMap<ProbeKind, Probing>);

impl Probes {
    /// Those of a kind.
    pub fn of(&self, kind: ProbeKind) -> Probing {
        self.0.get(&kind).copied().unwrap_or_default()
    }

    /// Those of a kind, to change.
    pub(crate) fn of_mut(&mut self, kind: ProbeKind) -> &mut Probing {
        self.0.entry(kind).or_default()
    }

    /// Those of all kinds of which there was one, to change.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Probing> {
        self.0.iter_mut().map(|(_, probing)| probing)
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
