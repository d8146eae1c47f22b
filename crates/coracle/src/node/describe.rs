//! What this node is: its name, its address, and how much it has.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use anyhow::{Context, bail};
use cluster::{Access, NodeDescription, machine::Machine};
use k8s_openapi::api::core::v1::NodeAddress;
use lifecycle::{Costs, Resources};
use runtime::HostBudget;

use super::amounts;
use super::config::NodeConfig;

/// What admission promises a container of the guest host's room, before its module is known: a
/// guest of one memory has 7 mappings, and 6 descriptors with a log and a volume. The guest host
/// counts the true numbers again at the start, and refuses what does not fit.
const COST: Costs = Costs {
    mappings: 7,
    descriptors: 6,
};

/// See the module.
pub(super) struct Site {
    pub(super) description: NodeDescription,
    pub(super) allocatable: Resources,
    pub(super) costs: Costs,
    pub(super) host_ips: Vec<IpAddr>,
}

impl Site {
    /// Of this machine, as far as the arguments do not say otherwise. `mark` is the root folder's.
    ///
    /// # Errors
    /// When it has no address that other nodes reach.
    pub(super) fn of(
        config: &NodeConfig,
        access: &Access,
        mark: String,
        room: &HostBudget,
    ) -> anyhow::Result<Site> {
        let name = name(config, access);
        let ip = ip(config, access)?;
        let (capacity, amounts) = amounts::of(config)?;
        let allocatable = Resources {
            cpu_milli: amounts.cpu_milli,
            memory: amounts.memory,
            pods: amounts.pods,
            mappings: room.mappings.max,
            descriptors: room.descriptors.max,
            ephemeral_storage: amounts.ephemeral_storage,
        };
        let description = NodeDescription {
            name: name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            labels: config.node_labels.clone(),
            taints: config.register_with_taints.clone(),
            provider_id: config.provider_id.clone(),
            capacity,
            allocatable: amounts,
            addresses: addresses(&name, ip, config.internal_ip),
            declared_features: Vec::new(),
            port: Some(config.port),
            machine: Machine::read(),
            mark,
        };
        description.check()?;
        Ok(Site {
            description,
            allocatable,
            costs: COST,
            host_ips: vec![ip],
        })
    }
}

impl Site {
    /// The configuration in force, as `/configz` has it (`component-base/configz`).
    pub(super) fn served(&self, config: &NodeConfig) -> serde_json::Value {
        let config = NodeConfig {
            node_name: Some(self.description.name.clone()),
            node_ip: self.host_ips.first().copied(),
            ..config.clone()
        };
        serde_json::json!({ "kubeletconfig": config.served() })
    }
}

/// The address that was asked for, else the one that leads to the API server.
///
/// # Errors
/// When there is none that other nodes reach.
pub(super) fn ip(config: &NodeConfig, access: &Access) -> anyhow::Result<IpAddr> {
    match config.node_ip {
        Some(ip) => Ok(ip),
        None => address_towards(&access.server()),
    }
}

/// The name that was asked for, else the one of the identity, else the machine's.
pub(super) fn name(config: &NodeConfig, access: &Access) -> String {
    match (&config.node_name, access.node()) {
        (None, Some(node)) => node,
        _ => name_without_identity(config),
    }
}

/// The name that was asked for, else the machine's.
pub(super) fn name_without_identity(config: &NodeConfig) -> String {
    let asked = config.node_name.clone();
    asked.unwrap_or_else(|| {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .trim()
            .to_lowercase()
    })
}

/// ExternalIP, unless InternalIP is asked for: kindnet takes a second Node with its host's InternalIP for itself, and a
/// node may not look whether there is one.
fn addresses(name: &str, ip: IpAddr, internal: bool) -> Vec<NodeAddress> {
    let address = |kind: &str, address: String| NodeAddress {
        type_: kind.to_owned(),
        address,
    };
    let kind = if internal { "InternalIP" } else { "ExternalIP" };
    vec![
        address(kind, ip.to_string()),
        address("Hostname", name.to_owned()),
    ]
}

/// This machine's address on the way to the API server. Nothing is sent.
fn address_towards(server: &str) -> anyhow::Result<IpAddr> {
    let help = "name this node's address with --node-ip";
    let authority = server.split("://").last().unwrap_or_default();
    let authority = authority.split('/').next().unwrap_or_default();
    let with_port = match authority.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
        _ => format!("{authority}:443"),
    };
    let peer = with_port
        .to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next())
        .with_context(|| format!("the API server's name {authority:?} has no address; {help}"))?;
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket
        .connect(peer)
        .with_context(|| format!("no way to the API server {authority}; {help}"))?;
    let ip = socket.local_addr()?.ip();
    if ip.is_loopback() {
        bail!(
            "the way to the API server {authority} is this machine's loopback, which no pod may report; {help}"
        );
    }
    Ok(ip)
}
