//! A guest's UDP socket: one of the system's in its pod's network and, once something is sent out of
//! the machine, another for that. What is bound to loopback can send nothing out; outside, a pod's
//! port is not its own, as behind any translation of addresses.
//!
//! It must not know resources nor the interface's types.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::network::Face;
use crate::{Network, OpenOne, Share};

/// The longest datagram, bytes; IP allows a little less.
pub(crate) const DATAGRAM: usize = 65_535;

/// The sockets of the system.
#[derive(Debug)]
pub(crate) struct Ends {
    network: Network,
    pub(crate) inside: UdpSocket,
    outside: OnceLock<(UdpSocket, OpenOne)>,
    share: Share,
    _one: OpenOne,
}

/// Where a socket is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// As the guest calls it.
    pub(crate) asked: SocketAddr,
    /// What that means.
    pub(crate) real: SocketAddr,
}

/// A guest's socket.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) ends: Arc<Ends>,
    pub(crate) network: Network,
    pub(crate) ipv4: bool,
    pub(crate) bound: bool,
    pub(crate) remote: Option<Remote>,
    face: Face,
}

/// Why nothing was sent or connected.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The address is none to send to.
    Invalid,
    /// The guest may not send there.
    Denied,
    /// The system's words.
    System(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::System(error)
    }
}

fn make(ipv4: bool) -> io::Result<UdpSocket> {
    let family = match ipv4 {
        true => AddressFamily::INET,
        false => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    if !ipv4 {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    UdpSocket::from_std(socket.into())
}

impl Socket {
    /// A socket that is bound to nothing.
    pub(crate) async fn new(network: Network, ipv4: bool, share: Share) -> io::Result<Socket> {
        let one = share.take()?;
        let inside = make(ipv4)?;
        // A new one can be written to, which the runtime learns a moment later.
        inside.writable().await?;
        let ends = Ends {
            network,
            inside,
            outside: OnceLock::new(),
            share,
            _one: one,
        };
        Ok(Socket {
            ends: Arc::new(ends),
            network,
            ipv4,
            bound: false,
            remote: None,
            face: Face::Own,
        })
    }

    /// Binds it, `None` if the guest has no such address.
    pub(crate) fn bind(&mut self, asked: SocketAddr) -> Option<io::Result<()>> {
        let real = self.network.incoming(asked)?;
        let bound = rustix::net::bind(&self.ends.inside, &real);
        if bound.is_ok() {
            self.bound = true;
            self.face = self.network.face(asked.ip());
        }
        Some(bound.map_err(io::Error::from))
    }

    /// Sends to, and takes from, nobody else from now on; with `None`, anybody.
    pub(crate) fn connect(&mut self, to: Option<SocketAddr>) -> Result<(), Refusal> {
        if self.remote.take().is_some() {
            let dissolved = |socket| rustix::net::connect_unspec(socket).map_err(io::Error::from);
            dissolved(&self.ends.inside)?;
            if let Some(outside) = self.ends.outside() {
                dissolved(outside)?;
            }
        }
        let Some(asked) = to else { return Ok(()) };
        let real = self.meant(asked)?;
        let end = self.ends.towards(real)?;
        rustix::net::connect(end, &real).map_err(io::Error::from)?;
        self.remote = Some(Remote { asked, real });
        Ok(())
    }

    /// What an address means that is sent to.
    pub(crate) fn meant(&self, asked: SocketAddr) -> Result<SocketAddr, Refusal> {
        meant(self.network, self.ipv4, asked)
    }

    /// As the guest is told.
    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        let real = self.ends.inside.local_addr()?;
        let face = match (self.face, self.remote) {
            // A connected socket has an address, and not any.
            (Face::As(ip), Some(remote)) if ip.is_unspecified() => {
                self.network.face(remote.asked.ip())
            }
            (face, _) => face,
        };
        Ok(self.network.shown(real, face))
    }

    /// How many hops its datagrams go.
    pub(crate) fn hops(&self) -> io::Result<u8> {
        let inside = &self.ends.inside;
        Ok(match self.ipv4 {
            true => u8::try_from(sockopt::ip_ttl(inside)?).unwrap_or(u8::MAX),
            false => sockopt::ipv6_unicast_hops(inside)?,
        })
    }

    /// How datagrams from the pod itself are told of.
    pub(crate) fn peer_face(&self) -> Face {
        match (self.remote, self.face) {
            (Some(remote), _) => self.network.face(remote.asked.ip()),
            (None, Face::As(ip)) if ip.is_loopback() => self.face,
            (None, _) => Face::Own,
        }
    }
}

pub(crate) fn meant(
    network: Network,
    ipv4: bool,
    asked: SocketAddr,
) -> Result<SocketAddr, Refusal> {
    if super::is_nowhere(asked) || asked.is_ipv4() != ipv4 {
        return Err(Refusal::Invalid);
    }
    let real = network.outgoing(asked).ok_or(Refusal::Denied)?;
    match real.is_ipv4() == ipv4 {
        true => Ok(real),
        false => Err(Refusal::Denied),
    }
}

impl Ends {
    fn outside(&self) -> Option<&UdpSocket> {
        self.outside.get().map(|(socket, _)| socket)
    }

    /// The end that sends to `real`.
    pub(crate) fn towards(&self, real: SocketAddr) -> io::Result<&UdpSocket> {
        let own = matches!(self.network, Network::Node) || self.network.source(real).is_some();
        if own {
            return Ok(&self.inside);
        }
        if let Some(outside) = self.outside() {
            return Ok(outside);
        }
        let one = self.share.take()?;
        let outside = make(real.is_ipv4())?;
        copy_options(&self.inside, &outside, real.is_ipv4())?;
        // Bound at once, so that answers are waited for before the first is sent.
        let any = match real {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        rustix::net::bind(&outside, &SocketAddr::new(any, 0))?;
        Ok(&self.outside.get_or_init(|| (outside, one)).0)
    }

    /// Sends one datagram, now or not at all.
    pub(crate) fn send(&self, bytes: &[u8], to: SocketAddr, connected: bool) -> io::Result<()> {
        let end = self.towards(to)?;
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let send = || {
            let sent = match connected {
                true => rustix::net::send(end, bytes, flags),
                false => rustix::net::sendto(end, bytes, flags, &to),
            };
            sent.map(drop).map_err(io::Error::from)
        };
        match end.try_io(Interest::WRITABLE, send) {
            // Of a new one the runtime does not know yet that it can be written to.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => send(),
            result => result,
        }
    }

    /// Takes one datagram that is there, from whichever end.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let inside = receive(&self.inside, buffer);
        match (&inside, self.outside()) {
            (Err(error), Some(outside)) if error.kind() == io::ErrorKind::WouldBlock => {
                receive(outside, buffer)
            }
            _ => inside,
        }
    }

    pub(crate) async fn readable(&self) {
        match self.outside() {
            // An error is the next call's to tell.
            None => drop(self.inside.readable().await),
            Some(outside) => tokio::select! {
                _ = self.inside.readable() => {}
                _ = outside.readable() => {}
            },
        }
    }

    pub(crate) async fn writable(&self) {
        match self.outside() {
            None => drop(self.inside.writable().await),
            // Which one the guest will write to is not known: both have to be ready.
            Some(outside) => drop(tokio::join!(self.inside.writable(), outside.writable())),
        }
    }

    /// Sets what a guest may set, on each end.
    pub(crate) fn set(
        &self,
        option: impl Fn(&UdpSocket) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        option(&self.inside)?;
        if let Some(outside) = self.outside() {
            option(outside)?;
        }
        Ok(())
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    socket.try_io(Interest::READABLE, || {
        let (length, _, from) = rustix::net::recvfrom(socket, &mut *buffer, RecvFlags::DONTWAIT)?;
        let from = from
            .ok_or(io::ErrorKind::InvalidData)
            .and_then(|from| SocketAddr::try_from(from).map_err(|_| io::ErrorKind::InvalidData))?;
        Ok((length, from))
    })
}

fn copy_options(from: &UdpSocket, to: &UdpSocket, ipv4: bool) -> rustix::io::Result<()> {
    match ipv4 {
        true => sockopt::set_ip_ttl(to, sockopt::ip_ttl(from)?)?,
        false => sockopt::set_ipv6_unicast_hops(to, Some(sockopt::ipv6_unicast_hops(from)?))?,
    }
    // The system doubles what is set.
    sockopt::set_socket_recv_buffer_size(to, sockopt::socket_recv_buffer_size(from)? / 2)?;
    sockopt::set_socket_send_buffer_size(to, sockopt::socket_send_buffer_size(from)? / 2)
}
