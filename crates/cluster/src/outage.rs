//! Says once that the API server is away and once that it is back, however many calls meet it.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::CallError;

/// One per client.
#[derive(Debug)]
pub(crate) struct Outage {
    what: &'static str,
    since: Mutex<Option<Instant>>,
}

impl Outage {
    /// `what` is waiting, as a log line says it: "status patches".
    pub(crate) fn of(what: &'static str) -> Outage {
        Outage {
            what,
            since: Mutex::new(None),
        }
    }

    /// Notes a failed call. Says so if it is the first of an outage.
    pub(crate) fn failed(&self, error: &CallError) {
        if !error.kind().is_outage() {
            return;
        }
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() {
            *since = Some(Instant::now());
            tracing::warn!(
                "{}: the API server is away, tried again until it answers: {error}",
                self.what
            );
        }
    }

    /// Notes an answer.
    pub(crate) fn answered(&self) {
        let since = self
            .since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(since) = since {
            tracing::info!(
                "{}: the API server is back after {:.1} s",
                self.what,
                since.elapsed().as_secs_f64()
            );
        }
    }
}
