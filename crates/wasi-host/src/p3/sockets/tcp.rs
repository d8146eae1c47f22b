//! TCP: preview2's sockets, waited for in one call, and their streams piped.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration as StdDuration;

use futures::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Access, Accessor, AccessorTask, Destination, FutureReader, Resource, StreamProducer,
    StreamReader, StreamResult,
};
use wasmtime_wasi::p2::bindings::sockets::instance_network::Host as _;
use wasmtime_wasi::p2::bindings::sockets::network::HostNetwork;
use wasmtime_wasi::p2::bindings::sockets::tcp::{HostTcpSocket as P2Tcp, ShutdownType};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
use wasmtime_wasi::p2::{Pollable, TcpSocket as P2Socket};
use wasmtime_wasi::p3::bindings::sockets::types::{
    Duration, ErrorCode, HostTcpSocket, HostTcpSocketWithStore, IpAddressFamily, IpSocketAddress,
    TcpSocket,
};
use wasmtime_wasi::p3::sockets::{SocketError, SocketResult};

use super::{address, error, family, shown};
use crate::p2::{HasSockets, SocketsView};
use crate::p3::pipe::{self, Readable, Told};

/// Before connections are asked for again that there were no descriptors for.
const PAUSE: StdDuration = StdDuration::from_millis(100);

type Socket = Resource<TcpSocket>;
type Ours = Resource<P2Socket>;
type Network = Resource<wasmtime_wasi::p2::Network>;

/// The bindings name wasmtime-wasi's other type; the table knows by the index what it holds.
fn ours(socket: &Socket) -> Ours {
    Resource::new_borrow(socket.rep())
}

fn theirs(socket: &Ours) -> Socket {
    Resource::new_own(socket.rep())
}

impl SocketsView<'_> {
    /// Does something with the right to use the network, which preview3 has no resource for.
    fn with_network<R>(
        &mut self,
        work: impl FnOnce(&mut Self, Network) -> SocketResult<R>,
    ) -> SocketResult<R> {
        let network = self.instance_network().map_err(SocketError::trap)?;
        let result = work(self, Resource::new_borrow(network.rep()));
        HostNetwork::drop(self, network).map_err(SocketError::trap)?;
        result
    }

    fn bind_now(&mut self, socket: &Socket, at: IpSocketAddress) -> SocketResult<()> {
        self.with_network(|view, network| {
            // It asks only the check of addresses, which never waits.
            P2Tcp::start_bind(view, ours(socket), network, address(at))
                .now_or_never()
                .ok_or(ErrorCode::InvalidState)?
                .map_err(error)?;
            P2Tcp::finish_bind(view, ours(socket)).map_err(error)
        })
    }

    /// Binds a socket that listens without having been bound: to any address, at any port.
    fn bind_anywhere(&mut self, socket: &Socket) -> SocketResult<()> {
        if P2Tcp::local_address(self, ours(socket)).is_ok() {
            return Ok(());
        }
        let ipv4 = P2Tcp::address_family(self, ours(socket)).map_err(SocketError::trap)?
            == family(IpAddressFamily::Ipv4);
        let any = match ipv4 {
            true => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            false => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        self.bind_now(socket, SocketAddr::new(any, 0).into())
    }

    /// Waits until a socket that connects or listens has something to tell.
    fn poll_socket(&mut self, socket: &Socket, cx: &mut Context<'_>) -> Poll<SocketResult<()>> {
        match self.wasi.table.get_mut(&ours(socket)) {
            // What it waits for is kept in the socket: a new future goes on with it.
            Ok(socket) => pin!(socket.ready()).poll(cx).map(Ok),
            Err(error) => Poll::Ready(Err(SocketError::trap(error))),
        }
    }

    /// Takes a connection that is there.
    fn accept_now(&mut self, socket: &Socket) -> SocketResult<Ours> {
        let (accepted, input, output) = P2Tcp::accept(self, ours(socket)).map_err(error)?;
        self.keep_streams(&accepted, input, output)
            .map_err(SocketError::trap)?;
        Ok(accepted)
    }
}

/// Connections as a guest takes them.
struct Incoming<T: 'static> {
    listener: u32,
    getter: fn(&mut T) -> SocketsView<'_>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<T: 'static> StreamProducer<T> for Incoming<T> {
    type Item = Socket;
    type Buffer = Option<Socket>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, T>,
        mut destination: Destination<'a, Socket, Option<Socket>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let incoming = self.get_mut();
        let only_asks = destination.remaining(&mut store) == Some(0);
        let mut view = (incoming.getter)(store.data_mut());
        match incoming.poll(&mut view, cx, only_asks) {
            Poll::Ready(Ok(accepted)) => {
                if accepted.is_some() {
                    destination.set_buffer(accepted);
                }
                Poll::Ready(Ok(StreamResult::Completed))
            }
            // Its listener is gone: nobody will come.
            Poll::Ready(Err(_)) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> Incoming<T> {
    fn poll(
        &mut self,
        view: &mut SocketsView<'_>,
        cx: &mut Context<'_>,
        only_asks: bool,
    ) -> Poll<SocketResult<Option<Socket>>> {
        let listener = Resource::new_borrow(self.listener);
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if let Err(error) = ready!(view.poll_socket(&listener, cx)) {
                return Poll::Ready(Err(error));
            }
            if only_asks {
                return Poll::Ready(Ok(None));
            }
            match view.accept_now(&listener).map_err(SocketError::downcast) {
                Ok(accepted) => return Poll::Ready(Ok(Some(theirs(&accepted)))),
                Err(Ok(ErrorCode::Other(_))) => {
                    self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                }
                // The peer has gone again.
                Err(Ok(
                    ErrorCode::ConnectionAborted
                    | ErrorCode::ConnectionReset
                    | ErrorCode::RemoteUnreachable,
                )) => {}
                Err(Ok(code)) => return Poll::Ready(Err(code.into())),
                Err(Err(trap)) => return Poll::Ready(Err(SocketError::trap(trap))),
            }
        }
    }
}

/// Says that nothing more comes, once everything is sent, and tells how it ended.
struct Finish {
    socket: u32,
    done: oneshot::Receiver<Told<ErrorCode>>,
    tell: oneshot::Sender<Told<ErrorCode>>,
}

impl<T: Send + 'static> AccessorTask<T, HasSockets> for Finish {
    async fn run(self, store: &Accessor<T, HasSockets>) -> wasmtime::Result<()> {
        let told = self.done.await.unwrap_or(Ok(()));
        store.with(|mut store| {
            let socket = Resource::new_borrow(self.socket);
            // A socket that is closed meanwhile has said so.
            drop(P2Tcp::shutdown(
                &mut store.get(),
                socket,
                ShutdownType::Send,
            ));
        });
        // Who dropped the future does not want to know.
        let _ = self.tell.send(told);
        Ok(())
    }
}

impl<T: Send + 'static> HostTcpSocketWithStore<T> for HasSockets {
    async fn connect(
        store: &Accessor<T, Self>,
        socket: Socket,
        to: IpSocketAddress,
    ) -> SocketResult<()> {
        store.with(|mut store| {
            store.get().with_network(|view, network| {
                P2Tcp::start_connect(view, ours(&socket), network, address(to)).map_err(error)
            })
        })?;
        poll_fn(|cx| store.with(|mut store| store.get().poll_socket(&socket, cx))).await?;
        store.with(|mut store| {
            let mut view = store.get();
            let connected = P2Tcp::finish_connect(&mut view, ours(&socket));
            let (input, output) = connected.map_err(error)?;
            view.keep_streams(&ours(&socket), input, output)
                .map_err(SocketError::trap)
        })
    }

    async fn listen(
        mut store: Access<'_, T, Self>,
        socket: Socket,
    ) -> SocketResult<StreamReader<Socket>> {
        let mut view = store.get();
        view.bind_anywhere(&socket)?;
        P2Tcp::start_listen(&mut view, ours(&socket))
            .await
            .map_err(error)?;
        P2Tcp::finish_listen(&mut view, ours(&socket)).map_err(error)?;
        let incoming = Incoming {
            listener: socket.rep(),
            getter: store.getter(),
            pause: None,
        };
        StreamReader::new(&mut store, incoming).map_err(SocketError::trap)
    }

    fn send(
        mut store: Access<'_, T, Self>,
        socket: Socket,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<Told<ErrorCode>>> {
        let mut view = store.get();
        let work = view.work.clone();
        let Some(output) = view.take_output(&ours(&socket)) else {
            return pipe::refused(&mut store, data, ErrorCode::InvalidState);
        };
        let (wrote, done) = oneshot::channel();
        pipe::write(&mut store, data, output, &work, wrote)?;
        let (tell, told) = oneshot::channel();
        store.spawn(Finish {
            socket: socket.rep(),
            done,
            tell,
        })?;
        FutureReader::new(&mut store, told)
    }

    fn receive(
        mut store: Access<'_, T, Self>,
        socket: Socket,
    ) -> wasmtime::Result<Readable<ErrorCode>> {
        match store.get().take_input(&ours(&socket)) {
            Some(input) => pipe::readable(&mut store, input),
            None => pipe::nothing(&mut store, ErrorCode::InvalidState),
        }
    }
}

/// Options, which preview2 has under other names.
macro_rules! options {
    ($($get:ident $set:ident: $ty:ty = $p2_get:ident $p2_set:ident;)*) => {
        $(
            fn $get(&mut self, socket: Socket) -> SocketResult<$ty> {
                P2Tcp::$p2_get(self, ours(&socket)).map_err(error)
            }

            fn $set(&mut self, socket: Socket, value: $ty) -> SocketResult<()> {
                P2Tcp::$p2_set(self, ours(&socket), value).map_err(error)
            }
        )*
    };
}

impl HostTcpSocket for SocketsView<'_> {
    fn create(&mut self, of: IpAddressFamily) -> SocketResult<Socket> {
        let socket = self.create_tcp_socket(family(of)).map_err(error)?;
        Ok(theirs(&socket))
    }

    async fn bind(&mut self, socket: Socket, at: IpSocketAddress) -> SocketResult<()> {
        self.bind_now(&socket, at)
    }

    fn get_local_address(&mut self, socket: Socket) -> SocketResult<IpSocketAddress> {
        let local = P2Tcp::local_address(self, ours(&socket));
        local.map(shown).map_err(error)
    }

    fn get_remote_address(&mut self, socket: Socket) -> SocketResult<IpSocketAddress> {
        let remote = P2Tcp::remote_address(self, ours(&socket));
        remote.map(shown).map_err(error)
    }

    fn get_is_listening(&mut self, socket: Socket) -> wasmtime::Result<bool> {
        P2Tcp::is_listening(self, ours(&socket))
    }

    fn get_address_family(&mut self, socket: Socket) -> wasmtime::Result<IpAddressFamily> {
        let of = P2Tcp::address_family(self, ours(&socket))?;
        Ok(match of == family(IpAddressFamily::Ipv4) {
            true => IpAddressFamily::Ipv4,
            false => IpAddressFamily::Ipv6,
        })
    }

    fn set_listen_backlog_size(&mut self, socket: Socket, value: u64) -> SocketResult<()> {
        P2Tcp::set_listen_backlog_size(self, ours(&socket), value).map_err(error)
    }

    options! {
        get_keep_alive_enabled set_keep_alive_enabled: bool
            = keep_alive_enabled set_keep_alive_enabled;
        get_keep_alive_idle_time set_keep_alive_idle_time: Duration
            = keep_alive_idle_time set_keep_alive_idle_time;
        get_keep_alive_interval set_keep_alive_interval: Duration
            = keep_alive_interval set_keep_alive_interval;
        get_keep_alive_count set_keep_alive_count: u32
            = keep_alive_count set_keep_alive_count;
        get_hop_limit set_hop_limit: u8 = hop_limit set_hop_limit;
        get_receive_buffer_size set_receive_buffer_size: u64
            = receive_buffer_size set_receive_buffer_size;
        get_send_buffer_size set_send_buffer_size: u64
            = send_buffer_size set_send_buffer_size;
    }

    fn drop(&mut self, socket: Socket) -> wasmtime::Result<()> {
        P2Tcp::drop(self, Resource::new_own(socket.rep()))
    }
}
