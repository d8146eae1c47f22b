//! What is said of execs: modules that run in a running container.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::{ExitKind, GuestId, StartError};

/// A module that is to run in a running container. Its descriptors are in [`ExecFds`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The run of the container that it runs in.
    pub id: GuestId,
    /// The exported function that is run; `None` is `_start`.
    pub export: Option<String>,
    /// The arguments, the program's name first.
    pub args: Vec<String>,
    /// Variables beyond the container's own, of which they replace those of the same name.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// The working directory, an absolute path; `None` is the container's.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Whether standard input, output and error are a terminal.
    #[serde(default)]
    pub tty: bool,
}

/// The descriptors of an exec.
#[derive(Debug)]
pub struct ExecFds {
    /// The compiled code, as the compile child wrote it.
    pub code: OwnedFd,
    /// Standard input; `None` is empty.
    pub stdin: Option<OwnedFd>,
    /// Standard output; `None` is nowhere.
    pub stdout: Option<OwnedFd>,
    /// Standard error; `None` is nowhere.
    pub stderr: Option<OwnedFd>,
}

/// How an exec ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecEnd {
    /// 0 to 255, as a shell would show it.
    pub code: u8,
    /// In which way; [`ExitKind::Stopped`] is that its container ended.
    pub kind: ExitKind,
    /// What the host has to say of it; empty for an ordinary exit.
    pub message: String,
}

/// Why an exec did not run, or why its end is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ExecError {
    /// There is no such container.
    #[error("the guest host has no guest {0}: it was not started, or has ended and was forgotten")]
    Unknown(GuestId),
    /// The container does not run any more.
    #[error("guest {0} has ended: an exec needs a container that runs")]
    Ended(GuestId),
    /// The container has as many execs as it may.
    #[error("guest {id} has {max} execs, the most there may be: end one first")]
    TooMany {
        /// Which container.
        id: GuestId,
        /// How many it may have at once.
        max: u32,
    },
    /// The module can't be run there, as it could not be started.
    #[error(transparent)]
    Start(StartError),
    /// The guest host is of an earlier release.
    #[error(
        "the guest host (version {version}) can't exec: it is replaced once its guests have ended"
    )]
    Unsupported {
        /// Its version.
        version: String,
    },
    /// The guest host did not answer, and so has ended, with all that ran in it.
    #[error("the guest host is gone: {0}")]
    Gone(String),
}

impl From<StartError> for ExecError {
    fn from(error: StartError) -> ExecError {
        ExecError::Start(error)
    }
}
