//! UDP: the interface over [`Socket`].

use std::net::SocketAddr;
use std::sync::Arc;

use rustix::net::sockopt;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Network,
};
use wasmtime_wasi::p2::bindings::sockets::{udp, udp_create_socket};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, SocketResult};
use wasmtime_wasi_io::poll::subscribe;

use super::SocketsView;
pub(crate) use super::udp_socket::{DATAGRAM, Refusal, Socket};
use super::udp_streams::{Incoming, Outgoing, ours, theirs};

/// A guest's socket and what it has begun.
pub(super) struct Bindable {
    socket: Socket,
    is_binding: bool,
}

impl From<Refusal> for SocketError {
    fn from(refusal: Refusal) -> SocketError {
        match refusal {
            Refusal::Invalid => ErrorCode::InvalidArgument,
            Refusal::Denied => ErrorCode::AccessDenied,
            Refusal::System(error) => ErrorCode::from(error),
        }
        .into()
    }
}

fn family(ipv4: bool) -> IpAddressFamily {
    match ipv4 {
        true => IpAddressFamily::Ipv4,
        false => IpAddressFamily::Ipv6,
    }
}

impl SocketsView<'_> {
    fn udp(&mut self, this: &Resource<udp::UdpSocket>) -> SocketResult<&mut Bindable> {
        Ok(self.table().get_mut(&ours(this))?)
    }

    /// A number that some option has, for one that must not be 0.
    fn set_udp(
        &mut self,
        this: &Resource<udp::UdpSocket>,
        value: u64,
        set: impl Fn(&tokio::net::UdpSocket, usize) -> rustix::io::Result<()>,
    ) -> SocketResult<()> {
        if value == 0 {
            return Err(ErrorCode::InvalidArgument.into());
        }
        // A size is a wish: the system cuts it to what it allows.
        let value = usize::try_from(value)
            .unwrap_or(usize::MAX)
            .min(i32::MAX as usize);
        let ends = Arc::clone(&self.udp(this)?.socket.ends);
        Ok(ends.set(|socket| set(socket, value))?)
    }
}

impl udp_create_socket::Host for SocketsView<'_> {
    async fn create_udp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> SocketResult<Resource<udp::UdpSocket>> {
        self.check_family(family)?;
        let network = self.sockets.network;
        let share = self.root.share().clone();
        let socket = Socket::new(network, family == IpAddressFamily::Ipv4, share).await?;
        let socket = self.table().push(Bindable {
            socket,
            is_binding: false,
        })?;
        Ok(theirs(&socket))
    }
}

impl udp::Host for SocketsView<'_> {}

impl udp::HostUdpSocket for SocketsView<'_> {
    async fn start_bind(
        &mut self,
        this: Resource<udp::UdpSocket>,
        network: Resource<Network>,
        at: IpSocketAddress,
    ) -> SocketResult<()> {
        self.check(&network)?;
        let udp = self.udp(&this)?;
        if udp.is_binding {
            return Err(ErrorCode::ConcurrencyConflict.into());
        }
        if udp.socket.bound {
            return Err(ErrorCode::InvalidState.into());
        }
        let at = SocketAddr::from(at);
        if at.is_ipv4() != udp.socket.ipv4 {
            return Err(ErrorCode::InvalidArgument.into());
        }
        match udp.socket.bind(at) {
            None => Err(ErrorCode::AddressNotBindable.into()),
            Some(Err(error)) => Err(error.into()),
            Some(Ok(())) => {
                udp.is_binding = true;
                Ok(())
            }
        }
    }

    fn finish_bind(&mut self, this: Resource<udp::UdpSocket>) -> SocketResult<()> {
        let udp = self.udp(&this)?;
        match std::mem::take(&mut udp.is_binding) {
            true => Ok(()),
            false => Err(ErrorCode::NotInProgress.into()),
        }
    }

    async fn stream(
        &mut self,
        this: Resource<udp::UdpSocket>,
        to: Option<IpSocketAddress>,
    ) -> SocketResult<(
        Resource<udp::IncomingDatagramStream>,
        Resource<udp::OutgoingDatagramStream>,
    )> {
        let own: Resource<Bindable> = ours(&this);
        let is_stream =
            |child: &(dyn std::any::Any + Send)| child.is::<Incoming>() || child.is::<Outgoing>();
        if self.table().iter_children(&own)?.any(is_stream) {
            return Err(SocketError::trap(wasmtime::format_err!(
                "the datagram streams of this socket are not dropped yet"
            )));
        }
        let udp = self.udp(&this)?;
        if !udp.socket.bound || udp.is_binding {
            return Err(ErrorCode::InvalidState.into());
        }
        udp.socket.connect(to.map(SocketAddr::from))?;
        let socket = &udp.socket;
        let (incoming, outgoing) = (Incoming::of(socket), Outgoing::of(socket));
        let incoming = self.table().push_child(incoming, &own)?;
        let outgoing = self.table().push_child(outgoing, &own)?;
        Ok((theirs(&incoming), theirs(&outgoing)))
    }

    fn local_address(&mut self, this: Resource<udp::UdpSocket>) -> SocketResult<IpSocketAddress> {
        let udp = self.udp(&this)?;
        match udp.socket.bound {
            true => Ok(udp.socket.local_address()?.into()),
            false => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(&mut self, this: Resource<udp::UdpSocket>) -> SocketResult<IpSocketAddress> {
        let remote = self.udp(&this)?.socket.remote;
        let remote = remote.ok_or(ErrorCode::InvalidState)?;
        Ok(remote.asked.into())
    }

    fn address_family(
        &mut self,
        this: Resource<udp::UdpSocket>,
    ) -> wasmtime::Result<IpAddressFamily> {
        let udp: &Bindable = self.table().get(&ours(&this))?;
        Ok(family(udp.socket.ipv4))
    }

    fn unicast_hop_limit(&mut self, this: Resource<udp::UdpSocket>) -> SocketResult<u8> {
        Ok(self.udp(&this)?.socket.hops()?)
    }

    fn set_unicast_hop_limit(
        &mut self,
        this: Resource<udp::UdpSocket>,
        value: u8,
    ) -> SocketResult<()> {
        let ipv4 = self.udp(&this)?.socket.ipv4;
        self.set_udp(&this, value.into(), |socket, _| match ipv4 {
            true => sockopt::set_ip_ttl(socket, value.into()),
            false => sockopt::set_ipv6_unicast_hops(socket, Some(value)),
        })
    }

    fn receive_buffer_size(&mut self, this: Resource<udp::UdpSocket>) -> SocketResult<u64> {
        let ends = &self.udp(&this)?.socket.ends;
        // The system doubles what is set.
        Ok(sockopt::socket_recv_buffer_size(&ends.inside)? as u64 / 2)
    }

    fn set_receive_buffer_size(
        &mut self,
        this: Resource<udp::UdpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        self.set_udp(&this, value, |socket, size| {
            sockopt::set_socket_recv_buffer_size(socket, size)
        })
    }

    fn send_buffer_size(&mut self, this: Resource<udp::UdpSocket>) -> SocketResult<u64> {
        let ends = &self.udp(&this)?.socket.ends;
        Ok(sockopt::socket_send_buffer_size(&ends.inside)? as u64 / 2)
    }

    fn set_send_buffer_size(
        &mut self,
        this: Resource<udp::UdpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        self.set_udp(&this, value, |socket, size| {
            sockopt::set_socket_send_buffer_size(socket, size)
        })
    }

    fn subscribe(
        &mut self,
        this: Resource<udp::UdpSocket>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table(), ours::<_, Bindable>(&this))
    }

    fn drop(&mut self, this: Resource<udp::UdpSocket>) -> wasmtime::Result<()> {
        self.table()
            .delete(Resource::<Bindable>::new_own(this.rep()))?;
        Ok(())
    }
}

#[async_trait::async_trait]
impl Pollable for Bindable {
    /// Nothing that a socket is asked for takes time.
    async fn ready(&mut self) {}
}
