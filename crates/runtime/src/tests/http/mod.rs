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
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::Host;
use crate::http::HttpSpec;
use crate::local::LocalConfig;
use crate::spec::{GuestFds, GuestId, GuestSpec};

/// Longer than anything takes that does not hang.
const GUARD: Duration = Duration::from_secs(120);

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
        let found = async {
            while !self.host.log(&self.id).iter().any(said) {
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(GUARD, found).await;
        assert!(
            found.is_ok(),
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
