//! Linking: each interface of preview3 to whoever serves it.

use wasmtime::component::Linker;
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p3::bindings::{cli, clocks, filesystem, random, sockets};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};
use wasmtime_wasi_http::WasiHttp;
use wasmtime_wasi_http::p3::bindings::http;

use crate::p2::{HasHost, HasSockets, P2Host};

/// Links all that a `wasi:cli/command` and a `wasi:http/service` of preview3 import, beside what
/// [`add_p2`](crate::add_p2) links. The engine has to have concurrent calls switched on.
///
/// # Errors
/// When the linker holds one of the interfaces already.
pub fn add_p3<T: P2Host + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    filesystem::types::add_to_linker::<T, HasHost>(linker, |t| t.p2().view())?;
    filesystem::preopens::add_to_linker::<T, HasHost>(linker, |t| t.p2().view())?;
    add_cli(linker)?;
    clocks::types::add_to_linker::<T, WasiClocks>(linker, |t| t.p2().clocks())?;
    clocks::monotonic_clock::add_to_linker::<T, WasiClocks>(linker, |t| t.p2().clocks())?;
    clocks::system_clock::add_to_linker::<T, WasiClocks>(linker, |t| t.p2().clocks())?;
    random::random::add_to_linker::<T, WasiRandom>(linker, |t| t.p2().random())?;
    random::insecure::add_to_linker::<T, WasiRandom>(linker, |t| t.p2().random())?;
    random::insecure_seed::add_to_linker::<T, WasiRandom>(linker, |t| t.p2().random())?;
    sockets::types::add_to_linker::<T, HasSockets>(linker, |t| t.p2().sockets())?;
    sockets::ip_name_lookup::add_to_linker::<T, HasSockets>(linker, |t| t.p2().sockets())?;
    http::client::add_to_linker::<T, WasiHttp>(linker, |t| t.p2().http())?;
    http::types::add_to_linker::<T, WasiHttp>(linker, |t| t.p2().http())
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
