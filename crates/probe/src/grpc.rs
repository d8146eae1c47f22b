//! `grpc.health.v1.Health/Check` in the clear: `pkg/probe/grpc` of Kubernetes. Its two messages
//! have one field each, so they are read and written here.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::connect::{authority, dial};
use crate::{MOST, Outcome};

const PATH: &str = "/grpc.health.v1.Health/Check";
/// `google.rpc.Code`, by number, as grpc-go names them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    UNIMPLEMENTED,
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const UNIMPLEMENTED: &str = "Unimplemented";
/// `HealthCheckResponse.ServingStatus`
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
/// The one that is well.
const SERVING: u64 = 1;

/// Between the first two tries to connect, and how much longer each pause is than the one before it
/// (`backoff.DefaultConfig` of grpc-go).
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGER: f64 = 1.6;

/// What keeps a server from answering.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("{0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("rpc error: code = {code} desc = {message}")]
    Status { code: String, message: String },
    #[error("the answer is no HealthCheckResponse")]
    Malformed,
}

/// Whether the service says that it is serving. Empty is the server as a whole.
pub async fn grpc(
    host: &str,
    port: u16,
    service: &str,
    user_agent: &str,
    timeout: Duration,
) -> Outcome {
    let at = authority(host, port);
    let seconds = timeout.as_secs();
    let begun = tokio::time::Instant::now();
    let Ok(stream) = tokio::time::timeout(timeout, connected(host, port)).await else {
        return Outcome::Failure(format!(
            "timeout: failed to connect service {at:?} within {seconds}s: context deadline exceeded"
        ));
    };
    let left = timeout.saturating_sub(begun.elapsed());
    let checked = tokio::time::timeout(left, check(stream, &at, service, user_agent));
    match checked.await {
        Ok(Ok(SERVING)) => Outcome::Success("service healthy".to_owned()),
        Ok(Ok(other)) => {
            let name = usize::try_from(other).ok().and_then(|n| STATUSES.get(n));
            let name = name.map_or_else(|| other.to_string(), |name| (*name).to_owned());
            Outcome::Failure(format!("service unhealthy (responded with {name:?})"))
        }
        Ok(Err(Trouble::Status { code, message })) if code == UNIMPLEMENTED => {
            Outcome::Failure(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
            ))
        }
        Ok(Err(error)) => Outcome::Failure(format!("error: health rpc probe failed: {error}")),
        Err(_) => Outcome::Failure(format!(
            "timeout: health rpc did not complete within {seconds}s"
        )),
    }
}

/// A connection, once there is one: grpc-go tries again, for as long as it is let, whatever keeps
/// it from being made.
async fn connected(host: &str, port: u16) -> tokio::net::TcpStream {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok(stream) = dial(host, port).await {
            return stream;
        }
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(LONGER);
    }
}

async fn check(
    stream: tokio::net::TcpStream,
    at: &str,
    service: &str,
    user_agent: &str,
) -> Result<u64, Trouble> {
    let io = TokioIo::new(stream);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (mut sender, connection) = handshake.await?;
    // It ends when the last of its handles does: with this call.
    tokio::spawn(connection);
    let request = Request::post(format!("http://{at}{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", user_agent)
        .body(Full::new(question(service)))?;
    let answer = sender.send_request(request).await?;
    read(answer).await
}

/// A HealthCheckRequest with the five bytes before it: not compressed, and its length.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len());
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put(message);
    framed.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.put_u8(u8::try_from(value).unwrap_or_default());
}

async fn read(answer: Response<Incoming>) -> Result<u64, Trouble> {
    // A refusal comes in the headers alone.
    let refused = failed(answer.headers())?;
    if !answer.status().is_success() {
        return Err(Trouble::Status {
            code: match answer.status().as_u16() {
                404 => UNIMPLEMENTED,
                _ => "Unavailable",
            }
            .to_owned(),
            message: format!("unexpected HTTP status code {}", answer.status()),
        });
    }
    let body = Limited::new(answer.into_body(), MOST);
    let collected = body.collect().await.map_err(Trouble::Body)?;
    let told = match collected.trailers() {
        Some(trailers) => failed(trailers)?,
        None => refused,
    };
    // An answer that was cut off proves nothing.
    if !told {
        return Err(Trouble::Malformed);
    }
    status(&collected.to_bytes()).ok_or(Trouble::Malformed)
}

/// Whether a status is told; one that is no success is an error.
fn failed(headers: &HeaderMap) -> Result<bool, Trouble> {
    let text = |name| {
        let value: Option<&http::HeaderValue> = headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let Some(code) = text("grpc-status") else {
        return Ok(false);
    };
    if code == "0" {
        return Ok(true);
    }
    let name = code.parse().ok().and_then(|code: usize| CODES.get(code));
    Err(Trouble::Status {
        code: name.map_or(code, |name| (*name).to_owned()),
        message: text("grpc-message").unwrap_or_default(),
    })
}

/// The first field of a HealthCheckResponse; 0 where it is left out.
fn status(framed: &[u8]) -> Option<u64> {
    let (head, message) = framed.split_at_checked(5)?;
    let (compressed, length) = head.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    if *compressed != 0 || usize::try_from(length) != Ok(message.len()) {
        return None;
    }
    let mut rest = message;
    let mut found = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => found = varint(&mut rest)?,
            (_, 0) => drop(varint(&mut rest)?),
            (_, 2) => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            _ => return None,
        }
    }
    Some(found)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, left) = rest.split_first()?;
        *rest = left;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_protobuf_has_them() {
        assert_eq!(question("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(
            question("ab").as_ref(),
            [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']
        );
        let long = question(&"x".repeat(300));
        assert_eq!(long.get(5..8), Some([0x0a, 0xac, 0x02].as_slice()));
    }

    #[test]
    fn an_answer_is_read_whatever_else_is_in_it() {
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(status(&[0, 0, 0, 0, 6, 0x12, 2, 9, 9, 8, 2]), Some(2));
        for wrong in [
            &[][..],
            &[0, 0, 0, 0, 3, 8, 1],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 0x12, 9],
            &[0, 0, 0, 0, 2, 0x0d, 9],
        ] {
            assert_eq!(status(wrong), None, "{wrong:?}");
        }
    }
}
