//! Sockets that listen before their guest starts: preview1 has no way to make one, and takes
//! connections on those that it is given.
//!
//! A guest that can take connections gets one for each TCP `containerPort` of its container, from
//! descriptor 4 on in the order of the ports: 0 to 2 are the standard streams and 3 is the root.
//! `LISTEN_FDS` says how many, `LISTEN_FDNAMES` the ports' names with `:` between, as
//! sd_listen_fds(3) has them. `LISTEN_PID` has no meaning where there are no processes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use lifecycle::Failure;
use runtime::Network;

use super::{Hands, failure};

/// What a guest is given.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    sockets: Vec<TcpListener>,
    names: Vec<String>,
}

impl Listeners {
    /// Says in the environment what there is, unless the Pod says something else.
    pub(super) fn tell(&self, env: &mut Vec<(String, String)>) {
        if self.sockets.is_empty() {
            return;
        }
        let told = [
            ("LISTEN_FDS", self.sockets.len().to_string()),
            ("LISTEN_FDNAMES", self.names.join(":")),
        ];
        for (name, value) in told {
            if !env.iter().any(|(known, _)| known == name) {
                env.push((name.to_owned(), value));
            }
        }
    }

    /// A descriptor for each.
    pub(super) fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        let copy = |socket: &TcpListener| socket.try_clone().map(OwnedFd::from);
        self.sockets.iter().map(copy).collect()
    }
}

/// The container's TCP ports with their names, each once.
fn ports(container: &Container) -> Vec<(u16, String)> {
    let mut ports: Vec<(u16, String)> = Vec::new();
    let is_tcp = |port: &&ContainerPort| port.protocol.as_deref().is_none_or(|p| p == "TCP");
    for port in container.ports.iter().flatten().filter(is_tcp) {
        let Ok(number) = u16::try_from(port.container_port) else {
            continue;
        };
        if !ports.iter().any(|(known, _)| *known == number) {
            let name = port.name.clone().filter(|name| !name.is_empty());
            ports.push((number, name.unwrap_or_else(|| number.to_string())));
        }
    }
    ports
}

fn listen(at: SocketAddr, container: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(at).map_err(|error| {
        let (ip, port) = (at.ip(), at.port());
        let help = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "it is taken by another container of the pod, or of the node where pods share its address"
            }
            io::ErrorKind::PermissionDenied => {
                "the system keeps low ports for the privileged; use one from 1024 on"
            }
            _ => "the guest can't have it",
        };
        let message = format!(
            "container {container:?}: can't listen at containerPort {port} of {ip}: {help}: {error}"
        );
        failure("RunContainerError", message, true)
    })
}

impl Hands {
    /// Listens for a container whose guest `accepts` connections.
    pub(super) fn listeners(
        &self,
        pod: &Pod,
        container: &str,
        accepts: bool,
    ) -> Result<Listeners, Failure> {
        let Some(found) = super::container(pod, container).filter(|_| accepts) else {
            return Ok(Listeners::default());
        };
        let ip = match self.network(pod) {
            Network::Pod { ip } => ip,
            Network::Node => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let mut listeners = Listeners::default();
        for (port, name) in ports(&found) {
            let at = SocketAddr::new(ip, port);
            listeners.sockets.push(listen(at, container)?);
            listeners.names.push(name);
        }
        Ok(listeners)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_tcp_port_is_named_and_listened_at_once() {
        let container: Container = serde_json::from_str(
            r#"{"name":"c","ports":[{"containerPort":80,"name":"http"},{"containerPort":53,"protocol":"UDP"},
                {"containerPort":9090,"protocol":"TCP"},{"containerPort":80,"name":"again"}]}"#,
        )
        .unwrap();
        assert_eq!(
            ports(&container),
            [(80, "http".to_owned()), (9090, "9090".to_owned())]
        );
    }

    #[test]
    fn the_environment_tells_of_them_unless_the_pod_does() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listeners = Listeners {
            sockets: vec![socket],
            names: vec!["http".into()],
        };
        let mut env = vec![("LISTEN_FDNAMES".to_owned(), "mine".to_owned())];
        listeners.tell(&mut env);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            env,
            [pair("LISTEN_FDNAMES", "mine"), pair("LISTEN_FDS", "1")]
        );
        let mut none = Vec::new();
        Listeners::default().tell(&mut none);
        assert!(none.is_empty());
    }

    #[test]
    fn a_taken_port_names_the_container_and_the_port() {
        let at = SocketAddr::new(Network::local_pod(4_000_030), 0);
        let first = TcpListener::bind(at).unwrap();
        let at = first.local_addr().unwrap();
        let failure = listen(at, "web").unwrap_err();
        assert!(
            failure.message.starts_with(&format!(
                "container \"web\": can't listen at containerPort {}",
                at.port()
            )),
            "{}",
            failure.message
        );
    }
}
