//! `coracle node`: its arguments.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::ValueHint;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity;
use crate::node::config::{Labels, Pairs, Taints};

/// What `coracle node` takes. What is left out is as in the file of `--config`, or else by default.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "\
Examples:
  coracle node --kubeconfig /etc/coracle/kubeconfig
  coracle node --kubeconfig node.conf --node-name wasm-1 --root-dir /var/lib/coracle
  coracle node --config node.yaml --max-pods 5000

Pods reach the node by tolerating kubernetes.io/arch=wasm32-wasi:NoSchedule.")]
pub(crate) struct Args {
    /// Look whether a node would work here, say so line by line, and end: 1 if it would not
    #[arg(long)]
    pub(crate) check: bool,
    /// A KubeletConfiguration (kubelet.config.k8s.io/v1beta1), over which flags and environment win
    #[arg(long, value_name = "FILE", env = "CORACLE_CONFIG", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// How to reach the API server, and as whom: system:node:<name> of group system:nodes
    #[arg(long, value_name = "FILE", env = "KUBECONFIG", value_hint = ValueHint::FilePath)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// How to ask for that kubeconfig's certificate when it has none: a bootstrap token's kubeconfig
    #[arg(long, value_name = "FILE", env = "CORACLE_BOOTSTRAP_KUBECONFIG", value_hint = ValueHint::FilePath)]
    pub(crate) bootstrap_kubeconfig: Option<PathBuf>,
    /// The Node's name; this machine's host name if left out
    #[arg(long, value_name = "NAME", env = "CORACLE_NODE_NAME")]
    pub(crate) node_name: Option<String>,
    /// Where images, code, checkpoints, logs and pods' folders are kept [default: /var/lib/coracle]
    #[arg(long, value_name = "DIR", env = "CORACLE_ROOT_DIR", value_hint = ValueHint::DirPath)]
    pub(crate) root_dir: Option<PathBuf>,
    /// The node's address, which its pods report; that of the default route if left out
    #[arg(long, value_name = "ADDRESS", env = "CORACLE_NODE_IP")]
    pub(crate) node_ip: Option<IpAddr>,
    /// Which of this machine's addresses the kubelet's API is served on; all of them if left out
    #[arg(long, value_name = "ADDRESS", env = "CORACLE_ADDRESS")]
    pub(crate) address: Option<IpAddr>,
    /// The port of the kubelet's API, for kubectl logs and the like [default: 10250]
    #[arg(long, value_name = "PORT", env = "CORACLE_PORT")]
    pub(crate) port: Option<u16>,
    /// The port of 127.0.0.1 that tells in plain HTTP at /healthz how the node is, 0 for none [default: 10248]
    #[arg(long, value_name = "PORT", env = "CORACLE_HEALTHZ_PORT")]
    pub(crate) healthz_port: Option<u16>,
    /// The certificate of the kubelet's API; one that signs itself if left out
    #[arg(long, value_name = "FILE", env = "CORACLE_TLS_CERT_FILE", value_hint = ValueHint::FilePath)]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// The private key of --tls-cert-file
    #[arg(long, value_name = "FILE", env = "CORACLE_TLS_PRIVATE_KEY_FILE", value_hint = ValueHint::FilePath)]
    pub(crate) tls_private_key_file: Option<PathBuf>,
    /// The CA that signs certificates of who may use the kubelet's API; the kubeconfig's if left out
    #[arg(long, value_name = "FILE", env = "CORACLE_CLIENT_CA_FILE", value_hint = ValueHint::FilePath)]
    pub(crate) client_ca_file: Option<PathBuf>,
    /// Register that address as InternalIP, as a kubelet does: only where no other Node is of this machine
    #[arg(long, env = "CORACLE_INTERNAL_IP")]
    pub(crate) internal_ip: bool,
    /// A folder whose files are static pods, which run whether there is an API server or not
    #[arg(long, value_name = "DIR", env = "CORACLE_POD_MANIFEST_PATH", value_hint = ValueHint::DirPath)]
    pub(crate) pod_manifest_path: Option<PathBuf>,
    /// The most pods at once [default: 1000]
    #[arg(long, value_name = "NUMBER", env = "CORACLE_MAX_PODS")]
    pub(crate) max_pods: Option<u32>,
    /// How many of the machine's CPUs the node has; all of them if left out
    #[arg(long, value_name = "NUMBER", env = "CORACLE_CPUS", value_parser = quantity::cpus)]
    pub(crate) cpus: Option<Quantity>,
    /// How much of the machine's memory the node has; all of it if left out
    #[arg(long, value_name = "SIZE", env = "CORACLE_MEMORY", value_parser = quantity::memory)]
    pub(crate) memory: Option<Quantity>,
    /// Labels of the Node: KEY=VALUE,...
    #[arg(long, value_name = "LABELS", env = "CORACLE_NODE_LABELS")]
    pub(crate) node_labels: Option<Labels>,
    /// Taints that the Node is created with, beside its own: KEY=VALUE:EFFECT,...
    #[arg(long, value_name = "TAINTS", env = "CORACLE_REGISTER_WITH_TAINTS")]
    pub(crate) register_with_taints: Option<Taints>,
    /// The Node's spec.providerID, when it is created
    #[arg(long, value_name = "ID", env = "CORACLE_PROVIDER_ID")]
    pub(crate) provider_id: Option<String>,
    /// What is kept from pods for the system: cpu=500m,memory=1Gi,ephemeral-storage=1Gi
    #[arg(long, value_name = "AMOUNTS", env = "CORACLE_SYSTEM_RESERVED")]
    pub(crate) system_reserved: Option<Pairs>,
    /// What is kept from pods for Coracle itself, likewise
    #[arg(long, value_name = "AMOUNTS", env = "CORACLE_KUBE_RESERVED")]
    pub(crate) kube_reserved: Option<Pairs>,
    /// What pods must leave free: memory.available<100Mi,nodefs.available<10%
    #[arg(long, value_name = "THRESHOLDS", env = "CORACLE_EVICTION_HARD")]
    pub(crate) eviction_hard: Option<Pairs>,
    /// The cluster's resolvers, for pods of dnsPolicy ClusterFirst
    #[arg(
        long,
        value_name = "ADDRESSES",
        env = "CORACLE_CLUSTER_DNS",
        value_delimiter = ','
    )]
    pub(crate) cluster_dns: Option<Vec<IpAddr>>,
    /// The cluster's domain: cluster.local
    #[arg(long, value_name = "DOMAIN", env = "CORACLE_CLUSTER_DOMAIN")]
    pub(crate) cluster_domain: Option<String>,
    #[command(flatten)]
    pub(crate) pressure: super::pressure::Pressure,
}
