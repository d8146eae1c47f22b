//! A GET over HTTP/1.1: `pkg/probe/http` of Kubernetes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::connect::{authority, dial};
use crate::{MOST, Outcome, path, unverified};

/// Go's words for a request that takes too long.
const DEADLINE: &str = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
/// And for a body that does.
const SLOW_BODY: &str =
    "context deadline exceeded (Client.Timeout or context cancellation while reading body)";
/// More redirects than this are not followed.
const REDIRECTS: usize = 10;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// By TLS, whatever its certificate says.
    Https,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// A GET.
#[derive(Clone, Debug)]
pub struct HttpGet {
    /// How.
    pub scheme: Scheme,
    /// A name or an address.
    pub host: String,
    /// On which port.
    pub port: u16,
    /// With its query, in any letters: what a URL can't have is escaped as Go does it.
    pub path: String,
    /// Replace those that are sent otherwise; an empty `Accept` removes it.
    pub headers: Vec<(String, String)>,
    /// `kube-probe/1.36`.
    pub user_agent: String,
}

impl HttpGet {
    /// Whom it asks, `host:port`.
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

/// What keeps a request from being answered.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Dial(#[from] crate::connect::DialError),
    #[error("{0}")]
    Tls(#[source] std::io::Error),
    #[error("{0}")]
    Config(#[from] rustls::Error),
    #[error("{0}")]
    Name(#[from] rustls::pki_types::InvalidDnsNameError),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("stopped after {REDIRECTS} redirects")]
    Redirects,
    #[error("invalid host or port in {0:?}")]
    Url(String),
}

impl Trouble {
    /// What came in answer to TLS is none of its records.
    fn is_in_the_clear(&self) -> bool {
        let Trouble::Tls(error) = self else {
            return false;
        };
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        matches!(inner, Some(rustls::Error::InvalidMessage(_)))
    }
}

/// Why a probe proves nothing: there was an answer, and its body broke off or came too slowly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BrokenBody(String);

/// Whether the answer's status is 200 to 399, after the redirects to the same host.
///
/// # Errors
/// [`BrokenBody`]: neither well nor ill.
pub async fn http(get: &HttpGet, timeout: Duration) -> Result<Outcome, BrokenBody> {
    let url = url(get);
    let begun = Instant::now();
    let answer = match tokio::time::timeout(timeout, follow(get, &url)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Ok(Outcome::Failure(format!("Get {url:?}: {error}"))),
        Err(_) => return Ok(Outcome::Failure(format!("Get {url:?}: {DEADLINE}"))),
    };
    let code = answer.status().as_u16();
    let left = timeout.saturating_sub(begun.elapsed());
    let body = match tokio::time::timeout(left, text(answer)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return Err(BrokenBody(error.to_string())),
        Err(_) => return Err(BrokenBody(SLOW_BODY.to_owned())),
    };
    Ok(match code {
        200..300 => Outcome::Success(body),
        300..400 => Outcome::Warning(format!("Probe terminated redirects, Response body: {body}")),
        // What an ill server says is not for an event.
        code => Outcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
    })
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{said}")]
pub struct NoAnswer {
    said: String,
    /// The server was asked by TLS and speaks in the clear.
    pub in_the_clear: bool,
}

/// Asks, and takes any answer for a good one, whatever becomes of its body.
///
/// # Errors
/// There is none.
pub async fn answers(get: &HttpGet, timeout: Duration) -> Result<(), NoAnswer> {
    let url = url(get);
    let (said, in_the_clear) = match tokio::time::timeout(timeout, follow(get, &url)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => (error.to_string(), error.is_in_the_clear()),
        Err(_) => (DEADLINE.to_owned(), false),
    };
    let said = format!("Get {url:?}: {said}");
    Err(NoAnswer { said, in_the_clear })
}

fn url(get: &HttpGet) -> String {
    format!(
        "{}://{}{}",
        get.scheme.as_str(),
        get.authority(),
        path::encoded(&get.path)
    )
}

/// The last answer: where redirects lead on the same host.
async fn follow(get: &HttpGet, url: &str) -> Result<Response<Incoming>, Trouble> {
    let mut target = parsed(url)?;
    let mut own_host = true;
    for _ in 0..REDIRECTS {
        let answer = ask(get, &target, own_host).await?;
        let moved = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        let next = answer.headers().get(LOCATION).filter(|_| moved);
        match next.and_then(|next| joined(&target, next)) {
            Some((next, here)) if next.host() == target.host() => {
                target = next;
                own_host &= here;
            }
            // A host of its own is not this pod's affair: what it answers proves nothing of it.
            _ => return Ok(answer),
        }
    }
    Err(Trouble::Redirects)
}

fn parsed(url: &str) -> Result<Uri, Trouble> {
    url.parse().map_err(|_| Trouble::Url(url.to_owned()))
}

/// Where a Location leads from here, and whether it only names a path.
fn joined(from: &Uri, to: &HeaderValue) -> Option<(Uri, bool)> {
    let to = to.to_str().ok()?;
    if let Some(rest) = to.strip_prefix("//") {
        let there = format!("{}://{rest}", from.scheme_str()?);
        return Some((there.parse().ok()?, false));
    }
    let there = to.parse::<Uri>().ok()?;
    if there.scheme().is_some() {
        return Some((there, false));
    }
    let base = from.path().rsplit_once('/').map_or("", |(base, _)| base);
    let path = match to.starts_with('/') {
        true => to.to_owned(),
        false => format!("{base}/{to}"),
    };
    let there = format!("{}://{}{path}", from.scheme_str()?, from.authority()?);
    Some((there.parse().ok()?, true))
}

async fn ask(get: &HttpGet, target: &Uri, own_host: bool) -> Result<Response<Incoming>, Trouble> {
    let tls = target.scheme_str() == Some("https");
    let host = target.host().unwrap_or_default().to_owned();
    let port = target.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let request = request(get, target, own_host)?;
    let stream = dial(&host, port).await?;
    if !tls {
        return send(stream, request).await;
    }
    let bare = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let connector = TlsConnector::from(unverified::config()?);
    let stream = connector
        .connect(ServerName::try_from(bare)?, stream)
        .await
        .map_err(Trouble::Tls)?;
    send(stream, request).await
}

/// The caller's own Host goes with the paths of its server, and not with another URL.
fn request(get: &HttpGet, target: &Uri, own_host: bool) -> Result<Request<Empty<Bytes>>, Trouble> {
    let path = target.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path).body(Empty::new())?;
    let headers = request.headers_mut();
    for (name, value) in &get.headers {
        let name: HeaderName = name.parse().map_err(http::Error::from)?;
        let value: HeaderValue = value.parse().map_err(http::Error::from)?;
        if name != HOST || own_host {
            headers.append(name, value);
        }
    }
    let own = target.authority().map(|at| at.as_str()).unwrap_or_default();
    default(headers, HOST, own)?;
    default(headers, USER_AGENT, &get.user_agent)?;
    default(headers, ACCEPT, "*/*")?;
    if headers.get(ACCEPT).is_some_and(HeaderValue::is_empty) {
        headers.remove(ACCEPT);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

fn default(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), Trouble> {
    if !headers.contains_key(&name) {
        headers.insert(name, value.parse().map_err(http::Error::from)?);
    }
    Ok(())
}

/// The connection ends with the answer's body, or with the call.
async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// The beginning of a body, as text.
async fn text(answer: Response<Incoming>) -> Result<String, Trouble> {
    let mut body = answer.into_body();
    let mut read = BytesMut::new();
    while read.len() < MOST {
        let Some(frame) = body.frame().await else {
            break;
        };
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data);
        }
    }
    read.truncate(MOST);
    Ok(String::from_utf8_lossy(&read).into_owned())
}
