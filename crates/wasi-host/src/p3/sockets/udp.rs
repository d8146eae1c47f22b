//! UDP: a guest's socket of [`crate::p2`], one datagram a call.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rustix::net::sockopt;
use wasmtime::component::{Accessor, Resource};
use wasmtime_wasi::p3::bindings::sockets::types::{
    ErrorCode, HostUdpSocket, HostUdpSocketWithStore, IpAddressFamily, IpSocketAddress, UdpSocket,
};
use wasmtime_wasi::p3::sockets::{SocketError, SocketResult};

use super::super::pipe::Code;
use super::{error, family};
use crate::p2::udp::{DATAGRAM, Refusal, Socket};
use crate::p2::{HasSockets, SocketsView};

type Ours = Resource<Socket>;

/// The bindings name wasmtime-wasi's type; the table knows by the index what it holds.
fn ours(socket: &Resource<UdpSocket>) -> Ours {
    Resource::new_borrow(socket.rep())
}

fn system(error: &io::Error) -> SocketError {
    ErrorCode::of(error).into()
}

fn refusal(refusal: Refusal) -> SocketError {
    match refusal {
        Refusal::Invalid => ErrorCode::InvalidArgument.into(),
        Refusal::Denied => ErrorCode::AccessDenied.into(),
        Refusal::System(error) => system(&error),
    }
}

impl SocketsView<'_> {
    fn datagrams(&mut self, socket: &Resource<UdpSocket>) -> SocketResult<&mut Socket> {
        let found = self.wasi.table.get_mut(&ours(socket));
        found.map_err(SocketError::trap)
    }

    /// Sets a number that must not be 0, on each of the system's sockets.
    fn set_number(
        &mut self,
        socket: &Resource<UdpSocket>,
        value: u64,
        set: impl Fn(&tokio::net::UdpSocket, usize) -> rustix::io::Result<()>,
    ) -> SocketResult<()> {
        if value == 0 {
            return Err(ErrorCode::InvalidArgument.into());
        }
        // A size is a wish: the system cuts it to what it allows.
        let value = usize::try_from(value).unwrap_or(usize::MAX);
        let value = value.min(i32::MAX as usize);
        let ends = Arc::clone(&self.datagrams(socket)?.ends);
        ends.set(|socket| set(socket, value))
            .map_err(|e| system(&e))
    }
}

/// Binds one that is used without having been bound, as the interface has it.
fn bind_anywhere(socket: &mut Socket) -> SocketResult<()> {
    if socket.bound {
        return Ok(());
    }
    let any = match socket.ipv4 {
        true => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        false => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    bind(socket, SocketAddr::new(any, 0))
}

fn bind(socket: &mut Socket, at: SocketAddr) -> SocketResult<()> {
    match socket.bind(at) {
        None => Err(ErrorCode::AddressNotBindable.into()),
        Some(bound) => bound.map_err(|error| system(&error)),
    }
}

impl<T: Send + 'static> HostUdpSocketWithStore<T> for HasSockets {
    async fn send(
        store: &Accessor<T, Self>,
        socket: Resource<UdpSocket>,
        data: Vec<u8>,
        to: Option<IpSocketAddress>,
    ) -> SocketResult<()> {
        let (ends, real, connected) = store.with(|mut store| {
            let mut view = store.get();
            let socket = view.datagrams(&socket)?;
            let asked = to.map(SocketAddr::from);
            let (real, connected) = match (asked, socket.remote) {
                (None, None) => return Err(ErrorCode::InvalidArgument.into()),
                (Some(asked), Some(remote)) if remote.asked != asked => {
                    return Err(ErrorCode::InvalidArgument.into());
                }
                (_, Some(remote)) => (remote.real, true),
                (Some(asked), None) => (socket.meant(asked).map_err(refusal)?, false),
            };
            bind_anywhere(socket)?;
            SocketResult::Ok((Arc::clone(&socket.ends), real, connected))
        })?;
        if data.len() > DATAGRAM {
            return Err(ErrorCode::DatagramTooLarge.into());
        }
        loop {
            match ends.send(&data, real, connected) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ends.writable().await,
                sent => return sent.map_err(|error| system(&error)),
            }
        }
    }

    async fn receive(
        store: &Accessor<T, Self>,
        socket: Resource<UdpSocket>,
    ) -> SocketResult<(Vec<u8>, IpSocketAddress)> {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let ends = store.with(|mut store| {
                let mut view = store.get();
                let socket = view.datagrams(&socket)?;
                match socket.bound {
                    true => SocketResult::Ok(Arc::clone(&socket.ends)),
                    false => Err(ErrorCode::InvalidState.into()),
                }
            })?;
            match ends.receive(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ends.readable().await,
                Err(error) => return Err(system(&error)),
                Ok((length, from)) => {
                    let from = store.with(|mut store| {
                        let mut view = store.get();
                        let socket = view.datagrams(&socket)?;
                        // From whom it does not take any is lost, as the system has it.
                        let heard = socket.remote.is_none_or(|remote| remote.real == from);
                        let shown = || socket.network.shown(from, socket.peer_face());
                        SocketResult::Ok(heard.then(shown))
                    })?;
                    if let Some(from) = from {
                        buffer.truncate(length);
                        return Ok((buffer, from.into()));
                    }
                }
            }
        }
    }
}

impl HostUdpSocket for SocketsView<'_> {
    async fn create(&mut self, of: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        self.check_family(family(of)).map_err(error)?;
        let (network, share) = (self.sockets.network, self.root.share().clone());
        let made = Socket::new(network, of == IpAddressFamily::Ipv4, share).await;
        let socket = made.map_err(|error| system(&error))?;
        let socket = self.wasi.table.push(socket).map_err(SocketError::trap)?;
        Ok(Resource::new_own(socket.rep()))
    }

    async fn bind(&mut self, socket: Resource<UdpSocket>, at: IpSocketAddress) -> SocketResult<()> {
        let socket = self.datagrams(&socket)?;
        let at = SocketAddr::from(at);
        if socket.bound {
            return Err(ErrorCode::InvalidState.into());
        }
        match at.is_ipv4() == socket.ipv4 {
            true => bind(socket, at),
            false => Err(ErrorCode::InvalidArgument.into()),
        }
    }

    async fn connect(
        &mut self,
        socket: Resource<UdpSocket>,
        to: IpSocketAddress,
    ) -> SocketResult<()> {
        let socket = self.datagrams(&socket)?;
        bind_anywhere(socket)?;
        socket.connect(Some(to.into())).map_err(refusal)
    }

    fn disconnect(&mut self, socket: Resource<UdpSocket>) -> SocketResult<()> {
        let socket = self.datagrams(&socket)?;
        match socket.remote {
            Some(_) => socket.connect(None).map_err(refusal),
            None => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn get_local_address(&mut self, socket: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        let socket = self.datagrams(&socket)?;
        match socket.bound {
            true => Ok(socket.local_address().map_err(|e| system(&e))?.into()),
            false => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn get_remote_address(&mut self, socket: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        let remote = self.datagrams(&socket)?.remote;
        let remote = remote.ok_or(ErrorCode::InvalidState)?;
        Ok(remote.asked.into())
    }

    fn get_address_family(
        &mut self,
        socket: Resource<UdpSocket>,
    ) -> wasmtime::Result<IpAddressFamily> {
        let socket = self.wasi.table.get(&ours(&socket))?;
        Ok(match socket.ipv4 {
            true => IpAddressFamily::Ipv4,
            false => IpAddressFamily::Ipv6,
        })
    }

    fn get_unicast_hop_limit(&mut self, socket: Resource<UdpSocket>) -> SocketResult<u8> {
        self.datagrams(&socket)?.hops().map_err(|e| system(&e))
    }

    fn set_unicast_hop_limit(
        &mut self,
        socket: Resource<UdpSocket>,
        value: u8,
    ) -> SocketResult<()> {
        let ipv4 = self.datagrams(&socket)?.ipv4;
        self.set_number(&socket, value.into(), |socket, _| match ipv4 {
            true => sockopt::set_ip_ttl(socket, value.into()),
            false => sockopt::set_ipv6_unicast_hops(socket, Some(value)),
        })
    }

    fn get_receive_buffer_size(&mut self, socket: Resource<UdpSocket>) -> SocketResult<u64> {
        let ends = &self.datagrams(&socket)?.ends;
        // The system doubles what is set.
        let size = sockopt::socket_recv_buffer_size(&ends.inside);
        Ok(size.map_err(|error| system(&error.into()))? as u64 / 2)
    }

    fn set_receive_buffer_size(
        &mut self,
        socket: Resource<UdpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        self.set_number(&socket, value, |socket, size| {
            sockopt::set_socket_recv_buffer_size(socket, size)
        })
    }

    fn get_send_buffer_size(&mut self, socket: Resource<UdpSocket>) -> SocketResult<u64> {
        let ends = &self.datagrams(&socket)?.ends;
        let size = sockopt::socket_send_buffer_size(&ends.inside);
        Ok(size.map_err(|error| system(&error.into()))? as u64 / 2)
    }

    fn set_send_buffer_size(
        &mut self,
        socket: Resource<UdpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        self.set_number(&socket, value, |socket, size| {
            sockopt::set_socket_send_buffer_size(socket, size)
        })
    }

    fn drop(&mut self, socket: Resource<UdpSocket>) -> wasmtime::Result<()> {
        self.wasi
            .table
            .delete(Resource::<Socket>::new_own(socket.rep()))?;
        Ok(())
    }
}
