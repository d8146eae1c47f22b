//! The vocabulary of the guest host: what is asked of it and what it answers.
//!
//! Everything here is a value: it crosses to a guest host in another process as bytes, and
//! [`GuestFds`] beside it as descriptors. Nothing here knows Wasmtime, the protocol or Kubernetes;
//! a reason that a pod's status shows is only ever the text of [`StartError::reason`].

mod exec;

use std::fmt;
use std::os::fd::OwnedFd;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wasi_host::{Network, OutgoingHttp};

pub use self::exec::{ExecEnd, ExecError, ExecFds, ExecSpec};
use crate::http::HttpSpec;

/// One run of one container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GuestId {
    /// The UID of the pod.
    pub pod_uid: String,
    /// The name of the container in it.
    pub container: String,
    /// Which run of the container, from 0.
    pub attempt: u32,
}

impl fmt::Display for GuestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.pod_uid, self.container, self.attempt)
    }
}

/// A guest that is to be started. Its descriptors are in [`GuestFds`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSpec {
    /// Which run this is. A second start under the same id is the same guest.
    pub id: GuestId,
    /// How people call it, `namespace/pod/container`, for messages.
    pub name: String,
    /// The exported function that is run; `None` is `_start`.
    pub export: Option<String>,
    /// The arguments, the program's name first.
    pub args: Vec<String>,
    /// The whole environment: nothing of the host's is added.
    pub env: Vec<(String, String)>,
    /// The working directory, an absolute path in the guest's root.
    pub cwd: String,
    /// Whether standard input and output are a terminal.
    pub tty: bool,
    /// What is mounted over the root, in the order of [`GuestFds::mounts`].
    pub mounts: Vec<MountSpec>,
    /// Whether what lies in no mount can't be changed (EROFS).
    #[serde(default)]
    pub read_only_root: bool,
    /// What the container may use.
    pub limits: Limits,
    /// True if a stop lets the guest go on for its grace: its input ends, its listeners close.
    /// False if it ends at once, as a process does that has no handler for SIGTERM.
    pub drain: bool,
    /// How standard output and error are logged; `None` if nobody keeps a log.
    pub log: Option<LogSpec>,
    /// What the guest's addresses mean.
    #[serde(default)]
    pub network: Network,
    /// Set for a component that serves HTTP, on all of [`GuestFds::listeners`]: it is not run but
    /// instantiated for each request.
    #[serde(default)]
    pub http: Option<HttpSpec>,
    /// What the guest's own HTTP requests may reach.
    #[serde(default)]
    pub outgoing: OutgoingHttp,
}

/// One mount of the file-system layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Where the guest sees it, an absolute path.
    pub guest_path: String,
    /// Whether writes are refused with EROFS.
    pub read_only: bool,
}

/// What a container may use: its main guest and whatever else runs in it, together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of linear memories, tables, touched stacks and the host's buffers. Beyond it the
    /// container is killed (137). `None` is no limit.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core, counted over periods of 100 ms. `None` is no limit.
    pub cpu_milli: Option<u32>,
    /// How many blocking file operations may be in flight at once; at least 1.
    pub blocking_ops: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes: None,
            cpu_milli: None,
            blocking_ops: 8,
        }
    }
}

/// How a guest's output is logged into [`GuestFds::log_dir`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// The name of the file without `.log`: the attempt.
    pub stem: String,
    /// The size, in bytes, at which the file is rotated.
    pub max_size: u64,
    /// How many files are kept, the current one among them; at least 2.
    pub max_files: u32,
}

/// The descriptors of a guest.
#[derive(Debug)]
pub struct GuestFds {
    /// The compiled code, as the compile child wrote it.
    pub code: OwnedFd,
    /// The folder that the guest sees as `/`.
    pub root: OwnedFd,
    /// A folder or file for each of [`GuestSpec::mounts`].
    pub mounts: Vec<OwnedFd>,
    /// The folder of the log, if [`GuestSpec::log`] is set.
    pub log_dir: Option<OwnedFd>,
    /// Standard input; `None` is empty.
    pub stdin: Option<OwnedFd>,
    /// Where standard output goes besides the log; `None` is the log alone.
    pub stdout: Option<OwnedFd>,
    /// Where standard error goes besides the log; `None` is the log alone.
    pub stderr: Option<OwnedFd>,
    /// Sockets that listen, which the guest finds as descriptors after its folders.
    pub listeners: Vec<OwnedFd>,
}

/// The answer to a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// When it was started: for one that ran already, when that was.
    pub at: Timestamp,
}

/// What a guest host knows of one of its guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestState {
    /// Which.
    pub id: GuestId,
    /// [`GuestSpec::name`].
    pub name: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// How far it is.
    pub phase: Phase,
}

/// How far a guest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It runs.
    Running,
    /// It was asked to stop and has not ended.
    Stopping,
    /// It has ended and was not forgotten yet.
    Exited(Exited),
}

/// How a guest ended. Told until it is forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// Which.
    pub id: GuestId,
    /// 0 to 255, as a shell would show it.
    pub code: u8,
    /// In which way.
    pub kind: ExitKind,
    /// What the host has to say of it; empty for an ordinary exit.
    pub message: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it had ended, its blocking work included.
    pub finished_at: Timestamp,
}

/// The ways in which a guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitKind {
    /// It returned or called exit.
    Exited,
    /// It trapped: 134.
    Trapped,
    /// It passed its memory budget: 137.
    OomKilled,
    /// It was stopped: 143 at once, 137 at the end of its grace.
    Stopped,
    /// The host failed it, or died with it: 137.
    Lost,
}

/// Why a guest was not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum StartError {
    /// The guest host has no room for another.
    #[error(
        "the guest host has {used} of {max} {resource} in use and this guest needs {wanted} more: {advice}"
    )]
    Budget {
        /// What is short: `mappings` or `descriptors`.
        resource: String,
        /// How many are in use or promised.
        used: u64,
        /// How many this guest needs.
        wanted: u64,
        /// How many there may be.
        max: u64,
        /// What to raise.
        advice: String,
    },
    /// A field of the spec can't be had.
    #[error("{field} is {value:?}: {problem}")]
    Invalid {
        /// Which field.
        field: String,
        /// What it holds.
        value: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// The module asks for something that no world has.
    #[error("the module imports {import}, which {problem}")]
    Import {
        /// `module.name`, or a component's `package:interface/name@version`.
        import: String,
        /// Why it can't be had.
        problem: String,
    },
    /// There is no function to run.
    #[error("the module has no function {export:?} to run: {problem}")]
    Entry {
        /// The function that was asked for.
        export: String,
        /// What there is instead and what to do.
        problem: String,
    },
    /// The compiled code does not load: it is damaged, or for another engine or machine.
    #[error("the compiled code can't be loaded: {message}")]
    Code {
        /// What the engine says.
        message: String,
    },
    /// The guest host is shutting down.
    #[error("the guest host is shutting down")]
    Closing,
    /// A call of the operating system failed.
    #[error("can't {what}: {message}")]
    System {
        /// What was being done.
        what: String,
        /// The system's words.
        message: String,
    },
    /// The guest host did not answer: whether the guest runs is not known until it does.
    #[error("the guest host is gone: {message}")]
    Gone {
        /// What was seen.
        message: String,
    },
}

impl StartError {
    /// The waiting reason for a container's status.
    pub fn reason(&self) -> &'static str {
        match self {
            StartError::Invalid { .. } => "CreateContainerConfigError",
            StartError::Import { .. } | StartError::Entry { .. } | StartError::Code { .. } => {
                "CreateContainerError"
            }
            StartError::Budget { .. }
            | StartError::Closing
            | StartError::System { .. }
            | StartError::Gone { .. } => "RunContainerError",
        }
    }

    /// Whether the same start may succeed later. Code that does not load is compiled again.
    pub fn retryable(&self) -> bool {
        !matches!(
            self,
            StartError::Invalid { .. } | StartError::Import { .. } | StartError::Entry { .. }
        )
    }
}

/// Why the guest host did not do what was asked of a guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum HostError {
    /// It has no such guest: none was started, or it was forgotten.
    #[error("the guest host has no guest {0}")]
    Unknown(GuestId),
    /// It runs still, and only one that has ended can be forgotten.
    #[error("guest {0} still runs: stop it first")]
    Running(GuestId),
    /// The guest host did not answer.
    #[error("the guest host is gone: {0}")]
    Gone(String),
}

/// What a guest uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Which.
    pub id: GuestId,
    /// CPU time since its start, nanoseconds.
    pub cpu_nanos: u64,
    /// What is charged to the container's memory budget, bytes.
    pub memory_bytes: u64,
    /// What of it can't be given back, bytes: all of it, since a linear memory never shrinks.
    pub working_set_bytes: u64,
    /// The limit of the budget, bytes, if there is one.
    pub memory_limit_bytes: Option<u64>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When this was true.
    pub at: Timestamp,
}

/// What a guest host has left of what no limit of a container bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostBudget {
    /// How many guests live in it.
    pub guests: u64,
    /// Memory mappings (`vm.max_map_count`).
    pub mappings: Usage,
    /// Descriptors (`RLIMIT_NOFILE`).
    pub descriptors: Usage,
}

/// How much of something is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// In use or promised to guests that live.
    pub used: u64,
    /// The most that guests are let have.
    pub max: u64,
}
