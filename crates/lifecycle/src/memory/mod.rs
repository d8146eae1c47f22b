//! What `step` has to remember of a pod between calls, and across a restart of the agent.
//!
//! Everything here was once decided or absorbed from a fact; nothing is a copy of what the Pod
//! says. Must not know: how it is stored ([`crate::checkpoint`]) or who reads it.

mod container;
mod run;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use crate::action::Cause;
use crate::allocation::Allocation;
use crate::observed::Verdict;
pub use container::{Backoff, Container, Pull, PullState, Resizing, Resolved, Waiting};
pub use run::{Ended, HookState, Probes, Probing, Run, Stopping};

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
    pub terminating: Option<Box<Terminating>>,
    /// The pod's folders.
    pub folders: Effort,
    /// The pod's addresses.
    pub address: Effort,
    /// The pod's addresses, once it has them; kept when they are given back, as the status keeps them.
    pub ips: Vec<IpAddr>,
    /// By container name, init containers too. Boxed, for the list has room for more.
    pub containers: LiteMap<String, Box<Container>>,
    /// The init containers were done once (they are not run again), or there were none.
    pub initialized: bool,
    /// All containers are being brought down, to begin anew.
    pub restarting: bool,
    /// What the pod was given of the resources that it asks for.
    pub resize: Resize,
    /// The conditions as last given, by type.
    pub conditions: LiteMap<Cow<'static, str>, Condition>,
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
            container.probes = known.map(|one| one.probes.clone()).unwrap_or_default();
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
    pub allocated: Option<Arc<Allocation>>,
    /// PodResizePending: the Pod asks for what the node did not give.
    pub pending: Option<Box<ResizeCondition>>,
    /// PodResizeInProgress: what the node gave is not in effect yet.
    pub progress: Option<Box<ResizeCondition>>,
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

/// A condition as last given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `True`, `False` as a bool.
    pub status: bool,
    /// When the status last changed.
    pub since: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn ended() -> Ended {
        Ended {
            exit_code: 1,
            reason: String::new(),
            message: String::new(),
            started_at: None,
            finished_at: now(),
            container_id: String::new(),
        }
    }

    fn waiting() -> Waiting {
        Waiting {
            reason: "CrashLoopBackOff".to_owned(),
            message: String::new(),
        }
    }

    fn effort() -> Effort {
        Effort {
            attempt: 1,
            state: EffortState::Done,
        }
    }

    /// Each thing that a checkpoint holds of a pod, changed.
    const POD: [fn(&mut Memory); 12] = [
        |it| it.start_time = Some(now()),
        |it| it.verdict = Some(Verdict::Admitted),
        |it| {
            it.terminating = Some(Box::new(Terminating {
                cause: Cause::Deletion,
                failed: None,
                since: now(),
                until: now(),
                at_once: false,
            }));
        },
        |it| it.folders = effort(),
        |it| it.address = effort(),
        |it| it.ips = vec![IpAddr::from([192, 0, 2, 1])],
        |it| it.initialized = true,
        |it| it.restarting = true,
        |it| it.resize.allocated = Some(Arc::default()),
        |it| {
            let condition = Condition {
                status: true,
                since: now(),
            };
            it.conditions.insert("Ready".into(), condition);
        },
        |it| it.phase = Some(Phase::Running),
        |it| it.inherited = true,
    ];

    /// And of a container.
    const CONTAINER: [fn(&mut Container); 20] = [
        |it| it.attempt = 1,
        |it| it.restart_count = 1,
        |it| it.next_count = 1,
        |it| it.run = Run::Pulling,
        |it| it.guest_host = Some(1),
        |it| it.ended = Some(Box::new(ended())),
        |it| it.last = Some(Box::new(ended())),
        |it| {
            it.image = Some(Resolved {
                reference: "i".to_owned(),
                id: String::new(),
            });
        },
        |it| it.applied = Some(Box::default()),
        |it| it.resizing.attempt = 1,
        |it| it.pull.attempt = 1,
        |it| {
            it.crash = Some(Backoff {
                seconds: 10,
                updated: now(),
            });
        },
        |it| it.backed_off = true,
        |it| it.anew = true,
        |it| it.waiting = Some(waiting()),
        |it| it.leftovers = [(1, None)].into(),
        |it| it.post_start = HookState::Due,
        |it| it.hook_failed = Some(Box::new(waiting())),
        |it| it.started = true,
        |it| it.ready = true,
    ];

    #[test]
    fn a_checkpoint_is_another_when_anything_differs_that_it_holds() {
        let mut one = Memory::default();
        one.containers.insert("a".to_owned(), Box::default());
        assert!(one.same_checkpoint(&one.clone()));
        let mut others: Vec<Memory> = POD
            .into_iter()
            .map(|change| {
                let mut other = one.clone();
                change(&mut other);
                other
            })
            .collect();
        others.extend(CONTAINER.into_iter().map(|change| {
            let mut other = one.clone();
            other.containers.iter_mut().for_each(|(_, it)| change(it));
            other
        }));
        let mut more = one.clone();
        more.containers.insert("b".to_owned(), Box::default());
        let mut another = Memory::default();
        another.containers.insert("b".to_owned(), Box::default());
        others.extend([more, another]);
        for (place, other) in others.iter().enumerate() {
            assert!(!one.same_checkpoint(other), "{place}: {other:?}");
            assert!(!other.same_checkpoint(&one), "{place}: {other:?}");
        }
    }

    #[test]
    fn what_only_counts_is_in_no_checkpoint_and_is_taken_over() {
        let mut one = Memory::default();
        one.containers.insert("a".to_owned(), Box::default());
        let mut counted = one.clone();
        counted.adopted = true;
        for (_, container) in &mut counted.containers {
            container.probes.of_mut(crate::ProbeKind::Liveness).row = 2;
        }
        assert!(one.same_checkpoint(&counted));
        one.take_counts(&counted);
        assert_eq!(one, counted);
        one.take_counts(&Memory::default());
        counted.adopted = false;
        assert_ne!(one, counted);
    }
}
