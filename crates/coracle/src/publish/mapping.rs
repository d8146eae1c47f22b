//! What `-p` says, and a Pod's `hostPort`: which port of this machine leads to which of a pod's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use serde::{Deserialize, Serialize};

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// One published port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct PortMapping {
    /// The address of this machine that it is published at; `None` is all of them.
    pub(crate) ip: Option<IpAddr>,
    /// The port of this machine; 0 is the system's choice.
    pub(crate) host_port: u16,
    /// The pod's port, never 0.
    pub(crate) port: u16,
    /// What is carried.
    pub(crate) protocol: Protocol,
}

/// Why a text is no mapping.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum MappingError {
    /// A port that is none.
    #[error("port {0:?} is not a number from 1 to 65535; write [[IP:]HOSTPORT:]PORT[/tcp|/udp]")]
    Port(String),
    /// Several ports at once.
    #[error("{0:?} is a range of ports; give each port a -p of its own")]
    Range(String),
    /// An address that is none.
    #[error(
        "{0:?} is not an IP address of this machine; write [[IP:]HOSTPORT:]PORT[/tcp|/udp], an IPv6 address in brackets"
    )]
    Ip(String),
    /// A protocol that can't be carried.
    #[error("protocol {0:?} can't be published; use tcp or udp")]
    Protocol(String),
    /// A field of a Pod that is out of range.
    #[error("{field} is {value}, and a port is from 1 to 65535")]
    Field {
        /// Which.
        field: &'static str,
        /// What it says.
        value: i32,
    },
}

impl Protocol {
    fn of(word: &str) -> Result<Protocol, MappingError> {
        match word.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            _ => Err(MappingError::Protocol(word.to_owned())),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// A port of a mapping; nothing and 0 are the system's choice.
fn host_port(text: &str) -> Result<u16, MappingError> {
    match text {
        "" | "0" => Ok(0),
        text => port(text),
    }
}

fn port(text: &str) -> Result<u16, MappingError> {
    if text.contains('-') {
        return Err(MappingError::Range(text.to_owned()));
    }
    // A sign, which parse would take, is no digit.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(MappingError::Port(text.to_owned())),
    }
}

impl FromStr for PortMapping {
    type Err = MappingError;

    /// `[[IP:]HOSTPORT:]PORT[/tcp|/udp]`, as docker's `--publish` takes it.
    fn from_str(text: &str) -> Result<PortMapping, MappingError> {
        let (ports, protocol) = match text.rsplit_once('/') {
            Some((ports, word)) => (ports, Protocol::of(word)?),
            None => (text, Protocol::Tcp),
        };
        let (host, inner) = match ports.rsplit_once(':') {
            Some((host, inner)) => (Some(host), inner),
            None => (None, ports),
        };
        let port = port(inner)?;
        let (ip, host_port) = match host.map(|host| host.rsplit_once(':').ok_or(host)) {
            None => (None, 0),
            Some(Err(number)) => (None, host_port(number)?),
            Some(Ok((ip, number))) => (Some(address(ip)?), host_port(number)?),
        };
        Ok(PortMapping {
            ip,
            host_port,
            port,
            protocol,
        })
    }
}

fn address(text: &str) -> Result<IpAddr, MappingError> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let parsed = match bare {
        Some(v6) => v6.parse().map(IpAddr::V6).ok(),
        // Without brackets it can't be told where an IPv6 address ends.
        None => text.parse().map(IpAddr::V4).ok(),
    };
    parsed.ok_or_else(|| MappingError::Ip(text.to_owned()))
}

impl fmt::Display for PortMapping {
    /// As `-p` takes it, with every part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.at(), self.port, self.protocol)
    }
}

impl PortMapping {
    /// Where this machine listens, for people.
    pub(crate) fn at(&self) -> SocketAddr {
        let ip = self.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        SocketAddr::new(ip, self.host_port)
    }

    /// The mapping as a container has it. The host's port must be settled by now.
    pub(crate) fn container_port(&self) -> ContainerPort {
        ContainerPort {
            container_port: self.port.into(),
            host_ip: self.ip.map(|ip| ip.to_string()),
            host_port: Some(self.host_port.into()),
            protocol: Some(self.protocol.to_string().to_uppercase()),
            ..ContainerPort::default()
        }
    }

    /// What a container's port publishes; `None` if nothing.
    ///
    /// # Errors
    /// [`MappingError`]
    pub(crate) fn of(port: &ContainerPort) -> Result<Option<PortMapping>, MappingError> {
        let Some(host_port) = port.host_port.filter(|port| *port != 0) else {
            return Ok(None);
        };
        let number = |field, value: i32| {
            u16::try_from(value)
                .ok()
                .filter(|port| *port != 0)
                .ok_or(MappingError::Field { field, value })
        };
        let ip = match port.host_ip.as_deref() {
            None | Some("" | "0.0.0.0" | "::") => None,
            Some(ip) => Some(ip.parse().map_err(|_| MappingError::Ip(ip.to_owned()))?),
        };
        Ok(Some(PortMapping {
            ip,
            host_port: number("hostPort", host_port)?,
            port: number("containerPort", port.container_port)?,
            protocol: Protocol::of(port.protocol.as_deref().unwrap_or("TCP"))?,
        }))
    }

    /// What a Pod publishes, init containers' included.
    ///
    /// # Errors
    /// [`MappingError`]
    pub(crate) fn of_pod(pod: &Pod) -> Result<Vec<PortMapping>, MappingError> {
        let Some(spec) = &pod.spec else {
            return Ok(Vec::new());
        };
        let containers = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten());
        let mut mappings: Vec<_> = containers
            .flat_map(|container| container.ports.iter().flatten())
            .filter_map(|port| PortMapping::of(port).transpose())
            .collect::<Result<_, _>>()?;
        // Two containers may declare the same one.
        mappings.sort();
        mappings.dedup();
        Ok(mappings)
    }

    /// Where this machine listens for it. The first is a must; what follows is where it can.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let ips = match self.ip {
            Some(ip) => vec![ip],
            None => vec![
                IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            ],
        };
        let at = |ip| SocketAddr::new(ip, self.host_port);
        ips.into_iter().map(at).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mapping(text: &str) -> Result<PortMapping, MappingError> {
        text.parse()
    }

    #[test]
    fn as_docker_takes_it() {
        for (text, whole) in [
            ("80", "0.0.0.0:0:80/tcp"),
            ("8080:80", "0.0.0.0:8080:80/tcp"),
            ("0:80", "0.0.0.0:0:80/tcp"),
            (":80", "0.0.0.0:0:80/tcp"),
            ("53:53/udp", "0.0.0.0:53:53/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
            ("127.0.0.1::80/TCP", "127.0.0.1:0:80/tcp"),
            ("[::1]:8080:80", "[::1]:8080:80/tcp"),
        ] {
            let parsed = mapping(text).unwrap();
            assert_eq!(parsed.to_string(), whole, "{text}");
            // What is shown is taken again.
            assert_eq!(mapping(whole).unwrap().to_string(), whole);
        }
    }

    #[test]
    fn what_is_none_is_refused_by_its_part() {
        let port = |text: &str| Err(MappingError::Port(text.into()));
        assert_eq!(mapping(""), port(""));
        assert_eq!(mapping("0"), port("0"));
        assert_eq!(mapping("80:0"), port("0"));
        assert_eq!(mapping("+80"), port("+80"));
        assert_eq!(mapping("65536"), port("65536"));
        assert_eq!(mapping("http:80"), port("http"));
        assert_eq!(
            mapping("8000-8010:80"),
            Err(MappingError::Range("8000-8010".into()))
        );
        assert_eq!(
            mapping("80/sctp"),
            Err(MappingError::Protocol("sctp".into()))
        );
        assert_eq!(mapping("::1:8080:80"), Err(MappingError::Ip("::1".into())));
        assert_eq!(
            mapping("localhost:8080:80"),
            Err(MappingError::Ip("localhost".into()))
        );
    }

    #[test]
    fn a_pods_host_ports_are_mappings() {
        let published = mapping("[::1]:8080:80/udp").unwrap();
        assert_eq!(
            PortMapping::of(&published.container_port()).unwrap(),
            Some(published)
        );
        let inside = ContainerPort {
            container_port: 80,
            ..ContainerPort::default()
        };
        assert_eq!(PortMapping::of(&inside).unwrap(), None);
        let wrong = ContainerPort {
            container_port: 80,
            host_port: Some(70_000),
            ..ContainerPort::default()
        };
        assert!(matches!(
            PortMapping::of(&wrong),
            Err(MappingError::Field { value: 70_000, .. })
        ));
    }
}
