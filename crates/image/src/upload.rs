//! One blob on its way to a registry: looked for, mounted, or sent; and sent on from where a cut connection left off.
//!
//! The protocol is that of the OCI distribution specification ("Pushing blobs"): a session is opened by POST, a large
//! blob sent by PATCH and closed by PUT, a small one sent with the PUT.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::mpsc;

use crate::answer::Failure;
use crate::client::may_reach;
use crate::error::Error;
use crate::manifest::Descriptor;
use crate::push::{Delivery, Push, Sending, Told};

/// Up to this a blob is sent in one request: to find out how far a cut one came costs as much as to send it again.
const SMALL: u64 = 1 << 20;
const CHUNK: usize = 128 << 10;
/// Chunks on their way from the disk to the network, at most.
const CHUNKS_IN_FLIGHT: usize = 4;
/// A registry may move a blob to its place before it answers: times the silence that it is else allowed.
const COMMIT_FACTOR: u32 = 10;
const OCTETS: &str = "application/octet-stream";

pub(crate) struct Upload<'a, 'b> {
    push: &'a Push<'b>,
    blob: &'a Descriptor,
    mount: Option<&'a str>,
    /// Where the registry wants the bytes of an open session.
    session: Option<Url>,
    sending: Arc<Position>,
}

/// How far the sending is, for whoever watches.
struct Position {
    /// Bytes of the blob handed to the network, at the furthest.
    furthest: AtomicU64,
    /// Grows whenever anything is handed to the network.
    moved: AtomicU64,
    /// Why the blob could not be read.
    failure: Mutex<Option<std::io::Error>>,
    told: Told,
}

impl<'a, 'b> Upload<'a, 'b> {
    pub(crate) fn new(
        push: &'a Push<'b>,
        blob: &'a Descriptor,
        mount: Option<&'a str>,
    ) -> Upload<'a, 'b> {
        Upload {
            push,
            blob,
            mount,
            session: None,
            sending: Arc::new(Position {
                furthest: AtomicU64::new(0),
                moved: AtomicU64::new(0),
                failure: Mutex::new(None),
                told: Arc::clone(&push.told),
            }),
        }
    }

    /// How far the sending came, in bytes.
    pub(crate) fn reached(&self) -> u64 {
        self.sending.furthest.load(Ordering::Relaxed)
    }

    /// Brings the blob there, or as far as it gets.
    pub(crate) async fn attempt(&mut self) -> Result<Delivery, Failure> {
        // Also after a cut: the answer to the last request may be all that was lost.
        if self.is_there().await? {
            return Ok(match self.reached() {
                0 => Delivery::Present,
                _ => Delivery::Sent,
            });
        }
        let offset = match self.session.clone() {
            Some(session) => self.offset(session).await?,
            None => 0,
        };
        let session = match self.session.clone() {
            Some(session) => session,
            None => match self.open().await? {
                Some(session) => session,
                None => {
                    let from = self.mount.unwrap_or_default().to_owned();
                    return Ok(Delivery::Mounted { from });
                }
            },
        };
        if self.blob.size <= SMALL {
            // It has no middle to go on from.
            self.session = None;
            self.close(session, 0).await?;
            return Ok(Delivery::Sent);
        }
        let session = match offset < self.blob.size {
            true => self.send(session, offset).await?,
            false => session,
        };
        self.close(session, self.blob.size).await?;
        Ok(Delivery::Sent)
    }

    fn thing(&self) -> String {
        format!("blob {}", self.blob.digest)
    }

    async fn is_there(&self) -> Result<bool, Failure> {
        let connection = &self.push.connection;
        let url = format!("{}/blobs/{}", connection.base().await, self.blob.digest);
        let request = connection.request(Method::HEAD, &url, &|r| r);
        let answer = self.push.in_time(self.push.stall, request).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(false),
            _ => connection.check(answer, &self.thing()).await.map(|_| true),
        }
    }

    /// Opens a session; `None` where the registry had the blob elsewhere and has it here now.
    async fn open(&mut self) -> Result<Option<Url>, Failure> {
        let connection = &self.push.connection;
        let mut url = format!("{}/blobs/uploads/", connection.base().await);
        if let Some(from) = self.mount {
            url.push_str(&format!("?mount={}&from={from}", self.blob.digest));
        }
        let empty = |request: RequestBuilder| request.header(CONTENT_LENGTH, 0);
        let request = connection.request(Method::POST, &url, &empty);
        let answer = self.push.in_time(self.push.stall, request).await?;
        let repository = format!("repository {:?} to write to", connection.repository());
        let answer = connection.check(answer, &repository).await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(None);
        }
        let session = self.location(answer.headers(), answer.url());
        let session = session.map_err(Failure::last)?;
        let session = session.ok_or_else(|| {
            let reason = "it opens an upload and does not say where".to_owned();
            Failure::last(connection.protocol(reason))
        })?;
        self.session = Some(session.clone());
        Ok(Some(session))
    }

    fn location(&self, headers: &HeaderMap, base: &Url) -> Result<Option<Url>, Error> {
        let Some(location) = headers.get(LOCATION) else {
            return Ok(None);
        };
        let url = location.to_str().ok().and_then(|l| base.join(l).ok());
        url.filter(may_reach).map(Some).ok_or_else(|| {
            let reason = "it wants a blob at plain HTTP, or at no address".to_owned();
            self.push.connection.protocol(reason)
        })
    }

    /// How many bytes an open session has; where it is lost, none of a new one.
    async fn offset(&mut self, session: Url) -> Result<u64, Failure> {
        let request = self.request(Method::GET, &session, &|r| r);
        let answer = self.push.in_time(self.push.stall, request).await?;
        let status = answer.status();
        let is_lost = status.is_client_error()
            && !matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
            );
        if is_lost {
            self.session = None;
            return Ok(0);
        }
        let answer = self.push.connection.check(answer, &self.thing()).await?;
        let location = self.location(answer.headers(), answer.url());
        if let Some(location) = location.map_err(Failure::last)? {
            self.session = Some(location);
        }
        // `0-N`, inclusive; a session with nothing in it says 0-0 in some registries, which costs no more than a byte
        // sent twice where that is refused and the session opened anew.
        let range = answer.headers().get(RANGE).and_then(|r| r.to_str().ok());
        let last = range.and_then(|r| r.rsplit('-').next()?.parse::<u64>().ok());
        let offset = last.filter(|l| *l > 0).map_or(0, |l| l + 1);
        if offset > self.blob.size {
            self.session = None;
            return Ok(0);
        }
        Ok(offset)
    }

    /// Sends what is missing; gives where the session goes on.
    async fn send(&mut self, session: Url, offset: u64) -> Result<Url, Failure> {
        let last = self.blob.size - 1;
        let shape = |request: RequestBuilder| {
            let request = request.header(CONTENT_TYPE, OCTETS);
            let request = match offset {
                0 => request,
                _ => request.header(CONTENT_RANGE, format!("{offset}-{last}")),
            };
            request.body(self.body(offset))
        };
        let answer = self
            .watched(self.request(Method::PATCH, &session, &shape))
            .await?;
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            // It has another number of bytes than we know of.
            self.session = None;
            return Err(self
                .push
                .connection
                .unavailable("it lost its place in an upload".to_owned(), None));
        }
        let answer = self.push.connection.check(answer, &self.thing()).await?;
        let next = self.location(answer.headers(), answer.url());
        let next = next.map_err(Failure::last)?.unwrap_or(session);
        self.session = Some(next.clone());
        Ok(next)
    }

    /// Ends a session that has the bytes up to `offset`, with those that are missing.
    async fn close(&self, mut session: Url, offset: u64) -> Result<(), Failure> {
        session
            .query_pairs_mut()
            .append_pair("digest", &self.blob.digest.to_string());
        let shape = |request: RequestBuilder| match offset == self.blob.size {
            true => request.header(CONTENT_LENGTH, 0),
            false => request.header(CONTENT_TYPE, OCTETS).body(self.body(offset)),
        };
        let answer = self
            .watched(self.request(Method::PUT, &session, &shape))
            .await?;
        let checked = self.push.connection.check(answer, &self.thing()).await;
        checked.map(|_| ())
    }

    /// A request to where the registry sent us. Only the registry itself is shown who we are.
    async fn request(
        &self,
        method: Method,
        url: &Url,
        shape: crate::http::Shape<'_>,
    ) -> Result<Response, Failure> {
        let connection = &self.push.connection;
        let base = Url::parse(connection.base().await).ok();
        if base.is_some_and(|base| base.origin() == url.origin()) {
            return connection.request(method, url.as_str(), shape).await;
        }
        let request = shape(connection.http.request(method, url.clone()));
        request.send().await.map_err(|e| connection.cut(&e))
    }

    /// A request that may take for ever, while bytes move.
    async fn watched(
        &self,
        request: impl Future<Output = Result<Response, Failure>>,
    ) -> Result<Response, Failure> {
        let mut request = std::pin::pin!(request);
        let stall = self.push.stall;
        let mut still = 0;
        let mut seen = self.sending.moved.load(Ordering::Relaxed);
        let answer = loop {
            if let Ok(answer) = tokio::time::timeout(stall, &mut request).await {
                break answer;
            }
            let now = self.sending.moved.load(Ordering::Relaxed);
            still = if now == seen { still + 1 } else { 0 };
            seen = now;
            let is_sent = self.reached() >= self.blob.size;
            if still >= if is_sent { COMMIT_FACTOR } else { 1 } {
                break Err(self.push.silent());
            }
        };
        let failure = self.sending.failure.lock();
        match failure.unwrap_or_else(PoisonError::into_inner).take() {
            Some(source) => Err(Failure::last(Error::Io {
                what: "read",
                path: self.push.store.blob_path(self.blob.digest),
                source,
            })),
            None => answer,
        }
    }

    /// The blob's bytes from `offset` on, read by a thread.
    fn body(&self, offset: u64) -> Body {
        let (sender, chunks) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let path = self.push.store.blob_path(self.blob.digest);
        let size = self.blob.size;
        tokio::task::spawn_blocking(move || {
            if let Err(error) = read(&path, offset, size, &sender) {
                // A request that is over wants neither bytes nor errors.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Body::wrap(Stream {
            chunks,
            at: offset,
            size,
            position: Arc::clone(&self.sending),
        })
    }
}

fn read(
    path: &std::path::Path,
    offset: u64,
    size: u64,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut left = size - offset;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; length];
        file.read_exact(&mut chunk)?;
        left -= length as u64;
        if sender.blocking_send(Ok(chunk.into())).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// A request's body: a blob, or its end.
struct Stream {
    chunks: mpsc::Receiver<std::io::Result<Bytes>>,
    at: u64,
    size: u64,
    position: Arc<Position>,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.chunks.poll_recv(context).map(|chunk| match chunk? {
            Ok(bytes) => {
                self.at += bytes.len() as u64;
                self.position.advance(self.at, bytes.len() as u64);
                Some(Ok(Frame::data(bytes)))
            }
            Err(error) => {
                let shown = std::io::Error::new(error.kind(), error.to_string());
                let slot = self.position.failure.lock();
                *slot.unwrap_or_else(PoisonError::into_inner) = Some(error);
                Some(Err(shown))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.size
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size - self.at)
    }
}

impl Position {
    /// What is sent again is no news.
    fn advance(&self, at: u64, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
        let before = self.furthest.fetch_max(at, Ordering::Relaxed);
        if at > before {
            (self.told)(Sending::Sent { bytes: at - before });
        }
    }
}
