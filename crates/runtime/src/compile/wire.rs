//! What the compiler and its child say to each other: one request with descriptors on the child's
//! standard input, one reply back. Both are of one binary, so there are no versions.

use serde::{Deserialize, Serialize};

use super::error::CompileError;
use super::inspect::ModuleInfo;
use super::limits::CompileLimits;

/// What the child is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// The process that asks: the child ends with it.
    pub(super) parent: i32,
    /// What the child may use.
    pub(super) limits: CompileLimits,
    /// What to do.
    pub(super) task: Task,
}

/// What there is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Task {
    /// Say which compatibility key this machine's compiler has.
    Identify,
    /// Compile the module in the first descriptor into the second.
    Compile {
        /// The SHA-256 of the module's bytes, in hex.
        digest: String,
        /// Whether a component of preview3 is compiled.
        preview3: bool,
    },
}

/// The child's answer.
pub(super) type Reply = Result<Answer, CompileError>;

/// What the child did.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    /// The compatibility key, in hex.
    pub(super) key: String,
    /// For [`Task::Compile`].
    pub(super) compiled: Option<Compiled>,
}

/// The code that was written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Compiled {
    /// Its size, bytes.
    pub(super) size: u64,
    /// Its SHA-256, in hex.
    pub(super) sha256: String,
    /// What the module is.
    pub(super) info: ModuleInfo,
}
