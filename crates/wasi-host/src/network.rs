//! The network that a guest is in: what the addresses that it uses mean on this machine, and how
//! the machine's look to it.
//!
//! It is a value, and this module computes: it must not know sockets, nor either WASI.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Where pods have their addresses on a machine without a cluster: 127.64.0.0/10. All of 127.0.0.0/8
/// is local on Linux with nothing to set up, and little else than 127.0.0.0/16 is in use there.
const PODS: u32 = 0x7f40_0000;
const PODS_MASK: u32 = 0xffc0_0000;

/// A guest's network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// It shares the node's, as a pod with `hostNetwork` does, but for what listens on the machine's
    /// loopback: that trusts whoever is on the machine, and a guest is nobody there.
    #[default]
    Node,
    /// Its pod's own. The pod has one address, which is its loopback as well: a guest that means
    /// 0.0.0.0 or 127.0.0.1 gets this one.
    Pod {
        /// The pod's address, one of this machine's.
        ip: IpAddr,
    },
}

/// How a guest called its own address, which is how it is told of it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// By itself, or by nothing that had to be translated.
    Own,
    /// By this other one: a loopback address, or the unspecified one.
    As(IpAddr),
}

/// Whether pods of a machine without a cluster have their addresses there.
pub fn is_of_local_pods(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u32::from(ip) & PODS_MASK == PODS,
        IpAddr::V6(_) => false,
    }
}

impl Network {
    /// The address of the `number`th pod of a machine without a cluster. The first 256 are not
    /// pods', and the number wraps around where there are no more.
    pub fn local_pod(number: u32) -> IpAddr {
        let room = !PODS_MASK + 1 - FIRST;
        IpAddr::V4(Ipv4Addr::from(PODS + FIRST + number % room))
    }

    /// Where connections come from that coracle itself makes to local pods: an address that no guest
    /// takes for its own loopback, and that no pod has.
    pub const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 64, 0, 1));

    /// Where to connect, or send to, for a guest that means `to`. `None` if it may not.
    ///
    /// A guest in its pod's network reaches itself by loopback and unspecified addresses, in either
    /// family, and the other pods of a machine without a cluster if its own is one of them; never
    /// what listens on the machine's loopback.
    pub fn outgoing(&self, to: SocketAddr) -> Option<SocketAddr> {
        let ip = to.ip().to_canonical();
        let loopback = ip.is_loopback() || ip.is_unspecified();
        match self {
            Network::Node => (!loopback).then_some(to),
            Network::Pod { .. } if self.is_peer(ip) || !loopback => Some(to),
            Network::Pod { ip } => Some(SocketAddr::new(*ip, to.port())),
        }
    }

    /// The address that a connection to `to`, as [`Network::outgoing`] gave it, has to be bound to
    /// before it is made, with any port. `None` is the system's choice.
    pub fn source(&self, to: SocketAddr) -> Option<IpAddr> {
        match self {
            Network::Pod { ip } if ip.is_ipv4() == to.is_ipv4() => {
                // What is bound to loopback can send nothing out of the machine.
                (!ip.is_loopback() || to.ip().is_loopback()).then_some(*ip)
            }
            _ => None,
        }
    }

    /// Where to listen for a guest that means `at`. `None` if the guest has no such address.
    pub fn incoming(&self, at: SocketAddr) -> Option<SocketAddr> {
        match self {
            Network::Node => Some(at),
            Network::Pod { ip } if at.is_ipv4() == ip.is_ipv4() => {
                let own = at.ip() == *ip || self.face(at.ip()) != Face::Own;
                own.then(|| SocketAddr::new(*ip, at.port()))
            }
            Network::Pod { .. } => None,
        }
    }

    /// How a guest is told of its own address after it has called it `asked`.
    pub fn face(&self, asked: IpAddr) -> Face {
        match self {
            Network::Node => Face::Own,
            Network::Pod { .. } if self.is_peer(asked) => Face::Own,
            Network::Pod { .. } if asked.is_loopback() || asked.is_unspecified() => Face::As(asked),
            Network::Pod { .. } => Face::Own,
        }
    }

    /// How an address of this machine looks to the guest.
    pub fn shown(&self, real: SocketAddr, face: Face) -> SocketAddr {
        match (self, face) {
            (Network::Pod { ip }, Face::As(shown)) if real.ip() == *ip => {
                SocketAddr::new(shown, real.port())
            }
            _ => real,
        }
    }

    /// Whether there are sockets of that family.
    pub fn has(&self, ipv4: bool) -> bool {
        match self {
            Network::Node => true,
            Network::Pod { ip } => ip.is_ipv4() == ipv4,
        }
    }

    fn is_peer(&self, other: IpAddr) -> bool {
        matches!(self, Network::Pod { ip } if ip.is_loopback()) && is_of_local_pods(other)
    }
}

/// How many addresses at the start of the range are not pods'.
const FIRST: u32 = 256;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POD: Network = Network::Pod {
        ip: IpAddr::V4(Ipv4Addr::new(127, 64, 7, 9)),
    };

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_node_is_reached_but_for_its_loopback() {
        for (to, reached) in [
            ("93.184.216.34:80", true),
            ("10.0.0.1:443", true),
            ("[2001:db8::1]:80", true),
            ("[::ffff:10.0.0.1]:1", true),
            ("127.0.0.1:10250", false),
            ("127.64.1.1:80", false),
            ("127.8.8.8:1", false),
            ("0.0.0.0:6443", false),
            ("[::1]:1", false),
            ("[::]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
        ] {
            let to = address(to);
            assert_eq!(Network::Node.outgoing(to), reached.then_some(to), "{to}");
            assert_eq!(Network::Node.incoming(to), Some(to));
        }
    }

    #[test]
    fn a_pod_reaches_itself_other_pods_and_the_world() {
        for (to, real) in [
            ("127.0.0.1:80", "127.64.7.9:80"),
            ("127.0.0.53:53", "127.64.7.9:53"),
            ("127.128.0.1:1", "127.64.7.9:1"),
            ("0.0.0.0:80", "127.64.7.9:80"),
            ("[::1]:80", "127.64.7.9:80"),
            ("[::]:80", "127.64.7.9:80"),
            ("[::ffff:127.0.0.1]:80", "127.64.7.9:80"),
            ("127.64.7.9:80", "127.64.7.9:80"),
            ("127.127.255.255:80", "127.127.255.255:80"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ] {
            assert_eq!(POD.outgoing(address(to)), Some(address(real)), "{to}");
        }
    }

    #[test]
    fn a_pod_of_a_cluster_has_no_peers_on_loopback() {
        let pod = Network::Pod {
            ip: "10.1.2.3".parse().unwrap(),
        };
        assert_eq!(
            pod.outgoing(address("127.64.1.1:80")),
            Some(address("10.1.2.3:80"))
        );
        assert_eq!(
            pod.source(address("8.8.8.8:53")),
            Some("10.1.2.3".parse().unwrap())
        );
    }

    #[test]
    fn a_pod_listens_at_its_own_address_alone() {
        for (at, real) in [
            ("0.0.0.0:80", Some("127.64.7.9:80")),
            ("127.0.0.1:80", Some("127.64.7.9:80")),
            ("127.64.7.9:80", Some("127.64.7.9:80")),
            ("127.64.7.10:80", None),
            ("10.0.0.1:80", None),
            ("[::]:80", None),
            ("[::1]:80", None),
        ] {
            assert_eq!(POD.incoming(address(at)), real.map(address), "{at}");
        }
    }

    #[test]
    fn what_leaves_the_machine_is_not_bound_to_its_loopback() {
        assert_eq!(POD.source(address("8.8.8.8:53")), None);
        assert_eq!(POD.source(address("[2001:db8::1]:53")), None);
        let own = Some("127.64.7.9".parse().unwrap());
        assert_eq!(POD.source(address("127.64.1.1:53")), own);
        assert_eq!(Network::Node.source(address("127.64.1.1:53")), None);
    }

    #[test]
    fn the_gateway_is_no_pods_address() {
        assert!(is_of_local_pods(Network::GATEWAY));
        let room = !PODS_MASK + 1 - FIRST;
        assert_eq!(Network::local_pod(0), Network::local_pod(room));
        assert_eq!(
            Network::local_pod(room - 1),
            "127.127.255.255".parse::<IpAddr>().unwrap()
        );
        assert_eq!(
            Network::local_pod(0),
            "127.64.1.0".parse::<IpAddr>().unwrap()
        );
    }

    fn any_address() -> impl Strategy<Value = SocketAddr> {
        // Half of them on loopback, where the rules are.
        let loopback = any::<[u8; 3]>().prop_map(|[a, b, c]| Ipv4Addr::new(127, a, b, c));
        let v4 = prop_oneof![
            loopback,
            any::<u32>().prop_map(Ipv4Addr::from),
            Just(Ipv4Addr::UNSPECIFIED)
        ];
        (v4, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.into(), port))
    }

    proptest! {
        #[test]
        fn what_was_translated_is_shown_as_it_was_called(address in any_address()) {
            let face = POD.face(address.ip());
            let real = POD.outgoing(address).unwrap();
            prop_assert_eq!(POD.shown(real, face), address);
            if let Some(real) = POD.incoming(address) {
                prop_assert_eq!(POD.shown(real, face), address);
            }
        }

        #[test]
        fn nothing_leads_to_the_machines_loopback(address in any_address()) {
            let real = POD.outgoing(address).unwrap();
            prop_assert!(!real.ip().is_loopback() || is_of_local_pods(real.ip()));
            prop_assert!(!real.ip().is_unspecified());
            // What was translated is not translated again.
            prop_assert_eq!(POD.outgoing(real), Some(real));
        }
    }
}
