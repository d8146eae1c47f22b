//! Sockets of preview2: a guest shares the node's network, as a pod with `hostNetwork` does, but for
//! what listens on the machine's loopback alone: that trusts whoever is on the machine, and a guest
//! is nobody there.

use std::net::{IpAddr, SocketAddr};

use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::SocketAddrUse;

/// Gives the guest the node's network.
pub(super) fn of_the_node(builder: &mut WasiCtxBuilder) -> &mut WasiCtxBuilder {
    builder
        .allow_tcp(true)
        .allow_udp(true)
        .allow_ip_name_lookup(true)
        .socket_addr_check(|address, used| Box::pin(async move { is_allowed(address, used) }))
}

fn is_allowed(address: SocketAddr, used: SocketAddrUse) -> bool {
    match used {
        SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend => !is_of_this_machine(address.ip()),
        _ => true,
    }
}

/// Linux takes the unspecified address for loopback where something is sent to it.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_loopback_is_nobodys_to_reach() {
        for (address, reached) in [
            ("10.1.2.3:80", true),
            ("[2001:db8::1]:80", true),
            ("127.0.0.1:10250", false),
            ("127.9.9.9:1", false),
            ("0.0.0.0:10250", false),
            ("[::1]:1", false),
            ("[::]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(
                is_allowed(address, SocketAddrUse::TcpConnect),
                reached,
                "{address}"
            );
            assert_eq!(
                is_allowed(address, SocketAddrUse::UdpSend),
                reached,
                "{address}"
            );
            assert!(is_allowed(address, SocketAddrUse::TcpBind), "{address}");
            assert!(is_allowed(address, SocketAddrUse::TcpAccept), "{address}");
        }
    }
}
