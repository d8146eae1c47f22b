//! Listeners and connections, and what they may cost.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use rustix::net::sockopt;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::{Activity, Body, Held};
use crate::health::Health;
use crate::io::Patient;
use crate::route::Route;
use crate::service::{self, Api};
use crate::tls::{self, Serving, TlsError};

/// Before a listener that failed is tried again: for want of descriptors, as a rule.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a connection that is to close may take to say so.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long a peer may be silent on the network before it is asked whether it is there, and between such questions.
const PROBE: Duration = Duration::from_secs(30);
/// What HTTP/2 holds of a connection's requests, bytes: their bodies are not looked at.
const WINDOW: u32 = 64 << 10;

/// What clients may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections at once; the next one waits in the kernel's queue.
    pub connections: usize,
    /// The most requests at once on one connection of HTTP/2.
    pub streams: u32,
    /// The most bytes of a request's head, and of what is read ahead and not yet written of a connection.
    pub head: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long a connection may be without a request, and how long a request's head may take.
    pub idle: Duration,
    /// How long a client may take nothing of an answer (`WriteTimeout` of the kubelet: 4 h).
    pub stalled: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 4096,
            streams: 250,
            // An exec's command stands in its address.
            head: 128 << 10,
            handshake: Duration::from_secs(10),
            // As long as Go's clients keep a connection.
            idle: Duration::from_secs(90),
            stalled: Duration::from_secs(4 * 3600),
        }
    }
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Port 0 would be another one at each start, and the Node has to say which it is.
    #[error("port 0 can't be served: the cluster has to know the port")]
    Zero,
    /// Another process listens there.
    #[error("port {} of {} is in use by another process", .0.port(), .0.ip())]
    Busy(SocketAddr),
    /// The system refuses.
    #[error("can't listen on {at}")]
    Refused {
        /// Where.
        at: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Listens. Call it on the runtime that is to serve.
///
/// # Errors
/// [`BindError`].
pub async fn bind(address: IpAddr, port: u16) -> Result<TcpListener, BindError> {
    let at = SocketAddr::new(address, port);
    if port == 0 {
        return Err(BindError::Zero);
    }
    TcpListener::bind(at)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::Busy(at),
            _ => BindError::Refused { at, source },
        })
}

/// What a connection asks.
enum Answers {
    Api(Arc<Api>),
    /// Health alone, of whoever asks.
    Health(Arc<Health>),
}

struct Shared {
    answers: Answers,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    connections: Arc<Semaphore>,
    closing: CancellationToken,
    killed: CancellationToken,
    tasks: TaskTracker,
}

/// A server that runs, until this is dropped.
pub struct Handle {
    shared: Arc<Shared>,
}

/// Serves the API over TLS.
///
/// # Errors
/// [`TlsError`].
pub fn serve(
    listener: TcpListener,
    serving: Arc<Serving>,
    api: Arc<Api>,
    limits: Limits,
) -> Result<Handle, TlsError> {
    let tls = TlsAcceptor::from(tls::config(serving)?);
    let closing = api.closing.clone();
    Ok(start(
        listener,
        Answers::Api(api),
        Some(tls),
        limits,
        closing,
    ))
}

/// Serves `/healthz` and nothing else, in plain, to whoever asks: for loopback.
pub fn serve_health(listener: TcpListener, health: Arc<Health>, limits: Limits) -> Handle {
    let closing = CancellationToken::new();
    start(listener, Answers::Health(health), None, limits, closing)
}

fn start(
    listener: TcpListener,
    answers: Answers,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    closing: CancellationToken,
) -> Handle {
    let most = limits.connections.min(Semaphore::MAX_PERMITS);
    let shared = Arc::new(Shared {
        answers,
        tls,
        limits,
        connections: Arc::new(Semaphore::new(most)),
        closing,
        killed: CancellationToken::new(),
        tasks: TaskTracker::new(),
    });
    shared.tasks.spawn(accept(Arc::clone(&shared), listener));
    Handle { shared }
}

impl Handle {
    /// Takes no more connections and requests, breaks off what follows a log, and gives the rest so long.
    pub async fn stop(self, grace: Duration) {
        self.shared.closing.cancel();
        self.shared.tasks.close();
        // What is left after that is cut off when this is dropped.
        let _ = tokio::time::timeout(grace, self.shared.tasks.wait()).await;
    }

    /// How many connections there are.
    #[cfg(test)]
    pub(crate) fn connections(&self) -> usize {
        // The one task that is none takes connections.
        self.shared.tasks.len() - 1
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.closing.cancel();
        self.shared.killed.cancel();
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = async {
            let permit = Arc::clone(&shared.connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let accepted = tokio::select! {
            biased;
            () = shared.closing.cancelled() => return,
            accepted = accepted => accepted,
        };
        match accepted {
            (Ok(permit), Ok((stream, _))) => {
                let connection = connection(Arc::clone(&shared), stream, permit);
                let killed = shared.killed.clone();
                shared
                    .tasks
                    .spawn(killed.run_until_cancelled_owned(Box::pin(connection)));
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(PAUSE).await;
            }
            // Nobody closes it.
            (Err(_), _) => return,
        }
    }
}

/// Serves one connection to its end. How it ended the client knows: it left, or broke a rule.
async fn connection(shared: Arc<Shared>, stream: TcpStream, _permit: OwnedSemaphorePermit) {
    // One that refuses these is gone already.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(&stream, true);
    let _ = sockopt::set_tcp_keepidle(&stream, PROBE);
    let _ = sockopt::set_tcp_keepintvl(&stream, PROBE);
    let stream = Patient::new(stream, shared.limits.stalled);
    let Some(tls) = &shared.tls else {
        return http1(&shared, stream, Arc::default()).await;
    };
    let stream = match tokio::time::timeout(shared.limits.handshake, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "no TLS"),
        Err(_) => return tracing::debug!("no TLS in time"),
    };
    let session = stream.get_ref().1;
    let chain = session.peer_certificates().unwrap_or_default();
    let chain: Arc<[CertificateDer<'static>]> = chain.iter().cloned().collect();
    match session.alpn_protocol() {
        Some(b"h2") => http2(&shared, stream, chain).await,
        _ => http1(&shared, stream, chain).await,
    }
}

type Chain = Arc<[CertificateDer<'static>]>;

async fn http1(shared: &Arc<Shared>, io: impl Io, chain: Chain) {
    let limits = &shared.limits;
    let activity = Arc::<Activity>::default();
    let answer = |request| {
        answer(
            Arc::clone(shared),
            Arc::clone(&activity),
            Arc::clone(&chain),
            request,
        )
    };
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // It counts from the end of the request before.
        .header_read_timeout(limits.idle)
        .max_buf_size(limits.head);
    let serving = builder.serve_connection(TokioIo::new(io), service_fn(answer));
    run(shared, serving, &activity, false).await;
}

async fn http2(shared: &Arc<Shared>, io: impl Io, chain: Chain) {
    let limits = &shared.limits;
    let activity = Arc::<Activity>::default();
    let answer = |request| {
        answer(
            Arc::clone(shared),
            Arc::clone(&activity),
            Arc::clone(&chain),
            request,
        )
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(limits.head)
        .keep_alive_interval(PROBE)
        .keep_alive_timeout(PROBE);
    let serving = builder.serve_connection(TokioIo::new(io), service_fn(answer));
    run(shared, serving, &activity, true).await;
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// Serves until the client leaves, the server closes, or, if `rests` says so, nothing has been asked for too long.
async fn run(shared: &Shared, serving: impl GracefulConnection, activity: &Activity, rests: bool) {
    let mut serving = pin!(serving);
    let idle = async {
        match rests {
            true => rested(activity, shared.limits.idle).await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        _ = serving.as_mut() => return,
        () = shared.closing.cancelled() => {}
        () = idle => {}
    }
    serving.as_mut().graceful_shutdown();
    // A client may never say that it has heard; what is being answered goes on.
    while tokio::time::timeout(FAREWELL, serving.as_mut())
        .await
        .is_err()
    {
        if activity.rests().is_some() {
            return;
        }
    }
}

/// Resolves once nothing was asked and nothing answered for so long.
async fn rested(activity: &Activity, idle: Duration) {
    let mut before = None;
    loop {
        tokio::time::sleep(idle / 2).await;
        let now = activity.rests();
        if now.is_some() && now == before {
            return;
        }
        before = now;
    }
}

async fn answer(
    shared: Arc<Shared>,
    activity: Arc<Activity>,
    chain: Chain,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let answering = activity.begin();
    let answer = match &shared.answers {
        Answers::Api(api) => api.answer(&chain, &request).await,
        Answers::Health(health) => match Route::of(request.method(), request.uri().path()) {
            Route::Health(check) => {
                service::health(health, check.as_deref(), request.uri().query())
            }
            _ => service::not_found(),
        },
    };
    Ok(answer.map(|body| Held::new(body, answering).boxed_unsync()))
}
