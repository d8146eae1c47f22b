//! A host's descriptor that is waited for without holding a thread.

use crate::fs::Errno;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdRegisterError};

/// Why a host's descriptor can't be a guest's standard stream.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// It can't be looked at or prepared.
    #[error("the descriptor can't be prepared as a guest's standard stream")]
    Prepare(#[from] Errno),
    /// The runtime can't wait for it, or there is none.
    #[error("the descriptor can't be waited for")]
    Wait(#[from] io::Error),
    /// A folder, a block device or the like.
    #[error(
        "a {0:?} can't be a guest's standard stream: give a pipe, a terminal, a socket or a file"
    )]
    Kind(FileType),
}

/// How a descriptor is read and written.
#[derive(Debug)]
pub(crate) enum HostFd {
    /// A regular file or a device that is always ready: through the pool of blocking threads.
    Ready(OwnedFd),
    /// Anything that is waited for, with a description of its own that is non-blocking.
    Polled(AsyncFd<OwnedFd>),
}

impl HostFd {
    /// Takes `fd`. `interest` is what it will be waited for.
    ///
    /// A pipe or a terminal is opened anew, so that being non-blocking is nothing that whoever
    /// else has it (a shell, say) would notice; where it can't be, and for a socket, it is set on
    /// the one given.
    pub(crate) fn new(fd: OwnedFd, interest: Interest) -> Result<Self, StdioError> {
        check_runtime()?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        match kind {
            FileType::RegularFile => return Ok(Self::Ready(fd)),
            FileType::Fifo | FileType::CharacterDevice | FileType::Socket => {}
            other => return Err(StdioError::Kind(other)),
        }
        let fd = if kind == FileType::Socket {
            None
        } else {
            reopen(&fd)
        }
        .unwrap_or(fd);
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        match register(fd, interest) {
            Ok(fd) => Ok(Self::Polled(fd)),
            Err(e) => {
                let (fd, error) = e.into_parts();
                // epoll refuses what is always ready, /dev/null for one.
                if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) {
                    return Ok(Self::Ready(fd));
                }
                Err(error.into())
            }
        }
    }

    /// A socket, listening or connected.
    pub(crate) fn socket(fd: OwnedFd) -> io::Result<Self> {
        check_runtime()?;
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        register(fd, interest)
            .map(Self::Polled)
            .map_err(|e| e.into_parts().1)
    }

    /// Waits until `flags` (in or out), a hang-up or an error is there. No result is consumed.
    pub(crate) async fn wait(&self, interest: Interest, flags: PollFlags) {
        let Self::Polled(fd) = self else { return };
        loop {
            if is_ready(fd.get_ref(), flags) {
                return;
            }
            // The runtime remembers a readiness until it is told that it is over: tell it, else a
            // guest that polls would spin.
            match fd.ready(interest).await {
                Ok(mut guard) if is_ready(fd.get_ref(), flags) => {
                    guard.retain_ready();
                    return;
                }
                Ok(mut guard) => guard.clear_ready(),
                // The runtime is going down, and whoever waits is dropped with it.
                Err(_) => std::future::pending().await,
            }
        }
    }

    pub(crate) fn is_ready_now(&self, flags: PollFlags) -> bool {
        match self {
            Self::Ready(_) => true,
            Self::Polled(fd) => is_ready(fd.get_ref(), flags),
        }
    }
}

impl AsFd for HostFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Ready(fd) => fd.as_fd(),
            Self::Polled(fd) => fd.get_ref().as_fd(),
        }
    }
}

/// Without a runtime there is nothing to wait with, which tokio would tell by a panic.
fn check_runtime() -> io::Result<()> {
    tokio::runtime::Handle::try_current()
        .map(drop)
        .map_err(io::Error::other)
}

fn register(
    fd: OwnedFd,
    interest: Interest,
) -> Result<AsyncFd<OwnedFd>, AsyncFdRegisterError<OwnedFd>> {
    // SAFETY: an OwnedFd is open, and the same descriptor, from here until it is dropped; the AsyncFd
    // owns it, gives only shared references to it, and takes it out of the poll before dropping it.
    unsafe { AsyncFd::register_with_interest(fd, interest) }
}

fn is_ready(fd: impl AsFd, flags: PollFlags) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), flags)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // An error of poll itself is nothing to wait for: the operation will tell.
    !matches!(
        rustix::event::poll(&mut fds, Some(&now)),
        Ok(0) | Err(Errno::INTR)
    )
}

/// A description of our own of the pipe or terminal at `fd`.
fn reopen(fd: &OwnedFd) -> Option<OwnedFd> {
    let flags = rustix::fs::fcntl_getfl(fd).ok()? & OFlags::RWMODE;
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(path, flags, Mode::empty()).ok()
}
