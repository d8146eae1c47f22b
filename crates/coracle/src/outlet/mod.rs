//! Where the agent's results go: the terminal of a `run`, or a cluster.

mod cluster;
mod terminal;

pub(crate) use cluster::ClusterOutlet;
pub(crate) use terminal::{End, TerminalOutlet};
