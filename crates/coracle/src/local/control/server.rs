//! The session's side of the control socket. Whoever calls can't hurt it: a request has a size and a
//! time, an answer that nobody takes ends the connection, and there are only so many at once.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, bail};
use runtime::ExitKind;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::protocol::{Answer, Call, Request, Sample};
use super::wire;
use crate::hands::ExecStreams;
use crate::local::end;
use crate::local::record::VERSION;
use crate::local::session::Inner;

/// How many connections there may be at once; the next waits to be accepted.
const CONNECTIONS: usize = 256;

/// How long a request may take to come, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait when no connection can be accepted (descriptors are used up).
const PAUSE: Duration = Duration::from_millis(100);

/// Makes the socket and serves it for as long as the session lives.
///
/// # Errors
/// When it can't be made.
pub(in crate::local) fn listen(inner: &Arc<Inner>) -> anyhow::Result<()> {
    let (runs, name) = (inner.alive.site().runs(), inner.alive.site().socket());
    let what = || format!("can't make the socket {}/{name}", runs.display());
    let opened = wire::open_folder(runs).with_context(what)?;
    // The folder is its user's alone, so the socket's own mode is a second bolt.
    let address = wire::address(opened.as_fd(), &name);
    let listener = UnixListener::bind(address).with_context(what)?;
    rustix::fs::chmodat(
        &opened,
        &name,
        rustix::fs::Mode::from_raw_mode(0o600),
        rustix::fs::AtFlags::empty(),
    )
    .with_context(what)?;
    tokio::spawn(accept(listener, Arc::downgrade(inner)));
    Ok(())
}

async fn accept(listener: UnixListener, inner: Weak<Inner>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection can't be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let inner = inner.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let mut peer = Peer { stream };
            if let Err(error) = serve(&mut peer, &inner).await {
                tracing::debug!(error = format!("{error:#}"), "a control connection");
                let message = crate::program::sentence(error.as_ref());
                let code = crate::FAILED;
                // Where there is nobody to tell, it is over anyway.
                let _ = peer.tell(&Answer::Error { message, code }).await;
            }
        });
    }
}

/// Who asks.
struct Peer {
    stream: UnixStream,
}

impl Peer {
    /// Writes one answer.
    async fn tell(&mut self, answer: &Answer) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        timeout(PATIENCE, self.stream.write_all(&line))
            .await
            .context("the answer was not taken")??;
        Ok(())
    }

    /// The request and its descriptors.
    async fn request(&self) -> anyhow::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let (mut line, mut fds) = (Vec::new(), Vec::new());
        let mut buffer = vec![0; 16 << 10];
        loop {
            let receive = || wire::receive(self.stream.as_fd(), &mut buffer, &mut fds);
            let bytes = self.stream.async_io(Interest::READABLE, receive).await?;
            line.extend_from_slice(buffer.get(..bytes).unwrap_or_default());
            if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                line.truncate(end);
                return Ok((line, fds));
            }
            if bytes == 0 {
                bail!("the request ended before its line did");
            }
            if line.len() > wire::MAX_REQUEST {
                bail!("the request is longer than {} bytes", wire::MAX_REQUEST);
            }
        }
    }

    /// Resolves when whoever asks is gone.
    async fn gone(&self) {
        let mut buffer = [0; 256];
        loop {
            let receive = || Ok(rustix::io::read(self.stream.as_fd(), &mut buffer)?);
            match self.stream.async_io(Interest::READABLE, receive).await {
                // What comes after a request means nothing.
                Ok(bytes) if bytes > 0 => {}
                _ => return,
            }
        }
    }
}

async fn serve(peer: &mut Peer, inner: &Weak<Inner>) -> anyhow::Result<()> {
    let user = peer.stream.peer_cred()?.uid();
    if user != rustix::process::geteuid().as_raw() {
        bail!("this session is another user's");
    }
    let (line, fds) = timeout(PATIENCE, peer.request())
        .await
        .context("no request came")??;
    let request: Request = serde_json::from_slice(&line).with_context(|| {
        format!(
            "coracle {}, which holds this pod, does not understand the request",
            env!("CARGO_PKG_VERSION")
        )
    })?;
    if request.version != VERSION {
        bail!(
            "the request is of version {}, and coracle {}, which holds this pod, speaks {VERSION}: use that one",
            request.version,
            env!("CARGO_PKG_VERSION")
        );
    }
    answer(peer, inner, request.call, fds).await
}

async fn answer(
    peer: &mut Peer,
    inner: &Weak<Inner>,
    call: Call,
    fds: Vec<OwnedFd>,
) -> anyhow::Result<()> {
    let session = || inner.upgrade().context("the session ends");
    match call {
        Call::Pods => {
            let pods = session()?.records();
            peer.tell(&Answer::Pods { pods }).await
        }
        Call::Stats => {
            let stats = stats(&*session()?).await?;
            peer.tell(&Answer::Stats { stats }).await
        }
        Call::Exec {
            uid,
            container,
            command,
            tty,
            stdin,
        } => {
            let streams = streams(stdin, fds)?;
            let what = Exec {
                uid,
                container,
                command,
                tty,
            };
            exec(peer, &*session()?, what, streams).await
        }
        Call::Watch { uid } => follow(peer, inner, &uid, true).await,
        Call::Stop { uid, grace } => {
            session()?.stop(&uid, grace)?;
            follow(peer, inner, &uid, false).await
        }
        Call::Remove { uid, grace } => {
            session()?.delete(&uid, grace)?;
            follow(peer, inner, &uid, false).await
        }
    }
}

/// A command that is to run in a container.
struct Exec {
    uid: String,
    container: String,
    command: Vec<String>,
    tty: bool,
}

/// The descriptors of a request, in their order.
fn streams(stdin: bool, fds: Vec<OwnedFd>) -> anyhow::Result<ExecStreams> {
    let expected = 2 + usize::from(stdin);
    if fds.len() != expected {
        bail!(
            "the request came with {} descriptors instead of {expected}",
            fds.len()
        );
    }
    let mut fds = fds.into_iter();
    Ok(ExecStreams {
        stdin: if stdin { fds.next() } else { None },
        stdout: fds.next(),
        stderr: fds.next(),
    })
}

async fn exec(
    peer: &mut Peer,
    inner: &Inner,
    what: Exec,
    streams: ExecStreams,
) -> anyhow::Result<()> {
    let known = inner.board.get(&what.uid).context("there is no such pod")?;
    let (pod, name) = (known.pod(), what.container);
    let attempt = end::running_attempt(&pod, &name)
        .with_context(|| format!("container {name:?} does not run"))?;
    let run = inner
        .hands
        .exec(&pod, &name, attempt, what.command, what.tty, streams);
    let ended = tokio::select! {
        ended = run => ended,
        // Nobody is left who wants it: dropping it ends it.
        () = peer.gone() => return Ok(()),
    };
    let answer = match ended {
        Ok(ended) => Answer::Exited {
            code: ended.code,
            message: match ended.kind {
                // What its own standard error does not tell.
                ExitKind::OomKilled | ExitKind::Stopped | ExitKind::Lost => ended.message,
                ExitKind::Exited | ExitKind::Trapped => String::new(),
            },
        },
        Err(failure) => Answer::Error {
            message: failure.message,
            code: failure.exit_code,
        },
    };
    peer.tell(&answer).await
}

async fn stats(inner: &Inner) -> anyhow::Result<Vec<Sample>> {
    let stats = inner.hands.host().all_stats().await?;
    let samples = stats.into_iter().map(|of| Sample {
        uid: of.id.pod_uid,
        container: of.id.container,
        cpu_nanos: of.cpu_nanos,
        memory_bytes: of.memory_bytes,
        memory_limit_bytes: of.memory_limit_bytes,
        at: of.at,
    });
    Ok(samples.collect())
}

/// Tells of a pod until it has ended or is gone: each change, or the end alone.
async fn follow(peer: &mut Peer, inner: &Weak<Inner>, uid: &str, each: bool) -> anyhow::Result<()> {
    let mut changes = match inner.upgrade() {
        Some(inner) => inner.board.changes(),
        None => bail!("the session ends"),
    };
    let mut told = 0;
    loop {
        let known = match inner.upgrade() {
            Some(inner) => inner.board.get(uid).map(|known| {
                let over = known.released && !known.deleted;
                (known.revision, over, inner.record(&known))
            }),
            None => None,
        };
        let Some((revision, over, record)) = known else {
            if let Some(inner) = inner.upgrade() {
                let uid = uid.to_owned();
                // Before anybody is told: its name may be wanted at once.
                tokio::task::spawn_blocking(move || inner.finish(&uid)).await??;
            }
            return peer.tell(&Answer::Done).await;
        };
        if revision != told && (each || over) {
            let pod = Box::new(record);
            peer.tell(&Answer::Pod { pod }).await?;
            told = revision;
        }
        if over {
            return peer.tell(&Answer::Done).await;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return peer.tell(&Answer::Done).await },
            () = peer.gone() => return Ok(()),
        }
    }
}
