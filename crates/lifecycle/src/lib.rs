//! Decides what a pod does next ([`step`]) and what the node does with its pods ([`node_step`]).
//!
//! Both are pure and level-triggered: they may be called at any time with any facts, and give the
//! same answer for the same arguments. Must not know: clocks, tokio, I/O, kube, Wasmtime. The
//! vocabulary is k8s-openapi's `Pod` and `PodStatus`; a time is a [`jiff::Timestamp`].

pub mod action;
pub mod allocation;
mod backoff;
pub mod checkpoint;
mod containers;
pub mod events;
mod hook;
pub mod memory;
pub mod message;
pub mod node;
pub mod observed;
mod plan;
mod probe;
mod pull;
pub mod quantity;
mod resize;
pub mod resources;
mod restart;
mod seed;
mod setup;
mod spec;
mod status;
mod step;
mod stop;
mod terminate;
#[cfg(test)]
mod tests;
mod time;
mod unsupported;
mod words;

pub use action::{Action, Cause, Hook, Key, Kind, ProbeKind, PullPolicy, What};
pub use allocation::{Allocation, Amounts};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use events::{Event, EventKind};
pub use memory::{Memory, Phase};
pub use node::{NodeMemory, NodeObject, NodeStep, NodeView, PodView, Standing, node_step};
pub use observed::{
    Eviction, Exit, ExitKind, Failure, Image, Observed, Outcome, Output, Progress, Retry, Sizing,
    Verdict,
};
pub use resources::{Costs, Resources};
pub use spec::{display, ephemeral, ephemerals};
pub use status::qos::class as qos_class;
pub use step::{Step, step};
pub use unsupported::{Unsupported, unsupported};
