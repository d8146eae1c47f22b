//! Finds the guest host of a folder, or starts one.
//!
//! The folder holds a socket (0600, and only a process of our own user is let in), a lock that the
//! guest host has for as long as it lives, and its log. Whoever gets the lock knows that no guest
//! host lives: it binds the socket anew, starts a process, and hands it the listening socket and the
//! lock. So there is no pid file to be wrong, two agents that start at once end up with one guest
//! host, and the socket accepts before the process is up.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, unlinkat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use tokio::net::UnixStream;

use super::Remote;
use crate::protocol::blocking;
use crate::protocol::frame::FrameError;
use crate::serve::{Boot, Ready};

const SOCKET: &str = "guest-host.sock";
const LOCK: &str = "guest-host.lock";
const LOG: &str = "guest-host.log";

/// How often, and how far apart, one is looked for that is neither there nor gone: another agent is
/// just starting it, or it is just ending.
const TRIES: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(100);

/// Why there is no guest host to speak to.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// It is of another release, too far away.
    #[error(
        "the guest host (process {pid}) speaks protocol {theirs} and this agent {ours}: let the release that started it end its guests, or end process {pid} and its guests with it"
    )]
    Version {
        /// Its process.
        pid: u32,
        /// What it speaks.
        theirs: String,
        /// What we speak.
        ours: String,
    },
    /// It accepts and says nothing.
    #[error("the guest host did not greet within {0:?}")]
    Silent(Duration),
    /// What it says first is no greeting.
    #[error("the guest host did not greet: {0}")]
    Greeting(String),
    /// One lives and can't be spoken to.
    #[error("a guest host holds {0}, and nothing answers at its socket: end that process")]
    Deaf(String),
    /// The socket is another user's.
    #[error("the guest host's socket is served by user {0}")]
    Stranger(u32),
    /// It was started and gave up.
    #[error("the guest host did not start: {0}")]
    Start(String),
    /// A call of the operating system failed.
    #[error("can't {what}")]
    System {
        /// What was being done.
        what: &'static str,
        /// How it failed.
        #[source]
        source: io::Error,
    },
}

/// Names what failed.
fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> RemoteError {
    move |source| RemoteError::System {
        what,
        source: source.into(),
    }
}

impl Remote {
    /// Connects to the guest host that lives in `root_dir`, or starts one there: `exe` with `args`,
    /// which lead it to [`guest_host_main`](crate::guest_host_main). It does not end with us. Its
    /// standard error is `root_dir`'s `guest-host.log`.
    ///
    /// # Errors
    /// [`RemoteError`]; a guest host that lives is left alone in each case.
    pub async fn spawn_or_adopt(
        root_dir: &Path,
        exe: &Path,
        args: &[OsString],
    ) -> Result<Remote, RemoteError> {
        let folder = open_folder(root_dir)?;
        let mut last = RemoteError::Deaf(root_dir.join(LOCK).display().to_string());
        for _ in 0..TRIES {
            if let Some(lock) = take_lock(&folder)? {
                return spawn(&folder, lock, exe, args).await;
            }
            if let Some(socket) = connect(&folder).await? {
                match Remote::greet(socket, true).await {
                    // One that is just ending hangs up, and then lets go of the lock.
                    Err(error @ RemoteError::Greeting(_)) => last = error,
                    result => return result,
                }
            }
            tokio::time::sleep(BETWEEN).await;
        }
        Err(last)
    }

    /// Connects over a socket that is connected already.
    #[cfg(test)]
    pub(crate) async fn over(socket: UnixStream) -> Result<Remote, RemoteError> {
        Remote::greet(socket, true).await
    }
}

fn open_folder(path: &Path) -> Result<OwnedFd, RemoteError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(system("open the guest host's folder"))
}

fn open_file(folder: &OwnedFd, name: &str) -> Result<OwnedFd, RemoteError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::RUSR | Mode::WUSR)
        .map_err(system("open a file of the guest host's folder"))
}

/// The lock, if no guest host lives.
fn take_lock(folder: &OwnedFd) -> Result<Option<OwnedFd>, RemoteError> {
    let lock = open_file(folder, LOCK)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(system("lock the guest host's folder")(error)),
    }
}

/// The socket's address through the folder's descriptor: a path may be too long for one.
fn address(folder: &OwnedFd) -> String {
    format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())
}

/// Connects; `None` if nobody listens.
async fn connect(folder: &OwnedFd) -> Result<Option<UnixStream>, RemoteError> {
    let socket = match UnixStream::connect(address(folder)).await {
        Ok(socket) => socket,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(system("connect to the guest host")(error)),
            };
        }
    };
    let peer = rustix::net::sockopt::socket_peercred(&socket)
        .map_err(system("see who serves the guest host's socket"))?;
    match peer.uid == rustix::process::geteuid() {
        true => Ok(Some(socket)),
        false => Err(RemoteError::Stranger(peer.uid.as_raw())),
    }
}

/// Starts a guest host and waits until it serves.
async fn spawn(
    folder: &OwnedFd,
    lock: OwnedFd,
    exe: &Path,
    args: &[OsString],
) -> Result<Remote, RemoteError> {
    let listener = bind_anew(folder)?;
    let log = open_file(folder, LOG)?;
    let begin = log_end(&log);
    let (boot, child) = start(&log, exe, args)?;
    let handed = blocking::send(&boot, &Boot {}, &[listener.as_fd(), lock.as_fd()]);
    // From here on the socket and the lock are the child's alone: if it dies, they are free.
    drop((listener, lock));
    let ready = match handed {
        Ok(()) => ready(boot).await,
        Err(error) => Err(error),
    };
    reap(child);
    match ready {
        Ok(Some(Ready(Ok(_)))) => {}
        Ok(Some(Ready(Err(message)))) => return Err(RemoteError::Start(message)),
        Ok(None) | Err(_) => return Err(RemoteError::Start(last_words(log, begin))),
    }
    match connect(folder).await? {
        Some(socket) => Remote::greet(socket, false).await,
        None => Err(RemoteError::Start("it was ready, and then gone".to_owned())),
    }
}

/// The listening socket, in the place of the one that a dead guest host left.
fn bind_anew(folder: &OwnedFd) -> Result<OwnedFd, RemoteError> {
    let failed = |error: Errno| system("make the guest host's socket")(error);
    match unlinkat(folder, SOCKET, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(failed)?;
    // The file takes its mode from the socket, so that there is no instant at which others may.
    rustix::fs::fchmod(&listener, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    let address = SocketAddrUnix::new(address(folder)).map_err(failed)?;
    bind(&listener, &address).map_err(failed)?;
    listen(&listener, 128).map_err(failed)?;
    Ok(listener)
}

fn start(log: &OwnedFd, exe: &Path, args: &[OsString]) -> Result<(StdStream, Child), RemoteError> {
    let (boot, theirs) = StdStream::pair().map_err(system("start the guest host"))?;
    let log_for = || log.try_clone().map(Stdio::from);
    let stdout = log_for().map_err(system("start the guest host"))?;
    let stderr = log_for().map_err(system("start the guest host"))?;
    let child = Command::new(exe)
        .args(args)
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(system("start the guest host"))?;
    Ok((boot, child))
}

async fn ready(boot: StdStream) -> Result<Option<Ready>, FrameError> {
    let waiting = tokio::task::spawn_blocking(move || blocking::receive::<Ready>(&boot));
    let received = waiting.await.map_err(io::Error::other)??;
    Ok(received.map(|(ready, _)| ready))
}

/// Takes the child's end when it comes, for as long as we live; afterwards init does.
fn reap(mut child: Child) {
    let reaper = std::thread::Builder::new().name("guest-host-reaper".to_owned());
    let reaping = reaper.spawn(move || match child.wait() {
        Ok(status) => tracing::warn!(pid = child.id(), %status, "the guest host has ended"),
        Err(error) => tracing::warn!(%error, "the guest host can't be waited for"),
    });
    if let Err(error) = reaping {
        tracing::warn!(%error, "the guest host will not be reaped before we end");
    }
}

fn log_end(log: &OwnedFd) -> u64 {
    rustix::fs::fstat(log).map_or(0, |stat| stat.st_size as u64)
}

/// What a child that gave up has written to its log.
fn last_words(log: OwnedFd, begin: u64) -> String {
    let mut log = File::from(log);
    let mut words = Vec::new();
    let read = log
        .seek(SeekFrom::Start(begin))
        .and_then(|_| log.take(4 << 10).read_to_end(&mut words));
    match read {
        Ok(1..) => String::from_utf8_lossy(&words).trim().to_owned(),
        _ => "it said nothing".to_owned(),
    }
}
