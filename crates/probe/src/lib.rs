//! Asks a server whether it is well: over HTTP, TCP and gRPC, as `pkg/probe` of Kubernetes does and
//! in its words.
//!
//! Each probe has a connection of its own, which ends with it. Must not know: pods, who asks and
//! how often, and what a result changes.

mod connect;
mod grpc;
mod http_get;
mod path;
mod unverified;

use std::time::Duration;

pub use grpc::grpc;
pub use http_get::{BrokenBody, HttpGet, NoAnswer, Scheme, answers, http};

/// So much of an answer is read, bytes (`maxRespBodyLength` in `pkg/probe/http`).
pub const MOST: usize = 10 * 1024;

/// How a probe went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server is well; what it said.
    Success(String),
    /// It is well, and there is something to warn of.
    Warning(String),
    /// It is not, or does not answer; why.
    Failure(String),
}

/// Whether something listens there.
pub async fn tcp(host: &str, port: u16, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, connect::dial(host, port)).await {
        Ok(Ok(_closes)) => Outcome::Success(String::new()),
        Ok(Err(error)) => Outcome::Failure(error.to_string()),
        Err(_) => {
            let at = connect::authority(host, port);
            Outcome::Failure(format!("dial tcp {at}: i/o timeout"))
        }
    }
}
