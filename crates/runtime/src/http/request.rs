//! A request: let in, handed to an instance of its own, answered, or told why not.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;
use wasmtime::PoolConcurrencyLimitError;

use super::activity::Busy;
use super::body::{BreaksOff, GuestBody, RequestBody, ResponseBody};
use super::instance::{Instance, Named};
use super::proxy::Answer;
use super::server::{Connection, Shared};

/// When one that was turned away may come again, seconds.
const RETRY_AFTER: &str = "1";

/// What the host holds of one request beside its instance: pieces of both bodies, and heads.
const BUFFERS: u64 = 128 << 10;

const FULL: &str = "too many requests are being answered; come again";
const NO_ANSWER: &str = "no answer came in time";
const FAILED: &str = "the request could not be answered; the container's log says why";

/// Answers a request.
///
/// # Errors
/// The container is over: the connection ends without an answer.
pub(super) async fn handle(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, BreaksOff> {
    let busy = connection.activity.begin(request.version());
    let shared = &connection.shared;
    let deadline = Instant::now() + shared.spec.request_timeout();
    let named = Named {
        method: request.method().clone(),
        uri: request.uri().clone(),
    };
    let request = match ready(&connection, request) {
        Ok(request) => request,
        Err((status, text)) => return Ok(told(status, text, busy)),
    };
    let Some(permit) = shared.admission.enter(deadline).await else {
        return Ok(turned_away(busy));
    };
    let Some(buffers) = shared.container.memory.hold(BUFFERS) else {
        return Ok(turned_away(busy));
    };
    let (mut instance, mut answered) = Instance::new(shared, request, named, (permit, buffers));
    let answer = tokio::select! {
        biased;
        ended = std::future::poll_fn(|cx| instance.poll(cx)) => match ended {
            Ok(()) => answered.try_recv().ok(),
            // What it answered before it failed is not worth more than that it failed.
            Err(error) => return failed(shared, &instance, &error, busy),
        },
        answer = &mut answered => answer.ok(),
        () = tokio::time::sleep_until(deadline) => {
            let bound = shared.spec.request_timeout();
            instance.abandon(&format!("it gave no answer within {bound:?} and was ended"));
            return Ok(told(StatusCode::GATEWAY_TIMEOUT, NO_ANSWER, busy));
        }
    };
    Ok(answer_of(shared, answer, instance, busy))
}

/// A request as an instance takes it; or what is wrong with it.
fn ready(
    connection: &Connection,
    request: Request<Incoming>,
) -> Result<Request<RequestBody>, (StatusCode, &'static str)> {
    if *request.method() == Method::CONNECT {
        let text = "CONNECT is for proxies, and this is a server";
        return Err((StatusCode::NOT_IMPLEMENTED, text));
    }
    let bound = connection.shared.spec.body_timeout();
    let mut request = request.map(|incoming| RequestBody::new(incoming, bound));
    if request.uri().authority().is_some() {
        return Ok(request);
    }
    let has_host = match request.headers().get(header::HOST) {
        Some(host) if host.to_str().is_ok() => true,
        Some(_) => return Err((StatusCode::BAD_REQUEST, "the host's name is not ASCII")),
        None => false,
    };
    // Only HTTP/1.1 has to name the host (RFC 9112, 3.2).
    match (has_host, request.version()) {
        (true, _) => {}
        (false, Version::HTTP_11) => {
            return Err((StatusCode::BAD_REQUEST, "the request names no host"));
        }
        (false, _) => {
            let here = HeaderValue::from_str(&connection.local.to_string());
            let here = here.map_err(|_| (StatusCode::BAD_REQUEST, "the request names no host"))?;
            request.headers_mut().insert(header::HOST, here);
        }
    }
    Ok(request)
}

fn answer_of(
    shared: &Arc<Shared>,
    answer: Option<Answer>,
    mut instance: Instance,
    busy: Busy,
) -> Response<ResponseBody> {
    let why = match answer {
        Some(Ok(response)) => {
            return response.map(|body| {
                let bound = shared.spec.body_timeout();
                ResponseBody::Guest(Box::new(GuestBody::new(body, instance, bound, busy)))
            });
        }
        Some(Err(code)) => format!("it answered with an error: {code}"),
        None => "it ended without an answer".to_owned(),
    };
    instance.abandon(&why);
    told(StatusCode::INTERNAL_SERVER_ERROR, FAILED, busy)
}

/// An instance that ended with an error before it answered.
fn failed(
    shared: &Arc<Shared>,
    instance: &Instance,
    error: &wasmtime::Error,
    busy: Busy,
) -> Result<Response<ResponseBody>, BreaksOff> {
    if shared.container.memory.over().is_some() {
        return Err(BreaksOff);
    }
    // The instances of others have taken the pool.
    if error.is::<PoolConcurrencyLimitError>() {
        tracing::warn!(guest = %shared.name, %error, "the pool of instances is used up");
        return Ok(turned_away(busy));
    }
    shared.report_end(instance.request(), error);
    Ok(told(StatusCode::INTERNAL_SERVER_ERROR, FAILED, busy))
}

fn turned_away(busy: Busy) -> Response<ResponseBody> {
    let mut response = told(StatusCode::SERVICE_UNAVAILABLE, FULL, busy);
    let after = HeaderValue::from_static(RETRY_AFTER);
    response.headers_mut().insert(header::RETRY_AFTER, after);
    response
}

/// A sentence of the host's own.
fn told(status: StatusCode, text: &'static str, busy: Busy) -> Response<ResponseBody> {
    let line = Bytes::from(format!("{text}\n"));
    let mut response = Response::new(ResponseBody::Host {
        body: Full::new(line),
        _busy: busy,
    });
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
