//! Clients that are broken, slow or hostile.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::bench::{Bench, Client, tls};
use crate::server::{BindError, Limits, bind, serve_health};
use crate::{Check, Health, Verdict};

const SOON: Duration = Duration::from_millis(50);

/// Reads until the server closes; what it said.
async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut said).await;
    said
}

#[tokio::test]
async fn garbage_ends_a_connection_and_nothing_else() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        &[0; 4096],
        &[0x16, 3, 1, 255, 255, 1],
    ] {
        let mut stream = TcpStream::connect(bench.at).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        rest(&mut stream).await;
    }
    let mut stream = tls(bench.at, None, &[b"http/1.1"]).await.unwrap();
    stream
        .write_all(b"\x00\x01\x02 not http\r\n\r\n")
        .await
        .unwrap();
    let said = String::from_utf8(rest(&mut stream).await).unwrap();
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    let mut client = bench.client(Some(admin)).await;
    assert_eq!(client.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn heads_have_a_limit() {
    let bench = Bench::new().await;
    let mut stream = tls(bench.at, None, &[b"http/1.1"]).await.unwrap();
    let head = format!(
        "GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(256 << 10)
    );
    // It may close before it has heard all of it.
    let _ = stream.write_all(head.as_bytes()).await;
    let said = String::from_utf8(rest(&mut stream).await).unwrap();
    assert!(
        said.starts_with("HTTP/1.1 431") || said.is_empty(),
        "{said}"
    );
}

#[tokio::test]
async fn who_says_nothing_is_closed() {
    let bench = Bench::with(Limits {
        handshake: SOON,
        idle: SOON,
        ..Limits::default()
    })
    .await;
    let mut half = TcpStream::connect(bench.at).await.unwrap();
    assert_eq!(rest(&mut half).await, b"", "no handshake");
    for begun in ["", "GET /healthz HTTP/1.1\r\nHost: "] {
        let mut stream = tls(bench.at, None, &[b"http/1.1"]).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let said = String::from_utf8(rest(&mut stream).await).unwrap();
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 408"),
            "{said}"
        );
    }
    let mut stream = tls(bench.at, None, &[b"h2"]).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream
        .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    rest(&mut stream).await;
}

#[tokio::test]
async fn connections_are_bounded_and_the_next_one_waits() {
    let bench = Bench::with(Limits {
        connections: 2,
        ..Limits::default()
    })
    .await;
    let first = tls(bench.at, None, &[]).await.unwrap();
    let _second = tls(bench.at, None, &[]).await.unwrap();
    let mut third = Box::pin(tls(bench.at, Some(bench.admin()), &[b"http/1.1"]));
    tokio::select! {
        biased;
        _ = &mut third => panic!("one more than there may be"),
        // Whoever is served in the meantime shows that the server had its turn.
        () = served() => {}
    }
    drop(first);
    let mut client = Client::new(third.await.unwrap()).await;
    assert_eq!(client.get("/healthz").await.0, 200);
}

/// A connection of another server on the same runtime, from its beginning to its end.
async fn served() {
    let other = Bench::new().await;
    let mut client = other.client(Some(other.admin())).await;
    assert_eq!(client.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn who_has_no_name_is_not_kept() {
    let bench = Bench::new().await;
    let mut stream = tls(bench.at, None, &[b"http/1.1"]).await.unwrap();
    stream
        .write_all(b"GET /pods HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let said = String::from_utf8(rest(&mut stream).await).unwrap();
    assert!(said.starts_with("HTTP/1.1 401"), "{said}");
    assert!(said.contains("connection: close"), "{said}");
}

#[tokio::test]
async fn a_port_is_free_and_not_zero() {
    let local = Ipv4Addr::LOCALHOST.into();
    assert!(matches!(bind(local, 0).await, Err(BindError::Zero)));
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let busy = bind(local, port).await.unwrap_err().to_string();
    assert_eq!(
        busy,
        format!("port {port} of 127.0.0.1 is in use by another process")
    );
    drop(taken);
    bind(local, port).await.unwrap();
}

#[tokio::test]
async fn health_is_told_in_plain_and_nothing_else() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let check = Check::new("syncloop", || Verdict::Bad("it stands still".into()));
    let health = Arc::new(Health::new(vec![check]));
    let _handle = serve_health(listener, health, Limits::default());
    let mut client = Client::new(TcpStream::connect(at).await.unwrap()).await;
    assert_eq!(client.get("/healthz").await.0, 500);
    assert_eq!(client.get("/healthz/ping").await, (200, "ok".into()));
    assert_eq!(
        client.get("/healthz?exclude=syncloop").await,
        (200, "ok".into())
    );
    assert_eq!(client.get("/pods").await.0, 404);
}
