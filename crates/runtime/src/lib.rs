//! The guest host: compiles modules in a child process, runs guests within their limits, and
//! speaks to whoever asked for them, in the same process or over a Unix socket.
//!
//! It must not know Kubernetes, images or where a root comes from: it is given descriptors and
//! values, and answers with facts.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests let other tasks go first")
)]

mod events;
mod spec;

mod budget;
mod component;
mod compress;
mod container;
mod engine;
mod engines;
mod exec;
mod execs;
mod guest;
mod host;
mod http;
mod instance;
mod local;
mod prepare;
mod program;
mod quota;
mod room;
mod stack;
mod stdio;
mod ticker;
mod trap;
mod turn;
mod world;

mod compile;
mod protocol;
mod remote;
mod serve;

pub use compile::{
    Code, Collected, CompileError, CompileLimits, CompileProgress, Compiler, ModuleContent,
    ModuleInfo, ModuleSource, World, compile_child,
};
pub use events::Events;
pub use host::Host;
pub use http::HttpSpec;
pub use local::{Local, LocalConfig, LocalError, cores};
pub use remote::{Remote, RemoteError};
pub use serve::{guest_host_main, raise_descriptors};
pub use spec::{
    ExecEnd, ExecError, ExecFds, ExecSpec, ExitKind, Exited, GuestFds, GuestId, GuestSpec,
    GuestState, HostBudget, HostError, Limits, LogSpec, MountSpec, Phase, StartError, Started,
    Stats, Usage,
};
pub use wasi_host::{Destination, OutgoingHttp, WrongDestination};

pub use wasi_host::{Network, is_of_local_pods};

#[cfg(test)]
mod tests;
