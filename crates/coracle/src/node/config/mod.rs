//! How the node is configured: the defaults, over them one file in the kubelet's own words
//! (`KubeletConfiguration` of `kubelet.config.k8s.io/v1beta1`), over it environment and flags.
//!
//! A field stands in [`NodeConfig`] with its default, and takes effect; what has none here is
//! refused with its line. To add one: the field, its default, its check, and for a flag a line in
//! `cli/node.rs` and one in [`NodeConfig::with`]. Must not know: what comes of the values.

mod address;
mod check;
mod flags;
mod pressure;
mod span;
mod unusable;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

pub(crate) use check::Threshold;
pub(crate) use flags::{Labels, Pairs, Taints};
pub(crate) use span::Span;

use crate::cli::node::Args;
use crate::manifest::{Problems, Source, configuration};

/// The configuration, whole: what is in force. The fields have the kubelet's names and meaning
/// where the kubelet has them (`k8s.io/kubelet/config/v1beta1/types.go`), in the file and at
/// `/configz`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NodeConfig {
    /// How to reach the API server, and as whom.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// How to ask for that, as whom: a bootstrap token's user.
    pub(crate) bootstrap_kubeconfig: Option<PathBuf>,
    /// Whether the client's certificate is renewed.
    pub(crate) rotate_certificates: bool,
    /// Whether the certificate that is served with is asked for; else it is self-signed.
    #[serde(rename = "serverTLSBootstrap")]
    pub(crate) server_tls_bootstrap: bool,
    /// The Node's name; that of the identity or of the machine if there is none.
    pub(crate) node_name: Option<String>,
    /// Where everything is kept.
    pub(crate) root_dir: PathBuf,
    /// The node's address, which its pods report; that of the default route if there is none.
    #[serde(rename = "nodeIP", deserialize_with = "address::one")]
    pub(crate) node_ip: Option<IpAddr>,
    /// Whether that is the Node's InternalIP, as a kubelet's; only where no other Node is of this machine.
    #[serde(rename = "internalIP")]
    pub(crate) internal_ip: bool,
    /// The address that the node's port is served on; all of the machine's if there is none.
    #[serde(deserialize_with = "address::one")]
    pub(crate) address: Option<IpAddr>,
    /// The node's port.
    pub(crate) port: u16,
    /// The port of 127.0.0.1 that tells the node's health; 0 for none.
    pub(crate) healthz_port: u16,
    /// The certificate that the node serves with; one that signs itself if there is none.
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// Its private key.
    pub(crate) tls_private_key_file: Option<PathBuf>,
    /// Who is known at the node's port.
    pub(crate) authentication: Authentication,
    /// What of the machine's CPUs the node has; all of them if there is none.
    pub(crate) cpus: Option<Quantity>,
    /// What of the machine's memory the node has; all of it if there is none.
    pub(crate) memory: Option<Quantity>,
    /// Labels of the Node beyond those every one has.
    pub(crate) node_labels: BTreeMap<String, String>,
    /// Taints of the Node beyond `kubernetes.io/arch`; set when it is created, and never later.
    pub(crate) register_with_taints: Vec<Taint>,
    /// The Node's `spec.providerID`; set when it is created.
    #[serde(rename = "providerID")]
    pub(crate) provider_id: Option<String>,
    /// The folder of static pods, which run whether there is an API server or not.
    pub(crate) static_pod_path: Option<PathBuf>,
    /// The most pods at once.
    pub(crate) max_pods: u32,
    /// What is kept for the system: `cpu`, `memory`, `ephemeral-storage`.
    pub(crate) system_reserved: BTreeMap<String, Quantity>,
    /// What is kept for Coracle itself, by the same names.
    pub(crate) kube_reserved: BTreeMap<String, Quantity>,
    /// Thresholds below which pods are evicted at once: by signal an amount or a percentage.
    pub(crate) eviction_hard: BTreeMap<String, String>,
    /// Thresholds below which pods are evicted after a time, likewise.
    pub(crate) eviction_soft: BTreeMap<String, String>,
    /// The time, of each of those.
    pub(crate) eviction_soft_grace_period: BTreeMap<String, String>,
    /// How much more has to be free once pods had to go: by signal an amount or a percentage.
    pub(crate) eviction_minimum_reclaim: BTreeMap<String, String>,
    /// For how long the Node's condition stays after its cause.
    pub(crate) eviction_pressure_transition_period: Span,
    /// The most grace of a pod that goes for a soft threshold, seconds.
    pub(crate) eviction_max_pod_grace_period: u32,
    /// Percent of the images' disk in use at which images that nobody uses go.
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub(crate) image_gc_high_threshold_percent: u8,
    /// Percent of it down to which they go.
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub(crate) image_gc_low_threshold_percent: u8,
    /// No image goes that came less than this ago.
    #[serde(rename = "imageMinimumGCAge")]
    pub(crate) image_minimum_gc_age: Span,
    /// Images that nobody has used for so long go whatever is free; 0: none does.
    #[serde(rename = "imageMaximumGCAge")]
    pub(crate) image_maximum_gc_age: Span,
    /// In what time pods end with the node; 0: their guests go on.
    pub(crate) shutdown_grace_period: Span,
    /// How much of it is for critical pods, which end last.
    pub(crate) shutdown_grace_period_critical_pods: Span,
    /// The cluster's resolvers, which a pod of dnsPolicy `ClusterFirst` asks.
    #[serde(rename = "clusterDNS", deserialize_with = "address::list")]
    pub(crate) cluster_dns: Vec<IpAddr>,
    /// The cluster's domain, whose services a pod finds by their short names.
    pub(crate) cluster_domain: String,
    /// The resolv.conf that pods of dnsPolicy `Default` have; empty for none.
    pub(crate) resolv_conf: PathBuf,
    /// How often the Node's status is computed, and patched when it differs.
    pub(crate) node_status_update_frequency: Span,
    /// How often it is patched though it does not differ, give or take half.
    pub(crate) node_status_report_frequency: Span,
    /// For how many seconds the Node's lease holds; it is renewed after a quarter of it.
    pub(crate) node_lease_duration_seconds: u32,
}

/// Who is known at the node's port, beside bearers of tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Authentication {
    /// Bearers of certificates.
    pub(crate) x509: X509,
}

/// See [`Authentication`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct X509 {
    /// The CA of certificates; that of the kubeconfig if there is none.
    #[serde(rename = "clientCAFile")]
    pub(crate) client_ca_file: Option<PathBuf>,
}

impl Default for NodeConfig {
    /// The kubelet's (`pkg/kubelet/apis/config/v1beta1/defaults.go`), but for `maxPods`, and certificates, which
    /// kubeadm has the kubelet renew, too.
    fn default() -> NodeConfig {
        NodeConfig {
            kubeconfig: None,
            bootstrap_kubeconfig: None,
            rotate_certificates: true,
            server_tls_bootstrap: true,
            node_name: None,
            root_dir: "/var/lib/coracle".into(),
            node_ip: None,
            internal_ip: false,
            address: None,
            port: 10250,
            healthz_port: 10248,
            tls_cert_file: None,
            tls_private_key_file: None,
            authentication: Authentication::default(),
            cpus: None,
            memory: None,
            node_labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            provider_id: None,
            static_pod_path: None,
            max_pods: 1000,
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            eviction_hard: eviction_hard(),
            eviction_soft: BTreeMap::new(),
            eviction_soft_grace_period: BTreeMap::new(),
            eviction_minimum_reclaim: BTreeMap::new(),
            eviction_pressure_transition_period: Span::seconds(300),
            eviction_max_pod_grace_period: 0,
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            image_minimum_gc_age: Span::seconds(120),
            image_maximum_gc_age: Span::default(),
            shutdown_grace_period: Span::default(),
            shutdown_grace_period_critical_pods: Span::default(),
            cluster_dns: Vec::new(),
            cluster_domain: String::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            node_status_update_frequency: Span::seconds(10),
            node_status_report_frequency: Span::seconds(300),
            node_lease_duration_seconds: 40,
        }
    }
}

/// `DefaultEvictionHard` of `pkg/kubelet/eviction/defaults_linux.go`.
fn eviction_hard() -> BTreeMap<String, String> {
    [
        ("memory.available", "100Mi"),
        ("nodefs.available", "10%"),
        ("nodefs.inodesFree", "5%"),
        ("imagefs.available", "15%"),
        ("imagefs.inodesFree", "5%"),
    ]
    .map(|(signal, threshold)| (signal.to_owned(), threshold.to_owned()))
    .into()
}

/// What the file is.
const KIND: configuration::Kind<NodeConfig> = configuration::Kind {
    version: "kubelet.config.k8s.io/v1beta1",
    name: "KubeletConfiguration",
    unusable: unusable::why,
    check: check::problems,
};

/// What is wrong with what was configured by flags and environment.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|(field, message)| format!("{field}: {message}")).collect::<Vec<_>>().join("\n"))]
pub(crate) struct Senseless(Vec<(String, String)>);

impl NodeConfig {
    /// Of defaults, file, environment and flags.
    ///
    /// # Errors
    /// Everything that is wrong, each with the file's line or the field.
    pub(crate) fn of(args: &Args) -> anyhow::Result<NodeConfig> {
        let base = match &args.config {
            Some(file) => NodeConfig::file(file)?,
            None => NodeConfig::default(),
        };
        let config = base.with(args);
        match check::problems(&config) {
            none if none.is_empty() => Ok(config),
            problems => Err(Senseless(problems).into()),
        }
    }

    /// Reads a file over the defaults. Its relative paths are relative to its folder, as the
    /// kubelet's are (`pkg/kubelet/kubeletconfig/configfiles/configfiles.go`).
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn file(path: &Path) -> Result<NodeConfig, Problems> {
        let source = Source::read(path).map_err(|problem| Problems(vec![problem]))?;
        let mut config = configuration::read(&source, &KIND)?;
        config.resolve(&source.folder);
        Ok(config)
    }

    /// Every path that a file may have.
    fn resolve(&mut self, folder: &Path) {
        // The kubelet's own word for no static pods is the empty text.
        self.static_pod_path
            .take_if(|path| path.as_os_str().is_empty());
        let paths = [
            &mut self.kubeconfig,
            &mut self.bootstrap_kubeconfig,
            &mut self.static_pod_path,
            &mut self.tls_cert_file,
            &mut self.tls_private_key_file,
            &mut self.authentication.x509.client_ca_file,
        ];
        let paths = paths.into_iter().flatten();
        for path in paths.chain([&mut self.root_dir]) {
            *path = folder.join(&path);
        }
        if !self.resolv_conf.as_os_str().is_empty() {
            self.resolv_conf = folder.join(&self.resolv_conf);
        }
    }

    /// As `/configz` shows it: a file again, without what there is none of.
    pub(crate) fn served(&self) -> serde_json::Value {
        let mut served = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = served.as_object_mut() {
            fields.insert("apiVersion".to_owned(), KIND.version.into());
            fields.insert("kind".to_owned(), KIND.name.into());
        }
        some(served)
    }

    /// With what flags and environment say.
    fn with(mut self, args: &Args) -> NodeConfig {
        let flags = args.clone();
        over(&mut self.kubeconfig, flags.kubeconfig.map(Some));
        let bootstrap = flags.bootstrap_kubeconfig.map(Some);
        over(&mut self.bootstrap_kubeconfig, bootstrap);
        over(&mut self.node_name, flags.node_name.map(Some));
        over(&mut self.root_dir, flags.root_dir);
        over(&mut self.node_ip, flags.node_ip.map(Some));
        self.internal_ip |= args.internal_ip;
        over(&mut self.address, flags.address.map(Some));
        over(&mut self.port, flags.port);
        over(&mut self.healthz_port, flags.healthz_port);
        over(&mut self.tls_cert_file, flags.tls_cert_file.map(Some));
        let key = flags.tls_private_key_file.map(Some);
        over(&mut self.tls_private_key_file, key);
        let ca = flags.client_ca_file.map(Some);
        over(&mut self.authentication.x509.client_ca_file, ca);
        over(&mut self.cpus, flags.cpus.map(Some));
        over(&mut self.memory, flags.memory.map(Some));
        over(&mut self.node_labels, flags.node_labels.map(|l| l.0));
        let taints = flags.register_with_taints.map(|taints| taints.0);
        over(&mut self.register_with_taints, taints);
        over(&mut self.provider_id, flags.provider_id.map(Some));
        over(&mut self.static_pod_path, flags.pod_manifest_path.map(Some));
        over(&mut self.max_pods, flags.max_pods);
        over(&mut self.system_reserved, quantities(flags.system_reserved));
        over(&mut self.kube_reserved, quantities(flags.kube_reserved));
        over(&mut self.eviction_hard, flags.eviction_hard.map(|p| p.0));
        over(&mut self.cluster_dns, flags.cluster_dns);
        over(&mut self.cluster_domain, flags.cluster_domain);
        self.with_pressure(flags.pressure);
        self
    }

    fn with_pressure(&mut self, flags: crate::cli::pressure::Pressure) {
        let pairs = |pairs: Option<Pairs>| pairs.map(|pairs| pairs.0);
        over(&mut self.eviction_soft, pairs(flags.eviction_soft));
        let times = pairs(flags.eviction_soft_grace_period);
        over(&mut self.eviction_soft_grace_period, times);
        let reclaim = pairs(flags.eviction_minimum_reclaim);
        over(&mut self.eviction_minimum_reclaim, reclaim);
        let most = flags.eviction_max_pod_grace_period;
        over(&mut self.eviction_max_pod_grace_period, most);
        let transition = flags.eviction_pressure_transition_period;
        over(&mut self.eviction_pressure_transition_period, transition);
        let (high, low) = (flags.image_gc_high_threshold, flags.image_gc_low_threshold);
        over(&mut self.image_gc_high_threshold_percent, high);
        over(&mut self.image_gc_low_threshold_percent, low);
        let least = flags.minimum_image_ttl_duration;
        over(&mut self.image_minimum_gc_age, least);
        over(&mut self.image_maximum_gc_age, flags.image_maximum_gc_age);
        over(&mut self.shutdown_grace_period, flags.shutdown_grace_period);
        let critical = flags.shutdown_grace_period_critical_pods;
        over(&mut self.shutdown_grace_period_critical_pods, critical);
    }
}

fn over<T>(value: &mut T, flag: Option<T>) {
    if let Some(flag) = flag {
        *value = flag;
    }
}

/// Without nulls, as Go's `omitempty` does.
fn some(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, some(value)))
            .collect(),
        other => other,
    }
}

fn quantities(pairs: Option<Pairs>) -> Option<BTreeMap<String, Quantity>> {
    let pairs = pairs?.0.into_iter();
    Some(pairs.map(|(name, text)| (name, Quantity(text))).collect())
}

#[cfg(test)]
mod tests;
