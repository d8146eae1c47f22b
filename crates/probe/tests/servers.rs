//! Probes of real servers on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use probe::{HttpGet, Outcome, Scheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

type Body = BoxBody<Bytes, Infallible>;

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    response.body(body.boxed()).unwrap()
}

/// A server of HTTP/1.1 on loopback; its port.
async fn serve(answers: fn(&Request<Incoming>) -> Response<Body>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |request| {
                let response = answers(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    port
}

fn get(port: u16, path: &str) -> HttpGet {
    HttpGet {
        scheme: Scheme::Http,
        host: "127.0.0.1".to_owned(),
        port,
        path: path.to_owned(),
        headers: Vec::new(),
        user_agent: "kube-probe/1.36".to_owned(),
    }
}

fn pages(request: &Request<Incoming>) -> Response<Body> {
    match request.uri().path() {
        "/well" => answer(200, &[], "fine"),
        "/moved" => answer(302, &[("location", "/well")], ""),
        "/round" => answer(302, &[("location", "/round")], ""),
        "/away" => answer(301, &[("location", "http://elsewhere.test/")], "gone"),
        "/none" => answer(404, &[], "secret"),
        "/headers" => {
            let shown = ["user-agent", "accept", "host", "connection", "x-own"];
            let lines = shown.map(|name| {
                let value = request.headers().get(name);
                value
                    .map_or("-", |value| value.to_str().unwrap())
                    .to_owned()
            });
            answer(200, &[], &lines.join("|"))
        }
        "/large" => answer(200, &[], &"x".repeat(50_000)),
        other => answer(500, &[], other),
    }
}

#[tokio::test]
async fn an_answer_of_two_or_three_hundred_is_a_success() {
    let port = serve(pages).await;
    let ask =
        |path: &'static str| async move { probe::http(&get(port, path), LONG).await.unwrap() };
    assert_eq!(ask("/well").await, Outcome::Success("fine".to_owned()));
    assert_eq!(ask("well").await, Outcome::Success("fine".to_owned()));
    assert_eq!(ask("/moved").await, Outcome::Success("fine".to_owned()));
    assert_eq!(
        ask("/away").await,
        Outcome::Warning("Probe terminated redirects, Response body: gone".to_owned())
    );
    // The body may hold what nobody is to read in an event.
    assert_eq!(
        ask("/none").await,
        Outcome::Failure("HTTP probe failed with statuscode: 404".to_owned())
    );
    let Outcome::Failure(said) = ask("/round").await else {
        panic!("it goes round for ever")
    };
    assert!(said.ends_with("stopped after 10 redirects"), "{said}");
    let Outcome::Success(said) = ask("/large").await else {
        panic!("a large answer is one too")
    };
    assert_eq!(said.len(), probe::MOST);
}

#[tokio::test]
async fn headers_are_the_kubelets_unless_the_pod_says_otherwise() {
    let port = serve(pages).await;
    let said = |get: HttpGet| async move {
        match probe::http(&get, LONG).await.unwrap() {
            Outcome::Success(said) => said,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        said(get(port, "/headers")).await,
        format!("kube-probe/1.36|*/*|127.0.0.1:{port}|close|-")
    );
    let own = HttpGet {
        headers: [
            ("User-Agent", "me"),
            ("Accept", ""),
            ("Host", "own.test"),
            ("X-Own", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
        ..get(port, "/headers")
    };
    assert_eq!(said(own).await, "me|-|own.test|close|1");
}

/// A port that nothing listens on.
async fn nobody() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn who_does_not_answer_is_not_well() {
    let closed = nobody().await;
    let refused = format!("dial tcp 127.0.0.1:{closed}: connect: connection refused");
    assert_eq!(
        probe::http(&get(closed, "/x"), LONG).await.unwrap(),
        Outcome::Failure(format!("Get \"http://127.0.0.1:{closed}/x\": {refused}"))
    );
    assert_eq!(
        probe::tcp("127.0.0.1", closed, LONG).await,
        Outcome::Failure(refused)
    );
    assert_eq!(
        probe::grpc("127.0.0.1", closed, "", "me", SHORT).await,
        Outcome::Failure(format!(
            "timeout: failed to connect service \"127.0.0.1:{closed}\" within 0s: context deadline exceeded"
        ))
    );
    // One that takes the connection and says nothing: nobody accepts, so the kernel does.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let Outcome::Failure(said) = probe::http(&get(port, "/"), SHORT).await.unwrap() else {
        panic!("silence is no answer")
    };
    assert!(said.contains("context deadline exceeded"), "{said}");
    let Outcome::Failure(said) = probe::grpc("127.0.0.1", port, "", "me", SHORT).await else {
        panic!("silence is no answer")
    };
    assert!(said.starts_with("timeout: health rpc"), "{said}");
    assert_eq!(
        probe::tcp("127.0.0.1", port, LONG).await,
        Outcome::Success(String::new())
    );
}

#[tokio::test]
async fn who_speaks_something_else_is_not_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = [0; 512];
            let _ = stream.read(&mut read).await;
            let _ = stream.write_all(b"\x00\x01 what?\r\n\r\n").await;
        }
    });
    assert!(matches!(
        probe::http(&get(port, "/"), LONG).await,
        Ok(Outcome::Failure(_))
    ));
    assert!(matches!(
        probe::grpc("127.0.0.1", port, "", "me", LONG).await,
        Outcome::Failure(_)
    ));
    let wrong = HttpGet {
        headers: vec![("bad name".to_owned(), "x".to_owned())],
        ..get(port, "/")
    };
    assert!(matches!(
        probe::http(&wrong, LONG).await,
        Ok(Outcome::Failure(_))
    ));
    // A hook takes any answer, but none is none.
    assert!(probe::answers(&get(port, "/"), LONG).await.is_err());
    let pages = serve(pages).await;
    let by_tls = HttpGet {
        scheme: Scheme::Https,
        ..get(pages, "/well")
    };
    let clear = probe::answers(&by_tls, LONG).await.unwrap_err();
    assert!(clear.in_the_clear, "{clear}");
    let closed = HttpGet {
        scheme: Scheme::Https,
        ..get(nobody().await, "/")
    };
    let refused = probe::answers(&closed, LONG).await.unwrap_err();
    assert!(!refused.in_the_clear, "{refused}");
    assert!(probe::answers(&get(pages, "/none"), LONG).await.is_ok());
}

/// A server that promises more of a body than it sends: its port. With `lingers` the connection stays.
async fn half(lingers: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = [0; 512];
            let _ = stream.read(&mut read).await;
            let text = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
            stream.write_all(text).await.unwrap();
            if lingers {
                held.push(stream);
            }
        }
    });
    port
}

#[tokio::test]
async fn a_body_that_breaks_off_or_does_not_end_proves_nothing() {
    let port = half(false).await;
    assert!(probe::http(&get(port, "/"), LONG).await.is_err());
    assert_eq!(probe::answers(&get(port, "/"), LONG).await, Ok(()));
    let port = half(true).await;
    let slow = probe::http(&get(port, "/"), SHORT).await.unwrap_err();
    assert!(slow.to_string().contains("while reading body"), "{slow}");
}

#[tokio::test]
async fn a_path_of_any_letters_is_asked_for() {
    let port = serve(|request| answer(200, &[], request.uri().path())).await;
    for (path, seen) in [("/a b", "/a%20b"), ("/100%", "/100%25"), ("/ü", "/%C3%BC")] {
        let said = probe::http(&get(port, path), LONG).await;
        assert_eq!(said, Ok(Outcome::Success(seen.to_owned())), "{path}");
    }
}

#[tokio::test]
async fn a_service_of_grpc_may_come_while_it_is_waited_for() {
    // Bound, so that nobody else takes the port, and refusing until it listens.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let asked = tokio::spawn(probe::grpc("127.0.0.1", port, "", "me", LONG));
    // Nothing tells that it was refused once; if it was not, the answer is the same.
    tokio::task::yield_now().await;
    let listener = socket.listen(1).unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    tokio::spawn(converse(stream));
    let healthy = Outcome::Success("service healthy".to_owned());
    assert_eq!(asked.await.unwrap(), healthy);
}

#[tokio::test]
async fn a_certificate_that_nobody_knows_is_as_good_as_any() {
    let made = rcgen::generate_simple_self_signed(vec!["other.test".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let service = service_fn(|request| async move { Ok::<_, Infallible>(pages(&request)) });
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        }
    });
    let get = HttpGet {
        scheme: Scheme::Https,
        ..get(port, "/well")
    };
    assert_eq!(
        probe::http(&get, LONG).await,
        Ok(Outcome::Success("fine".to_owned()))
    );
}

/// What a gRPC server says: the message's bytes, and the trailers' status.
fn health(request: &Request<()>, service: &[u8]) -> Response<Body> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    let (message, status): (&'static [u8], &'static str) = match service {
        b"" | b"well" => (&[0, 0, 0, 0, 2, 8, 1], "0"),
        b"ill" => (&[0, 0, 0, 0, 2, 8, 2], "0"),
        b"cut" => (&[0, 0, 0, 0, 2, 8, 1], ""),
        _ => (&[], "5"),
    };
    if status.is_empty() {
        let frames = [Ok::<_, Infallible>(Frame::data(Bytes::from_static(
            message,
        )))];
        let body = StreamBody::new(futures::stream::iter(frames));
        return Response::new(BodyExt::boxed(body));
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    trailers.insert("grpc-message", "unknown service".parse().unwrap());
    let frames = [
        Frame::data(Bytes::from_static(message)),
        Frame::trailers(trailers),
    ];
    let frames = frames.map(Ok::<_, Infallible>);
    Response::new(BodyExt::boxed(StreamBody::new(futures::stream::iter(
        frames,
    ))))
}

async fn converse(stream: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let service = body.get(7..).unwrap_or_default().to_vec();
        let request = Request::from_parts(parts, ());
        Ok::<_, Infallible>(health(&request, &service))
    });
    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

#[tokio::test]
async fn a_service_of_grpc_says_how_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(converse(stream));
        }
    });
    let ask = |service: &'static str| async move {
        probe::grpc("127.0.0.1", port, service, "kube-probe/1.36", LONG).await
    };
    let healthy = Outcome::Success("service healthy".to_owned());
    assert_eq!(ask("").await, healthy);
    assert_eq!(ask("well").await, healthy);
    assert_eq!(
        ask("ill").await,
        Outcome::Failure("service unhealthy (responded with \"NOT_SERVING\")".to_owned())
    );
    // Without the status that ends it, an answer may be half of one.
    assert!(matches!(ask("cut").await, Outcome::Failure(_)));
    assert_eq!(
        ask("strange").await,
        Outcome::Failure(
            "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"
                .to_owned()
        )
    );
}
