//! TCP: wasmtime-wasi's sockets, bound and connected at the addresses that the guest's mean.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use futures::FutureExt;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Network,
};
use wasmtime_wasi::p2::bindings::sockets::tcp::{self, HostTcpSocket, ShutdownType, TcpSocket};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, SocketResult};

use super::{Faces, SocketsView, Tcp, is_nowhere, same};
use crate::OpenOne;
use crate::network::Face;

impl SocketsView<'_> {
    fn faces(&self, socket: &Resource<TcpSocket>) -> Faces {
        let known = self.sockets.tcp.get(&socket.rep());
        known.map_or(Faces::OWN, |tcp| tcp.faces)
    }

    fn set_faces(&mut self, socket: u32, faces: Faces) {
        if let Some(tcp) = self.sockets.tcp.get_mut(&socket) {
            tcp.faces = faces;
        }
    }

    /// Keeps what a new socket has.
    pub(super) fn keep(&mut self, socket: &Resource<TcpSocket>, faces: Faces, one: OpenOne) {
        let tcp = Tcp {
            faces,
            input: None,
            output: None,
            _one: one,
        };
        self.sockets.tcp.insert(socket.rep(), tcp);
    }

    /// Keeps the streams of a socket for whoever asks for them.
    pub(crate) fn keep_streams(
        &mut self,
        socket: &Resource<TcpSocket>,
        input: Resource<DynInputStream>,
        output: Resource<DynOutputStream>,
    ) -> wasmtime::Result<()> {
        let input = self.table().delete(input)?;
        let output = self.table().delete(output)?;
        if let Some(tcp) = self.sockets.tcp.get_mut(&socket.rep()) {
            tcp.input = Some(input);
            tcp.output = Some(output);
        }
        Ok(())
    }

    /// What a socket receives, to be had once.
    pub(crate) fn take_input(&mut self, socket: &Resource<TcpSocket>) -> Option<DynInputStream> {
        self.sockets.tcp.get_mut(&socket.rep())?.input.take()
    }

    /// What a socket sends, to be had once.
    pub(crate) fn take_output(&mut self, socket: &Resource<TcpSocket>) -> Option<DynOutputStream> {
        self.sockets.tcp.get_mut(&socket.rep())?.output.take()
    }

    /// Binds a socket that is about to connect to where its pod's connections come from.
    fn bind_source(
        &mut self,
        socket: &Resource<TcpSocket>,
        network: &Resource<Network>,
        to: SocketAddr,
    ) -> SocketResult<()> {
        let Some(source) = self.sockets.network.source(to) else {
            return Ok(());
        };
        if self.wasi.local_address(same(socket)).is_ok() {
            return Ok(());
        }
        let any_port = SocketAddr::new(source, 0).into();
        // It asks only the check of addresses, which never waits.
        self.wasi
            .start_bind(same(socket), same(network), any_port)
            .now_or_never()
            .unwrap_or_else(|| Err(ErrorCode::ConcurrencyConflict.into()))?;
        self.wasi.finish_bind(same(socket))
    }
}

/// How a socket's own address is told once it is connected to what the guest calls `remote`.
fn local_face(bound: Face, remote: Face) -> Face {
    match (bound, remote) {
        (Face::As(ip), _) if ip.is_loopback() => bound,
        // As Linux has it: what goes to loopback comes from there.
        (_, Face::As(IpAddr::V4(_))) => Face::As(Ipv4Addr::LOCALHOST.into()),
        (_, Face::As(ip)) => Face::As(ip),
        (_, Face::Own) => Face::Own,
    }
}

impl tcp::Host for SocketsView<'_> {}

/// What is wasmtime-wasi's alone.
macro_rules! as_it_is {
    ($($name:ident($($argument:ident: $of:ty),*) -> $result:ty;)*) => {
        $(fn $name(&mut self, this: Resource<TcpSocket>, $($argument: $of),*) -> $result {
            self.wasi.$name(this, $($argument),*)
        })*
    };
}

impl HostTcpSocket for SocketsView<'_> {
    async fn start_bind(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        at: IpSocketAddress,
    ) -> SocketResult<()> {
        let asked = SocketAddr::from(at);
        let own = self.sockets.network;
        let Some(real) = own.incoming(asked) else {
            // An address of the family that the socket is not of is no address for it.
            return Err(match own.has(asked.is_ipv4()) {
                true => ErrorCode::AddressNotBindable.into(),
                false => ErrorCode::InvalidArgument.into(),
            });
        };
        let socket = this.rep();
        self.wasi.start_bind(this, network, real.into()).await?;
        let faces = Faces {
            local: own.face(asked.ip()),
            remote: Face::Own,
        };
        self.set_faces(socket, faces);
        Ok(())
    }

    fn start_connect(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        to: IpSocketAddress,
    ) -> SocketResult<()> {
        let asked = SocketAddr::from(to);
        let own = self.sockets.network;
        let real = own
            .outgoing(asked)
            .filter(|real| real.is_ipv4() == asked.is_ipv4());
        // What can't be translated is wasmtime-wasi's to refuse, in the interface's words.
        let Some(real) = real.filter(|_| !is_nowhere(asked)) else {
            return self.wasi.start_connect(this, network, to);
        };
        self.bind_source(&this, &network, real)?;
        let (socket, known) = (this.rep(), self.faces(&this));
        self.wasi.start_connect(this, network, real.into())?;
        let remote = own.face(asked.ip());
        let faces = Faces {
            local: local_face(known.local, remote),
            remote,
        };
        self.set_faces(socket, faces);
        Ok(())
    }

    fn finish_connect(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        self.wasi.finish_connect(this)
    }

    async fn start_listen(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        self.wasi.start_listen(this).await
    }

    fn accept(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> SocketResult<(
        Resource<TcpSocket>,
        Resource<DynInputStream>,
        Resource<DynOutputStream>,
    )> {
        // A peer that came to loopback came from there: nobody else knows the way.
        let faces = match self.faces(&this).local {
            Face::As(ip) if ip.is_loopback() => Faces {
                local: Face::As(ip),
                remote: Face::As(ip),
            },
            _ => Faces::OWN,
        };
        // Before, so that a connection which there is no room for stays in the backlog.
        let one = self.take_one()?;
        let accepted = self.wasi.accept(this)?;
        self.keep(&accepted.0, faces, one);
        Ok(accepted)
    }

    fn local_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        let face = self.faces(&this).local;
        let real = self.wasi.local_address(this)?.into();
        Ok(self.sockets.network.shown(real, face).into())
    }

    fn remote_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        let face = self.faces(&this).remote;
        let real = self.wasi.remote_address(this)?.into();
        Ok(self.sockets.network.shown(real, face).into())
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        let socket = this.rep();
        HostTcpSocket::drop(&mut self.wasi, this)?;
        self.sockets.tcp.remove(&socket);
        Ok(())
    }

    as_it_is! {
        finish_bind() -> SocketResult<()>;
        finish_listen() -> SocketResult<()>;
        is_listening() -> wasmtime::Result<bool>;
        address_family() -> wasmtime::Result<IpAddressFamily>;
        set_listen_backlog_size(value: u64) -> SocketResult<()>;
        keep_alive_enabled() -> SocketResult<bool>;
        set_keep_alive_enabled(value: bool) -> SocketResult<()>;
        keep_alive_idle_time() -> SocketResult<u64>;
        set_keep_alive_idle_time(value: u64) -> SocketResult<()>;
        keep_alive_interval() -> SocketResult<u64>;
        set_keep_alive_interval(value: u64) -> SocketResult<()>;
        keep_alive_count() -> SocketResult<u32>;
        set_keep_alive_count(value: u32) -> SocketResult<()>;
        hop_limit() -> SocketResult<u8>;
        set_hop_limit(value: u8) -> SocketResult<()>;
        receive_buffer_size() -> SocketResult<u64>;
        set_receive_buffer_size(value: u64) -> SocketResult<()>;
        send_buffer_size() -> SocketResult<u64>;
        set_send_buffer_size(value: u64) -> SocketResult<()>;
        subscribe() -> wasmtime::Result<Resource<DynPollable>>;
        shutdown(how: ShutdownType) -> SocketResult<()>;
    }
}
