//! What is let through to the sockets of the system, whoever asked for it and however it was
//! translated: the last of two looks at an address.

use std::net::SocketAddr;

use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::SocketAddrUse;

use crate::Network;

/// Lets a guest have sockets in its network.
pub(in crate::p2) fn sockets_of(network: Network) -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder
        .allow_tcp(true)
        .allow_udp(true)
        .allow_ip_name_lookup(true)
        .socket_addr_check(move |real, used| {
            Box::pin(async move { is_allowed(network, real, used) })
        });
    builder
}

/// Whether a guest of the network may use an address of the machine's.
fn is_allowed(network: Network, real: SocketAddr, used: SocketAddrUse) -> bool {
    match used {
        SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend => network.outgoing(real) == Some(real),
        _ => true,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_on_the_machines_loopback_is_reached_translated_or_not() {
        let pod = Network::Pod {
            ip: Network::local_pod(7),
        };
        for network in [Network::Node, pod] {
            for (address, reached) in [
                ("93.184.216.34:80", true),
                ("127.0.0.1:10250", false),
                ("0.0.0.0:6443", false),
                ("[::1]:1", false),
                ("[::ffff:127.0.0.1]:1", false),
            ] {
                let address: SocketAddr = address.parse().unwrap();
                for used in [SocketAddrUse::TcpConnect, SocketAddrUse::UdpSend] {
                    assert_eq!(is_allowed(network, address, used), reached, "{address}");
                }
                assert!(is_allowed(network, address, SocketAddrUse::TcpBind));
                assert!(is_allowed(network, address, SocketAddrUse::TcpAccept));
            }
        }
    }
}
