//! Linking: each interface of `wasi:cli/command` and `wasi:http/proxy` to whoever serves it.

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings::{LinkOptions, cli, clocks, filesystem, random, sockets};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};
use wasmtime_wasi_http::WasiHttp;
use wasmtime_wasi_http::p2::bindings as http;
use wasmtime_wasi_io::bindings::wasi::io;

use super::sockets::SocketsView;
use super::{HostView, P2};

/// A store's data that holds a guest's preview2 world.
pub trait P2Host: Send {
    /// The world.
    fn p2(&mut self) -> &mut P2;
}

/// Host functions that work on what is this crate's own.
pub(crate) struct HasHost;

impl HasData for HasHost {
    type Data<'a> = HostView<'a>;
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// Those of sockets.
pub(crate) struct HasSockets;

impl HasData for HasSockets {
    type Data<'a> = SocketsView<'a>;
}

/// Links all that a `wasi:cli/command` and a `wasi:http/proxy` import.
///
/// # Errors
/// When the linker holds one of the interfaces already.
pub fn add_p2<T: P2Host + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    add_io(linker)?;
    add_filesystem(linker)?;
    add_cli(linker)?;
    add_clocks_and_random(linker)?;
    add_sockets(linker)?;
    add_http(linker)
}

fn add_http<T: P2Host + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let options = http::LinkOptions::default();
    http::http::outgoing_handler::add_to_linker::<T, WasiHttp>(linker, |t| t.p2().http())?;
    http::http::types::add_to_linker::<T, WasiHttp>(linker, &(&options).into(), |t| t.p2().http())
}

fn add_io<T: P2Host + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<T, HasTable>(linker, |t| t.p2().ctx().table)?;
    io::poll::add_to_linker::<T, HasTable>(linker, |t| t.p2().ctx().table)?;
    io::streams::add_to_linker::<T, HasTable>(linker, |t| t.p2().ctx().table)
}

fn add_filesystem<T: P2Host + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    filesystem::types::add_to_linker::<T, HasHost>(linker, |t| t.p2().view())?;
    filesystem::preopens::add_to_linker::<T, HasHost>(linker, |t| t.p2().view())
}

fn add_cli<T: P2Host + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    cli::exit::add_to_linker::<T, HasHost>(linker, |t| t.p2().view())?;
    cli::environment::add_to_linker::<T, HasHost>(linker, |t| t.p2().view())?;
    cli::stdin::add_to_linker::<T, HasHost>(linker, |t| t.p2().view())?;
    cli::stdout::add_to_linker::<T, HasHost>(linker, |t| t.p2().view())?;
    cli::stderr::add_to_linker::<T, HasHost>(linker, |t| t.p2().view())?;
    cli::terminal_input::add_to_linker::<T, HasHost>(linker, |t| t.p2().view())?;
    cli::terminal_output::add_to_linker::<T, HasHost>(linker, |t| t.p2().view())?;
    cli::terminal_stdin::add_to_linker::<T, HasHost>(linker, |t| t.p2().view())?;
    cli::terminal_stdout::add_to_linker::<T, HasHost>(linker, |t| t.p2().view())?;
    cli::terminal_stderr::add_to_linker::<T, HasHost>(linker, |t| t.p2().view())
}

fn add_clocks_and_random<T: P2Host + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    clocks::wall_clock::add_to_linker::<T, WasiClocks>(linker, |t| t.p2().clocks())?;
    clocks::monotonic_clock::add_to_linker::<T, WasiClocks>(linker, |t| t.p2().clocks())?;
    random::random::add_to_linker::<T, WasiRandom>(linker, |t| t.p2().random())?;
    random::insecure::add_to_linker::<T, WasiRandom>(linker, |t| t.p2().random())?;
    random::insecure_seed::add_to_linker::<T, WasiRandom>(linker, |t| t.p2().random())
}

fn add_sockets<T: P2Host + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let options = LinkOptions::default();
    sockets::tcp::add_to_linker::<T, HasSockets>(linker, |t| t.p2().sockets())?;
    sockets::udp::add_to_linker::<T, HasSockets>(linker, |t| t.p2().sockets())?;
    sockets::tcp_create_socket::add_to_linker::<T, HasSockets>(linker, |t| t.p2().sockets())?;
    sockets::udp_create_socket::add_to_linker::<T, HasSockets>(linker, |t| t.p2().sockets())?;
    sockets::instance_network::add_to_linker::<T, HasSockets>(linker, |t| t.p2().sockets())?;
    sockets::network::add_to_linker::<T, HasSockets>(linker, &(&options).into(), |t| {
        t.p2().sockets()
    })?;
    sockets::ip_name_lookup::add_to_linker::<T, HasSockets>(linker, |t| t.p2().sockets())
}
