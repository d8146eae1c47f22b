//! Standard output and error.

use crate::Blocking;
use crate::fs::{Errno, IO_BYTES, Result};
use crate::pollable::{HostFd, StdioError};
use async_trait::async_trait;
use rustix::event::PollFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use tokio::io::Interest;

/// Where a guest's output goes. The guest waits as long as a write does: that is the back-pressure.
#[async_trait]
pub trait OutSink: Send + Sync + 'static {
    /// Takes some of `bytes`, at least one if there is one, and gives how many; returns once they
    /// are where they are safe from the guest's end. Waits as long as it has to.
    ///
    /// # Errors
    /// The kernel's error that the guest is to see: `EPIPE` for a reader that is gone, `ENOSPC`.
    async fn write(&self, bytes: &[u8]) -> Result<usize>;

    /// Waits until a write would take something soon, be it with an error. What writes to a disk
    /// is always ready, as a file is.
    async fn ready(&self) {}

    /// Whether [`OutSink::ready`] would return at once.
    fn is_ready_now(&self) -> bool {
        true
    }
}

/// Takes everything and keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

#[async_trait]
impl OutSink for NullSink {
    async fn write(&self, bytes: &[u8]) -> Result<usize> {
        Ok(bytes.len())
    }
}

/// A host's descriptor: a pipe, a terminal, a socket, or a file.
#[derive(Debug)]
pub struct HostSink {
    fd: Arc<HostFd>,
    blocking: Arc<Blocking>,
}

impl HostSink {
    /// Writes to `fd`; files by way of `blocking`. To be called within the runtime that the guest
    /// runs on.
    ///
    /// # Errors
    /// [`StdioError`]
    pub fn new(fd: OwnedFd, blocking: Arc<Blocking>) -> std::result::Result<Self, StdioError> {
        Ok(Self {
            fd: Arc::new(HostFd::new(fd, Interest::WRITABLE)?),
            blocking,
        })
    }
}

#[async_trait]
impl OutSink for HostSink {
    async fn write(&self, bytes: &[u8]) -> Result<usize> {
        let bytes = bytes.get(..IO_BYTES).unwrap_or(bytes);
        if let HostFd::Ready(_) = &*self.fd {
            let (fd, bytes) = (Arc::clone(&self.fd), bytes.to_vec());
            let work = move || write(&*fd, &bytes);
            return self.blocking.run(work).await.map_err(|_| Errno::IO)?;
        }
        loop {
            match write(&*self.fd, bytes) {
                Err(Errno::AGAIN) => self.ready().await,
                result => return result,
            }
        }
    }

    async fn ready(&self) {
        self.fd.wait(Interest::WRITABLE, PollFlags::OUT).await;
    }

    fn is_ready_now(&self) -> bool {
        self.fd.is_ready_now(PollFlags::OUT)
    }
}

fn write(fd: impl AsFd, bytes: &[u8]) -> Result<usize> {
    loop {
        match rustix::io::write(&fd, bytes) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
