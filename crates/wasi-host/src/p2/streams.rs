//! Streams over files. A stream never blocks its caller: the work is done on the pod's blocking
//! threads, one piece at a time, so that what is buffered for a stream is bounded.

use bytes::Bytes;
use std::io;
use tokio::task::JoinHandle;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::Work;
use crate::fs::{Errno, File, IO_BYTES};
use crate::held::Held;

/// Reads a file from an offset on.
pub(crate) struct FileInput {
    file: File,
    offset: u64,
    work: Work,
    state: Input,
}

enum Input {
    /// Nothing was read ahead.
    Empty,
    /// This was read, and not taken yet.
    Bytes { bytes: Bytes, _held: Held },
    /// A read failed; told once.
    Failed(io::Error),
    /// The end of the file, or after an error that was told.
    Closed,
}

impl FileInput {
    pub(crate) fn new(file: File, offset: u64, work: Work) -> FileInput {
        FileInput {
            file,
            offset,
            work,
            state: Input::Empty,
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for FileInput {
    /// Reads ahead. Dropped half-way it reads the same bytes again: the offset moves only as they
    /// are taken.
    async fn ready(&mut self) {
        if !matches!(self.state, Input::Empty) {
            return;
        }
        let (file, offset) = (self.file.clone(), self.offset);
        self.state = match self
            .work
            .blocking
            .run(move || file.read_at(IO_BYTES, offset))
            .await
        {
            Ok(Ok(bytes)) if bytes.is_empty() => Input::Closed,
            Ok(Ok(bytes)) => match self.work.charge.hold(bytes.len(), "a file's stream") {
                Ok(held) => Input::Bytes {
                    bytes: bytes.into(),
                    _held: held,
                },
                Err(errno) => Input::Failed(errno.into()),
            },
            Ok(Err(errno)) => Input::Failed(errno.into()),
            Err(unfinished) => Input::Failed(io::Error::other(unfinished)),
        };
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for FileInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match &mut self.state {
            Input::Empty => Ok(Bytes::new()),
            Input::Bytes { bytes, .. } => {
                let taken = bytes.split_to(size.min(bytes.len()));
                self.offset += taken.len() as u64;
                if bytes.is_empty() {
                    self.state = Input::Empty;
                }
                Ok(taken)
            }
            Input::Failed(_) => {
                let failed = std::mem::replace(&mut self.state, Input::Closed);
                match failed {
                    Input::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
                    _ => Err(StreamError::Closed),
                }
            }
            Input::Closed => Err(StreamError::Closed),
        }
    }
}

/// An error of the last operation.
pub(super) fn failed(error: io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}

/// Where a stream writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Position {
    /// From here on.
    At(u64),
    /// At the end, whoever else writes there.
    End,
}

/// A piece that is being written beside the guest.
pub(super) enum Writing {
    /// None is; the next may come.
    Idle,
    /// This one is.
    Piece(JoinHandle<Option<io::Result<()>>>),
    /// It failed; told once.
    Failed(io::Error),
    /// After an error that was told.
    Closed,
}

impl Writing {
    /// Waits until no piece is being written.
    pub(super) async fn ready(&mut self) {
        if let Writing::Piece(task) = self {
            *self = match task.await {
                Ok(Some(Ok(()))) => Writing::Idle,
                Ok(Some(Err(error))) => Writing::Failed(error),
                // The guest is being dropped: nobody will ask.
                Ok(None) => Writing::Closed,
                Err(unfinished) => Writing::Failed(io::Error::other(unfinished)),
            };
        }
    }

    /// How much may be written now, in bytes.
    pub(super) fn check(&mut self) -> StreamResult<usize> {
        match self {
            Writing::Idle => Ok(IO_BYTES),
            Writing::Piece(_) => Ok(0),
            Writing::Failed(_) | Writing::Closed => {
                Err(match std::mem::replace(self, Writing::Closed) {
                    // As wasmtime-wasi does, so that wasi-libc finds EPIPE.
                    Writing::Failed(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        StreamError::Closed
                    }
                    Writing::Failed(error) => StreamError::LastOperationFailed(error.into()),
                    _ => StreamError::Closed,
                })
            }
        }
    }
}

/// Writes a file.
pub(crate) struct FileOutput {
    file: File,
    position: Position,
    work: Work,
    writing: Writing,
}

impl FileOutput {
    pub(crate) fn new(file: File, position: Position, work: Work) -> FileOutput {
        FileOutput {
            file,
            position,
            work,
            writing: Writing::Idle,
        }
    }
}

/// Writes all of `bytes`.
fn write_all(file: &File, position: Position, bytes: &[u8]) -> Result<(), Errno> {
    let mut rest = bytes;
    let mut offset = match position {
        Position::At(offset) => offset,
        Position::End => 0,
    };
    while !rest.is_empty() {
        let written = match position {
            Position::At(_) => file.write_at(rest, offset)?,
            Position::End => file.append(rest)?,
        };
        if written == 0 {
            return Err(Errno::IO);
        }
        offset += written as u64;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

#[wasmtime_wasi::async_trait]
impl Pollable for FileOutput {
    async fn ready(&mut self) {
        self.writing.ready().await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for FileOutput {
    fn check_write(&mut self) -> StreamResult<usize> {
        self.writing.check()
    }

    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // wasi:io says that writing more than check-write allowed is a trap.
        if self.writing.check()? == 0 {
            return Err(StreamError::trap("write without check-write"));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let held = self.work.charge.hold(bytes.len(), "a file's stream");
        let held = held.map_err(|errno| failed(errno.into()))?;
        let (file, position) = (self.file.clone(), self.position);
        if let Position::At(offset) = &mut self.position {
            *offset += bytes.len() as u64;
        }
        let blocking = self.work.blocking.clone();
        self.writing = Writing::Piece(self.work.spawn(async move {
            let _held = held;
            match blocking
                .run(move || write_all(&file, position, &bytes))
                .await
            {
                Ok(result) => result.map_err(io::Error::from),
                Err(unfinished) => Err(io::Error::other(unfinished)),
            }
        }));
        Ok(())
    }

    /// What was written is in the page cache once the stream is ready again: that is all that a
    /// flush asks for. `sync` is the descriptor's.
    fn flush(&mut self) -> StreamResult<()> {
        self.writing.check().map(drop)
    }

    /// The guest drops the stream: what it wrote is there when it looks at the file.
    async fn cancel(&mut self) {
        self.ready().await;
    }
}
