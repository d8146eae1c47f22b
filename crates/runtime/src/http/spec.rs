//! What is asked of a server: how long, and how many.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a `wasi:http` component is served. Its listeners are those of
/// [`GuestFds`](crate::GuestFds).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpSpec {
    /// How long a request may wait for the head of its answer, milliseconds: 504 past it. The
    /// time that it queues counts: 503 past it.
    pub request_timeout_ms: u64,
    /// How long a connection without a request is kept, milliseconds.
    pub idle_timeout_ms: u64,
    /// How long the head of a request may take to arrive, milliseconds.
    pub header_timeout_ms: u64,
    /// How long either side of a body may stand still, milliseconds: then its request is ended.
    pub body_timeout_ms: u64,
    /// How many requests are handled at once, each by an instance of its own.
    pub max_concurrent: u32,
    /// How many more may wait for their turn; past that they are answered with 503 at once.
    pub max_queued: u32,
    /// How many connections there may be; past that they wait in the kernel's backlog.
    pub max_connections: u32,
}

impl Default for HttpSpec {
    fn default() -> HttpSpec {
        HttpSpec {
            request_timeout_ms: 60_000,
            idle_timeout_ms: 60_000,
            header_timeout_ms: 10_000,
            body_timeout_ms: 60_000,
            max_concurrent: 128,
            max_queued: 256,
            max_connections: 1024,
        }
    }
}

impl HttpSpec {
    /// Which field can't be as it is, its value, and why.
    pub(crate) fn problem(&self) -> Option<(&'static str, u64, &'static str)> {
        let zero = "nothing could be served: give at least 1";
        [
            ("http.requestTimeoutMs", self.request_timeout_ms),
            ("http.idleTimeoutMs", self.idle_timeout_ms),
            ("http.headerTimeoutMs", self.header_timeout_ms),
            ("http.bodyTimeoutMs", self.body_timeout_ms),
            ("http.maxConcurrent", self.max_concurrent.into()),
            ("http.maxConnections", self.max_connections.into()),
        ]
        .into_iter()
        .find(|(_, value)| *value == 0)
        .map(|(field, value)| (field, value, zero))
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }
}
