//! `fetch URL [METHOD [BODY]]`: asks over `wasi:http/outgoing-handler`; BODY `-` is standard input.
//! The answer's body goes to standard output and its status to standard error. It fails unless the
//! status is below 400.
//!
//! Worlds: p2

use std::io::{self, Write};
use std::process::ExitCode;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody,
    OutgoingRequest, Scheme,
};
use wasip2::io::streams::StreamError;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(url) = args.next() else {
        eprintln!("fetch: name a URL");
        return ExitCode::FAILURE;
    };
    let method = args.next().unwrap_or_else(|| "GET".to_owned());
    match fetch(&url, &method, args.next().as_deref()) {
        Ok(status) => {
            eprintln!("HTTP {status}");
            ExitCode::from(u8::from(status >= 400))
        }
        Err(problem) => {
            eprintln!("fetch: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Asks, and copies the answer's body. Gives its status, or what went wrong in words.
fn fetch(url: &str, method: &str, body: Option<&str>) -> Result<u16, String> {
    let request = request(url, method)?;
    let out = request.body().map_err(|()| "the request has no body")?;
    let answer = outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?;
    send(out, body).map_err(|error| format!("sending the body: {error}"))?;
    let response = wait(&answer)?;
    let status = response.status();
    let body = response.consume().map_err(|()| "the answer has no body")?;
    receive(&body).map_err(|error| format!("after HTTP {status}: {error}"))?;
    Ok(status)
}

fn request(url: &str, method: &str) -> Result<OutgoingRequest, String> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        _ => return Err(format!("{url:?} begins with neither http:// nor https://")),
    };
    let path = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path);
    let request = OutgoingRequest::new(Fields::new());
    let method = match method {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        other => Method::Other(other.to_owned()),
    };
    let bad = |what: &str| format!("{what} is none: {url:?}");
    request
        .set_method(&method)
        .map_err(|()| bad("the method"))?;
    request
        .set_scheme(Some(&scheme))
        .map_err(|()| bad("the scheme"))?;
    request
        .set_authority(Some(authority))
        .map_err(|()| bad("the host"))?;
    let path = if path.is_empty() { "/" } else { path };
    request
        .set_path_with_query(Some(path))
        .map_err(|()| bad("the path"))?;
    Ok(request)
}

fn send(out: OutgoingBody, body: Option<&str>) -> io::Result<()> {
    if let Some(body) = body {
        let mut stream = out.write().map_err(|()| io::Error::other("it was taken"))?;
        match body {
            "-" => {
                io::copy(&mut io::stdin().lock(), &mut stream)?;
            }
            text => stream.write_all(text.as_bytes())?,
        }
        Write::flush(&mut stream)?;
    }
    OutgoingBody::finish(out, None).map_err(|code| io::Error::other(format!("{code:?}")))
}

fn wait(answer: &FutureIncomingResponse) -> Result<IncomingResponse, String> {
    loop {
        match answer.get() {
            Some(Ok(Ok(response))) => return Ok(response),
            Some(Ok(Err(code))) => return Err(format!("{code:?}")),
            Some(Err(())) => return Err("the answer was taken".to_owned()),
            None => answer.subscribe().block(),
        }
    }
}

/// To standard output as it comes, piece by piece.
fn receive(body: &IncomingBody) -> io::Result<()> {
    let stream = body
        .stream()
        .map_err(|()| io::Error::other("it was taken"))?;
    let mut out = io::stdout().lock();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(bytes) => out.write_all(&bytes)?,
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(io::Error::other(format!("{error:?}"))),
        }
        out.flush()?;
    }
}
