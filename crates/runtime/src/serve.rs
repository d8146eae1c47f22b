//! The guest host's side of the protocol: calls in, answers and ends of guests out.
//!
//! It runs on a small runtime of its own, so that no guest can starve it. Any number of connections
//! may be there at once; none owns a guest, and what a connection began goes on when it ends. It must
//! not know how guests are run: a [`Service`] does that.

mod child;
mod exec;
mod local;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::events::Events;
use crate::protocol::frame::{self, Frame, FrameError};
use crate::protocol::message::{Answer, Call, Hello, Layout, Request, Told};
use crate::protocol::stream::{Outgoing, Reader, write_all};
use crate::spec::{
    ExecEnd, ExecError, ExecFds, ExecSpec, GuestFds, GuestId, GuestSpec, GuestState, HostBudget,
    HostError, Limits, StartError, Started, Stats,
};

pub(crate) use self::child::{Boot, Ready};
pub use self::child::{guest_host_main, raise_descriptors};

/// How long a peer may take to greet, and answers to leave at the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many calls of one connection may be unanswered: a stop for each of very many guests.
const MAX_CALLS: usize = 1 << 16;

/// How many subscriptions one connection may have.
const MAX_SUBSCRIPTIONS: usize = 64;

/// What runs the guests. A future that is dropped leaves what it was asked for done or undone.
pub(crate) trait Service: Send + Sync + 'static {
    fn start(
        &self,
        spec: GuestSpec,
        fds: GuestFds,
    ) -> impl Future<Output = Result<Started, StartError>> + Send;
    /// Dropped, it ends the exec.
    fn exec(
        &self,
        spec: ExecSpec,
        fds: ExecFds,
    ) -> impl Future<Output = Result<ExecEnd, ExecError>> + Send;
    fn stop(
        &self,
        id: &GuestId,
        grace: Duration,
    ) -> impl Future<Output = Result<(), HostError>> + Send;
    fn list(&self) -> Vec<GuestState>;
    fn events(&self) -> Events;
    fn stats(&self, id: &GuestId) -> Result<Stats, HostError>;
    fn all_stats(&self) -> Vec<Stats>;
    fn set_limits(&self, id: &GuestId, limits: &Limits) -> Result<(), HostError>;
    fn forget(&self, id: &GuestId) -> Result<(), HostError>;
    fn budget(&self) -> HostBudget;
    fn shutdown(&self) -> impl Future<Output = ()> + Send;
}

/// Serves until a peer asks for the shutdown, or `until` resolves and the guests were shut down.
pub(crate) async fn serve<S: Service>(
    service: Arc<S>,
    listener: UnixListener,
    until: impl Future<Output = ()>,
) {
    let (close, mut is_closed) = watch::channel(Ending::No);
    let mut connections = JoinSet::new();
    tokio::pin!(until);
    loop {
        tokio::select! {
            biased;
            () = until_closed(&mut is_closed) => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    let connection = connect(Arc::clone(&service), socket, close.clone());
                    connections.spawn(connection);
                }
                // No descriptors are left, most likely: one comes free when a connection ends.
                Err(error) => {
                    tracing::warn!(%error, "a connection to the guest host was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = &mut until => {
                service.shutdown().await;
                close.send_replace(Ending::Asked);
                break;
            }
        }
    }
    drop(listener);
    close.send_replace(Ending::Unlistening);
    let flushed = tokio::time::timeout(PATIENCE, async {
        while connections.join_next().await.is_some() {}
    });
    if flushed.await.is_err() {
        tracing::warn!("a peer did not take its last answers");
    }
}

/// How far a server is with its end. A shutdown is answered when nobody can connect any more, so that
/// whoever looks for a guest host after the answer does not find this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    No,
    Asked,
    Unlistening,
}

/// Resolves when the server closes; its end means the same.
async fn until_closed(closed: &mut watch::Receiver<Ending>) {
    let _ = closed.wait_for(|ending| *ending >= Ending::Asked).await;
}

/// Has the server end, and resolves when nobody can connect to it any more.
async fn unlisten(close: &watch::Sender<Ending>) {
    close.send_if_modified(|ending| {
        let first = *ending == Ending::No;
        if first {
            *ending = Ending::Asked;
        }
        first
    });
    let mut closed = close.subscribe();
    let _ = closed
        .wait_for(|ending| *ending == Ending::Unlistening)
        .await;
}

async fn connect<S: Service>(service: Arc<S>, socket: UnixStream, close: watch::Sender<Ending>) {
    if let Err(error) = check_peer(&socket) {
        tracing::warn!(%error, "a peer of the guest host was turned away");
        return;
    }
    let socket = Arc::new(socket);
    let (send, outgoing) = mpsc::unbounded_channel();
    let mut closed = close.subscribe();
    let connection = Connection {
        service,
        send,
        close,
        calls: Arc::new(Semaphore::new(MAX_CALLS)),
        subscriptions: HashMap::new(),
        execs: HashMap::new(),
    };
    let reader = Reader::new(Arc::clone(&socket));
    let writing = write_all(&socket, outgoing);
    let reading = async {
        tokio::select! {
            biased;
            () = until_closed(&mut closed) => Ok(()),
            read = connection.read(reader) => read,
        }
    };
    // When reading ends nobody sends any more but the calls that are left, and so writing ends; when
    // the peer does not take what is written, reading it serves no more.
    tokio::pin!(writing);
    let read = tokio::select! {
        read = reading => read,
        _ = &mut writing => return,
    };
    if let Err(error) = read {
        // What it asked for goes on; nobody is there to be told.
        tracing::warn!(%error, "a connection to the guest host is broken");
        return;
    }
    let _ = writing.await;
}

/// Lets in who could read our memory anyway: our own user.
fn check_peer(socket: &UnixStream) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?;
    let ours = rustix::process::geteuid();
    match peer.uid == ours {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "it runs as user {} and not as {}",
            peer.uid.as_raw(),
            ours.as_raw()
        ))),
    }
}

struct Connection<S> {
    service: Arc<S>,
    send: mpsc::UnboundedSender<Outgoing>,
    close: watch::Sender<Ending>,
    calls: Arc<Semaphore>,
    subscriptions: HashMap<u64, AbortHandle>,
    execs: HashMap<u64, AbortHandle>,
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        if *self.close.borrow() >= Ending::Asked {
            // They tell the last ends, and stop by themselves.
            return;
        }
        for task in self.subscriptions.values().chain(self.execs.values()) {
            task.abort();
        }
    }
}

impl<S: Service> Connection<S> {
    async fn read(mut self, mut reader: Reader) -> Result<(), FrameError> {
        let greeting = tokio::time::timeout(PATIENCE, reader.frame()).await;
        let Some(frame) = greeting.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? else {
            return Ok(());
        };
        let theirs: Hello = frame.message()?;
        let ours = Hello::ours();
        drop(self.send.send(outgoing(&ours)?));
        if ours.agree(&theirs).is_none() {
            tracing::warn!(peer = ?theirs, "a peer speaks no protocol that this guest host does");
            return Ok(());
        }
        while let Some(frame) = reader.frame().await? {
            let request: Request = frame.message()?;
            // Nobody closes it.
            if let Ok(permit) = Arc::clone(&self.calls).acquire_owned().await {
                self.begin(request, frame, permit);
            }
        }
        Ok(())
    }

    fn begin(&mut self, request: Request, frame: Frame, permit: OwnedSemaphorePermit) {
        let id = request.id;
        match serde_json::from_value(request.call) {
            Err(error) => self.answer(id, Answer::NotUnderstood(error.to_string()), permit),
            Ok(Call::Subscribe) => self.subscribe(id, permit),
            Ok(Call::Unsubscribe { subscription }) => {
                if let Some(task) = self.subscriptions.remove(&subscription) {
                    task.abort();
                }
                self.answer(id, Answer::Done, permit);
            }
            Ok(Call::Exec { spec, fds }) => self.exec(id, *spec, fds, frame, permit),
            Ok(Call::Cancel { exec }) => {
                self.cancel(exec);
                self.answer(id, Answer::Done, permit);
            }
            Ok(call) => {
                let (service, send) = (Arc::clone(&self.service), self.send.clone());
                let close = self.close.clone();
                tokio::spawn(async move {
                    let last = call == Call::Shutdown;
                    let answer = execute(&*service, call, frame).await;
                    if last {
                        unlisten(&close).await;
                    }
                    send_answer(&send, id, &answer, permit);
                });
            }
        }
    }

    fn answer(&self, id: u64, answer: Answer, permit: OwnedSemaphorePermit) {
        send_answer(&self.send, id, &answer, permit);
    }

    fn subscribe(&mut self, id: u64, permit: OwnedSemaphorePermit) {
        self.subscriptions.retain(|_, task| !task.is_finished());
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS || self.subscriptions.contains_key(&id) {
            let message = format!("a connection may have {MAX_SUBSCRIPTIONS} subscriptions");
            return self.answer(id, Answer::NotUnderstood(message), permit);
        }
        self.answer(id, Answer::Done, permit);
        let (mut events, send) = (self.service.events(), self.send.clone());
        let mut closed = self.close.subscribe();
        let task = tokio::spawn(async move {
            loop {
                // The ends that are there go first, so that a shutdown tells its own.
                let exited = tokio::select! {
                    biased;
                    Some(exited) = events.next() => exited,
                    () = until_closed(&mut closed) => return,
                };
                let told = Told::exited(id, &exited).map_err(FrameError::Body);
                match told.and_then(|told| outgoing(&told)) {
                    Ok(one) => {
                        if send.send(one).is_err() {
                            return;
                        }
                    }
                    Err(error) => tracing::error!(%error, "an end can't be told"),
                }
            }
        });
        self.subscriptions.insert(id, task.abort_handle());
    }
}

/// Carries a call out.
async fn execute<S: Service>(service: &S, call: Call, frame: Frame) -> Answer {
    let done = |result: Result<(), HostError>| match result {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Failed(error),
    };
    match call {
        Call::Start { spec, fds } => start(service, *spec, &fds, frame).await,
        Call::Stop { id, grace_ms } => {
            done(service.stop(&id, Duration::from_millis(grace_ms)).await)
        }
        Call::List => Answer::Guests(service.list()),
        Call::Stats { id: None } => Answer::Stats(service.all_stats()),
        Call::Stats { id: Some(id) } => match service.stats(&id) {
            Ok(stats) => Answer::Stats(vec![stats]),
            Err(error) => Answer::Failed(error),
        },
        Call::SetLimits { id, limits } => done(service.set_limits(&id, &limits)),
        Call::Forget { id } => done(service.forget(&id)),
        Call::Budget => Answer::Budget(service.budget()),
        Call::Shutdown => {
            service.shutdown().await;
            Answer::Done
        }
        // They are the connection's own.
        Call::Subscribe | Call::Unsubscribe { .. } | Call::Exec { .. } | Call::Cancel { .. } => {
            Answer::Done
        }
    }
}

async fn start<S: Service>(service: &S, spec: GuestSpec, layout: &Layout, frame: Frame) -> Answer {
    if let Err(lost) = check_whole(&frame) {
        return Answer::NotStarted(lost);
    }
    let Some(fds) = layout.take(frame.fds) else {
        return not_as_laid_out();
    };
    match service.start(spec, fds).await {
        Ok(started) => Answer::Started(started),
        Err(error) => Answer::NotStarted(error),
    }
}

/// Refuses a call some of whose descriptors did not come.
fn check_whole(frame: &Frame) -> Result<(), StartError> {
    if frame.complete() {
        return Ok(());
    }
    let lost = frame.announced.saturating_sub(frame.fds.len());
    Err(StartError::System {
        what: "receive the guest's descriptors".to_owned(),
        message: format!(
            "{lost} of {} were lost: the guest host has no room for more (RLIMIT_NOFILE)",
            frame.announced
        ),
    })
}

fn not_as_laid_out() -> Answer {
    Answer::NotUnderstood("the descriptors are not those that are laid out".to_owned())
}

fn send_answer(
    send: &mpsc::UnboundedSender<Outgoing>,
    id: u64,
    answer: &Answer,
    permit: OwnedSemaphorePermit,
) {
    let told = Told::answer(id, answer).map_err(FrameError::Body);
    let one = told.and_then(|told| outgoing(&told)).or_else(|error| {
        let answer = Answer::NotUnderstood(format!("the answer can't be sent: {error}"));
        outgoing(&Told::answer(id, &answer).map_err(FrameError::Body)?)
    });
    match one {
        // A peer that is gone is told nothing.
        Ok(one) => drop(send.send(Outgoing {
            permit: Some(permit),
            ..one
        })),
        Err(error) => tracing::error!(%error, "an answer can't be sent"),
    }
}

fn outgoing<T: serde::Serialize>(message: &T) -> Result<Outgoing, FrameError> {
    Ok(Outgoing {
        bytes: frame::encode(message, 0)?,
        fds: Vec::new(),
        permit: None,
    })
}
