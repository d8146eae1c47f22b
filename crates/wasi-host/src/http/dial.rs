//! From a host's name to a connection.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Scheme;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi_http::Error;

use super::rules::unbracketed;
use super::{Client, error, tls};
use crate::Network;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

impl Target {
    pub(super) fn of(uri: &Uri) -> Result<Target, Error> {
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        let host = unbracketed(authority.host());
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let port = match (authority.port(), is_tls) {
            (Some(port), _) => port.as_u16(),
            (None, true) => 443,
            (None, false) => 80,
        };
        Ok(Target {
            host: host.to_owned(),
            port,
            is_tls,
        })
    }
}

/// A connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether the other side has chosen HTTP/2.
    pub(super) fn is_h2(&self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

/// Connects.
///
/// # Errors
/// The name is unknown, the network does not let it, nobody is there, or TLS fails.
pub(super) async fn dial(client: &Client, target: &Target) -> Result<Stream, Error> {
    let stream = connect(client, lookup(client, target).await?).await?;
    // A request is written in one piece, and its answer should not wait for another.
    stream
        .set_nodelay(true)
        .map_err(|e| error::connecting(&e))?;
    if !target.is_tls {
        return Ok(Stream::Plain(stream));
    }
    let name = match target.host.parse::<IpAddr>() {
        Ok(ip) => ServerName::from(ip),
        Err(_) => {
            ServerName::try_from(target.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)?
        }
    };
    let connector = TlsConnector::from(tls::config(client).await?);
    let stream = connector.connect(name, stream).await;
    let stream = stream.map_err(|e| error::handshaking(&e))?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// The addresses of a name, by the machine's own resolver.
async fn lookup(client: &Client, target: &Target) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(ip) = target.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, target.port)]);
    }
    let (host, port) = (target.host.clone(), target.port);
    let found = client
        .blocking
        .run(move || (host.as_str(), port).to_socket_addrs())
        .await
        .map_err(|error| Error::InternalError(Some(error.to_string())))?;
    let unknown = |rcode: String| Error::DnsError {
        rcode: Some(rcode),
        info_code: None,
    };
    let addresses: Vec<_> = found.map_err(|e| unknown(e.to_string()))?.collect();
    match addresses.is_empty() {
        true => Err(unknown("the name has no address".to_owned())),
        false => Ok(addresses),
    }
}

/// Connects to the first address that answers.
async fn connect(client: &Client, addresses: Vec<SocketAddr>) -> Result<TcpStream, Error> {
    let mut failed = Error::DestinationIpProhibited;
    for address in addresses {
        let Some(address) = client.network.outgoing(address) else {
            continue;
        };
        match connect_to(client.network, address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error::connecting(&error),
        }
    }
    Err(failed)
}

/// Connects from where the network has its guests, to an address that it allows.
async fn connect_to(network: Network, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    if let Some(source) = network.source(to) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(to).await
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
