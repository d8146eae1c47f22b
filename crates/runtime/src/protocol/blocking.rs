//! One message at a time over a socket that a thread waits on: for children that are told once what
//! to do, on their standard input, before they have a runtime.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::descriptors;
use super::frame::{self, Decoder, Frame, FrameError};

/// Sends one message with its descriptors, whole.
pub(crate) fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> Result<(), FrameError> {
    let bytes = frame::encode(message, fds.len())?;
    let (mut left, mut fds) = (&bytes[..], fds);
    while !left.is_empty() {
        match descriptors::send(&socket, left, fds) {
            Ok(sent) => {
                left = left.get(sent..).unwrap_or_default();
                fds = &[];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Receives one message with its descriptors; `None` if the peer closed the socket before one.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
) -> Result<Option<(T, Vec<OwnedFd>)>, FrameError> {
    let mut decoder = Decoder::default();
    loop {
        if let Some(frame) = step(&socket, &mut decoder)? {
            return match frame {
                Step::Frame(frame) => Ok(Some((frame.message()?, frame.fds))),
                Step::End => decoder.end().map(|()| None),
            };
        }
    }
}

/// What one read led to.
pub(crate) enum Step {
    /// A whole frame.
    Frame(Frame),
    /// The stream's end.
    End,
}

/// Reads once; `None` if no frame is whole yet.
pub(crate) fn step(socket: impl AsFd, decoder: &mut Decoder) -> Result<Option<Step>, FrameError> {
    let mut buffer = [0; 16 << 10];
    let received = match descriptors::receive(socket, &mut buffer) {
        Ok(received) => received,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if received.bytes == 0 {
        return Ok(Some(Step::End));
    }
    decoder.push(
        buffer.get(..received.bytes).unwrap_or_default(),
        received.fds,
        received.lost,
    )?;
    Ok(decoder.next()?.map(Step::Frame))
}
