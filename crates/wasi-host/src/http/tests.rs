//! Requests to servers of this machine, good and bad ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::*;

/// As a guest in the pod 127.0.0.1, which reaches what listens there.
const NETWORK: Network = Network::Pod {
    ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
};

const GUARD: Duration = Duration::from_secs(60);

fn client() -> Client {
    let rules = OutgoingHttp::default();
    Client::new(rules, NETWORK, Charge::default(), Blocking::new(2))
}

fn request(uri: &str, text: &'static str) -> Request<WasiBody> {
    let body = Full::new(Bytes::from_static(text.as_bytes()));
    let body = body.map_err(|never| match never {}).boxed_unsync();
    Request::post(uri).body(body).unwrap()
}

/// Asks, and reads the whole answer: its version and its body.
async fn ask(
    client: Client,
    uri: &str,
    options: RequestOptions,
) -> Result<(Version, String), Error> {
    let asked = async {
        let sent = send(Arc::new(client), request(uri, "a body"), Some(options)).await;
        let (response, connection) = sent?;
        // As the guest's store would hold it.
        let connection = tokio::spawn(Box::into_pin(connection));
        let version = response.version();
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        Ok((version, String::from_utf8(body.to_vec()).unwrap()))
    };
    tokio::time::timeout(GUARD, asked).await.expect("an end")
}

async fn fails(client: Client, uri: &str) -> Error {
    ask(client, uri, RequestOptions::default())
        .await
        .unwrap_err()
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Gives back what it is sent, and what it was asked for.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let host = match request.uri().authority() {
        Some(authority) => authority.to_string(),
        None => request.headers()["host"].to_str().unwrap().to_owned(),
    };
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let text = format!("{host} {path} {}", String::from_utf8_lossy(&body));
    Ok(Response::new(Full::new(text.into())))
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    let builder = Builder::new(TokioExecutor::new());
    let served = builder.serve_connection(TokioIo::new(stream), service_fn(echo));
    // The client closes as it likes.
    drop(served.await);
}

/// A server that says these bytes, whatever it is asked, and then holds the connection or closes it.
async fn says(bytes: &'static [u8], holds: bool) -> String {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut asked = [0; 1024];
        let _asked = stream.read(&mut asked).await?;
        stream.write_all(bytes).await?;
        if holds {
            std::future::pending::<Infallible>().await;
        }
        Ok::<_, std::io::Error>(())
    });
    format!("http://{address}/")
}

#[tokio::test]
async fn a_request_goes_by_name_or_address_and_its_answer_comes_back() {
    for host in ["127.0.0.1", "localhost"] {
        let (listener, address) = listen().await;
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            serve(stream).await;
        });
        let authority = format!("{host}:{}", address.port());
        let uri = format!("http://{authority}/path");
        let answer = ask(client(), &uri, RequestOptions::default()).await;
        let expected = format!("{authority} /path a body");
        assert_eq!(answer.unwrap(), (Version::HTTP_11, expected));
    }
}

/// A key pair for `localhost`: what a server has, and what a client trusts.
fn identity(protocols: &[&str]) -> (ServerConfig, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .unwrap();
    server.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = tls::protocols();
    (server, client)
}

/// A server of TLS; its port.
async fn secure(config: ServerConfig) -> u16 {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(stream) = acceptor.accept(stream).await {
            serve(stream).await;
        }
    });
    address.port()
}

#[tokio::test]
async fn over_tls_the_other_side_chooses_the_version() {
    for (protocols, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"][..], Version::HTTP_11),
        (&[][..], Version::HTTP_11),
    ] {
        let (server, trusts) = identity(protocols);
        let port = secure(server).await;
        let client = Client {
            trusts: Some(Arc::new(trusts)),
            ..client()
        };
        let uri = format!("https://localhost:{port}/");
        let answer = ask(client, &uri, RequestOptions::default()).await;
        let expected = format!("localhost:{port} / a body");
        assert_eq!(answer.unwrap(), (version, expected), "{protocols:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_here_trusts_is_refused() {
    let (server, _) = identity(&[]);
    let (_, trusts) = identity(&[]);
    let port = secure(server).await;
    let client = Client {
        trusts: Some(Arc::new(trusts)),
        ..client()
    };
    let error = fails(client, &format!("https://localhost:{port}/")).await;
    assert!(matches!(error, Error::TlsCertificateError), "{error:?}");
}

#[tokio::test]
async fn what_may_not_be_asked_is_not_dialled() {
    let (listener, address) = listen().await;
    let rules = OutgoingHttp {
        allowed: Some(vec!["example.com".parse().unwrap()]),
        ..OutgoingHttp::default()
    };
    let blocking = Blocking::new(1);
    let charge = Charge::default();
    let listed = Client::new(rules, NETWORK, charge.clone(), blocking.clone());
    let uri = format!("http://{address}/");
    let error = fails(listed, &uri).await;
    assert!(matches!(error, Error::HttpRequestDenied), "{error:?}");
    let outside = Client::new(OutgoingHttp::default(), Network::Node, charge, blocking);
    let error = fails(outside, &uri).await;
    assert!(matches!(error, Error::DestinationIpProhibited), "{error:?}");
    drop(listener);
    let error = fails(client(), &uri).await;
    assert!(matches!(error, Error::ConnectionRefused), "{error:?}");
    let error = fails(client(), "http://no-such-name.invalid/").await;
    assert!(matches!(error, Error::DnsError { .. }), "{error:?}");
}

#[tokio::test]
async fn what_no_answer_is_is_told() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal";
    let garbage = fails(client(), &says(b"SSH-2.0-thing\r\n", false).await).await;
    assert!(matches!(garbage, Error::HttpProtocolError), "{garbage:?}");
    let nothing = fails(client(), &says(b"", false).await).await;
    assert!(
        matches!(
            nothing,
            Error::HttpResponseIncomplete | Error::ConnectionTerminated
        ),
        "{nothing:?}"
    );
    let half = fails(client(), &says(head, false).await).await;
    assert!(
        matches!(
            half,
            Error::HttpResponseIncomplete | Error::ConnectionTerminated
        ),
        "{half:?}"
    );
}

#[tokio::test]
async fn the_guests_own_timeouts_hold() {
    let soon = Some(Duration::from_millis(100));
    let silent = RequestOptions {
        first_byte_timeout: soon,
        ..RequestOptions::default()
    };
    let error = ask(client(), &says(b"", true).await, silent)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::HttpResponseTimeout), "{error:?}");
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal";
    let stuck = RequestOptions {
        between_bytes_timeout: soon,
        ..RequestOptions::default()
    };
    let error = ask(client(), &says(head, true).await, stuck)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::ConnectionReadTimeout), "{error:?}");
}
