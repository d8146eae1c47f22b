//! Servers with a real client: the guest `server`, on the kernel's ports.

mod ends;
mod limits;
mod preview3;
mod streams;

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use guests::{Guest, Missing};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Collected, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{GUARD, Host, comes, until};
use crate::http::HttpSpec;
use crate::local::LocalConfig;
use crate::spec::{GuestFds, GuestId, GuestSpec};

type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

/// The guest's code, compiled once; `None` where Rust's guests were left out on this machine.
fn code() -> Option<OwnedFd> {
    static CODE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let compile = || {
        let path = match guests::path(Guest::RustServer) {
            Ok(path) => path,
            Err(missing @ Missing::LeftOut { .. }) => {
                println!("not run: {missing}");
                return None;
            }
            Err(missing) => panic!("{missing}"),
        };
        let engine = crate::engine::compiler(crate::engine::Calls::Sequential).unwrap();
        let wasm = std::fs::read(path).unwrap();
        let (mut file, path) = tempfile::NamedTempFile::new().unwrap().keep().unwrap();
        let code = engine.precompile_component(&wasm).unwrap();
        std::io::Write::write_all(&mut file, &code).unwrap();
        Some(path)
    };
    let path = CODE.get_or_init(compile).as_ref()?;
    Some(File::open(path).unwrap().into())
}

/// A server that runs.
struct Served {
    host: Host,
    id: GuestId,
    address: SocketAddr,
}

/// Starts the guest `server`; `change` may change its spec.
async fn serve(change: impl FnOnce(&mut GuestSpec)) -> Option<Served> {
    let host = Host::with(LocalConfig {
        workers: Some(1),
        room: None,
    });
    let (spec, fds, address) = guest(&host)?;
    let mut spec = spec;
    change(&mut spec);
    let id = host.start((spec, fds)).await;
    Some(Served { host, id, address })
}

/// The guest `server`, as yet unstarted, and where it will be.
fn guest(host: &Host) -> Option<(GuestSpec, GuestFds, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (mut spec, mut fds) = host.guest("(module)");
    fds.code = code()?;
    fds.listeners = vec![listener.into()];
    spec.http = Some(HttpSpec::default());
    Some((spec, fds, address))
}

impl Served {
    async fn get(&self, path: &str) -> (StatusCode, String) {
        read(self.client().await.ask(get(path)).await.unwrap()).await
    }

    async fn client(&self) -> Client {
        Client::of(self.address).await
    }

    /// Resolves when the guest has logged a line that holds this.
    async fn says(&self, what: &str) {
        self.says_one_of(&[what]).await;
    }

    async fn says_one_of(&self, what: &[&str]) {
        let said = |line: &String| what.iter().any(|what| line.contains(what));
        let logged = || self.host.log(&self.id).iter().any(said);
        assert!(
            comes(logged).await,
            "no {what:?} in {:?}",
            self.host.log(&self.id)
        );
    }

    async fn stop(&self, grace: Duration) -> crate::spec::Exited {
        self.host.local.stop(&self.id, grace).await.unwrap();
        self.host.end(&self.id).await
    }
}

/// A connection of HTTP/1.1.
struct Client(http1::SendRequest<Body>);

impl Client {
    async fn of(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Client(sender)
    }

    async fn ask(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        self.0.ready().await?;
        let answer = tokio::time::timeout(GUARD, self.0.send_request(request)).await;
        answer.expect("an answer, or an end")
    }
}

/// A request of `/echo` that is being answered, and is for as long as its body goes on.
struct Echo {
    pieces: mpsc::Sender<Frame<Bytes>>,
    answer: Incoming,
}

impl Echo {
    /// Asks, and gets the answer's head, which comes with the first piece.
    async fn begun(address: SocketAddr, first: &'static str) -> Echo {
        let (pieces, mut sent) = mpsc::channel(1);
        let body =
            futures::stream::poll_fn(move |cx| sent.poll_recv(cx).map(|piece| piece.map(Ok)));
        let request = Request::post(format!("http://{address}/echo"));
        let request = request.body(StreamBody::new(body).boxed()).unwrap();
        let mut sender = h2c(address).await;
        let asked = tokio::spawn(async move { sender.send_request(request).await });
        let piece = Frame::data(Bytes::from_static(first.as_bytes()));
        pieces.send(piece).await.unwrap();
        let answer = tokio::time::timeout(GUARD, asked).await;
        let answer = answer.expect("an answer").unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        Echo {
            pieces,
            answer: answer.into_body(),
        }
    }

    async fn send(&self, piece: Frame<Bytes>) {
        self.pieces.send(piece).await.unwrap();
    }

    /// The next piece that is given back.
    async fn back(&mut self) -> Bytes {
        let frame = tokio::time::timeout(GUARD, self.answer.frame()).await;
        frame.unwrap().unwrap().unwrap().into_data().unwrap()
    }

    /// Ends the request's body, for the rest of the answer's.
    async fn end(self) -> Collected<Bytes> {
        drop(self.pieces);
        let rest = tokio::time::timeout(GUARD, self.answer.collect()).await;
        rest.expect("an end").unwrap()
    }
}

/// A connection of HTTP/2 without TLS.
async fn h2c(address: SocketAddr) -> http2::SendRequest<Body> {
    let stream = TcpStream::connect(address).await.unwrap();
    let io = TokioIo::new(stream);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn get(path: &str) -> Request<Body> {
    let request = Request::builder().uri(path).header("host", "server");
    request.body(Full::default().boxed()).unwrap()
}

/// An answer's status, and its body, which has to be whole.
async fn read(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let body = tokio::time::timeout(GUARD, response.into_body().collect()).await;
    let bytes = body.expect("an end").unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}
