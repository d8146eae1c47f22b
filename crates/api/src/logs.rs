//! `/containerLogs`: which run's log is meant, and how it is read for who may be slow.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, Stream};
use http_body::Frame;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use logs::{Ender, Next, ReadError, Reader};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How much of a log is read at once for one reader, bytes: all that is held of it beyond the connection's buffers.
const CHUNK: usize = 32 << 10;
/// How often a log is looked at that the system does not tell about.
const LOOK: Duration = Duration::from_secs(1);
/// The most logs that are read at once: each takes a thread while it is.
const AT_ONCE: usize = 8;

/// Whether the pod's spec has such a container.
pub(crate) fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else {
        return false;
    };
    let init = spec.init_containers.iter().flatten().map(|c| &c.name);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| &c.name);
    let mut all = spec.containers.iter().map(|c| &c.name);
    let mut others = init.chain(ephemeral);
    all.any(|container| container == name) || others.any(|container| container == name)
}

fn status_of<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|container| container.name == name)
}

/// The `containerID` of the run whose log is meant, or the kubelet's words for why there is none
/// (`validateContainerLogStatus` of `pkg/kubelet/kubelet_pods.go`).
pub(crate) fn run_of(pod: &Pod, container: &str, previous: bool) -> Result<String, String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let of = |what: &str| format!("container {container:?} in pod {name:?} {what}");
    let found = pod
        .status
        .as_ref()
        .and_then(|status| status_of(status, container));
    let Some(status) = found else {
        return Err(of("is not available"));
    };
    let id = |id: &Option<String>| id.clone().filter(|id| !id.is_empty());
    let last = status
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref());
    let last_id = last.and_then(|last| id(&last.container_id));
    if previous {
        return last_id.ok_or_else(|| format!("previous terminated {}", of("not found")));
    }
    let state = status.state.clone().unwrap_or_default();
    if state.running.is_some() {
        return id(&status.container_id).ok_or_else(|| of("is not available"));
    }
    if let Some(ended) = &state.terminated {
        let found = id(&ended.container_id).or(last_id);
        return found.ok_or_else(|| of("is terminated"));
    }
    if last.is_some() {
        return last_id.ok_or_else(|| of("is terminated"));
    }
    let why = match &state.waiting {
        None => " - no logs yet".to_owned(),
        Some(waiting) => match waiting.reason.as_deref().unwrap_or_default() {
            "ErrImagePull" => ": image can't be pulled".to_owned(),
            "ImagePullBackOff" => ": trying and failing to pull image".to_owned(),
            reason => format!(": {reason}"),
        },
    };
    // The kubelet has a space only before what follows a dash.
    Err(of(&format!("is waiting to start{why}")))
}

/// Reads logs on other threads, a few at once.
#[derive(Clone)]
pub(crate) struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Readers {
        Readers(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Readers {
    /// Does what may block, in its turn.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        work.await.map_err(io::Error::other)
    }
}

/// One reader of a log.
struct Log {
    /// Away while it is read from.
    reader: Option<Reader>,
    readers: Readers,
    /// Tells when the log has grown, if the system does.
    grown: Option<AsyncFd<OwnedFd>>,
    /// The run's end; none once it has come.
    ended: Option<BoxFuture<'static, ()>>,
    ender: Cancel,
    closing: CancellationToken,
    waits: bool,
    over: bool,
}

/// Who reads no more lets go of a thread that reads for it.
struct Cancel(Ender);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The pieces of a log. Nothing is read before it is asked for, so who does not take what there is costs no more than
/// one piece. Where `ended` resolves, following ends after what is written by then; where `closing` is cancelled it
/// breaks off, as it does when the log can't be read any more: an answer that ends says that the container did.
pub(crate) fn pieces(
    reader: Reader,
    readers: Readers,
    ended: BoxFuture<'static, ()>,
    closing: CancellationToken,
) -> io::Result<impl Stream<Item = io::Result<Frame<Bytes>>> + Send + 'static> {
    let grown = match reader.watch() {
        Some(fd) => {
            let fd = fd.try_clone_to_owned()?;
            // SAFETY: the descriptor is open, and the `AsyncFd` owns it: it is closed by nobody else, and no sooner.
            let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
            Some(registered.map_err(|failed| failed.into_parts().1)?)
        }
        None => None,
    };
    let log = Log {
        ender: Cancel(reader.ender()),
        reader: Some(reader),
        readers,
        grown,
        ended: Some(ended),
        closing,
        waits: false,
        over: false,
    };
    Ok(stream::unfold(log, |mut log| async move {
        let piece = log.piece().await?;
        log.over |= piece.is_err();
        Some((piece.map(|bytes| Frame::data(Bytes::from(bytes))), log))
    }))
}

impl Log {
    async fn piece(&mut self) -> Option<io::Result<Vec<u8>>> {
        loop {
            if self.over {
                return None;
            }
            if self.closing.is_cancelled() {
                return Some(Err(io::Error::other("the node ends")));
            }
            if std::mem::take(&mut self.waits) {
                self.wait().await;
                continue;
            }
            let mut reader = self.reader.take()?;
            let read = self
                .readers
                .run(move || {
                    let mut text = Vec::new();
                    let next = fill(&mut reader, &mut text);
                    (reader, text, next)
                })
                .await;
            let (reader, text, next) = match read {
                Ok(read) => read,
                Err(error) => return Some(Err(error)),
            };
            self.reader = Some(reader);
            match next {
                Ok(Next::Record(_)) => {}
                Ok(Next::Wait) => self.waits = true,
                Ok(Next::End) => self.over = true,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a log breaks off");
                    return Some(Err(io::Error::other(error)));
                }
            }
            if !text.is_empty() {
                return Some(Ok(text));
            }
        }
    }

    /// Until the log has grown, or its run has ended.
    async fn wait(&mut self) {
        let ended = async {
            match &mut self.ended {
                Some(ended) => ended.await,
                None => std::future::pending().await,
            }
        };
        let grown = async {
            match &self.grown {
                // Cleared before the next reading, which so sees all that this told of.
                Some(fd) => match fd.readable().await {
                    Ok(mut ready) => ready.clear_ready(),
                    Err(_) => tokio::time::sleep(LOOK).await,
                },
                None => tokio::time::sleep(LOOK).await,
            }
        };
        tokio::select! {
            () = self.closing.cancelled() => {}
            () = grown => {}
            () = ended => {
                self.ended = None;
                self.ender.0.end();
            }
        }
    }
}

/// Reads until there is enough for a piece, or nothing now.
fn fill(reader: &mut Reader, text: &mut Vec<u8>) -> Result<Next, ReadError> {
    loop {
        let next = reader.read(text)?;
        if text.len() >= CHUNK || !matches!(next, Next::Record(_)) {
            return Ok(next);
        }
    }
}

#[cfg(test)]
#[path = "tests/runs.rs"]
mod tests;
