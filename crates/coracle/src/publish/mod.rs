//! Publishing: ports of this machine that lead to a pod's, by a forwarder in this process.
//!
//! A pod of a machine without a cluster has an address that only the machine knows. What `-p` or
//! `hostPort` asks for is taken before the pod starts, so that a taken port is an error and not a
//! surprise, and given back when the pod's address is.
//!
//! It must not know guests or hosts: a pod is a UID and an address.

mod bind;
mod mapping;
mod tcp;
mod udp;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use tokio::task::JoinSet;

pub(crate) use bind::PublishError;
pub(crate) use mapping::{MappingError, PortMapping, Protocol};

use bind::{Bound, Socket, bind};

/// The published ports of a process.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    /// Taken for a pod that is yet to come.
    taken: Mutex<Vec<Bound>>,
    /// By the pods' UIDs: dropped, its tasks end.
    pods: Mutex<HashMap<String, JoinSet<()>>>,
}

impl Publisher {
    /// Takes ports now, for a pod to come, and settles those that are the system's choice. Give the
    /// answer to the pod, as its containers' `hostPort`.
    ///
    /// # Errors
    /// [`PublishError`] for the first that can't be had; then none is taken.
    pub(crate) fn take(&self, wanted: &[PortMapping]) -> Result<Vec<PortMapping>, PublishError> {
        let bound = wanted.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let settled = bound.iter().map(|bound| bound.mapping.clone()).collect();
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(bound);
        Ok(settled)
    }

    /// Leads ports to the pod at `ip`. To be called within a runtime.
    ///
    /// # Errors
    /// [`PublishError`] for the first that can't be had; then the pod has none.
    pub(crate) fn publish(
        &self,
        uid: &str,
        mappings: &[PortMapping],
        ip: IpAddr,
    ) -> Result<(), PublishError> {
        let bound = mappings
            .iter()
            .map(|mapping| match self.take_up(mapping) {
                Some(bound) => Ok(bound),
                None => bind(mapping),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut forwarders = JoinSet::new();
        for Bound { mapping, sockets } in bound {
            let to = SocketAddr::new(ip, mapping.port);
            for socket in sockets {
                match socket {
                    Socket::Tcp(listener) => forwarders.spawn(tcp::forward(listener, to)),
                    Socket::Udp(socket) => forwarders.spawn(udp::forward(socket, to)),
                };
            }
        }
        self.pods
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(uid.to_owned(), forwarders);
        Ok(())
    }

    fn take_up(&self, mapping: &PortMapping) -> Option<Bound> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let place = taken.iter().position(|bound| bound.mapping == *mapping)?;
        Some(taken.swap_remove(place))
    }

    /// Gives a pod's ports back; they are free when this returns.
    pub(crate) async fn withdraw(&self, uid: &str) {
        let forwarders = self
            .pods
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
        if let Some(mut forwarders) = forwarders {
            forwarders.shutdown().await;
        }
    }
}

/// What a connection to a pod comes from: see [`runtime::Network::GATEWAY`].
fn source(to: IpAddr) -> Option<SocketAddr> {
    runtime::is_of_local_pods(to).then(|| SocketAddr::new(runtime::Network::GATEWAY, 0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_pod_is_reached_from_the_gateway_until_it_is_withdrawn() {
        let ip = runtime::Network::local_pod(4_000_001);
        let pod = TcpListener::bind(SocketAddr::new(ip, 0)).await.unwrap();
        let port = pod.local_addr().unwrap().port();
        let publisher = Publisher::default();
        // An address that no other test uses, so that the port stays free once it is let go of.
        let host = runtime::Network::local_pod(4_000_002);
        let wanted = [format!("{host}::{port}").parse().unwrap()];
        let settled = publisher.take(&wanted).unwrap();
        publisher.publish("uid", &settled, ip).unwrap();
        let at = SocketAddr::new(host, settled[0].host_port);
        let mut client = TcpStream::connect(at).await.unwrap();
        let (mut server, from) = pod.accept().await.unwrap();
        assert_eq!(from.ip(), runtime::Network::GATEWAY);
        server.write_all(b"x").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'x');
        publisher.withdraw("uid").await;
        // It is free again, and whoever was connected is not left waiting.
        publisher.take(&settled).unwrap();
        assert_ne!(client.read(&mut [0]).await.unwrap_or(0), 1);
    }

    #[test]
    fn one_that_is_taken_leaves_none_taken() {
        let publisher = Publisher::default();
        let taken = publisher.take(&["127.0.0.1::80".parse().unwrap()]).unwrap();
        let other = Publisher::default();
        let free: PortMapping = "127.0.0.1::81".parse().unwrap();
        assert!(other.take(&[free, taken[0].clone()]).is_err());
        assert!(other.taken.lock().unwrap().is_empty());
    }
}
