//! Standard input.

use crate::Blocking;
use crate::fs::{Errno, IO_BYTES, Result};
use crate::pollable::{HostFd, StdioError};
use rustix::event::PollFlags;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::Interest;

/// A guest's standard input. Cheap to clone; all clones are one stream.
#[derive(Clone, Debug)]
pub struct Stdin {
    source: Option<Arc<HostFd>>,
}

impl Stdin {
    /// An input that is at its end.
    pub fn closed() -> Self {
        Self { source: None }
    }

    /// What `fd` gives: a pipe, a terminal, a socket, or a file from its present position on.
    /// To be called within the runtime that the guest runs on.
    ///
    /// # Errors
    /// [`StdioError`]
    pub fn from_fd(fd: OwnedFd) -> std::result::Result<Self, StdioError> {
        let source = HostFd::new(fd, Interest::READABLE)?;
        Ok(Self {
            source: Some(Arc::new(source)),
        })
    }

    /// Reads what is there, up to `length` bytes and at most [`IO_BYTES`]; waits for at least one.
    /// Nothing is the end.
    ///
    /// # Errors
    /// What `read(2)` gives.
    pub async fn read(&self, blocking: &Arc<Blocking>, length: usize) -> Result<Vec<u8>> {
        loop {
            match self.try_read(blocking, length).await {
                Err(Errno::AGAIN) => self.ready().await,
                result => return result,
            }
        }
    }

    /// As [`Stdin::read`], but `EAGAIN` instead of waiting for whoever writes.
    ///
    /// # Errors
    /// What `read(2)` gives.
    pub async fn try_read(&self, blocking: &Arc<Blocking>, length: usize) -> Result<Vec<u8>> {
        let Some(source) = &self.source else {
            return Ok(Vec::new());
        };
        let length = length.min(IO_BYTES);
        match &**source {
            HostFd::Polled(fd) => read(fd.get_ref(), length),
            HostFd::Ready(_) => {
                let source = Arc::clone(source);
                blocking
                    .run(move || read(&*source, length))
                    .await
                    .map_err(|_| Errno::IO)?
            }
        }
    }

    /// Waits until a read would give something, be it the end or an error.
    pub async fn ready(&self) {
        if let Some(source) = &self.source {
            source.wait(Interest::READABLE, PollFlags::IN).await;
        }
    }

    /// How many bytes are there to be read now. Nothing, though it is ready, is the end.
    pub fn available(&self) -> u64 {
        self.source.as_ref().map_or(0, |source| {
            rustix::io::ioctl_fionread(&**source).unwrap_or(0)
        })
    }

    /// Whether a read would give something now.
    pub fn is_ready_now(&self) -> bool {
        self.source
            .as_ref()
            .is_none_or(|source| source.is_ready_now(PollFlags::IN))
    }
}

fn read(fd: impl std::os::fd::AsFd, length: usize) -> Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(length);
    if length == 0 {
        return Ok(buffer);
    }
    loop {
        match rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut buffer)) {
            Ok(_) => return Ok(buffer),
            // A terminal that hung up.
            Err(Errno::IO) => return Ok(buffer),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}
