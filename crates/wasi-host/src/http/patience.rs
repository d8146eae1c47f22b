//! A bound on how long something may stand still, with no timer while it does not.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

/// See the module. It begins anew with each [`Patience::moved`].
pub struct Patience {
    bound: Duration,
    /// Set while it is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// `bound` is how long it may stand still.
    pub fn new(bound: Duration) -> Patience {
        Patience {
            bound,
            waiting: None,
        }
    }

    /// How long it may stand still.
    pub fn bound(&self) -> Duration {
        self.bound
    }

    /// Ready when it has stood still for too long. To be called within a tokio runtime.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let bound = self.bound;
        self.waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(bound)))
            .as_mut()
            .poll(cx)
    }

    /// It has moved.
    pub fn moved(&mut self) {
        self.waiting = None;
    }
}
