//! `coracle node`: its arguments.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::ValueHint;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity;

/// What `coracle node` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle node --kubeconfig /etc/coracle/kubeconfig
  coracle node --kubeconfig node.conf --node-name wasm-1 --root-dir /var/lib/coracle

Pods reach the node by tolerating kubernetes.io/arch=wasm32-wasi:NoSchedule.")]
pub(crate) struct Args {
    /// How to reach the API server, and as whom: system:node:<name> of group system:nodes
    #[arg(long, value_name = "FILE", env = "KUBECONFIG", value_hint = ValueHint::FilePath)]
    pub(crate) kubeconfig: PathBuf,
    /// The Node's name; this machine's host name if left out
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Where images, code, checkpoints, logs and pods' folders are kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/coracle", value_hint = ValueHint::DirPath)]
    pub(crate) root_dir: PathBuf,
    /// The node's address, which its pods report; that of the default route if left out
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) node_ip: Option<IpAddr>,
    /// The most pods at once
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    pub(crate) max_pods: u32,
    /// What of the machine's CPUs pods may request; all of them if left out
    #[arg(long, value_name = "NUMBER", value_parser = quantity::cpus)]
    pub(crate) cpus: Option<Quantity>,
    /// What of the machine's memory pods may request; all of it if left out
    #[arg(long, value_name = "SIZE", value_parser = quantity::memory)]
    pub(crate) memory: Option<Quantity>,
}
