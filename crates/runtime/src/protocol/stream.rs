//! Frames over a socket of a runtime's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::descriptors;
use super::frame::{Decoder, Frame, FrameError};

/// The reading half of a connection.
pub(crate) struct Reader {
    socket: Arc<UnixStream>,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(socket: Arc<UnixStream>) -> Reader {
        Reader {
            socket,
            decoder: Decoder::default(),
            buffer: vec![0; 64 << 10],
        }
    }

    /// The next frame; `None` at the end of the stream, if that is between two. Dropping the future
    /// loses nothing.
    pub(crate) async fn frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = self.decoder.next()? {
                return Ok(Some(frame));
            }
            let (socket, buffer) = (&self.socket, &mut self.buffer);
            let received = socket
                .async_io(Interest::READABLE, || descriptors::receive(socket, buffer))
                .await?;
            if received.bytes == 0 {
                return self.decoder.end().map(|()| None);
            }
            self.decoder.push(
                self.buffer.get(..received.bytes).unwrap_or_default(),
                received.fds,
                received.lost,
            )?;
        }
    }
}

/// A frame on its way.
pub(crate) struct Outgoing {
    /// The whole of it.
    pub(crate) bytes: Bytes,
    /// What goes with it; closed here once it went, or can't.
    pub(crate) fds: Vec<OwnedFd>,
    /// Given back once it went: what is not taken by the peer stays bounded.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// Writes what comes until nobody can send any more.
///
/// # Errors
/// The peer is gone.
pub(crate) async fn write_all(
    socket: &UnixStream,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
) -> io::Result<()> {
    while let Some(one) = outgoing.recv().await {
        write(socket, &one.bytes, &one.fds).await?;
        drop(one.permit);
    }
    Ok(())
}

/// Writes one frame. A future that is dropped may have written a part of it.
pub(crate) async fn write(socket: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    let mut fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut left = bytes;
    while !left.is_empty() {
        let sent = socket
            .async_io(Interest::WRITABLE, || descriptors::send(socket, left, &fds))
            .await?;
        left = left.get(sent..).unwrap_or_default();
        fds.clear();
    }
    Ok(())
}
