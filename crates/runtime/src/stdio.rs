//! Where a guest's output goes: its log, a descriptor of the host's, or both; and an input that
//! can be ended while its other side is still open.
//!
//! It must not know what a guest is, nor the format of the log.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use logs::{Stream, Writer};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::watch;
use wasi_host::Blocking;
use wasi_host::stdio::{HostSink, NullSink, OutSink, Stdin, StdioError};

use crate::compress;

/// The most bytes that one write takes: what waits for a full disk is a copy of them.
const CHUNK: usize = 64 << 10;

/// Between two tries at a full disk.
const FULL_DISK: Duration = Duration::from_millis(250);

/// A run's log, which both of its streams write.
#[derive(Clone)]
pub(crate) struct Log {
    writer: Arc<Mutex<Writer>>,
    blocking: Arc<Blocking>,
}

impl Log {
    pub(crate) fn new(writer: Writer, blocking: Arc<Blocking>) -> Log {
        Log {
            writer: Arc::new(Mutex::new(writer)),
            blocking,
        }
    }

    /// Writes some bytes and says how many. While the disk is full it waits, holding no thread.
    async fn write(&self, stream: Stream, bytes: &[u8]) -> Result<usize, Errno> {
        let bytes: Arc<[u8]> = bytes.get(..CHUNK).unwrap_or(bytes).into();
        loop {
            let (writer, copy) = (Arc::clone(&self.writer), Arc::clone(&bytes));
            let work = move || write_some(&writer, stream, &copy);
            match self.blocking.run(work).await.map_err(|_| Errno::IO)?? {
                0 if !bytes.is_empty() => tokio::time::sleep(FULL_DISK).await,
                written => return Ok(written),
            }
        }
    }
}

/// Writes to the log; 0 if the disk is full.
fn write_some(writer: &Mutex<Writer>, stream: Stream, bytes: &[u8]) -> Result<usize, Errno> {
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    let written = match writer.write(stream, bytes) {
        Ok(()) => bytes.len(),
        Err(error) if error.is_full() || error.written > 0 => error.written,
        Err(error) => {
            tracing::warn!(error = %error.source, "a guest's log can't be written");
            return Err(Errno::IO);
        }
    };
    if let Some(compression) = writer.compression() {
        // Not the guest's work: it may go on after the guest has ended.
        compress::later(compression);
    }
    Ok(written)
}

/// One of the two streams.
struct Output {
    stream: Stream,
    log: Log,
    also: Option<HostSink>,
}

#[async_trait::async_trait]
impl OutSink for Output {
    async fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let written = self.log.write(self.stream, bytes).await?;
        if let Some(also) = &self.also {
            write_all(also, bytes.get(..written).unwrap_or_default()).await?;
        }
        Ok(written)
    }

    async fn ready(&self) {
        if let Some(also) = &self.also {
            also.ready().await;
        }
    }

    fn is_ready_now(&self) -> bool {
        self.also.as_ref().is_none_or(OutSink::is_ready_now)
    }
}

/// Writes all of it.
pub(crate) async fn write_all(sink: &dyn OutSink, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = sink.write(bytes).await?;
        bytes = bytes.get(written.max(1)..).unwrap_or_default();
    }
    Ok(())
}

/// A stream into a log, a descriptor, both or nowhere.
///
/// # Errors
/// The descriptor can't be a stream.
pub(crate) fn output(
    stream: Stream,
    log: Option<&Log>,
    fd: Option<OwnedFd>,
    blocking: &Arc<Blocking>,
) -> Result<Arc<dyn OutSink>, StdioError> {
    let also = fd
        .map(|fd| HostSink::new(fd, Arc::clone(blocking)))
        .transpose()?;
    Ok(match (log, also) {
        (Some(log), also) => Arc::new(Output {
            stream,
            log: log.clone(),
            also,
        }),
        (None, Some(also)) => Arc::new(also),
        (None, None) => Arc::new(NullSink),
    })
}

/// An input that ends when `drained` turns true, whatever its other side does: what it gives goes
/// through a pipe of ours, which is closed then.
///
/// # Errors
/// No pipe can be had, or the descriptor can't be a stream.
pub(crate) fn ending_input(
    fd: OwnedFd,
    blocking: &Arc<Blocking>,
    mut drained: watch::Receiver<bool>,
) -> Result<Stdin, StdioError> {
    let source = Stdin::from_fd(fd)?;
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let sink = HostSink::new(write, Arc::clone(blocking))?;
    let blocking = Arc::clone(blocking);
    let relay = async move {
        while let Ok(bytes) = source.read(&blocking, CHUNK).await {
            if bytes.is_empty() || write_all(&sink, &bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            // An error is that the guest is gone, which ends its input as well.
            _ = drained.wait_for(|drained| *drained) => {}
            () = relay => {}
        }
    });
    Stdin::from_fd(read)
}
