//! The one table of descriptors: streams, folders, files, sockets.

use super::Result;
use super::types::Errno;
use crate::fs::{Dir, File};
use crate::opened::OpenOne;
use crate::pollable::HostFd;
use crate::stdio::{OutSink, Stdin};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What a descriptor stands for.
pub(super) enum Descriptor {
    Stdin {
        stdin: Stdin,
        stream: Stream,
    },
    Out {
        sink: Arc<dyn OutSink>,
        stream: Stream,
    },
    Dir {
        dir: Dir,
        preopen: Option<&'static str>,
    },
    File(OpenFile),
    Listener {
        listener: Arc<HostFd>,
        nonblocking: bool,
    },
    Socket {
        socket: Arc<HostFd>,
        nonblocking: bool,
        /// Dropped last: what the socket is counted by.
        _one: OpenOne,
    },
}

/// What is settled for a standard stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub(super) is_terminal: bool,
    pub(super) nonblocking: bool,
}

impl Stream {
    pub(super) fn new(is_terminal: bool) -> Self {
        Self {
            is_terminal,
            nonblocking: false,
        }
    }
}

/// An open file and the flags that only a guest looks at.
#[derive(Clone)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) flags: super::types::Fdflags,
}

impl Descriptor {
    /// A listening socket that was given from outside.
    pub(super) fn listener(fd: OwnedFd) -> std::io::Result<Self> {
        if !rustix::net::sockopt::socket_acceptconn(&fd)? {
            return Err(crate::fs::Errno::INVAL.into());
        }
        Ok(Self::Listener {
            listener: Arc::new(HostFd::socket(fd)?),
            nonblocking: false,
        })
    }
}

/// Descriptors by their numbers: a new one gets the lowest that is free, as in POSIX.
pub(super) struct Table {
    slots: Vec<Option<Descriptor>>,
    free: BTreeSet<u32>,
    bound: usize,
}

impl Table {
    pub(super) fn new(first: Vec<Descriptor>, bound: usize) -> Self {
        Self {
            slots: first.into_iter().map(Some).collect(),
            free: BTreeSet::new(),
            bound,
        }
    }

    /// `EBADF` for what isn't open.
    pub(super) fn get(&self, fd: impl Into<u32>) -> Result<&Descriptor> {
        let slot = usize::try_from(fd.into())
            .ok()
            .and_then(|at| self.slots.get(at));
        Ok(slot.and_then(Option::as_ref).ok_or(Errno::Badf)?)
    }

    /// `EBADF` for what isn't open.
    pub(super) fn get_mut(&mut self, fd: impl Into<u32>) -> Result<&mut Descriptor> {
        let slot = usize::try_from(fd.into())
            .ok()
            .and_then(|at| self.slots.get_mut(at));
        Ok(slot.and_then(Option::as_mut).ok_or(Errno::Badf)?)
    }

    /// A folder: `ENOTDIR` for anything else.
    pub(super) fn dir(&self, fd: impl Into<u32>) -> Result<&Dir> {
        match self.get(fd)? {
            Descriptor::Dir { dir, .. } => Ok(dir),
            _ => Err(Errno::Notdir.into()),
        }
    }

    /// `EMFILE` if one more would pass the bound.
    pub(super) fn check_room(&self) -> Result<()> {
        let open = self.slots.len() - self.free.len();
        if open < self.bound {
            Ok(())
        } else {
            Err(Errno::Mfile.into())
        }
    }

    /// Gives `descriptor` a number. `EMFILE` past the bound.
    pub(super) fn insert(&mut self, descriptor: Descriptor) -> Result<u32> {
        self.check_room()?;
        if let Some(fd) = self.free.pop_first() {
            if let Some(slot) = usize::try_from(fd)
                .ok()
                .and_then(|at| self.slots.get_mut(at))
            {
                *slot = Some(descriptor);
            }
            return Ok(fd);
        }
        let fd = u32::try_from(self.slots.len()).map_err(|_| Errno::Mfile)?;
        self.slots.push(Some(descriptor));
        Ok(fd)
    }

    /// Takes `fd` out; its number is free again.
    pub(super) fn remove(&mut self, fd: impl Into<u32>) -> Result<Descriptor> {
        let fd = fd.into();
        let slot = usize::try_from(fd)
            .ok()
            .and_then(|at| self.slots.get_mut(at));
        let descriptor = slot.and_then(Option::take).ok_or(Errno::Badf)?;
        self.free.insert(fd);
        Ok(descriptor)
    }

    /// Puts what is at `from` in the place of what is at `to`, which it gives back. Both are open.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Result<Option<Descriptor>> {
        self.get(from)?;
        self.get(to)?;
        if from == to {
            return Ok(None);
        }
        let moved = self.remove(from)?;
        Ok(Some(std::mem::replace(self.get_mut(to)?, moved)))
    }
}
