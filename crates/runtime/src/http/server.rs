//! A container that serves: its listeners, its connections, and how it comes to its end.
//!
//! All of it runs on the guests' runtime, and what it costs is the container's: a connection is
//! parsed in a turn of the container, and the instances that it asks for run in the same turn.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasi_host::P2Shared;
use wasi_host::stdio::OutSink;

use super::HttpSpec;
use super::activity::{Activity, Expired};
use super::admission::Admission;
use super::instance::Named;
use super::io::Io;
use super::proxy::Proxy;
use super::request;
use crate::budget::Hold;
use crate::container::Container;
use crate::program::Program;
use crate::stdio::write_all;
use crate::ticker::Ticker;
use crate::trap::Ending;
use crate::turn::Charged;

/// The most bytes of a request's head, and of what is read ahead of it.
const HEAD: usize = 64 << 10;

/// The most requests at once on one connection of HTTP/2.
const STREAMS: u32 = 100;

/// What is held of a connection, bytes: what is read ahead and not yet written, as a rule.
const CONNECTION: u64 = 16 << 10;

/// How long a connection that is to close may take to say so.
const FAREWELL: Duration = Duration::from_secs(1);

/// Before a listener that failed is tried again: for want of descriptors, as a rule.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a report may wait for who reads the container's standard error.
const REPORT: Duration = Duration::from_secs(2);

/// What everything of one server shares.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) spec: HttpSpec,
    pub(crate) proxy: Proxy,
    pub(crate) worlds: P2Shared,
    pub(crate) container: Arc<Container>,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) stderr: Arc<dyn OutSink>,
    /// What is loaded, so that others who run it find it.
    _program: Arc<Program>,
    pub(super) admission: Admission,
    connections: Arc<Semaphore>,
    /// Connections, and their requests.
    serving: TaskTracker,
    /// What is still done once an answer is complete.
    beside: TaskTracker,
    draining: CancellationToken,
    killed: CancellationToken,
}

/// What a server is made of.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) spec: HttpSpec,
    pub(crate) proxy: Proxy,
    pub(crate) worlds: P2Shared,
    pub(crate) container: Arc<Container>,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) stderr: Arc<dyn OutSink>,
    pub(crate) program: Arc<Program>,
}

/// A server, to be run once.
pub(crate) struct Server {
    shared: Arc<Shared>,
    listeners: Vec<TcpListener>,
}

/// Ends a server that somebody runs.
#[derive(Clone)]
pub(crate) struct Stopper(Arc<Shared>);

/// One client's connection.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) activity: Arc<Activity>,
    /// Where the client found us.
    pub(super) local: SocketAddr,
}

impl Server {
    pub(crate) fn new(parts: Parts, listeners: Vec<TcpListener>) -> Server {
        let most = usize::try_from(parts.spec.max_connections).unwrap_or(Semaphore::MAX_PERMITS);
        let shared = Shared {
            admission: Admission::new(parts.spec.max_concurrent, parts.spec.max_queued),
            connections: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            serving: TaskTracker::new(),
            beside: TaskTracker::new(),
            draining: CancellationToken::new(),
            killed: CancellationToken::new(),
            name: parts.name,
            spec: parts.spec,
            proxy: parts.proxy,
            worlds: parts.worlds,
            container: parts.container,
            ticker: parts.ticker,
            stderr: parts.stderr,
            _program: parts.program,
        };
        Server {
            shared: Arc::new(shared),
            listeners,
        }
    }

    pub(crate) fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.shared))
    }

    /// Serves until it is drained.
    pub(crate) async fn run(self) -> Ending {
        let shared = self.shared;
        let accepting = self
            .listeners
            .into_iter()
            .map(|listener| accept(Arc::clone(&shared), listener));
        futures::future::join_all(accepting).await;
        shared.serving.close();
        shared.serving.wait().await;
        shared.beside.close();
        shared.beside.wait().await;
        Ending::exited(0)
    }
}

impl Stopper {
    /// No new connections and no new requests; those that are being answered go on.
    pub(crate) fn drain(&self) {
        self.0.draining.cancel();
    }

    /// Ends everything, and resolves when nothing is left.
    pub(crate) async fn kill(&self) {
        self.0.draining.cancel();
        self.0.killed.cancel();
        for tasks in [&self.0.serving, &self.0.beside] {
            tasks.close();
            tasks.wait().await;
        }
    }
}

impl Shared {
    /// Does something on the container's account, until it is killed.
    fn spawn(&self, tasks: &TaskTracker, work: impl Future<Output = ()> + Send + 'static) {
        let charged = Charged::new(
            Arc::clone(&self.container),
            Arc::clone(&self.ticker),
            Box::pin(work),
        );
        tasks.spawn(self.killed.clone().run_until_cancelled_owned(charged));
    }

    /// Does something that no client waits for.
    pub(super) fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.spawn(&self.beside, work);
    }

    /// Writes what befell a request into the container's log.
    pub(super) fn report(&self, request: &Named, what: &str) {
        let text = format!("coracle: {}: {request}: {}\n", self.name, what.trim_end());
        let stderr = Arc::clone(&self.stderr);
        self.beside(async move {
            let wrote = tokio::time::timeout(REPORT, write_all(&*stderr, text.as_bytes())).await;
            if !matches!(wrote, Ok(Ok(()))) {
                tracing::warn!(text, "the report of a request could not be written");
            }
        });
    }

    /// Writes how an instance failed. An end of the whole container is told by that.
    pub(super) fn report_end(&self, request: &Named, error: &wasmtime::Error) {
        if self.container.memory.over().is_some() {
            return;
        }
        match error.downcast_ref::<wasi_host::Exit>() {
            Some(exit) => self.report(request, &exit.to_string()),
            None => self.report(request, &Ending::trapped(error).report),
        }
    }
}

/// Takes connections until the server drains.
async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = async {
            let permit = Arc::clone(&shared.connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = shared.draining.cancelled() => return,
            accepted = accepted => accepted,
        };
        match (permit, accepted) {
            (Ok(permit), Ok((stream, _))) => open(&shared, stream, permit),
            (_, Err(error)) => {
                tracing::warn!(guest = %shared.name, %error, "a connection can't be accepted");
                tokio::time::sleep(PAUSE).await;
            }
            // Nobody closes it.
            (Err(_), _) => return,
        }
    }
}

fn open(shared: &Arc<Shared>, stream: TcpStream, permit: OwnedSemaphorePermit) {
    // One more than the container has room for is closed, and no reason to end it.
    let Some(buffers) = shared.container.memory.hold(CONNECTION) else {
        return;
    };
    // One that is gone already.
    let Ok(local) = stream.local_addr() else {
        return;
    };
    // An answer is not to wait for the acknowledgement of the one before; without it it does.
    let _ = stream.set_nodelay(true);
    let connection = Arc::new(Connection {
        shared: Arc::clone(shared),
        activity: Activity::new(),
        local,
    });
    shared.spawn(
        &shared.serving,
        serve(connection, stream, (permit, buffers)),
    );
}

/// Serves one connection to its end.
async fn serve(
    connection: Arc<Connection>,
    stream: TcpStream,
    _held: (OwnedSemaphorePermit, Hold),
) {
    let shared = &connection.shared;
    let activity = &connection.activity;
    let io = Io::new(stream, Arc::clone(activity), shared.spec.body_timeout());
    let service = service_fn(|request| request::handle(Arc::clone(&connection), request));
    let builder = builder(shared);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut expired =
        pin!(activity.expired(shared.spec.idle_timeout(), shared.spec.header_timeout()));
    let mut farewell = pin!(tokio::time::sleep(FAREWELL));
    let (mut is_draining, mut is_leaving) = (false, false);
    loop {
        tokio::select! {
            biased;
            // What it failed with the client knows: it left, or broke HTTP's rules.
            _ = serving.as_mut() => return,
            () = shared.draining.cancelled(), if !is_draining => {
                is_draining = true;
                serving.as_mut().graceful_shutdown();
            }
            why = expired.as_mut(), if !is_leaving => {
                if why == Expired::Head {
                    return;
                }
                is_leaving = true;
                serving.as_mut().graceful_shutdown();
                farewell.as_mut().reset(tokio::time::Instant::now() + FAREWELL);
            }
            () = farewell.as_mut(), if is_leaving => {
                // A request came in while it was told.
                if !activity.is_busy() {
                    return;
                }
                farewell.as_mut().reset(tokio::time::Instant::now() + FAREWELL);
            }
        }
    }
}

fn builder(shared: &Arc<Shared>) -> Builder<Tasks> {
    let mut builder = Builder::new(Tasks(Arc::clone(shared)));
    builder
        .http1()
        // Ours are at hand for HTTP/2 as well, and before the version is known.
        .header_read_timeout(None)
        .max_buf_size(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD).unwrap_or(u32::MAX))
        .max_send_buf_size(HEAD)
        .keep_alive_interval(shared.spec.idle_timeout())
        .keep_alive_timeout(shared.spec.header_timeout());
    builder
}

/// Where hyper runs the requests of HTTP/2.
#[derive(Clone)]
struct Tasks(Arc<Shared>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, request: F) {
        self.0.spawn(&self.0.serving, request);
    }
}
