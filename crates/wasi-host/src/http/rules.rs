//! Which hosts a guest may ask.

use std::str::FromStr;

use http::Uri;
use serde::{Deserialize, Serialize};

/// What a guest's own HTTP requests may reach, beside what its network allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutgoingHttp {
    /// The hosts that it may ask; `None` is any.
    pub allowed: Option<Vec<Destination>>,
    /// How many requests it may have at once, from the first byte sent to the last one read; more
    /// wait. `None` is no bound.
    pub max_concurrent: Option<u32>,
}

impl OutgoingHttp {
    /// Whether a request to this host may be made.
    pub(crate) fn allow(&self, host: &str, port: u16) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| {
            allowed.iter().any(|one| {
                one.host.eq_ignore_ascii_case(host) && one.port.is_none_or(|only| only == port)
            })
        })
    }
}

/// A host that may be asked, at one port or at any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// A name, or an address without brackets.
    pub host: String,
    /// The one port; `None` is any.
    pub port: Option<u16>,
}

/// A destination that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no host: write https://HOST, HOST or HOST:PORT")]
pub struct WrongDestination(pub String);

impl FromStr for Destination {
    type Err = WrongDestination;

    /// Reads `HOST`, `HOST:PORT`, or a URL, of which the host and the port count.
    fn from_str(text: &str) -> Result<Destination, WrongDestination> {
        let wrong = || WrongDestination(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = unbracketed(authority.host());
        // What follows a colon and is no port, and who logs in, are mistakes.
        let is_plain = authority.as_str().len()
            == authority.host().len() + authority.port().map_or(0, |port| port.as_str().len() + 1);
        match host.is_empty() || host.contains('*') || !is_plain {
            true => Err(wrong()),
            false => Ok(Destination {
                host: host.to_owned(),
                port: authority.port_u16(),
            }),
        }
    }
}

/// An IPv6 address of a URI as others write it.
pub(crate) fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_host_with_or_without_a_port() {
        for (text, host, port) in [
            ("example.com", "example.com", None),
            ("example.com:8443", "example.com", Some(8443)),
            ("https://example.com/fact?x=1", "example.com", None),
            ("http://example.com:81/", "example.com", Some(81)),
            ("https://[2001:db8::1]:1", "2001:db8::1", Some(1)),
            ("10.0.0.1", "10.0.0.1", None),
        ] {
            let host = host.to_owned();
            assert_eq!(text.parse(), Ok(Destination { host, port }), "{text}");
        }
        for text in [
            "",
            "/path",
            "https://",
            "*.example.com",
            "me@example.com",
            "a:b",
            "a b",
        ] {
            let error = text.parse::<Destination>().unwrap_err();
            assert_eq!(error, WrongDestination(text.to_owned()));
        }
    }

    #[test]
    fn without_a_list_all_are_allowed_and_with_one_those_on_it() {
        let any = OutgoingHttp::default();
        let some = OutgoingHttp {
            allowed: Some(
                ["a.example", "b.example:81"]
                    .map(|d| d.parse().unwrap())
                    .into(),
            ),
            ..OutgoingHttp::default()
        };
        for (host, port, allowed) in [
            ("a.example", 443, true),
            ("A.Example", 80, true),
            ("b.example", 81, true),
            ("b.example", 80, false),
            ("c.a.example", 443, false),
        ] {
            assert!(any.allow(host, port));
            assert_eq!(some.allow(host, port), allowed, "{host}:{port}");
        }
    }
}
