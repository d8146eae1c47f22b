//! Bytes and descriptors over a Unix socket, one `sendmsg` or `recvmsg` at a time.
//!
//! It knows nothing of frames: which descriptors belong to which message is [`super::frame`]'s.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The most descriptors that cross with one message. The kernel's own bound is 253.
pub(crate) const MAX_DESCRIPTORS: usize = 240;

/// What one `recvmsg` brought.
#[derive(Debug)]
pub(crate) struct Received {
    /// How many bytes; 0 is the end of the stream.
    pub(crate) bytes: usize,
    /// The descriptors that came with them, each close-on-exec.
    pub(crate) fds: Vec<OwnedFd>,
    /// True if the kernel dropped some, because this process has no room for more.
    pub(crate) lost: bool,
}

/// Sends some of `bytes` with all of `fds`, which go with the first byte. Returns how many bytes
/// went; what is left has to be sent without the descriptors.
///
/// A peer that is gone is `BrokenPipe`, never SIGPIPE.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MAX_DESCRIPTORS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{} descriptors in one message: {MAX_DESCRIPTORS} can be sent",
                fds.len()
            ),
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for the descriptors of a message"));
    }
    Ok(sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

/// Receives what is there, up to the size of `buffer`.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    Ok(Received {
        bytes: message.bytes,
        fds,
        lost: message.flags.contains(ReturnFlags::CTRUNC),
    })
}
