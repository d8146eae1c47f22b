//! The process that guests live in: `coracle`'s hidden subcommand for it.
//!
//! An agent starts it and may die; the guests go on, and the next agent finds them by the socket. It
//! ends when an agent asks for its shutdown, or on SIGTERM, which means the same: all its guests end.
//! Whoever supervises the agent must therefore signal the agent alone (systemd: `KillMode=process`).

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::Service;
use crate::protocol::blocking;

/// The child's first and only word on the socket that it was started with: it serves, or why not.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready(pub(crate) Result<u32, String>);

/// What it is told on that socket. Its descriptors: the listener, and the lock of the folder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Boot {}

/// The whole of the hidden subcommand that runs guests. It is started by
/// [`Remote::spawn_or_adopt`](crate::Remote::spawn_or_adopt) alone, with a socket as its standard
/// input and its log as standard error; a subscriber for `tracing` is the caller's to install.
///
/// It exits with 0 after a shutdown, and with 2 if it can't begin.
#[allow(clippy::disallowed_methods, reason = "the entry point of a process")]
pub fn guest_host_main() -> ! {
    std::process::exit(match run() {
        Ok(()) => 0,
        Err(message) => {
            eprintln!("the guest host did not start: {message}");
            2
        }
    })
}

fn run() -> Result<(), String> {
    let (boot, listener, _lock) = receive()?;
    let begun = begin(listener);
    let ready = Ready(
        begun
            .as_ref()
            .map(|_| std::process::id())
            .map_err(Clone::clone),
    );
    // An agent that died meanwhile is no reason to stop: the next one adopts.
    let told = blocking::send(&boot, &ready, &[]);
    drop((boot, told));
    let (runtime, serving) = begun?;
    runtime.block_on(serving);
    Ok(())
}

/// Takes what the agent hands over, and its hands off the agent's session and terminal.
fn receive() -> Result<(OwnedFd, OwnedFd, OwnedFd), String> {
    let boot = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .map_err(|error| error.to_string())?;
    let (Boot {}, fds) = blocking::receive(&boot)
        .map_err(|error| format!("this subcommand is for the agent's own use: {error}"))?
        .ok_or("the agent is gone")?;
    let [listener, lock] =
        <[OwnedFd; 2]>::try_from(fds).map_err(|_| "the agent handed over something else")?;
    // It is a leader already if somebody started it from a shell of its own.
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"coracle-guests");
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .and_then(|null| rustix::stdio::dup2_stdin(&null));
    null.map_err(|error| format!("/dev/null can't be opened: {error}"))?;
    raise_descriptors();
    Ok((boot, listener, lock))
}

/// Takes all the descriptors that this process is allowed: guests share them, or an agent's clients.
pub fn raise_descriptors() {
    let now = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "the limit of descriptors stays at its soft value");
    }
}

type Serving = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// Sets up all that can fail, so that readiness means service.
fn begin(listener: OwnedFd) -> Result<(tokio::runtime::Runtime, Serving), String> {
    let service = super::local::local_service()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let entered = runtime.enter();
    let listener = std::os::unix::net::UnixListener::from(listener);
    let serving = listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixListener::from_std(listener))
        .and_then(|listener| serving(Arc::new(service), listener))
        .map_err(|error| error.to_string())?;
    drop(entered);
    Ok((runtime, serving))
}

fn serving<S: Service>(
    service: Arc<S>,
    listener: tokio::net::UnixListener,
) -> std::io::Result<Serving> {
    let mut terminate = signal(SignalKind::terminate())?;
    // A terminal that closes means nothing here; to have a handler is to ignore it. Rust's own
    // runtime ignores SIGPIPE.
    let hangup = signal(SignalKind::hangup())?;
    Ok(Box::pin(async move {
        let _hangup = hangup;
        let until = async move {
            terminate.recv().await;
            tracing::info!("SIGTERM: every guest is ended");
        };
        super::serve(service, listener, until).await;
    }))
}
