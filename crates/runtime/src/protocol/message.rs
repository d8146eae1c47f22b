//! What an agent and its guest host say to each other.
//!
//! Both greet first ([`Hello`]); then the agent sends [`Request`]s, in any number at once, and the
//! guest host [`Told`]s: an answer for each, and ends of guests for each subscription. Fields that a
//! side doesn't know are ignored, and a call or an answer that it doesn't know spoils that one
//! alone, so that a guest host of one release serves the agent of the next.

use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::OwnedFd;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::spec::{
    ExecEnd, ExecError, ExecFds, ExecSpec, Exited, GuestFds, GuestId, GuestSpec, GuestState,
    HostBudget, HostError, Limits, StartError, Started, Stats,
};

/// The oldest version of this protocol that is understood.
const OLDEST: u32 = 1;

/// The newest.
const NEWEST: u32 = 1;

/// The capability to run execs: [`Call::Exec`] and [`Call::Cancel`].
pub(crate) const EXEC: &str = "exec";

/// The first message of each side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The oldest version of the protocol that it understands.
    pub(crate) oldest: u32,
    /// The newest.
    pub(crate) newest: u32,
    /// The version of its binary, for people.
    pub(crate) binary: String,
    /// Its process.
    pub(crate) pid: u32,
    /// What it can do beyond version 1, by name.
    #[serde(default)]
    pub(crate) capabilities: Vec<String>,
    /// A number that no other process has, whatever its pid is; 0 of one that is too old to have one.
    #[serde(default)]
    pub(crate) instance: u64,
}

/// This process's: 0 is nobody's.
fn instance() -> u64 {
    static INSTANCE: LazyLock<u64> =
        LazyLock::new(|| RandomState::new().hash_one(std::process::id()) | 1);
    *INSTANCE
}

impl Hello {
    /// This process's.
    pub(crate) fn ours() -> Hello {
        Hello {
            oldest: OLDEST,
            newest: NEWEST,
            binary: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            capabilities: vec![EXEC.to_owned()],
            instance: instance(),
        }
    }

    /// Whether it can do what is not in version 1.
    pub(crate) fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|can| can == capability)
    }

    /// The version that both understand, if there is one.
    pub(crate) fn agree(&self, other: &Hello) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// What the agent asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Names the answer; for a subscription, every end that it tells. Never used twice.
    pub(crate) id: u64,
    /// A [`Call`], left as it came until the id is known.
    pub(crate) call: Value,
}

/// What the guest host can be asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Call {
    /// Start a guest; its descriptors come along. Answered once it runs.
    Start {
        /// Which.
        spec: Box<GuestSpec>,
        /// What the descriptors are.
        fds: Layout,
    },
    /// End a guest. Answered once it has ended.
    Stop {
        /// Which.
        id: GuestId,
        /// How long it may take, milliseconds.
        grace_ms: u64,
    },
    /// Tell all guests.
    List,
    /// Tell what guests use.
    Stats {
        /// Which; all if none.
        id: Option<GuestId>,
    },
    /// Change what a container may use.
    SetLimits {
        /// Which.
        id: GuestId,
        /// From now on.
        limits: Limits,
    },
    /// Forget how a guest ended.
    Forget {
        /// Which.
        id: GuestId,
    },
    /// Tell what is left of the guest host's own resources.
    Budget,
    /// Tell every end that is not forgotten, and each to come, under this request's id.
    Subscribe,
    /// End a subscription.
    Unsubscribe {
        /// The id of its request.
        subscription: u64,
    },
    /// Run a module in a running container; its descriptors come along. Answered once it has ended.
    /// It ends with the connection, too: nobody else waits for it.
    Exec {
        /// Which.
        spec: Box<ExecSpec>,
        /// What the descriptors are.
        fds: ExecLayout,
    },
    /// End an exec, which is then not answered. One that has ended is none.
    Cancel {
        /// The id of its request.
        exec: u64,
    },
    /// End every guest and then the guest host.
    Shutdown,
}

/// What the guest host sends.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    /// The request that it is for.
    pub(crate) id: u64,
    /// An [`Answer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<Value>,
    /// An [`Exited`], for a subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exited: Option<Value>,
}

impl Told {
    /// An answer.
    pub(crate) fn answer(id: u64, answer: &Answer) -> serde_json::Result<Told> {
        Ok(Told {
            id,
            answer: Some(serde_json::to_value(answer)?),
            exited: None,
        })
    }

    /// An end, for a subscription.
    pub(crate) fn exited(id: u64, exited: &Exited) -> serde_json::Result<Told> {
        Ok(Told {
            id,
            answer: None,
            exited: Some(serde_json::to_value(exited)?),
        })
    }
}

/// What a call comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It was done, and there is no more to say.
    Done,
    /// The guest runs.
    Started(Started),
    /// The guests.
    Guests(Vec<GuestState>),
    /// What they use.
    Stats(Vec<Stats>),
    /// What is left.
    Budget(HostBudget),
    /// The guest was not started.
    NotStarted(StartError),
    /// The exec has ended.
    ExecEnded(ExecEnd),
    /// The exec did not run.
    NotExecuted(ExecError),
    /// It was not done.
    Failed(HostError),
    /// This guest host does not know the call, or not in this form.
    NotUnderstood(String),
}

/// What the descriptors of a start are, in this order: code, root, mounts, the log's folder,
/// standard input, output and error, listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    mounts: usize,
    log_dir: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    listeners: usize,
}

impl Layout {
    /// Lays a guest's descriptors out.
    pub(crate) fn of(fds: GuestFds) -> (Layout, Vec<OwnedFd>) {
        let layout = Layout {
            mounts: fds.mounts.len(),
            log_dir: fds.log_dir.is_some(),
            stdin: fds.stdin.is_some(),
            stdout: fds.stdout.is_some(),
            stderr: fds.stderr.is_some(),
            listeners: fds.listeners.len(),
        };
        let mut all = vec![fds.code, fds.root];
        all.extend(fds.mounts);
        all.extend(
            [fds.log_dir, fds.stdin, fds.stdout, fds.stderr]
                .into_iter()
                .flatten(),
        );
        all.extend(fds.listeners);
        (layout, all)
    }

    /// Takes them up again; `None` if they are more or fewer than laid out.
    pub(crate) fn take(&self, fds: Vec<OwnedFd>) -> Option<GuestFds> {
        let mut fds = fds.into_iter();
        let taken = GuestFds {
            code: fds.next()?,
            root: fds.next()?,
            mounts: several(&mut fds, self.mounts)?,
            log_dir: optional(self.log_dir, &mut fds)?,
            stdin: optional(self.stdin, &mut fds)?,
            stdout: optional(self.stdout, &mut fds)?,
            stderr: optional(self.stderr, &mut fds)?,
            listeners: several(&mut fds, self.listeners)?,
        };
        fds.next().is_none().then_some(taken)
    }
}

/// What the descriptors of an exec are, in this order: code, standard input, output and error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExecLayout {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

impl ExecLayout {
    /// Lays an exec's descriptors out.
    pub(crate) fn of(fds: ExecFds) -> (ExecLayout, Vec<OwnedFd>) {
        let layout = ExecLayout {
            stdin: fds.stdin.is_some(),
            stdout: fds.stdout.is_some(),
            stderr: fds.stderr.is_some(),
        };
        let streams = [fds.stdin, fds.stdout, fds.stderr].into_iter().flatten();
        (layout, std::iter::once(fds.code).chain(streams).collect())
    }

    /// Takes them up again; `None` if they are more or fewer than laid out.
    pub(crate) fn take(&self, fds: Vec<OwnedFd>) -> Option<ExecFds> {
        let mut fds = fds.into_iter();
        let taken = ExecFds {
            code: fds.next()?,
            stdin: optional(self.stdin, &mut fds)?,
            stdout: optional(self.stdout, &mut fds)?,
            stderr: optional(self.stderr, &mut fds)?,
        };
        fds.next().is_none().then_some(taken)
    }
}

fn optional(there: bool, fds: &mut std::vec::IntoIter<OwnedFd>) -> Option<Option<OwnedFd>> {
    match there {
        true => fds.next().map(Some),
        false => Some(None),
    }
}

fn several(fds: &mut std::vec::IntoIter<OwnedFd>, count: usize) -> Option<Vec<OwnedFd>> {
    let taken: Vec<OwnedFd> = fds.take(count).collect();
    (taken.len() == count).then_some(taken)
}
