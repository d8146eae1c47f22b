//! Standard output and error as streams: one piece at a time, so that the guest waits when what
//! takes it can't keep up, and nothing is dropped.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::Work;
use super::streams::{Writing, failed};
use crate::fs::{Errno, IO_BYTES};
use crate::stdio::OutSink;

/// A guest's handle.
pub(crate) struct Output {
    sink: Arc<dyn OutSink>,
    work: Work,
    writing: Writing,
}

impl Output {
    pub(crate) fn new(sink: &Arc<dyn OutSink>, work: &Work) -> Output {
        Output {
            sink: sink.clone(),
            work: work.clone(),
            writing: Writing::Idle,
        }
    }
}

async fn write_all(sink: Arc<dyn OutSink>, bytes: Bytes) -> io::Result<()> {
    let mut rest: &[u8] = &bytes;
    while !rest.is_empty() {
        let written = sink.write(rest).await?;
        if written == 0 {
            return Err(Errno::IO.into());
        }
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        if matches!(self.writing, Writing::Idle) {
            self.sink.ready().await;
        }
        self.writing.ready().await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Output {
    fn check_write(&mut self) -> StreamResult<usize> {
        match self.writing.check()? {
            0 => Ok(0),
            _ if self.sink.is_ready_now() => Ok(IO_BYTES),
            _ => Ok(0),
        }
    }

    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if self.writing.check()? == 0 {
            return Err(StreamError::trap("write without check-write"));
        }
        if !bytes.is_empty() {
            let held = self.work.charge.hold(bytes.len(), "a standard stream");
            let held = held.map_err(|errno| failed(errno.into()))?;
            let written = write_all(self.sink.clone(), bytes);
            let task = self.work.spawn(async move {
                let _held = held;
                written.await
            });
            self.writing = Writing::Piece(task);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.writing.check().map(drop)
    }

    /// The guest drops its handle: what it wrote is written all the same, by its task.
    async fn cancel(&mut self) {}
}
