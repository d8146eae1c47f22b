//! Where the agent's results go with `coracle node`: a cluster. Those of a session go to its board.

mod cluster;

pub(crate) use cluster::ClusterOutlet;
