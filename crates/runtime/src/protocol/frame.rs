//! Messages out of a stream of bytes and descriptors, and into one.
//!
//! A frame is a header of eight bytes (the length of the body and the number of descriptors, both
//! `u32`, little-endian) and a body of JSON. Its descriptors travel with its first byte. The reader
//! trusts nothing: a length is a promise to be kept byte by byte, not a reason to allocate.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::descriptors::MAX_DESCRIPTORS;

/// The size of a frame's header, bytes.
pub(crate) const HEADER: usize = 8;

/// The largest body, bytes: a list of 20,000 guests fits.
pub(crate) const MAX_BODY: usize = 16 << 20;

/// How many groups of descriptors may wait for their frame: an honest peer's never exceed two.
const MAX_GROUPS: usize = 4;

/// What makes a stream unreadable: nothing that follows can be trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// A header announces too much.
    #[error("a frame announces {length} bytes; {MAX_BODY} are allowed")]
    Length {
        /// What it announces.
        length: u64,
    },
    /// A header or a message has too many descriptors.
    #[error("a frame announces {count} descriptors; {MAX_DESCRIPTORS} are allowed")]
    Descriptors {
        /// What it announces.
        count: u64,
    },
    /// Descriptors came that no frame announced.
    #[error("descriptors arrived that no frame announced")]
    Stray,
    /// The stream ended inside a frame.
    #[error("the peer ended inside a frame, after {received} bytes of it")]
    Cut {
        /// How much of the frame came.
        received: usize,
    },
    /// A body that is not what was expected.
    #[error("a frame holds no message of this protocol: {0}")]
    Body(#[source] serde_json::Error),
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
}

/// One message, not yet understood.
#[derive(Debug)]
pub(crate) struct Frame {
    body: Bytes,
    /// The descriptors that came with it.
    pub(crate) fds: Vec<OwnedFd>,
    /// How many were announced: more than came if this process had no room for them.
    pub(crate) announced: usize,
}

impl Frame {
    /// Reads the body. Fields that this version does not know are ignored.
    pub(crate) fn message<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        serde_json::from_slice(&self.body).map_err(FrameError::Body)
    }

    /// Whether every descriptor that was announced is here.
    pub(crate) fn complete(&self) -> bool {
        self.fds.len() == self.announced
    }
}

/// The bytes of a frame that holds `message` and goes with `fds` descriptors.
pub(crate) fn encode<T: Serialize>(message: &T, fds: usize) -> Result<Bytes, FrameError> {
    if fds > MAX_DESCRIPTORS {
        return Err(FrameError::Descriptors { count: fds as u64 });
    }
    let body = serde_json::to_vec(message).map_err(FrameError::Body)?;
    if body.len() > MAX_BODY {
        return Err(FrameError::Length {
            length: body.len() as u64,
        });
    }
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&(fds as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame.into())
}

/// Puts frames together from whatever pieces a stream is read in.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: BytesMut,
    groups: VecDeque<Vec<OwnedFd>>,
}

impl Decoder {
    /// Takes what one read brought. `lost` is true if the kernel dropped descriptors of it.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        fds: Vec<OwnedFd>,
        lost: bool,
    ) -> Result<(), FrameError> {
        self.bytes.extend_from_slice(bytes);
        if !fds.is_empty() || lost {
            self.groups.push_back(fds);
        }
        if self.groups.len() > MAX_GROUPS {
            return Err(FrameError::Stray);
        }
        Ok(())
    }

    /// The next whole frame, if there is one. After an error the stream is of no more use.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else {
            return self.between_frames();
        };
        let mut header = &header[..];
        let length = header.get_u32_le() as usize;
        let announced = header.get_u32_le() as usize;
        if length > MAX_BODY {
            return Err(FrameError::Length {
                length: length as u64,
            });
        }
        if announced > MAX_DESCRIPTORS {
            return Err(FrameError::Descriptors {
                count: announced as u64,
            });
        }
        if self.bytes.len() - HEADER < length {
            return Ok(None);
        }
        self.bytes.advance(HEADER);
        let body = self.bytes.split_to(length).freeze();
        let fds = match announced {
            0 => Vec::new(),
            _ => self.groups.pop_front().unwrap_or_default(),
        };
        if fds.len() > announced {
            return Err(FrameError::Stray);
        }
        Ok(Some(Frame {
            body,
            fds,
            announced,
        }))
    }

    /// Nothing may be left over when no frame has begun.
    fn between_frames(&mut self) -> Result<Option<Frame>, FrameError> {
        match self.bytes.is_empty() && !self.groups.is_empty() {
            true => Err(FrameError::Stray),
            false => Ok(None),
        }
    }

    /// What the end of the stream means here: nothing between frames, an error inside one.
    pub(crate) fn end(&self) -> Result<(), FrameError> {
        match self.bytes.len() {
            0 => Ok(()),
            received => Err(FrameError::Cut { received }),
        }
    }
}
