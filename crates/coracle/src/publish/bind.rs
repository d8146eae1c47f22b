//! Taking ports of this machine.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::{PortMapping, Protocol};

/// Connections that wait to be accepted, before the system refuses more; it may allow fewer.
const BACKLOG: i32 = 1024;

/// How often the system's choice of a port is asked for anew because the other family's is taken.
const CHOICES: usize = 16;

/// Why a port can't be published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// Someone has it.
    #[error(
        "port {}/{protocol} of {} is taken: something else listens there; publish another port, or end that one",
        at.port(), at.ip()
    )]
    Taken {
        /// Where.
        at: SocketAddr,
        /// What is carried.
        protocol: Protocol,
    },
    /// Low ports are the system's to give.
    #[error(
        "port {}/{protocol} of {} needs a privilege that this user does not have; publish a port from {lowest} on",
        at.port(), at.ip()
    )]
    Denied {
        /// Where.
        at: SocketAddr,
        /// What is carried.
        protocol: Protocol,
        /// The first that anyone may have.
        lowest: u16,
    },
    /// The address is another machine's.
    #[error("port {}/{protocol}: {} is not an address of this machine; leave it out for all of them", at.port(), at.ip())]
    NotHere {
        /// Where.
        at: SocketAddr,
        /// What is carried.
        protocol: Protocol,
    },
    /// Anything else.
    #[error("can't listen at {at}/{protocol}")]
    System {
        /// Where.
        at: SocketAddr,
        /// What is carried.
        protocol: Protocol,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// A Pod's port that is none.
    #[error("spec.containers[].ports is wrong")]
    Field(#[from] super::MappingError),
}

impl PublishError {
    fn of(at: SocketAddr, protocol: Protocol, errno: Errno) -> PublishError {
        match errno {
            Errno::ADDRINUSE => PublishError::Taken { at, protocol },
            Errno::ACCESS => PublishError::Denied {
                at,
                protocol,
                lowest: lowest(),
            },
            Errno::ADDRNOTAVAIL => PublishError::NotHere { at, protocol },
            errno => PublishError::System {
                at,
                protocol,
                source: errno.into(),
            },
        }
    }

    /// Whether it may be had later.
    pub(crate) fn retryable(&self) -> bool {
        !matches!(self, PublishError::Field(_) | PublishError::Denied { .. })
    }
}

/// The first port that needs no privilege (`ip_unprivileged_port_start` of ip-sysctl).
fn lowest() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024)
}

/// A socket that has its port.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// Ports of this machine, settled.
#[derive(Debug)]
pub(super) struct Bound {
    /// With the port that it is.
    pub(super) mapping: PortMapping,
    pub(super) sockets: Vec<Socket>,
}

/// Takes what a mapping asks for.
///
/// # Errors
/// [`PublishError`]
pub(super) fn bind(wanted: &PortMapping) -> Result<Bound, PublishError> {
    let mut choices = 0;
    loop {
        match bind_once(wanted) {
            Err(PublishError::Taken { .. }) if wanted.host_port == 0 && choices < CHOICES => {
                choices += 1;
            }
            done => return done,
        }
    }
}

fn bind_once(wanted: &PortMapping) -> Result<Bound, PublishError> {
    let mut mapping = wanted.clone();
    let mut sockets = Vec::new();
    for mut at in wanted.addresses() {
        at.set_port(mapping.host_port);
        match listen(at, wanted.protocol) {
            Ok((socket, port)) => {
                mapping.host_port = port;
                sockets.push(socket);
            }
            // Where there is no IPv6, all addresses are those of IPv4.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if !sockets.is_empty() => {}
            Err(errno) => return Err(PublishError::of(at, wanted.protocol, errno)),
        }
    }
    Ok(Bound { mapping, sockets })
}

fn listen(at: SocketAddr, protocol: Protocol) -> Result<(Socket, u16), Errno> {
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = rustix::net::socket_with(family, kind, flags, None)?;
    if at.is_ipv6() {
        // Each family has a socket of its own.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // So that what lingers of earlier connections does not hold the port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &at)?;
    let port = rustix::net::getsockname(&socket)
        .and_then(SocketAddr::try_from)?
        .port();
    Ok(match protocol {
        Protocol::Tcp => {
            rustix::net::listen(&socket, BACKLOG)?;
            (Socket::Tcp(socket.into()), port)
        }
        Protocol::Udp => (Socket::Udp(socket.into()), port),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mapping(text: &str) -> PortMapping {
        text.parse().unwrap()
    }

    #[test]
    fn the_systems_choice_is_told_and_holds_for_all_addresses() {
        for protocol in ["tcp", "udp"] {
            let bound = bind(&mapping(&format!("80/{protocol}"))).unwrap();
            assert_ne!(bound.mapping.host_port, 0);
            for socket in &bound.sockets {
                let at = match socket {
                    Socket::Tcp(socket) => socket.local_addr(),
                    Socket::Udp(socket) => socket.local_addr(),
                };
                assert_eq!(at.unwrap().port(), bound.mapping.host_port);
            }
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        // An address that no other test uses, so that the port stays free once it is let go of.
        let ip = runtime::Network::local_pod(4_000_020);
        let first = bind(&mapping(&format!("{ip}::80"))).unwrap();
        let error = bind(&first.mapping).unwrap_err();
        let port = first.mapping.host_port;
        assert_eq!(
            error.to_string(),
            format!(
                "port {port}/tcp of {ip} is taken: something else listens there; publish another port, or end that one"
            )
        );
        assert!(error.retryable());
        // All addresses include that one.
        let all = bind(&mapping(&format!("{port}:80"))).unwrap_err();
        assert!(matches!(all, PublishError::Taken { .. }), "{all}");
        drop(first);
        bind(&mapping(&format!("{ip}:{port}:80"))).unwrap();
    }

    #[test]
    fn an_address_of_another_machine_is_none_of_ours() {
        let error = bind(&mapping("192.0.2.1:0:80")).unwrap_err();
        assert!(matches!(error, PublishError::NotHere { .. }), "{error}");
    }
}
