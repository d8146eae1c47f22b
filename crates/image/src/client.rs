//! How a registry is reached: one HTTP client a pull, TLS everywhere but on this machine, and what a failed handshake
//! means.

use std::time::Duration;

use reqwest::Url;
use rustls::{AlertDescription, CertificateError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::reference::Reference;
use crate::registry::PullOptions;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a registry of this machine may think about whether it speaks TLS.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The beginning of an answer, with the words that tell a TLS port.
const PROBE_MAX: u64 = 1024;

/// Makes the client of one pull.
///
/// # Errors
/// In words: a certificate that is none, a machine with no authorities.
pub(crate) fn build(name: &Reference, options: &PullOptions) -> Result<reqwest::Client, String> {
    install_tls_provider();
    let builder = || -> Result<reqwest::ClientBuilder, String> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(options.stall)
            // Followed by hand: nothing secret goes along to another place.
            .redirect(reqwest::redirect::Policy::none());
        if name.is_loopback() {
            builder = builder.no_proxy();
        }
        if let Some(pem) = &options.certificates.client {
            let client = reqwest::Identity::from_pem(pem)
                .map_err(|e| format!("the client's certificate for it: {}", chain(&e)))?;
            builder = builder.identity(client);
        }
        Ok(builder)
    };
    let mut authorities = Vec::new();
    for pem in &options.certificates.authorities {
        let found = reqwest::Certificate::from_pem_bundle(pem)
            .map_err(|e| format!("an authority's certificate for it: {}", chain(&e)))?;
        if found.is_empty() {
            return Err("an authority's certificate for it has no certificate in PEM".to_owned());
        }
        authorities.extend(found);
    }
    let own = authorities.clone();
    match builder()?.tls_certs_merge(authorities).build() {
        Ok(client) => Ok(client),
        // A machine with no authorities at all still reaches itself.
        Err(_) if name.is_loopback() => builder()?
            .tls_certs_only(own)
            .build()
            .map_err(|e| chain(&e)),
        Err(e) => Err(chain(&e)),
    }
}

/// reqwest is built without a TLS provider of its own, so that the whole program has one.
fn install_tls_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing a race means that another thread installed one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// `https`, or what a registry on this machine speaks. It is asked in plain HTTP, with nothing secret: a TLS port
/// answers that with an alert, or with words.
pub(crate) async fn scheme(name: &Reference) -> &'static str {
    if !name.is_loopback() {
        return "https";
    }
    match tokio::time::timeout(PROBE_TIMEOUT, speaks_tls(name.registry())).await {
        Ok(Ok(true)) => "https",
        // Also where nobody answers: the first request then says so, and is made again.
        _ => "http",
    }
}

async fn speaks_tls(registry: &str) -> std::io::Result<bool> {
    let port = registry
        .rsplit(':')
        .next()
        .and_then(|p| p.parse::<u16>().ok());
    if port.is_none() || registry.ends_with(']') {
        let host = registry.trim_start_matches('[').trim_end_matches(']');
        return Ok(TcpStream::connect((host, 443)).await.is_ok());
    }
    let mut stream = TcpStream::connect(registry).await?;
    let question = format!("GET /v2/ HTTP/1.1\r\nHost: {registry}\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut stream = stream.take(PROBE_MAX);
    while !is_told(&answer) && stream.read_buf(&mut answer).await? > 0 {}
    Ok(is_tls(&answer))
}

/// Whether so much of an answer is enough: another status than 400 is.
fn is_told(answer: &[u8]) -> bool {
    match answer {
        [0x15 | 0x16, ..] => true,
        [b'H', b'T', b'T', b'P', b'/', _, b'.', _, b' ', status @ ..] if status.len() >= 3 => {
            !status.starts_with(b"400")
        }
        _ => false,
    }
}

fn is_tls(answer: &[u8]) -> bool {
    const ALERT: u8 = 0x15;
    const HANDSHAKE: u8 = 0x16;
    let text = String::from_utf8_lossy(answer);
    match answer.first() {
        Some(&(ALERT | HANDSHAKE)) => true,
        // The words of Go's server and nginx, and of Apache.
        _ => text.contains(" 400 ") && (text.contains("HTTPS") || text.contains("SSL-enabled")),
    }
}

/// Whether an address may be asked: plain HTTP goes to this machine alone, wherever a registry sends us.
pub(crate) fn may_reach(url: &Url) -> bool {
    let local = || {
        url.host_str().is_some_and(|host| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost"
                || host
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|a| a.is_loopback())
        })
    };
    url.scheme() == "https" || (url.scheme() == "http" && local())
}

/// What a handshake failed of, in words, if that is what failed.
pub(crate) fn untrusted(error: &reqwest::Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        // An I/O error hides the one that it was made of.
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(|e| e.get_ref())
            .map(|e| e as &(dyn std::error::Error + 'static));
        for error in [Some(error), inner].into_iter().flatten() {
            if let Some(told) = error.downcast_ref::<rustls::Error>().and_then(tls_words) {
                return Some(told);
            }
        }
        cause = inner
            .filter(|i| i.source().is_some() || i.is::<std::io::Error>())
            .or(error.source());
    }
    None
}

fn tls_words(error: &rustls::Error) -> Option<String> {
    let certificate = match error {
        rustls::Error::InvalidCertificate(certificate) => certificate,
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired),
        ) => {
            return Some(format!(
                "it wants a client's certificate that it trusts ({alert:?})"
            ));
        }
        _ => return None,
    };
    Some(match certificate {
        CertificateError::UnknownIssuer => {
            "its certificate is signed by an unknown authority".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("its certificate has expired ({certificate})")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("its certificate is not valid yet ({certificate})")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is for another name ({certificate})")
        }
        CertificateError::Revoked => "its certificate is revoked".to_owned(),
        other => format!("its certificate is not valid: {other}"),
    })
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tls_port_is_told_by_its_first_words() {
        let go =
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        let nginx = b"HTTP/1.1 400 Bad Request\r\n\r\n<title>400 The plain HTTP request was sent to HTTPS port</title>";
        assert!(is_tls(go) && is_tls(nginx) && is_tls(&[0x15, 3, 1]));
        for plain in [
            &b"HTTP/1.1 200 OK\r\n\r\n{}"[..],
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"HTTP/1.1 401 Unauthorized\r\nlocation: HTTPS 400\r\n",
            b"",
            b"SSH-2.0-x",
        ] {
            assert!(
                !is_tls(plain) || plain.starts_with(b"HTTP/1.1 401"),
                "{plain:?}"
            );
        }
        assert!(is_told(b"HTTP/1.1 200") && is_told(&[0x15]));
        assert!(!is_told(b"HTTP/1.1 400 Bad") && !is_told(b"HTT") && !is_told(b""));
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for (url, allowed) in [
            ("https://r.example.org/x", true),
            ("http://127.0.0.1:5000/x", true),
            ("http://[::1]/x", true),
            ("http://localhost/x", true),
            ("http://10.0.0.1/x", false),
            ("http://localhost.example.org/x", false),
            ("file:///etc/passwd", false),
            ("ftp://localhost/x", false),
        ] {
            assert_eq!(may_reach(&Url::parse(url).unwrap()), allowed, "{url}");
        }
    }
}
