//! Answers over `wasi:http`: `/` says hello, `/echo` gives back body and trailers as they come,
//! `/stream?KIB` gives that much, `/env` the environment, `/log?TEXT` logs it, `/fetch?AUTHORITY/PATH`
//! asks another server, `/sleep?MS`, `/spin`, `/trap`, `/trap-late`, `/exit`, `/hog` and `/none`
//! do what they say; the last gives no answer.
//!
//! Worlds: http

use std::fmt::Write as _;
use std::time::Duration;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

wasip2::http::proxy::export!(Server);

struct Server;

/// What one read or write moves, bytes.
const PIECE: usize = 4096;

impl wasip2::exports::http::incoming_handler::Guest for Server {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/" => text(out, 200, "hello from Rust\n"),
            "/echo" => echo(&request, out),
            "/stream" => stream(out, number(query)),
            "/env" => {
                let mut lines = String::new();
                for (name, value) in std::env::vars() {
                    let _ = writeln!(lines, "{name}={value}");
                }
                text(out, 200, &lines);
            }
            "/log" => {
                println!("{query}");
                let line = format!("{query}, as an error\n");
                let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
                text(out, 200, "logged\n");
            }
            "/fetch" => match fetch(query) {
                Ok(answer) => text(out, 200, &answer),
                Err(problem) => text(out, 502, &format!("{problem}\n")),
            },
            "/sleep" => {
                std::thread::sleep(Duration::from_millis(number(query)));
                text(out, 200, "slept\n");
            }
            "/spin" => loop {
                std::hint::black_box(());
            },
            "/trap" => panic!("asked for"),
            "/trap-late" => {
                let body = begin(out, 200);
                let stream = body.write().expect("nobody has it");
                let _ = stream.blocking_write_and_flush(b"the beginning\n");
                panic!("asked for, later");
            }
            "/exit" => std::process::exit(1),
            "/hog" => hog(),
            "/none" => {}
            _ => text(out, 404, "there is nothing here\n"),
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

/// Takes memory for ever.
fn hog() {
    let mut all = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

fn begin(out: ResponseOutparam, status: u16) -> OutgoingBody {
    let headers = Fields::new();
    let plain = b"text/plain".to_vec();
    headers
        .append("content-type", &plain)
        .expect("it may be set");
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("it is a status");
    let body = response.body().expect("nobody has it");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn text(out: ResponseOutparam, status: u16, text: &str) {
    let body = begin(out, status);
    let stream = body.write().expect("nobody has it");
    let whole = write(&stream, text.as_bytes());
    drop(stream);
    if whole.is_ok() {
        let _ = OutgoingBody::finish(body, None);
    }
}

fn write(stream: &OutputStream, bytes: &[u8]) -> Result<(), StreamError> {
    bytes
        .chunks(PIECE)
        .try_for_each(|piece| stream.blocking_write_and_flush(piece))
}

fn read(stream: &InputStream) -> Result<Option<Vec<u8>>, StreamError> {
    match stream.blocking_read(PIECE as u64) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StreamError::Closed) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives back what comes, while it comes.
fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("nobody has it");
    let body = begin(out, 200);
    let (from, to) = (
        incoming.stream().expect("nobody has it"),
        body.write().expect("nobody has it"),
    );
    loop {
        match read(&from) {
            Ok(Some(bytes)) => {
                if write(&to, &bytes).is_err() {
                    return;
                }
            }
            Ok(None) => break,
            Err(error) => {
                eprintln!("the request breaks off: {error}");
                return;
            }
        }
    }
    drop((from, to));
    let trailers = IncomingBody::finish(incoming);
    trailers.subscribe().block();
    let trailers = match trailers.get() {
        Some(Ok(Ok(Some(trailers)))) => Fields::from_list(&trailers.entries()).ok(),
        _ => None,
    };
    let _ = OutgoingBody::finish(body, trailers);
}

/// So many KiB of `x`.
fn stream(out: ResponseOutparam, kib: u64) {
    let body = begin(out, 200);
    let stream = body.write().expect("nobody has it");
    for _ in 0..kib {
        if write(&stream, &[b'x'; 1024]).is_err() {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// Asks `AUTHORITY/PATH` and gives the answer, its status first.
fn fetch(target: &str) -> Result<String, String> {
    let (authority, path) = match target.find('/') {
        Some(at) => target.split_at(at),
        None => (target, "/"),
    };
    let request = OutgoingRequest::new(Fields::new());
    let set = request
        .set_scheme(Some(&Scheme::Http))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)));
    set.map_err(|()| format!("{target:?} is no address"))?;
    let body = request.body().map_err(|()| "no body")?;
    let pending = outgoing_handler::handle(request, None).map_err(|code| code.to_string())?;
    OutgoingBody::finish(body, None).map_err(|code| code.to_string())?;
    pending.subscribe().block();
    let response = match pending.get() {
        Some(Ok(answer)) => answer.map_err(|code| format!("{code:?}"))?,
        _ => return Err("no answer".to_owned()),
    };
    let mut text = format!("{} ", response.status());
    let body = response.consume().map_err(|()| "no body")?;
    let stream = body.stream().map_err(|()| "no stream")?;
    while let Some(bytes) = read(&stream).map_err(|error| error.to_string())? {
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    Ok(text)
}
