//! What a registry's answers mean, and where it may send us.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::error::Error;

const REDIRECTS_MAX: usize = 10;
/// How much of an error's body is read for its message.
const DETAIL_MAX: usize = 8 << 10;

/// A failed attempt: whether, and when, another may help.
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) transient: bool,
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn last(error: Error) -> Failure {
        Failure {
            error,
            transient: false,
            retry_after: None,
        }
    }
}

/// Plain HTTP goes to this machine alone, wherever a registry sends us.
pub(crate) fn redirects() -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(|attempt| {
        let local = attempt.url().host_str().is_some_and(|h| {
            let host = h.trim_start_matches('[').trim_end_matches(']');
            host == "localhost"
                || host
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|a| a.is_loopback())
        });
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error("too many redirects")
        } else if attempt.url().scheme() != "https" && !local {
            attempt.error("redirected to plain HTTP")
        } else {
            attempt.follow()
        }
    })
}

/// reqwest is built without a TLS provider of its own, so that the whole program has one.
pub(crate) fn install_tls_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing a race means that another thread installed one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// In seconds; a date is not taken, since it would need this machine's clock to be right.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}

pub(crate) async fn body_start(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > DETAIL_MAX {
            break;
        }
    }
    bytes
}

/// The registry's own words: the first error of its envelope.
pub(crate) fn detail(body: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let first = value.as_ref().and_then(|v| v.get("errors")?.get(0));
    let field = |name: &str| {
        first
            .and_then(|f| f.get(name)?.as_str())
            .filter(|t| !t.is_empty())
    };
    match (field("code"), field("message")) {
        (Some(code), Some(message)) => format!(" ({code}: {message})"),
        (Some(text), None) | (None, Some(text)) => format!(" ({text})"),
        (None, None) => String::new(),
    }
}

/// An error with its causes: reqwest's own message leaves them out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
