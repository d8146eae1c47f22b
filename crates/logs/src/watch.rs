//! Waits for a log to change, without a timer where the system allows it.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

const FOLLOWING: u8 = 0;
const ENDING: u8 = 1;
const CANCELLED: u8 = 2;

/// How often a log is looked at where the user's inotify instances are used up.
const FALLBACK: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Ends the reading of a log from elsewhere.
#[derive(Clone)]
pub struct Ender(Arc<Shared>);

struct Shared {
    event: OwnedFd,
    state: AtomicU8,
}

impl Ender {
    fn new() -> io::Result<Ender> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Ender(Arc::new(Shared {
            event,
            state: AtomicU8::new(FOLLOWING),
        })))
    }

    /// The log grows no more: following ends once all of it has been read.
    pub fn end(&self) {
        self.set(ENDING);
    }

    /// Nobody wants more of it: reading ends with the next call, and a waiting one returns.
    pub fn cancel(&self) {
        self.set(CANCELLED);
    }

    fn set(&self, state: u8) {
        self.0.state.fetch_max(state, Ordering::AcqRel);
        // Can only fail when the counter is full: then it is readable, as it is to be.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }

    pub(crate) fn ending(&self) -> bool {
        self.0.state.load(Ordering::Acquire) >= ENDING
    }

    pub(crate) fn cancelled(&self) -> bool {
        self.0.state.load(Ordering::Acquire) >= CANCELLED
    }
}

/// What a follower waits on.
pub(crate) struct Watch {
    inotify: Option<OwnedFd>,
    pub(crate) ender: Ender,
}

impl Watch {
    pub(crate) fn new(dir: BorrowedFd<'_>, follow: bool) -> io::Result<Watch> {
        let inotify = if follow { watch(dir)? } else { None };
        Ok(Watch {
            inotify,
            ender: Ender::new()?,
        })
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Returns once something may have changed.
    pub(crate) fn wait(&self) -> io::Result<()> {
        let mut fds = vec![PollFd::new(&self.ender.0.event, PollFlags::IN)];
        fds.extend(
            self.inotify
                .as_ref()
                .map(|fd| PollFd::new(fd, PollFlags::IN)),
        );
        let timeout = self.inotify.is_none().then_some(&FALLBACK);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn drain(&self) -> io::Result<()> {
        let Some(inotify) = &self.inotify else {
            return Ok(());
        };
        let mut events = [0; 4096];
        loop {
            match rustix::io::read(inotify, &mut events) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn watch(dir: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let fd = match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
        Err(Errno::MFILE) => return Ok(None),
        other => other?,
    };
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE;
    match inotify::add_watch(&fd, path, events) {
        Err(Errno::NOSPC) => Ok(None),
        other => other.map(|_| Some(fd)).map_err(Into::into),
    }
}
