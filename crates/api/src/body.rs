//! What an answer is made of, and that it counts as being answered until its last byte has gone.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};

/// An answer's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A text.
pub(crate) fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    with(code, TEXT, full(text.into()))
}

/// JSON that has been written already.
pub(crate) fn json(text: Vec<u8>) -> Response<Body> {
    with(StatusCode::OK, JSON, full(text.into()))
}

/// Text that comes piece by piece.
pub(crate) fn stream(
    pieces: impl futures::Stream<Item = io::Result<Frame<Bytes>>> + Send + 'static,
) -> Response<Body> {
    with(StatusCode::OK, TEXT, StreamBody::new(pieces).boxed_unsync())
}

/// The path is there, but only for this method.
pub(crate) fn only(method: &'static str) -> Response<Body> {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
    let headers = answer.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(method));
    answer
}

/// Who has no name is not kept, either: of HTTP/1.1 only, HTTP/2 has no such header.
pub(crate) fn unauthorized(version: http::Version) -> Response<Body> {
    let mut answer = text(StatusCode::UNAUTHORIZED, "Unauthorized");
    if version <= http::Version::HTTP_11 {
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn with(code: StatusCode, kind: HeaderValue, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// How many requests of a connection are being answered, and how many have been.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    begun: AtomicUsize,
    done: AtomicUsize,
}

impl Activity {
    /// One more, until what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Answering {
        self.begun.fetch_add(1, Ordering::AcqRel);
        Answering(Arc::clone(self))
    }

    /// How many have begun, if all of them are done.
    pub(crate) fn rests(&self) -> Option<usize> {
        let done = self.done.load(Ordering::Acquire);
        (self.begun.load(Ordering::Acquire) == done).then_some(done)
    }
}

/// A request that is being answered.
pub(crate) struct Answering(Arc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.done.fetch_add(1, Ordering::AcqRel);
    }
}

/// A body with something that lives as long.
pub(crate) struct Held<T> {
    body: Body,
    _held: T,
}

impl<T> Held<T> {
    pub(crate) fn new(body: Body, held: T) -> Held<T> {
        Held { body, _held: held }
    }
}

impl<T: Unpin> http_body::Body for Held<T> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
