//! What this node is: its name, its address, and how much it has.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use anyhow::{Context, bail};
use cluster::node::Amounts;
use cluster::{Access, NodeDescription, machine::Machine};
use k8s_openapi::api::core::v1::NodeAddress;
use lifecycle::{Costs, Resources, quantity};
use runtime::HostBudget;

use crate::cli::node::Args;

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
    /// Of this machine, as far as the arguments do not say otherwise.
    ///
    /// # Errors
    /// When it has no address that other nodes reach.
    pub(super) fn of(args: &Args, access: &Access, room: &HostBudget) -> anyhow::Result<Site> {
        let name = name(args, access);
        let ip = match args.node_ip {
            Some(ip) => ip,
            None => address_towards(&access.server())?,
        };
        let amounts = amounts(args)?;
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
            labels: Default::default(),
            taints: Vec::new(),
            capacity: amounts,
            allocatable: amounts,
            addresses: addresses(&name, ip),
            port: None,
            machine: Machine::read(),
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

/// The name that was asked for, else the one of the identity, else the machine's.
fn name(args: &Args, access: &Access) -> String {
    let asked = args
        .node_name
        .clone()
        .or_else(|| access.node().map(str::to_owned));
    asked.unwrap_or_else(|| {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .trim()
            .to_lowercase()
    })
}

/// ExternalIP, not InternalIP: kindnet takes a second Node with its host's InternalIP for itself.
fn addresses(name: &str, ip: IpAddr) -> Vec<NodeAddress> {
    let address = |kind: &str, address: String| NodeAddress {
        type_: kind.to_owned(),
        address,
    };
    vec![
        address("ExternalIP", ip.to_string()),
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

fn amounts(args: &Args) -> anyhow::Result<Amounts> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = args.cpus.as_ref().and_then(quantity::milli);
    let memory = args.memory.as_ref().and_then(quantity::bytes);
    Ok(Amounts {
        cpu_milli: cpu.unwrap_or_else(|| u64::try_from(cores).unwrap_or(1).saturating_mul(1000)),
        memory: match memory {
            Some(bytes) => bytes,
            None => memory_of_machine()?,
        },
        pods: args.max_pods.into(),
        ephemeral_storage: disk_of(&args.root_dir)?,
    })
}

fn memory_of_machine() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map(|kib| kib.saturating_mul(1024))
        .context("/proc/meminfo has no MemTotal; say how much pods may request with --memory")
}

fn disk_of(root: &std::path::Path) -> anyhow::Result<u64> {
    let stat = rustix::fs::statvfs(root).with_context(|| format!("{}", root.display()))?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}
