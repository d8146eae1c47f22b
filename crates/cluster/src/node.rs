//! The Node object: what is registered, and what its status says. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

use crate::machine::Machine;

/// The os and the architecture of a Wasm node, in Krustlet's words, so that its users' manifests fit.
pub const WASM: &str = "wasm32-wasi";

/// The key of the taint that keeps away what isn't Wasm.
const ARCH: &str = "kubernetes.io/arch";

/// What a Node is registered with.
#[derive(Debug, Clone)]
pub struct NodeDescription {
    /// The Node's name: a DNS subdomain.
    pub name: String,
    /// Coracle's version, `1.2.3`.
    pub version: String,
    /// Labels beyond those every node has.
    pub labels: BTreeMap<String, String>,
    /// Taints beyond [`taint`]. Like it they can be set only when the Node is created.
    pub taints: Vec<Taint>,
    /// `spec.providerID`, which is set when the Node is created.
    pub provider_id: Option<String>,
    /// All that the machine, or this node's share of it, has.
    pub capacity: Amounts,
    /// What of it pods may ask for.
    pub allocatable: Amounts,
    /// Where the node is reached. A loopback address is refused.
    pub addresses: Vec<NodeAddress>,
    /// Which features that the scheduler and the API server ask for work here (`status.declaredFeatures`).
    pub declared_features: Vec<String>,
    /// The port of the kubelet's HTTPS API; `None` while there is none.
    pub port: Option<u16>,
    /// The machine.
    pub machine: Machine,
    /// Who of all agents this is: the same at each start in one root folder, another in every other. It stands on the
    /// lease.
    pub mark: String,
}

/// Amounts of the four resources that the scheduler counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
    /// Pods.
    pub pods: u64,
    /// Bytes.
    pub ephemeral_storage: u64,
}

/// What the node's status says that changes: its conditions, each a sentence if something is wrong, and its images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Health {
    /// Why no pod can be run here.
    pub not_ready: Option<String>,
    /// Why memory is short.
    pub memory_pressure: Option<String>,
    /// Why the disk is short.
    pub disk_pressure: Option<String>,
    /// Why there is no room for more guests (mappings, descriptors, processes).
    pub pid_pressure: Option<String>,
    /// The images in its store, the largest first; those that a Node may list are.
    pub images: Vec<ContainerImage>,
}

/// Why a Node can't be described so.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DescriptionError {
    /// The name can't be a Node's.
    #[error(
        "the node name {0:?} is not a DNS subdomain: lower-case letters, digits, '-' and '.', at most 253; choose another with --node-name"
    )]
    Name(String),
    /// Pods report the node's address, and the API server refuses an EndpointSlice with a loopback address.
    #[error(
        "the node address {0} is a loopback address, which no pod of a cluster may have; give an address that other nodes reach"
    )]
    Loopback(IpAddr),
    /// There is none.
    #[error("the node has no address; give one that other nodes reach")]
    NoAddress,
}

/// The taint that every Wasm node has: only pods that tolerate `kubernetes.io/arch=wasm32-wasi` are scheduled to it.
pub fn taint() -> Taint {
    Taint {
        key: ARCH.to_owned(),
        value: Some(WASM.to_owned()),
        effect: "NoSchedule".to_owned(),
        time_added: None,
    }
}

impl NodeDescription {
    /// Whether the API server and other nodes can live with it.
    ///
    /// # Errors
    /// [`DescriptionError`].
    pub fn check(&self) -> Result<(), DescriptionError> {
        if !is_subdomain(&self.name) {
            return Err(DescriptionError::Name(self.name.clone()));
        }
        let ips: Vec<IpAddr> = self
            .addresses
            .iter()
            .filter_map(|address| address.address.parse().ok())
            .collect();
        match ips.iter().find(|ip| ip.is_loopback()) {
            Some(ip) => Err(DescriptionError::Loopback(*ip)),
            None if ips.is_empty() => Err(DescriptionError::NoAddress),
            None => Ok(()),
        }
    }

    /// Every label that the Node must have.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let own = [
            ("kubernetes.io/hostname", self.name.as_str()),
            ("kubernetes.io/os", WASM),
            (ARCH, WASM),
            ("beta.kubernetes.io/os", WASM),
            ("beta.kubernetes.io/arch", WASM),
            ("type", "coracle"),
        ];
        let own = own
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.labels.clone().into_iter().chain(own).collect()
    }

    /// Every taint that the Node must have.
    pub fn taints(&self) -> Vec<Taint> {
        std::iter::once(taint())
            .chain(self.taints.iter().cloned())
            .collect()
    }

    /// Those of [`Self::taints`] that `node` hasn't.
    pub fn missing_taints(&self, node: &Node) -> Vec<Taint> {
        let has: &[Taint] = node
            .spec
            .as_ref()
            .and_then(|spec| spec.taints.as_deref())
            .unwrap_or_default();
        let same =
            |a: &Taint, b: &Taint| (&a.key, &a.value, &a.effect) == (&b.key, &b.value, &b.effect);
        self.taints()
            .into_iter()
            .filter(|taint| !has.iter().any(|have| same(have, taint)))
            .collect()
    }

    /// The object to create.
    pub fn node(&self, health: &Health, now: Timestamp) -> Node {
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            labels: Some(self.labels()),
            ..Default::default()
        };
        let spec = NodeSpec {
            taints: Some(self.taints()),
            provider_id: self.provider_id.clone(),
            ..Default::default()
        };
        Node {
            metadata,
            spec: Some(spec),
            status: Some(self.status(health, None, now)),
        }
    }

    /// The status. Conditions that don't turn keep the time that they have in `current`.
    pub fn status(&self, health: &Health, current: Option<&Node>, now: Timestamp) -> NodeStatus {
        let current = current.and_then(|node| node.status.as_ref());
        let before: &[NodeCondition] = current
            .and_then(|status| status.conditions.as_deref())
            .unwrap_or_default();
        NodeStatus {
            addresses: Some(self.addresses.clone()),
            allocatable: Some(self.allocatable.quantities()),
            capacity: Some(self.capacity.quantities()),
            conditions: Some(health.conditions(before, now)),
            declared_features: self.features(),
            images: Some(health.listed()),
            runtime_handlers: Some(handlers()),
            daemon_endpoints: self.port.map(|port| NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint {
                    port: i32::from(port),
                }),
            }),
            node_info: Some(self.info()),
            ..Default::default()
        }
    }

    /// Sorted, each once, as validation wants them; none at all if there are none.
    fn features(&self) -> Option<Vec<String>> {
        let features: BTreeSet<&String> = self.declared_features.iter().collect();
        let features: Vec<String> = features.into_iter().cloned().collect();
        Some(features).filter(|features| !features.is_empty())
    }

    /// Why `node` is another's that lives: it is Ready, and of another program or another machine. One that is not
    /// Ready was left behind, and may be taken over.
    pub(crate) fn others(&self, node: &Node) -> Option<String> {
        let status = node.status.as_ref()?;
        let info = status.node_info.as_ref()?;
        let conditions = status.conditions.iter().flatten();
        let lives = conditions
            .filter(|condition| condition.type_ == "Ready")
            .any(|condition| condition.status == "True");
        let runtime = &info.container_runtime_version;
        let (theirs, ours) = (&info.machine_id, &self.machine.machine_id);
        let whose = match runtime.strip_prefix("coracle://") {
            None if !runtime.is_empty() => format!("a kubelet with {runtime}"),
            _ if !theirs.is_empty() && !ours.is_empty() && theirs != ours => {
                format!("the machine {theirs} (this one is {ours})")
            }
            _ => return None,
        };
        let name = &self.name;
        lives.then(|| {
            format!(
                "the Node {name} is Ready and belongs to {whose}; choose another --node-name, or end the other and wait until the Node is NotReady"
            )
        })
    }

    /// Whether the machine was booted anew since `node`'s status was written.
    pub(crate) fn rebooted(&self, node: &Node) -> bool {
        let info = node
            .status
            .as_ref()
            .and_then(|status| status.node_info.as_ref());
        let (before, now) = (
            info.map(|info| info.boot_id.as_str()),
            &self.machine.boot_id,
        );
        before.is_some_and(|before| !before.is_empty() && before != now)
    }

    fn info(&self) -> NodeSystemInfo {
        let machine = self.machine.clone();
        NodeSystemInfo {
            architecture: WASM.to_owned(),
            operating_system: WASM.to_owned(),
            boot_id: machine.boot_id,
            container_runtime_version: format!("coracle://{}", self.version),
            kernel_version: machine.kernel_version,
            // Semantic-version parsers must take it: the minor says which API it keeps, the suffix who it is.
            kubelet_version: format!("v1.36.0-coracle.{}", self.version),
            machine_id: machine.machine_id,
            os_image: machine.os_image,
            system_uuid: machine.system_uuid,
            ..Default::default()
        }
    }
}

impl Amounts {
    fn quantities(&self) -> BTreeMap<String, Quantity> {
        let amounts = [
            ("cpu", format!("{}m", self.cpu_milli)),
            ("memory", self.memory.to_string()),
            ("pods", self.pods.to_string()),
            ("ephemeral-storage", self.ephemeral_storage.to_string()),
        ];
        amounts
            .into_iter()
            .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
            .collect()
    }
}

/// What the handler of a RuntimeClass may be: nothing, or `coracle`.
pub const HANDLERS: [&str; 2] = ["", "coracle"];

fn handlers() -> Vec<NodeRuntimeHandler> {
    let handler = |name: &str| NodeRuntimeHandler {
        name: Some(name.to_owned()),
        features: Some(NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(false),
            user_namespaces: Some(false),
        }),
    };
    HANDLERS.map(handler).to_vec()
}

impl Health {
    /// At most 50 images of at most 5 names (`nodeStatusMaxImages`, `maxNamesPerImageInNodeStatus` of the kubelet).
    fn listed(&self) -> Vec<ContainerImage> {
        let first = |image: &ContainerImage| {
            let mut image = image.clone();
            image.names.iter_mut().for_each(|names| names.truncate(5));
            image
        };
        self.images.iter().take(50).map(first).collect()
    }

    /// The kubelet's four conditions in its order, Ready last.
    fn conditions(&self, before: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
        let pressures = [
            (
                "MemoryPressure",
                &self.memory_pressure,
                "KubeletHasSufficientMemory",
                "sufficient memory available",
                "KubeletHasInsufficientMemory",
            ),
            (
                "DiskPressure",
                &self.disk_pressure,
                "KubeletHasNoDiskPressure",
                "no disk pressure",
                "KubeletHasDiskPressure",
            ),
            (
                "PIDPressure",
                &self.pid_pressure,
                "KubeletHasSufficientPID",
                "sufficient PID available",
                "KubeletHasInsufficientPID",
            ),
        ];
        let mut conditions: Vec<NodeCondition> = Vec::with_capacity(4);
        for (kind, wrong, good_reason, good, bad_reason) in pressures {
            conditions.push(match wrong {
                None => condition(kind, "False", good_reason, &format!("kubelet has {good}")),
                Some(why) => condition(kind, "True", bad_reason, why),
            });
        }
        conditions.push(match &self.not_ready {
            None => condition(
                "Ready",
                "True",
                "KubeletReady",
                "kubelet is posting ready status",
            ),
            Some(why) => condition("Ready", "False", "KubeletNotReady", why),
        });
        for condition in &mut conditions {
            let same = before
                .iter()
                .find(|old| old.type_ == condition.type_ && old.status == condition.status);
            condition.last_heartbeat_time = Some(Time(now));
            condition.last_transition_time = same
                .and_then(|old| old.last_transition_time.clone())
                .or(Some(Time(now)));
        }
        conditions
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> NodeCondition {
    NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..Default::default()
    }
}

/// What a Node that lacks taints says of itself, and the command that an administrator has to run.
pub(crate) fn missing_taints_message(name: &str, missing: &[Taint]) -> String {
    let taints: Vec<String> = missing
        .iter()
        .map(|taint| match &taint.value {
            Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
            None => format!("{}:{}", taint.key, taint.effect),
        })
        .collect();
    let taints = taints.join(" ");
    format!(
        "the Node lacks a taint, which its own identity can't add to an existing Node; run: kubectl taint nodes {name} {taints}"
    )
}

/// The strategic merge patch that makes the Node's status this one.
pub(crate) fn status_patch(status: &NodeStatus) -> Value {
    let mut status = serde_json::to_value(status).unwrap_or_default();
    if let Some(Value::Array(addresses)) = status.get_mut("addresses") {
        // Merged by type, two addresses of one type would become one, and one that is gone would stay.
        addresses.insert(0, json!({ "$patch": "replace" }));
    }
    json!({ "status": status })
}

/// Whether `current` has the conditions of `wanted`, whatever others it has, and whenever they were said.
pub(crate) fn has_conditions(current: &NodeStatus, wanted: &NodeStatus) -> bool {
    let said = |c: &NodeCondition| {
        (
            c.type_.clone(),
            c.status.clone(),
            c.reason.clone(),
            c.message.clone(),
        )
    };
    let current: Vec<_> = current.conditions.iter().flatten().map(said).collect();
    wanted
        .conditions
        .iter()
        .flatten()
        .all(|condition| current.contains(&said(condition)))
}

/// Whether two statuses say the same apart from when they were said.
pub(crate) fn says_the_same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let timeless = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
            condition.last_transition_time = None;
        }
        status
    };
    timeless(a) == timeless(b)
}

fn is_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(inner)
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
