//! What can go wrong between a module's bytes and its code. Every error crosses from the compiling
//! child as a value, so none holds another's type.

use serde::{Deserialize, Serialize};

/// Why a module was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum CompileError {
    /// There are no bytes.
    #[error("the module is empty: 0 bytes")]
    Empty,
    /// The bytes are something else.
    #[error("this is not a Wasm module: it looks like {looks_like}")]
    NotWasm {
        /// What they are.
        looks_like: String,
    },
    /// The bytes end too early.
    #[error(
        "the module is truncated: it ends after {size} bytes, inside the section that begins at offset {offset:#x}"
    )]
    Truncated {
        /// Where the section begins that is not whole.
        offset: u64,
        /// The module's size, bytes.
        size: u64,
    },
    /// The bytes break WebAssembly's rules.
    #[error("the module is invalid: {message}")]
    Invalid {
        /// Which rule, and at which offset.
        message: String,
    },
    /// The text can't be read as Wasm.
    #[error("the module's text can't be read: {message}")]
    Text {
        /// Where and why.
        message: String,
    },
    /// The module uses what WebAssembly has and this engine does not offer.
    #[error("the module uses a feature that is not offered here: {message}")]
    Proposal {
        /// Which, and at which offset.
        message: String,
    },
    /// The module wants threads.
    #[error(
        "the module has a shared memory ({memory}), which is not offered: build it without threads"
    )]
    SharedMemory {
        /// The import that brings it, or `its own`.
        memory: String,
    },
    /// The module asks for something that no world has.
    #[error("the module imports {import}, which {problem}")]
    Import {
        /// `module.name`, or a component's `package:interface/name@version`.
        import: String,
        /// Why it can't be had.
        problem: String,
    },
    /// The component exports what can't be served.
    #[error("the component exports {export}, which {problem}")]
    Export {
        /// `package:interface/name@version`.
        export: String,
        /// Why it can't be served.
        problem: String,
    },
    /// The component is preview3's, which was not allowed.
    #[error(
        "the component is for preview3 (WASI 0.3), which is experimental and off: allow it with `coracle run --wasi p3`, or with the annotation `coracle.dev/wasi: p3` on its pod, or build it for preview2"
    )]
    Preview3,
    /// The module is larger than the compiler takes.
    #[error("the module has {size} bytes and the most that is compiled is {max}")]
    TooLarge {
        /// Its size, bytes.
        size: u64,
        /// The bound, bytes.
        max: u64,
    },
    /// The bytes are not those that the digest names.
    #[error(
        "the module's digest is sha256:{actual} and not sha256:{expected}: it was changed or damaged since it was stored"
    )]
    Digest {
        /// In hex, as asked for.
        expected: String,
        /// In hex, as computed.
        actual: String,
    },
    /// The compiler has a limit of its own that the module passes.
    #[error("the compiler refuses the module: {message}")]
    Refused {
        /// The compiler's words.
        message: String,
    },
    /// It took too much CPU time.
    #[error("compiling the module took more than {seconds} s of CPU time: it is too complex")]
    CpuLimit {
        /// The limit, seconds.
        seconds: u64,
    },
    /// It took too long.
    #[error(
        "compiling the module took longer than {seconds} s: it is too complex, or the machine too busy"
    )]
    WallLimit {
        /// The limit, seconds.
        seconds: u64,
    },
    /// It took too much memory.
    #[error("compiling the module took more than {bytes} bytes of memory: it is too complex")]
    MemoryLimit {
        /// The limit, bytes.
        bytes: u64,
    },
    /// The compiling process ended without an answer.
    #[error("the compiling process {how}{}", after(.stderr))]
    Died {
        /// By which signal or with which status.
        how: String,
        /// The last of what it said, if anything.
        stderr: String,
    },
    /// There is no room for the code.
    #[error("no room for the module's code in the cache: {message}")]
    DiskFull {
        /// The system's words.
        message: String,
    },
    /// The cache can't be used.
    #[error("the code cache {path:?} can't be used: {problem}")]
    Cache {
        /// Where it is.
        path: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// The module's bytes can't be read.
    #[error("the module can't be read: {message}")]
    Source {
        /// The system's words.
        message: String,
    },
    /// A call of the operating system failed.
    #[error("can't {what}: {message}")]
    System {
        /// What was being done.
        what: String,
        /// The system's words.
        message: String,
    },
}

impl CompileError {
    /// The waiting reason for a container's status.
    pub fn reason(&self) -> &'static str {
        match self {
            CompileError::DiskFull { .. }
            | CompileError::Cache { .. }
            | CompileError::Source { .. }
            | CompileError::System { .. } => "RunContainerError",
            _ => "CreateContainerError",
        }
    }

    /// Whether the same module may compile later with nothing changed but the machine's state.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            CompileError::WallLimit { .. }
                | CompileError::Died { .. }
                | CompileError::DiskFull { .. }
                | CompileError::Cache { .. }
                | CompileError::Digest { .. }
                | CompileError::Source { .. }
                | CompileError::System { .. }
        )
    }

    /// A failed call: a full disk is told from the rest.
    pub(crate) fn system(what: &str, error: impl Into<std::io::Error>) -> CompileError {
        let error = error.into();
        let message = error.to_string();
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                CompileError::DiskFull { message }
            }
            _ => CompileError::System {
                what: what.to_owned(),
                message,
            },
        }
    }
}

/// What the child said, as the end of a sentence.
fn after(stderr: &str) -> String {
    match stderr.is_empty() {
        true => String::new(),
        false => format!(": {stderr}"),
    }
}
