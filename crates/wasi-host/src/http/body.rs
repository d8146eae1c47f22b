//! The body of an answer, as a guest reads it: with a bound on how long it may stand still, and
//! charged for what of it is in the host.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi_http::Error;

use super::{Patience, error};
use crate::Charge;
use crate::held::Held;

/// See the module.
pub(super) struct Answer {
    incoming: Incoming,
    patience: Patience,
    charge: Charge,
    /// For the piece that was given last.
    held: Option<Held>,
    _permit: OwnedSemaphorePermit,
}

impl Answer {
    pub(super) fn new(
        incoming: Incoming,
        between_bytes: Duration,
        charge: Charge,
        permit: OwnedSemaphorePermit,
    ) -> Answer {
        Answer {
            incoming,
            patience: Patience::new(between_bytes),
            charge,
            held: None,
            _permit: permit,
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let answer = self.get_mut();
        answer.held = None;
        let Poll::Ready(frame) = Pin::new(&mut answer.incoming).poll_frame(cx) else {
            ready!(answer.patience.poll_over(cx));
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        };
        answer.patience.moved();
        let Some(frame) = frame else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(|e| error::exchanging(&e))?;
        if let Some(bytes) = frame.data_ref() {
            let held = answer.charge.hold(bytes.len(), "the body of an answer");
            // The guest is about to be ended.
            let held = held.map_err(|errno| Error::InternalError(Some(errno.to_string())))?;
            answer.held = Some(held);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
