//! The agent's side of the protocol: a guest host in another process.
//!
//! It must not know how guests are run, nor what the agent makes of what it is told.

mod exec;
mod spawn;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::events::Events;
use crate::protocol::frame::{self, FrameError};
use crate::protocol::message::{Answer, Call, Hello, Layout, Request, Told};
use crate::protocol::stream::{self, Outgoing, Reader, write_all};
use crate::spec::{
    Exited, GuestFds, GuestId, GuestSpec, GuestState, HostBudget, HostError, Limits, StartError,
    Started, Stats,
};

pub use self::spawn::RemoteError;

/// How long a guest host may take to greet.
const PATIENCE: Duration = Duration::from_secs(10);

/// A guest host in another process. Clones share one connection; the guests outlive it.
///
/// When the process dies every call fails with `Gone` and every stream of events ends: there is
/// nothing to come back to, and [`Remote::spawn_or_adopt`] makes another.
#[derive(Clone)]
pub struct Remote(Arc<Client>);

struct Client {
    send: mpsc::UnboundedSender<Outgoing>,
    shared: Arc<Shared>,
    next: AtomicU64,
    theirs: Hello,
    adopted: bool,
    task: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the connection's task and the callers share.
struct Shared {
    waiting: Mutex<Waiting>,
    /// Why the guest host is gone, once it is.
    gone: watch::Sender<Option<String>>,
}

#[derive(Default)]
struct Waiting {
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    events: HashMap<u64, mpsc::UnboundedSender<Exited>>,
}

impl Shared {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, reason: String) {
        tracing::warn!(reason, "the guest host is gone");
        self.gone.send_replace(Some(reason));
        // Whoever waits sees the end of its channel and asks why.
        *self.waiting() = Waiting::default();
    }

    fn reason(&self) -> String {
        let reason = self.gone.borrow().clone();
        reason.unwrap_or_else(|| "the connection has ended".to_owned())
    }
}

impl Remote {
    /// Greets a guest host over a connection to it.
    async fn greet(socket: UnixStream, adopted: bool) -> Result<Remote, RemoteError> {
        let ours = Hello::ours();
        let socket = Arc::new(socket);
        let mut reader = Reader::new(Arc::clone(&socket));
        let greeting = async {
            stream::write(&socket, &frame::encode(&ours, 0)?, &[]).await?;
            match reader.frame().await? {
                Some(frame) => frame.message::<Hello>(),
                None => Err(FrameError::Cut { received: 0 }),
            }
        };
        let greeting = tokio::time::timeout(PATIENCE, greeting).await;
        let theirs = greeting
            .map_err(|_| RemoteError::Silent(PATIENCE))?
            .map_err(|error| RemoteError::Greeting(error.to_string()))?;
        if ours.agree(&theirs).is_none() {
            return Err(RemoteError::Version {
                pid: theirs.pid,
                theirs: describe(&theirs),
                ours: describe(&ours),
            });
        }
        let (send, outgoing) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            gone: watch::Sender::new(None),
        });
        let pid = theirs.pid;
        let task = tokio::spawn(converse(socket, reader, outgoing, Arc::clone(&shared), pid));
        Ok(Remote(Arc::new(Client {
            send,
            shared,
            next: AtomicU64::new(1),
            theirs,
            adopted,
            task,
        })))
    }

    /// The guest host's process.
    pub fn pid(&self) -> u32 {
        self.0.theirs.pid
    }

    /// A number that no other guest host has, also not one that has this one's pid later.
    pub fn instance(&self) -> u64 {
        self.0.theirs.instance
    }

    /// True if it was found running, so that it may have guests.
    pub fn adopted(&self) -> bool {
        self.0.adopted
    }

    /// Resolves when the guest host is gone, and says what was seen of it.
    pub async fn gone(&self) -> String {
        let mut gone = self.0.shared.gone.subscribe();
        // The sender lives as long as we do.
        let _ = gone.wait_for(Option::is_some).await;
        self.0.shared.reason()
    }

    /// See [`Host::start`](crate::Host::start).
    pub async fn start(&self, spec: GuestSpec, fds: GuestFds) -> Result<Started, StartError> {
        let (layout, fds) = Layout::of(fds);
        let most = crate::protocol::descriptors::MAX_DESCRIPTORS;
        if fds.len() > most {
            return Err(StartError::Invalid {
                field: "mounts and listeners".to_owned(),
                value: fds.len().to_string(),
                problem: format!("a guest can be given {most} descriptors in all: use fewer"),
            });
        }
        let call = Call::Start {
            spec: Box::new(spec),
            fds: layout,
        };
        match self.call(&call, fds).await {
            Ok(Answer::Started(started)) => Ok(started),
            Ok(Answer::NotStarted(error)) => Err(error),
            Ok(other) => Err(StartError::Gone {
                message: unexpected(&other),
            }),
            Err(error) => Err(StartError::Gone {
                message: gone_reason(error),
            }),
        }
    }

    /// See [`Host::stop`](crate::Host::stop).
    pub async fn stop(&self, id: &GuestId, grace: Duration) -> Result<(), HostError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let id = id.clone();
        done(self.call(&Call::Stop { id, grace_ms }, vec![]).await?)
    }

    /// See [`Host::list`](crate::Host::list).
    pub async fn list(&self) -> Result<Vec<GuestState>, HostError> {
        match self.call(&Call::List, vec![]).await? {
            Answer::Guests(guests) => Ok(guests),
            other => Err(refused(other)),
        }
    }

    /// See [`Host::events`](crate::Host::events).
    pub fn events(&self) -> Events {
        self.unsubscribe_dropped();
        let (sender, events) = Events::channel();
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.shared.waiting().events.insert(id, sender);
        // If it is gone by now, or can't be asked, the stream ends.
        if self.post(id, &Call::Subscribe, vec![]).is_err() {
            self.0.shared.waiting().events.remove(&id);
        }
        events
    }

    /// Ends the subscriptions whose streams nobody has any more.
    fn unsubscribe_dropped(&self) {
        let mut waiting = self.0.shared.waiting();
        let dropped: Vec<u64> = waiting
            .events
            .extract_if(|_, stream| stream.is_closed())
            .map(|(id, _)| id)
            .collect();
        drop(waiting);
        for subscription in dropped {
            let id = self.0.next.fetch_add(1, Ordering::Relaxed);
            // If it can't be asked there is nothing left to end.
            let _ = self.post(id, &Call::Unsubscribe { subscription }, vec![]);
        }
    }

    /// See [`Host::stats`](crate::Host::stats).
    pub async fn stats(&self, id: &GuestId) -> Result<Stats, HostError> {
        let call = Call::Stats {
            id: Some(id.clone()),
        };
        match self.call(&call, vec![]).await? {
            Answer::Stats(stats) => stats
                .into_iter()
                .next()
                .ok_or_else(|| HostError::Unknown(id.clone())),
            other => Err(refused(other)),
        }
    }

    /// See [`Host::all_stats`](crate::Host::all_stats).
    pub async fn all_stats(&self) -> Result<Vec<Stats>, HostError> {
        match self.call(&Call::Stats { id: None }, vec![]).await? {
            Answer::Stats(stats) => Ok(stats),
            other => Err(refused(other)),
        }
    }

    /// See [`Host::set_limits`](crate::Host::set_limits).
    pub async fn set_limits(&self, id: &GuestId, limits: &Limits) -> Result<(), HostError> {
        let call = Call::SetLimits {
            id: id.clone(),
            limits: limits.clone(),
        };
        done(self.call(&call, vec![]).await?)
    }

    /// See [`Host::forget`](crate::Host::forget).
    pub async fn forget(&self, id: &GuestId) -> Result<(), HostError> {
        done(self.call(&Call::Forget { id: id.clone() }, vec![]).await?)
    }

    /// See [`Host::budget`](crate::Host::budget).
    pub async fn budget(&self) -> Result<HostBudget, HostError> {
        match self.call(&Call::Budget, vec![]).await? {
            Answer::Budget(budget) => Ok(budget),
            other => Err(refused(other)),
        }
    }

    /// See [`Host::shutdown`](crate::Host::shutdown).
    pub async fn shutdown(&self) -> Result<(), HostError> {
        done(self.call(&Call::Shutdown, vec![]).await?)
    }

    /// Sends a call and waits for its answer.
    async fn call(&self, call: &Call, fds: Vec<OwnedFd>) -> Result<Answer, HostError> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.call_as(id, call, fds).await
    }

    /// As [`Remote::call`], under an id that was taken before.
    async fn call_as(&self, id: u64, call: &Call, fds: Vec<OwnedFd>) -> Result<Answer, HostError> {
        let (sender, answer) = oneshot::channel();
        self.0.shared.waiting().answers.insert(id, sender);
        let _forget = Forget(&self.0.shared, id);
        self.post(id, call, fds)?;
        answer
            .await
            .map_err(|_| HostError::Gone(self.0.shared.reason()))
    }

    fn post(&self, id: u64, call: &Call, fds: Vec<OwnedFd>) -> Result<(), HostError> {
        let shared = &self.0.shared;
        let unsendable = |error: &dyn std::fmt::Display| {
            HostError::Gone(format!("the call can't be sent: {error}"))
        };
        let call = serde_json::to_value(call).map_err(|error| unsendable(&error))?;
        let bytes =
            frame::encode(&Request { id, call }, fds.len()).map_err(|error| unsendable(&error))?;
        let outgoing = Outgoing {
            bytes,
            fds,
            permit: None,
        };
        let sent = self.0.send.send(outgoing);
        match sent.is_ok() && shared.gone.borrow().is_none() {
            true => Ok(()),
            false => Err(HostError::Gone(shared.reason())),
        }
    }
}

/// Takes a call's place away when nobody waits for its answer any more.
struct Forget<'a>(&'a Shared, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.waiting().answers.remove(&self.1);
    }
}

/// Reads and writes until the guest host is gone.
async fn converse(
    socket: Arc<UnixStream>,
    reader: Reader,
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
    shared: Arc<Shared>,
    pid: u32,
) {
    let reason = tokio::select! {
        read = read(reader, &shared) => match read {
            Ok(()) => format!("process {pid} closed the connection"),
            Err(error) => format!("process {pid}: {error}"),
        },
        Err(error) = write_all(&socket, outgoing) => format!("process {pid}: {error}"),
    };
    shared.fail(reason);
}

async fn read(mut reader: Reader, shared: &Shared) -> Result<(), FrameError> {
    while let Some(frame) = reader.frame().await? {
        let told: Told = frame.message()?;
        if let Some(answer) = told.answer {
            let waiting = shared.waiting().answers.remove(&told.id);
            let answer = serde_json::from_value(answer)
                .unwrap_or_else(|error| Answer::NotUnderstood(error.to_string()));
            // Whoever asked may have left.
            let _ = waiting.map(|waiting| waiting.send(answer));
        }
        if let Some(exited) = told.exited {
            match serde_json::from_value(exited) {
                Ok(exited) => tell(shared, told.id, exited),
                Err(error) => tracing::error!(%error, "an end of a guest is not understood"),
            }
        }
    }
    Ok(())
}

/// Hands an end to its stream.
fn tell(shared: &Shared, id: u64, exited: Exited) {
    if let Some(stream) = shared.waiting().events.get(&id) {
        // One that nobody has any more is unsubscribed with the next that is made.
        let _ = stream.send(exited);
    }
}

fn done(answer: Answer) -> Result<(), HostError> {
    match answer {
        Answer::Done => Ok(()),
        other => Err(refused(other)),
    }
}

fn refused(answer: Answer) -> HostError {
    match answer {
        Answer::Failed(error) => error,
        other => HostError::Gone(unexpected(&other)),
    }
}

fn unexpected(answer: &Answer) -> String {
    match answer {
        Answer::NotUnderstood(message) => {
            format!("it did not understand the call, or its answer was not understood: {message}")
        }
        other => format!("its answer is to another question: {other:?}"),
    }
}

fn gone_reason(error: HostError) -> String {
    match error {
        HostError::Gone(reason) => reason,
        other => other.to_string(),
    }
}

fn describe(hello: &Hello) -> String {
    format!(
        "{} to {} (version {})",
        hello.oldest, hello.newest, hello.binary
    )
}
