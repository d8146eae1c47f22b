//! UDP: datagrams to and from a guest.

use std::net::SocketAddr;
use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::udp;
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, SocketResult};
use wasmtime_wasi_io::poll::subscribe;

use super::SocketsView;
use super::udp_socket::{DATAGRAM, Ends, Refusal, Remote, Socket, meant};
use crate::network::Face;

/// The most datagrams that one call moves.
const DATAGRAMS: usize = 16;

/// The most bytes that one call receives.
const RECEIVED: usize = 64 << 10;

/// Datagrams to the guest.
pub(super) struct Incoming {
    ends: Arc<Ends>,
    remote: Option<Remote>,
    network: crate::Network,
    face: Face,
}

/// Datagrams from the guest.
pub(super) struct Outgoing {
    ends: Arc<Ends>,
    remote: Option<Remote>,
    network: crate::Network,
    ipv4: bool,
    permitted: usize,
}

/// The bindings name wasmtime-wasi's types; the table knows by the index what it holds.
pub(super) fn ours<W: 'static, T: 'static>(resource: &Resource<W>) -> Resource<T> {
    Resource::new_borrow(resource.rep())
}

pub(super) fn theirs<W: 'static, T: 'static>(resource: &Resource<T>) -> Resource<W> {
    Resource::new_own(resource.rep())
}

impl Incoming {
    /// What comes to a socket from now on.
    pub(super) fn of(socket: &Socket) -> Incoming {
        Incoming {
            ends: Arc::clone(&socket.ends),
            remote: socket.remote,
            network: socket.network,
            face: socket.peer_face(),
        }
    }
}

impl udp::HostIncomingDatagramStream for SocketsView<'_> {
    fn receive(
        &mut self,
        this: Resource<udp::IncomingDatagramStream>,
        max: u64,
    ) -> SocketResult<Vec<udp::IncomingDatagram>> {
        let stream: &mut Incoming = self.table().get_mut(&ours(&this))?;
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(DATAGRAMS);
        let mut datagrams = Vec::new();
        let mut received = 0;
        let mut buffer = vec![0; DATAGRAM];
        while datagrams.len() < max && received < RECEIVED {
            match stream.ends.receive(&mut buffer) {
                Ok((length, from)) => {
                    // From whom it does not take any is lost, as the system has it.
                    if stream.remote.is_none_or(|remote| remote.real == from) {
                        received += 1 + length;
                        datagrams.push(udp::IncomingDatagram {
                            data: buffer.get(..length).unwrap_or_default().to_vec(),
                            remote_address: stream.network.shown(from, stream.face).into(),
                        });
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) if !datagrams.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(datagrams)
    }

    fn subscribe(
        &mut self,
        this: Resource<udp::IncomingDatagramStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table(), ours::<_, Incoming>(&this))
    }

    fn drop(&mut self, this: Resource<udp::IncomingDatagramStream>) -> wasmtime::Result<()> {
        self.table()
            .delete(Resource::<Incoming>::new_own(this.rep()))?;
        Ok(())
    }
}

#[async_trait::async_trait]
impl Pollable for Incoming {
    async fn ready(&mut self) {
        self.ends.readable().await;
    }
}

impl Outgoing {
    /// What goes from a socket from now on.
    pub(super) fn of(socket: &Socket) -> Outgoing {
        Outgoing {
            ends: Arc::clone(&socket.ends),
            remote: socket.remote,
            network: socket.network,
            ipv4: socket.ipv4,
            permitted: 0,
        }
    }

    fn send(&self, datagram: &udp::OutgoingDatagram) -> Result<(), Refusal> {
        let to = datagram.remote_address.map(SocketAddr::from);
        let (real, connected) = match (to, self.remote) {
            (None, None) => return Err(Refusal::Invalid),
            (Some(to), Some(remote)) if to != remote.asked => return Err(Refusal::Invalid),
            (_, Some(remote)) => (remote.real, true),
            (Some(to), None) => (meant(self.network, self.ipv4, to)?, false),
        };
        Ok(self.ends.send(&datagram.data, real, connected)?)
    }
}

impl udp::HostOutgoingDatagramStream for SocketsView<'_> {
    fn check_send(&mut self, this: Resource<udp::OutgoingDatagramStream>) -> SocketResult<u64> {
        let stream: &mut Outgoing = self.table().get_mut(&ours(&this))?;
        // How many the system takes it does not tell; those that it does not are left to the guest.
        stream.permitted = DATAGRAMS;
        Ok(DATAGRAMS as u64)
    }

    fn send(
        &mut self,
        this: Resource<udp::OutgoingDatagramStream>,
        datagrams: Vec<udp::OutgoingDatagram>,
    ) -> SocketResult<u64> {
        let stream: &mut Outgoing = self.table().get_mut(&ours(&this))?;
        if datagrams.len() > stream.permitted {
            return Err(SocketError::trap(wasmtime::format_err!(
                "{} datagrams were sent and check-send permits {}",
                datagrams.len(),
                stream.permitted
            )));
        }
        // Each call has to be permitted anew.
        if !datagrams.is_empty() {
            stream.permitted = 0;
        }
        let mut sent = 0;
        for datagram in datagrams {
            match stream.send(&datagram) {
                Ok(()) => sent += 1,
                Err(Refusal::System(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    break;
                }
                // What was sent counts; the error comes again.
                Err(_) if sent > 0 => break,
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Ok(sent)
    }

    fn subscribe(
        &mut self,
        this: Resource<udp::OutgoingDatagramStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table(), ours::<_, Outgoing>(&this))
    }

    async fn drop(&mut self, this: Resource<udp::OutgoingDatagramStream>) -> wasmtime::Result<()> {
        self.table()
            .delete(Resource::<Outgoing>::new_own(this.rep()))?;
        Ok(())
    }
}

#[async_trait::async_trait]
impl Pollable for Outgoing {
    async fn ready(&mut self) {
        self.ends.writable().await;
    }
}
