//! One request: dialled, sent, and answered.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::body::Answer;
use super::dial::{Stream, Target, dial};
use super::{Client, error};

/// How long each step may take where the guest does not say.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a connection may take where the guest does not say: the kernel gives up after two
/// minutes.
const CONNECT: Duration = Duration::from_secs(60);

/// What goes on beside a body that is read: the connection. Dropping it closes that.
pub(crate) type Connection = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// Makes a request.
///
/// # Errors
/// Its destination is not allowed or can't be reached, or no answer comes in time.
pub(crate) async fn send(
    client: Arc<Client>,
    request: Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Result<(Response<WasiBody>, Connection), Error> {
    let options = options.unwrap_or_default();
    let target = Target::of(request.uri())?;
    if !client.rules.allow(&target.host, target.port) {
        return Err(Error::HttpRequestDenied);
    }
    let permit = Arc::clone(&client.permits).acquire_owned().await;
    // Nobody closes it.
    let permit = permit.map_err(|_| Error::ConnectionLimitReached)?;
    let connecting = async {
        let stream = dial(&client, &target).await?;
        Sender::handshake(stream).await
    };
    let within = options.connect_timeout.unwrap_or(CONNECT);
    let connected = tokio::time::timeout(within, connecting).await;
    let (sender, connection) = connected.map_err(|_| Error::ConnectionTimeout)??;
    let within = options.first_byte_timeout.unwrap_or(PATIENCE);
    let answered = tokio::time::timeout(within, sender.send(request)).await;
    let response = answered.map_err(|_| Error::HttpResponseTimeout)??;
    let between_bytes = options.between_bytes_timeout.unwrap_or(PATIENCE);
    let charge = client.charge.clone();
    let response = response
        .map(|incoming| Answer::new(incoming, between_bytes, charge, permit).boxed_unsync());
    let connection: Connection = Box::new(async move {
        connection.await;
        Ok(())
    });
    Ok((response, connection))
}

/// A connection that takes one request.
enum Sender {
    One(http1::SendRequest<WasiBody>),
    Two(http2::SendRequest<WasiBody>),
}

impl Sender {
    /// Begins HTTP on a connection, which goes on in a task for as long as the handle is held.
    async fn handshake(stream: Stream) -> Result<(Sender, AbortOnDropJoinHandle<()>), Error> {
        let is_h2 = stream.is_h2();
        let io = TokioIo::new(stream);
        // What a connection fails with, whoever uses it is told.
        if is_h2 {
            let begun = http2::handshake(TokioExecutor::new(), io).await;
            let (sender, connection) = begun.map_err(|e| error::exchanging(&e))?;
            let connection = spawn(async move { drop(connection.await) });
            return Ok((Sender::Two(sender), connection));
        }
        let begun = http1::handshake(io).await;
        let (sender, connection) = begun.map_err(|e| error::exchanging(&e))?;
        let connection = spawn(async move { drop(connection.await) });
        Ok((Sender::One(sender), connection))
    }

    async fn send(self, request: Request<WasiBody>) -> Result<Response<Incoming>, Error> {
        let sent = match self {
            Sender::One(mut sender) => sender.send_request(origin_form(request)?).await,
            Sender::Two(mut sender) => sender.send_request(without_host(request)).await,
        };
        sent.map_err(|e| error::exchanging(&e))
    }
}

/// HTTP/1.1 says the host in a header, and only the path in the first line (RFC 9112, 3.2.1).
fn origin_form(mut request: Request<WasiBody>) -> Result<Request<WasiBody>, Error> {
    if !request.headers().contains_key(header::HOST) {
        let authority = request.uri().authority().map_or("", |a| a.as_str());
        let host = HeaderValue::from_str(authority).map_err(|_| Error::HttpRequestUriInvalid)?;
        request.headers_mut().insert(header::HOST, host);
    }
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| match path.as_str() {
            "" => "/",
            path => path,
        });
    *request.uri_mut() = Uri::builder()
        .path_and_query(path)
        .build()
        .map_err(|_| Error::HttpRequestUriInvalid)?;
    Ok(request)
}

/// HTTP/2 says the host in `:authority` (RFC 9113, 8.3.1).
fn without_host(mut request: Request<WasiBody>) -> Request<WasiBody> {
    request.headers_mut().remove(header::HOST);
    *request.version_mut() = http::Version::HTTP_2;
    request
}
