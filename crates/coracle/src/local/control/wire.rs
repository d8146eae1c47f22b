//! Lines with descriptors over a Unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The most descriptors of a request: the three standard streams.
pub(super) const MAX_FDS: usize = 3;

/// The longest request, bytes.
pub(super) const MAX_REQUEST: usize = 1 << 20;

/// A path to a session's socket that fits an address, however long that of its folder is: the kernel
/// takes 107 bytes. It is good for as long as the folder's descriptor is open.
pub(super) fn address(folder: BorrowedFd<'_>, name: &str) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}/{name}", folder.as_raw_fd())
}

/// Opens a folder for [`address`].
pub(super) fn open_folder(folder: &std::path::Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(folder, flags, Mode::empty())?)
}

/// Sends some of `bytes` with the descriptors; returns how many bytes went. What is left goes without
/// them. A peer that is gone is `BrokenPipe`, never SIGPIPE.
pub(super) fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other(
            "a request carries three descriptors at most",
        ));
    }
    Ok(sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

/// Receives what is there, up to the size of `buffer`; 0 bytes are the end. Descriptors are added to
/// `fds`; one too many closes what came.
pub(super) fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    if fds.len() > MAX_FDS {
        fds.clear();
        return Err(io::Error::other(
            "a request carries three descriptors at most",
        ));
    }
    Ok(message.bytes)
}
