//! Connections, with Go's words for what keeps them from being made.

use std::io;

use tokio::net::TcpStream;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("dial tcp {at}: {}", words(source))]
pub(crate) struct DialError {
    at: String,
    #[source]
    source: io::Error,
}

/// As a URL has it: an IPv6 address in brackets.
pub(crate) fn authority(host: &str, port: u16) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

pub(crate) async fn dial(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let connected = TcpStream::connect((bare, port)).await;
    let stream = connected.map_err(|source| DialError {
        at: authority(host, port),
        source,
    })?;
    // A request is one small write: it is not to wait for another.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "connect: connection timed out".to_owned(),
        _ => error.to_string(),
    }
}
