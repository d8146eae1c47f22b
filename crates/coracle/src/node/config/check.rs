//! Which values make no sense, whoever gave them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use lifecycle::quantity;

use super::{NodeConfig, Span, pressure};
use crate::manifest::names;

/// The signals that a threshold can be of (`pkg/kubelet/eviction/api/types.go`).
const SIGNALS: [&str; 6] = [
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "pid.available",
];

/// The resources that can be reserved.
const RESERVABLE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// What NodeRestriction lets a node say of itself in the namespaces that are Kubernetes'
/// (`k8s.io/kubelet/pkg/apis/well_known_labels.go`).
const LABELS: [&str; 6] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
];

/// Labels that every Wasm node has, with values that no configuration changes.
const OWN: [&str; 6] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "type",
];

/// Each field whose value makes no sense, with what helps.
pub(super) fn problems(config: &NodeConfig) -> Vec<(String, String)> {
    let mut found = Problems::default();
    found.name("nodeName", config.node_name.as_deref());
    if !config.cluster_domain.is_empty() {
        found.name("clusterDomain", Some(&config.cluster_domain));
    }
    if config.max_pods == 0 {
        found.add("maxPods", "0 leaves no room for a pod; give 1 or more");
    }
    if config.port == 0 {
        let message = "0 can't be served: the cluster has to know the port; give 10250, or another";
        found.add("port", message);
    }
    let pair = "is missing; a certificate and its private key are given together";
    match (&config.tls_cert_file, &config.tls_private_key_file) {
        (Some(_), None) => found.add("tlsPrivateKeyFile", pair),
        (None, Some(_)) => found.add("tlsCertFile", pair),
        _ => {}
    }
    found.amount("cpus", config.cpus.as_ref());
    found.amount("memory", config.memory.as_ref());
    found.reserved("systemReserved", &config.system_reserved);
    found.reserved("kubeReserved", &config.kube_reserved);
    found.thresholds("evictionHard", &config.eviction_hard);
    found.thresholds("evictionSoft", &config.eviction_soft);
    let reclaim = &config.eviction_minimum_reclaim;
    found.thresholds("evictionMinimumReclaim", reclaim);
    found.0.extend(pressure::problems(config));
    found.labels(&config.node_labels);
    for (index, taint) in config.register_with_taints.iter().enumerate() {
        found.taint(&format!("registerWithTaints[{index}]"), taint);
    }
    if config.cluster_dns.len() > 3 {
        let message = "a resolv.conf has at most 3 servers; name the first 3";
        found.add("clusterDNS", message);
    }
    let status = config.node_status_update_frequency;
    found.positive("nodeStatusUpdateFrequency", status);
    let report = config.node_status_report_frequency;
    found.positive("nodeStatusReportFrequency", report);
    if config.node_lease_duration_seconds < 4 {
        let message = "a lease is renewed after a quarter of it; give 4 or more (seconds)";
        found.add("nodeLeaseDurationSeconds", message);
    }
    found.0
}

#[derive(Default)]
struct Problems(Vec<(String, String)>);

impl Problems {
    fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.push((field.to_owned(), message.into()));
    }

    fn name(&mut self, field: &str, name: Option<&str>) {
        if let Some(Err(message)) = name.map(names::subdomain) {
            self.add(field, message);
        }
    }

    fn positive(&mut self, field: &str, span: Span) {
        if span == Span::default() {
            self.add(field, "must be longer than 0; write it like 10s or 5m");
        }
    }

    fn amount(&mut self, field: &str, amount: Option<&Quantity>) {
        if amount.is_some_and(|amount| quantity::milli(amount).unwrap_or(0) == 0) {
            self.add(field, "must be more than 0");
        }
    }

    fn reserved(&mut self, field: &str, reserved: &BTreeMap<String, Quantity>) {
        for (resource, amount) in reserved {
            let at = format!("{field}.{resource}");
            if !RESERVABLE.contains(&resource.as_str()) {
                let known = RESERVABLE.join(", ");
                self.add(&at, format!("is none of {known}, which can be reserved"));
            } else if quantity::milli(amount).is_none() {
                let message = format!("{:?} is no amount; write it like 500m or 64Mi", amount.0);
                self.add(&at, message);
            }
        }
    }

    fn thresholds(&mut self, field: &str, thresholds: &BTreeMap<String, String>) {
        for (signal, text) in thresholds {
            let at = format!("{field}[{signal}]");
            if !SIGNALS.contains(&signal.as_str()) {
                self.add(&at, format!("is no signal; use {}", SIGNALS.join(", ")));
            } else if matches!(Threshold::parse(text), None | Some(Threshold::Amount(0))) {
                let message =
                    format!("{text:?} is neither an amount above 0 (100Mi) nor a share (10%)");
                self.add(&at, message);
            }
        }
    }

    fn labels(&mut self, labels: &BTreeMap<String, String>) {
        for (key, value) in labels {
            let at = format!("nodeLabels[{key}]");
            if OWN.contains(&key.as_str()) {
                self.add(&at, "is set by Coracle itself; remove it");
            } else if !a_node_may_set(key) {
                let message = "a node may not set this label of itself (NodeRestriction); set it \
                               with kubectl label, or use a prefix of your own or node.kubernetes.io/";
                self.add(&at, message);
            } else if let Err(message) = qualified(key).and_then(|()| label_value(value)) {
                self.add(&at, message);
            }
        }
    }

    fn taint(&mut self, field: &str, taint: &Taint) {
        if let Err(message) = qualified(&taint.key) {
            self.add(&format!("{field}.key"), message);
        }
        if let Err(message) = label_value(taint.value.as_deref().unwrap_or_default()) {
            self.add(&format!("{field}.value"), message);
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if !effects.contains(&taint.effect.as_str()) {
            let message = format!("{:?} is none of {}", taint.effect, effects.join(", "));
            self.add(&format!("{field}.effect"), message);
        }
    }
}

/// A threshold of eviction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Threshold {
    /// Of the whole, from 0 to 1.
    Share(f64),
    /// Bytes, inodes or processes.
    Amount(u64),
}

impl Threshold {
    /// `10%` or `100Mi`; `None` if it is neither.
    pub(crate) fn parse(text: &str) -> Option<Threshold> {
        match text.strip_suffix('%') {
            Some(percent) => {
                let share = percent.trim().parse::<f64>().ok()? / 100.0;
                (0.0..=1.0)
                    .contains(&share)
                    .then_some(Threshold::Share(share))
            }
            None => quantity::bytes(&Quantity(text.to_owned())).map(Threshold::Amount),
        }
    }

    /// How much that is of `whole`.
    pub(crate) fn of(self, whole: u64) -> u64 {
        match self {
            Threshold::Share(share) => (whole as f64 * share) as u64,
            Threshold::Amount(amount) => amount,
        }
    }
}

/// `isKubernetesLabel` and `IsKubeletLabel` of NodeRestriction and the kubelet's options.
fn a_node_may_set(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else {
        return true;
    };
    let within = |domain: &str| {
        prefix == domain
            || prefix
                .strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    if !within("kubernetes.io") && !within("k8s.io") {
        return true;
    }
    LABELS.contains(&key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

/// `IsQualifiedName`: a name, after a DNS prefix and a slash if there is one.
fn qualified(key: &str) -> Result<(), String> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            names::subdomain(prefix)?;
            name
        }
        None => key,
    };
    match name {
        "" => Err("the key is empty".to_owned()),
        name => label_value(name),
    }
}

/// `IsValidLabelValue`.
fn label_value(text: &str) -> Result<(), String> {
    let inside = |c: char| c.is_ascii_alphanumeric();
    let good = text.len() <= 63
        && text
            .chars()
            .all(|c| inside(c) || matches!(c, '-' | '_' | '.'))
        && (text.is_empty() || (text.starts_with(inside) && text.ends_with(inside)));
    good.then_some(()).ok_or_else(|| {
        format!(
            "{text:?} can't stand here; use at most 63 letters, digits, '-', '_' and '.', with a \
             letter or digit at both ends"
        )
    })
}
