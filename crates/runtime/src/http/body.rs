//! Bodies on their way through: a request's to the instance, and an answer's from it.
//!
//! Nothing is made before the other side has room for it: what a client sends is read when the
//! instance asks, and the instance goes on when the client has read.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use wasi_host::Patience;
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::activity::Busy;
use super::instance::Instance;

/// What a client sends.
pub(super) struct RequestBody {
    incoming: Incoming,
    patience: Patience,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, bound: Duration) -> RequestBody {
        RequestBody {
            incoming,
            patience: Patience::new(bound),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let body = self.get_mut();
        match Pin::new(&mut body.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                body.patience.moved();
                Poll::Ready(frame.map(|frame| frame.map_err(|_| Error::ConnectionTerminated)))
            }
            Poll::Pending => {
                ready!(body.patience.poll_over(cx));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// What a client gets.
pub(super) enum ResponseBody {
    /// A sentence of the host's.
    Host { body: Full<Bytes>, _busy: Busy },
    /// What the instance makes.
    Guest(Box<GuestBody>),
}

/// The client is not told the end of what has no good one.
#[derive(Debug, thiserror::Error)]
#[error("the answer breaks off")]
pub(super) struct BreaksOff;

/// What an instance makes, and the instance, as long as it is not done.
pub(super) struct GuestBody {
    body: HyperOutgoingBody,
    instance: Instance,
    patience: Patience,
    _busy: Busy,
}

impl GuestBody {
    /// `bound` is how long it may stand still.
    pub(super) fn new(
        body: HyperOutgoingBody,
        instance: Instance,
        bound: Duration,
        busy: Busy,
    ) -> GuestBody {
        GuestBody {
            body,
            instance,
            patience: Patience::new(bound),
            _busy: busy,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BreaksOff>>> {
        self.instance.poll_on(cx);
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.patience.moved();
                Poll::Ready(Some(Ok(frame)))
            }
            // What an instance leaves when it is gone looks like a good end.
            Poll::Ready(None) if !self.instance.has_failed() => {
                self.instance.finish_beside();
                Poll::Ready(None)
            }
            Poll::Ready(_) => Poll::Ready(Some(Err(BreaksOff))),
            Poll::Pending => {
                ready!(self.patience.poll_over(cx));
                let bound = self.patience.bound();
                self.instance.abandon(&format!(
                    "its answer stood still for {bound:?} and was broken off"
                ));
                Poll::Ready(Some(Err(BreaksOff)))
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BreaksOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BreaksOff>>> {
        match self.get_mut() {
            ResponseBody::Host { body, .. } => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            ResponseBody::Guest(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Host { body, .. } => body.is_end_stream(),
            ResponseBody::Guest(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Host { body, .. } => body.size_hint(),
            ResponseBody::Guest(guest) => guest.body.size_hint(),
        }
    }
}
