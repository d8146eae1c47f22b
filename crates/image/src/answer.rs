//! What a registry's answers mean.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use crate::error::Error;
use crate::http::Connection;

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

impl Connection<'_> {
    /// Makes an error of an answer that is not a success. `thing` is what was asked for, e.g. `blob sha256:…`.
    pub(crate) async fn check(&self, response: Response, thing: &str) -> Result<Response, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let after = retry_after(response.headers());
        let body = body_start(response).await;
        let detail = detail(&body);
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Failure::last(self.refused(&status.to_string(), &detail))
            }
            StatusCode::NOT_FOUND => {
                let what = match code(&body).as_deref() {
                    Some("NAME_UNKNOWN") => format!("repository {:?}", self.repository()),
                    _ => thing.to_owned(),
                };
                Failure::last(Error::NotFound {
                    registry: self.registry.clone(),
                    image: self.image.clone(),
                    what,
                    detail,
                })
            }
            StatusCode::TOO_MANY_REQUESTS => self.throttled(detail, after),
            s if s.is_server_error() || s == StatusCode::REQUEST_TIMEOUT => {
                self.unavailable(format!("{status}{detail}"), after)
            }
            _ => {
                let reason = format!("unexpected answer {status} for {thing}{detail}");
                Failure::last(self.protocol(reason))
            }
        })
    }

    pub(crate) fn throttled(&self, detail: String, retry_after: Option<Duration>) -> Failure {
        let error = Error::Throttled {
            registry: self.registry.clone(),
            detail,
            retry_after,
        };
        Failure {
            error,
            transient: true,
            retry_after,
        }
    }

    pub(crate) fn unavailable(&self, reason: String, retry_after: Option<Duration>) -> Failure {
        let error = Error::Unavailable {
            registry: self.registry.clone(),
            reason,
        };
        Failure {
            error,
            transient: true,
            retry_after,
        }
    }

    pub(crate) fn protocol(&self, reason: String) -> Error {
        Error::Protocol {
            registry: self.registry.clone(),
            reason,
        }
    }

    /// A request that got no answer, or a body that broke off.
    pub(crate) fn cut(&self, error: &reqwest::Error) -> Failure {
        if let Some(reason) = crate::client::untrusted(error) {
            return Failure::last(Error::Untrusted {
                registry: self.registry.clone(),
                reason,
            });
        }
        // An address may hold what a registry signed into it for us.
        let text = match error.url() {
            Some(url) if url.query().is_some() => {
                crate::client::chain(error).replace(url.as_str(), "an address of its own")
            }
            _ => crate::client::chain(error),
        };
        if error.is_builder() {
            return Failure::last(self.protocol(text));
        }
        self.unavailable(text, None)
    }
}

/// How long to wait, of seconds or a date. A date is taken against the answer's own, so that a wrong clock of this
/// machine doesn't matter where the registry has one.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = date(text)?;
    let now = sent_at(headers, DATE).unwrap_or_else(Timestamp::now);
    // One that is over asks for nothing.
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

fn sent_at(headers: &HeaderMap, name: HeaderName) -> Option<Timestamp> {
    date(headers.get(name)?.to_str().ok()?)
}

fn date(text: &str) -> Option<Timestamp> {
    let parser = DateTimeParser::new().relaxed_weekday(true);
    parser.parse_timestamp(text).ok()
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

/// The first error of a registry's envelope.
fn first(body: &[u8]) -> Option<serde_json::Value> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(value.get("errors")?.get(0)?.clone())
}

fn code(body: &[u8]) -> Option<String> {
    Some(first(body)?.get("code")?.as_str()?.to_owned())
}

/// The registry's own words, on one line.
pub(crate) fn detail(body: &[u8]) -> String {
    let first = first(body);
    let field = |name: &str| {
        let text = first.as_ref().and_then(|f| f.get(name)?.as_str());
        let text: String = text?
            .chars()
            .filter(|c| !c.is_control())
            .take(300)
            .collect();
        Some(text).filter(|t| !t.is_empty())
    };
    match (field("code"), field("message")) {
        (Some(code), Some(message)) => format!(" ({code}: {message})"),
        (Some(text), None) | (None, Some(text)) => format!(" ({text})"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn seconds_and_dates() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            retry_after(&headers)
        };
        let now = ("date", "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(
            of(&[("retry-after", " 120 ")]),
            Some(Duration::from_secs(120))
        );
        let later = ("retry-after", "Wed, 21 Oct 2015 07:29:30 GMT");
        assert_eq!(of(&[now, later]), Some(Duration::from_secs(90)));
        let earlier = ("retry-after", "Wed, 21 Oct 2015 07:00:00 GMT");
        assert_eq!(of(&[now, earlier]), Some(Duration::ZERO));
        assert_eq!(of(&[earlier]), Some(Duration::ZERO));
        for nonsense in ["soon", "-5", ""] {
            assert_eq!(of(&[("retry-after", nonsense)]), None, "{nonsense}");
        }
        assert_eq!(of(&[now]), None);
    }

    #[test]
    fn a_registrys_words_stay_on_one_line() {
        let body = br#"{"errors":[{"code":"DENIED","message":"a\nb\u001b[31m"}]}"#;
        assert_eq!(detail(body), " (DENIED: ab[31m)");
        assert_eq!(detail(b"<html>"), "");
        assert_eq!(detail(br#"{"errors":[]}"#), "");
    }
}
