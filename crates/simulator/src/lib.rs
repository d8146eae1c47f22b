//! Whole nodes in virtual time: the agent's mind (`agent::Ledger`, as it is in production) and
//! `lifecycle::node_step` drive pods over fake hands, a fake guest host and a fake API server,
//! while everything goes wrong that can. Each step is held to the rules.
//!
//! A history is made from its seed alone ([`Scenario::of`]) and replays to the bit. Chance is drawn
//! per question ("does this action fail?"), not from one stream, so that leaving a pod or a fault
//! out changes little else: that is what makes a failing history shrink. Must not know: clocks,
//! threads, disks, sockets, Wasmtime, kube.
//!
//! What it takes for granted of the real hands: what fails to be made leaves nothing, nor what an
//! earlier agent made by the same key; what is asked again after a restart of the agent finds what
//! it did; a guest that runs can't fail to start; a guest host is done with what a dead agent asked
//! of it before it tells the next one what runs.

mod api;
mod chance;
mod coverage;
mod debugging;
mod diagram;
mod machine;
mod node;
mod ordering;
mod pressure;
mod probing;
mod resizing;
mod restarting;
mod rules;
mod scenario;
mod sequences;
mod shrink;
mod telling;
#[cfg(test)]
mod tests;
pub mod validation;
mod world;

pub use coverage::Coverage;
pub use diagram::{Chart, ENOUGH, Transition};
pub use rules::Violation;
pub use scenario::{Fault, Planned, Scenario, Trouble};
pub use sequences::{Sequence, sequences};
pub use shrink::shrink;
pub use world::{Outcome, run, traced};
