//! Sockets: those that were given, and what they accept.

use super::file::size;
use super::memory::Buffers;
use super::table::Descriptor;
use super::types::{Errno, Fd, Fdflags, Riflags, Roflags, Sdflags, Size};
use super::{Ctx, Result};
use crate::fs;
use crate::pollable::HostFd;
use rustix::event::PollFlags;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::Interest;
use wiggle::GuestMemory;

/// Tries until it isn't `EAGAIN`, unless the guest doesn't want to wait.
async fn when_ready<R>(
    socket: &HostFd,
    interest: Interest,
    nonblocking: bool,
    mut call: impl FnMut() -> fs::Result<R>,
) -> fs::Result<R> {
    let flags = if interest.is_readable() {
        PollFlags::IN
    } else {
        PollFlags::OUT
    };
    loop {
        match call() {
            Err(fs::Errno::AGAIN) if !nonblocking => socket.wait(interest, flags).await,
            Err(fs::Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Up to `length` bytes, at least one; nothing is the peer's end.
pub(super) async fn receive(
    socket: &HostFd,
    length: usize,
    peek: bool,
    nonblocking: bool,
) -> Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(length);
    if length == 0 {
        return Ok(buffer);
    }
    let mut flags = RecvFlags::DONTWAIT;
    flags.set(RecvFlags::PEEK, peek);
    when_ready(socket, Interest::READABLE, nonblocking, || {
        rustix::net::recv(socket, rustix::buffer::spare_capacity(&mut buffer), flags)
    })
    .await?;
    Ok(buffer)
}

/// Sends everything, or what can be without waiting.
pub(super) async fn send_all(
    memory: &GuestMemory<'_>,
    socket: &HostFd,
    mut buffers: Buffers,
    nonblocking: bool,
) -> Result<Size> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let mut done = 0;
    while buffers.piece() > 0 {
        let bytes = buffers.peek(memory)?;
        let send = || rustix::net::send(socket, &bytes, flags);
        match when_ready(socket, Interest::WRITABLE, nonblocking, send).await {
            Ok(count) => {
                buffers.skip(count)?;
                done += count;
            }
            Err(_) if done > 0 => break,
            Err(e) => return Err(e.into()),
        }
    }
    size(done)
}

impl Ctx {
    fn socket(&self, fd: Fd) -> Result<(Arc<HostFd>, bool)> {
        match self.table.get(fd)? {
            Descriptor::Socket {
                socket,
                nonblocking,
                ..
            } => Ok((Arc::clone(socket), *nonblocking)),
            Descriptor::Listener { .. } => Err(Errno::Notconn.into()),
            _ => Err(Errno::Notsock.into()),
        }
    }

    pub(super) async fn accept(&mut self, fd: Fd, flags: Fdflags) -> Result<Fd> {
        if !Fdflags::NONBLOCK.contains(flags) {
            return Err(Errno::Inval.into());
        }
        let (listener, nonblocking) = match self.table.get(fd)? {
            Descriptor::Listener {
                listener,
                nonblocking,
            } => (Arc::clone(listener), *nonblocking),
            Descriptor::Socket { .. } => return Err(Errno::Inval.into()),
            _ => return Err(Errno::Notsock.into()),
        };
        // Before, so that a connection which there is no room for stays in the backlog.
        self.table.check_room()?;
        let one = self.root.share().take()?;
        let accept = || accept(&listener);
        let socket = when_ready(&listener, Interest::READABLE, nonblocking, accept).await?;
        let socket = Arc::new(HostFd::socket(socket)?);
        let nonblocking = flags.contains(Fdflags::NONBLOCK);
        self.table
            .insert(Descriptor::Socket {
                socket,
                nonblocking,
                _one: one,
            })
            .map(Fd::from)
    }

    pub(super) async fn recv(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        mut buffers: Buffers,
        flags: Riflags,
    ) -> Result<(Size, Roflags)> {
        let (socket, nonblocking) = self.socket(fd)?;
        let peek = flags.contains(Riflags::RECV_PEEK);
        let wait_all = flags.contains(Riflags::RECV_WAITALL) && !peek && !nonblocking;
        let mut done = 0;
        loop {
            let bytes = match receive(&socket, buffers.piece(), peek, nonblocking).await {
                Err(_) if done > 0 => break,
                result => result?,
            };
            buffers.fill(memory, &bytes)?;
            done += bytes.len();
            if bytes.is_empty() || !wait_all || buffers.piece() == 0 {
                break;
            }
        }
        Ok((size(done)?, Roflags::empty()))
    }

    pub(super) async fn send(
        &mut self,
        memory: &GuestMemory<'_>,
        fd: Fd,
        buffers: Buffers,
    ) -> Result<Size> {
        let (socket, nonblocking) = self.socket(fd)?;
        send_all(memory, &socket, buffers, nonblocking).await
    }

    pub(super) fn shutdown(&self, fd: Fd, how: Sdflags) -> Result<()> {
        let (socket, _) = self.socket(fd)?;
        let how = match (how.contains(Sdflags::RD), how.contains(Sdflags::WR)) {
            (true, true) => Shutdown::Both,
            (true, false) => Shutdown::Read,
            (false, true) => Shutdown::Write,
            (false, false) => return Err(Errno::Inval.into()),
        };
        Ok(rustix::net::shutdown(&*socket, how)?)
    }
}

/// One connection. One that its peer gave up while it waited is none.
fn accept(listener: &HostFd) -> fs::Result<OwnedFd> {
    loop {
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Err(fs::Errno::CONNABORTED) => {}
            result => return result,
        }
    }
}
