//! What the tests share: a CA, clients, an API server's word, and a node with one pod.

use std::collections::HashMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use k8s_openapi::api::authorization::v1::{SubjectAccessReviewSpec, SubjectAccessReviewStatus};
use k8s_openapi::api::core::v1::Pod;
use logs::{Policy, Reader, Stream, Writer};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::backend::{Backend, LogError, ReviewError, Reviews};
use crate::server::{Handle, Limits, serve};
use crate::{Api, CaSource, Check, ClientCa, Health, Serving, Verdict};

/// A CA that signs clients.
pub(super) struct Ca(CertifiedIssuer<'static, KeyPair>);

/// Who a client's certificate is of, and from when until when, in seconds from now.
pub(super) struct Who<'a>(
    pub(super) &'a str,
    pub(super) &'a [&'a str],
    pub(super) [i64; 2],
);

/// A certificate and its key.
pub(super) struct Identity(CertificateDer<'static>, PrivateKeyDer<'static>);

impl Ca {
    pub(super) fn new(name: &str) -> Ca {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Ca(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn source(&self) -> CaSource {
        CaSource::Given(vec![self.0.der().clone()])
    }

    pub(super) fn signs(&self, who: &Who<'_>) -> Identity {
        self.signs_for(who, ExtendedKeyUsagePurpose::ClientAuth)
    }

    pub(super) fn signs_for(&self, who: &Who<'_>, usage: ExtendedKeyUsagePurpose) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, who.0);
        for group in who.1 {
            let name = &mut params.distinguished_name;
            name.push(DnType::OrganizationName, *group);
        }
        let at = |seconds: i64| {
            let away = Duration::from_secs(seconds.unsigned_abs());
            match seconds < 0 {
                true => SystemTime::now() - away,
                false => SystemTime::now() + away,
            }
        };
        params.not_before = at(who.2[0]).into();
        params.not_after = at(who.2[1]).into();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Identity(certificate.der().clone(), key)
    }
}

/// From an hour ago, for an hour.
pub(super) const NOW: [i64; 2] = [-3600, 3600];

/// An API server's word.
#[derive(Default)]
pub(super) struct Word {
    /// Tokens and their users.
    pub(super) tokens: Mutex<HashMap<String, String>>,
    /// `user verb subresource` of what is allowed.
    pub(super) allowed: Mutex<Vec<String>>,
    /// All questions, in their order.
    pub(super) asked: Mutex<Vec<SubjectAccessReviewSpec>>,
    pub(super) token_reviews: AtomicUsize,
    pub(super) gone: AtomicBool,
    /// How many of the next questions fail for the moment.
    pub(super) busy: AtomicUsize,
}

impl Word {
    fn there(&self) -> Result<(), ReviewError> {
        let busy = |left: usize| left.checked_sub(1);
        let transient = self
            .busy
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, busy)
            .is_ok();
        match transient || self.gone.load(Ordering::SeqCst) {
            true => Err(ReviewError {
                message: "connection refused".into(),
                transient,
            }),
            false => Ok(()),
        }
    }

    pub(super) fn allow(&self, what: &str) {
        self.allowed.lock().unwrap().push(what.to_owned());
    }
}

#[async_trait]
impl Reviews for Word {
    async fn token(&self, token: &str) -> Result<TokenReviewStatus, ReviewError> {
        self.token_reviews.fetch_add(1, Ordering::SeqCst);
        self.there()?;
        let user = self.tokens.lock().unwrap().get(token).cloned();
        let status = match user {
            Some(user) => json!({"authenticated": true, "user": {"username": user}}),
            None => json!({"authenticated": false, "error": "invalid bearer token"}),
        };
        Ok(serde_json::from_value(status).unwrap())
    }

    async fn access(
        &self,
        asked: &SubjectAccessReviewSpec,
    ) -> Result<SubjectAccessReviewStatus, ReviewError> {
        self.asked.lock().unwrap().push(asked.clone());
        self.there()?;
        let about = asked.resource_attributes.clone().unwrap();
        let name = format!(
            "{} {} {}",
            asked.user.clone().unwrap(),
            about.verb.unwrap(),
            about.subresource.unwrap()
        );
        Ok(SubjectAccessReviewStatus {
            allowed: self.allowed.lock().unwrap().contains(&name),
            ..Default::default()
        })
    }
}

/// A node with one pod, `default/web`, whose container `main` runs as `c_1` and ran before as `c_0`.
pub(super) struct Node {
    pub(super) folder: tempfile::TempDir,
    /// Whether `c_1` runs.
    pub(super) running: watch::Sender<bool>,
}

impl Node {
    fn new() -> Node {
        Node {
            folder: tempfile::tempdir().unwrap(),
            running: watch::Sender::new(true),
        }
    }

    /// The writer of a run's log.
    pub(super) fn writer(&self, run: u32) -> Writer {
        Writer::open(self.dir(), &run.to_string(), Policy::default()).unwrap()
    }

    fn dir(&self) -> OwnedFd {
        File::open(self.folder.path()).unwrap().into()
    }
}

impl Backend for Node {
    fn pods(&self) -> Vec<Arc<Pod>> {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {"containers": [{"name": "main"}], "initContainers": [{"name": "early"}]},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "main", "image": "i", "imageID": "", "ready": true, "restartCount": 1,
                "containerID": "c_1", "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 1, "containerID": "c_0"}},
            }]},
        });
        vec![Arc::new(serde_json::from_value(pod).unwrap())]
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let known = (namespace, name) == ("default", "web");
        known.then(|| self.pods().remove(0))
    }

    fn configuration(&self) -> serde_json::Value {
        json!({"kubeletconfig": {"maxPods": 7}})
    }

    fn open_log(
        &self,
        _pod: &Pod,
        _container: &str,
        id: &str,
        options: logs::Options,
    ) -> Result<Reader, LogError> {
        let run = id.split('_').next_back().unwrap();
        Reader::open(self.dir(), run, options).map_err(|source| LogError::Log {
            id: id.to_owned(),
            source,
        })
    }

    fn ended(&self, _uid: &str, _container: &str, id: &str) -> BoxFuture<'static, ()> {
        let mut running = self.running.subscribe();
        let over = id != "c_1";
        async move {
            if !over {
                let _ = running.wait_for(|runs| !runs).await;
            }
        }
        .boxed()
    }
}

/// A server, and all that it asks.
pub(super) struct Bench {
    pub(super) ca: Ca,
    pub(super) word: Arc<Word>,
    pub(super) node: Arc<Node>,
    pub(super) at: SocketAddr,
    pub(super) handle: Handle,
}

impl Bench {
    pub(super) async fn new() -> Bench {
        Bench::with(Limits::default()).await
    }

    pub(super) async fn with(limits: Limits) -> Bench {
        let ca = Ca::new("clients");
        let source = ca.source();
        Bench::of(ca, source, limits).await
    }

    pub(super) async fn of(ca: Ca, source: CaSource, limits: Limits) -> Bench {
        let word = Arc::new(Word::default());
        let node = Arc::new(Node::new());
        let health = Health::new(vec![Check::new("syncloop", || Verdict::Good)]);
        let api = Api::new(
            "wasm-1",
            Some(ClientCa::new(source).unwrap()),
            word.clone(),
            node.clone(),
            Arc::new(health),
        );
        let serving = Serving::self_signed("wasm-1", &[Ipv4Addr::LOCALHOST.into()]).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let handle = serve(listener, serving, api, limits).unwrap();
        Bench {
            ca,
            word,
            node,
            at,
            handle,
        }
    }

    /// Somebody who may do everything.
    pub(super) fn admin(&self) -> Identity {
        for verb in ["get", "create"] {
            for what in [
                "pods", "healthz", "configz", "stats", "metrics", "proxy", "log",
            ] {
                self.word.allow(&format!("admin {verb} {what}"));
            }
        }
        self.ca.signs(&Who("admin", &["masters"], NOW))
    }

    pub(super) async fn client(&self, identity: Option<Identity>) -> Client {
        Client::new(tls(self.at, identity, &[b"http/1.1"]).await.unwrap()).await
    }
}

/// Takes any server: this is about clients.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = crate::tls::provider();
        let all = provider.signature_verification_algorithms;
        all.supported_schemes()
    }
}

/// A TLS connection, with or without a certificate of one's own.
pub(super) async fn tls(
    at: SocketAddr,
    identity: Option<Identity>,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let builder = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    let mut config = match identity {
        Some(Identity(certificate, key)) => builder
            .with_client_auth_cert(vec![certificate], key)
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(at).await?;
    let name = ServerName::try_from("wasm-1").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await
}

/// One connection of HTTP/1.1.
pub(super) struct Client(hyper::client::conn::http1::SendRequest<Empty<Bytes>>);

impl Client {
    pub(super) async fn new(
        io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    ) -> Client {
        let io = TokioIo::new(io);
        let (send, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Client(send)
    }

    /// The head of an answer, and its body as it comes.
    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        token: Option<&str>,
    ) -> hyper::Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.0.ready().await?;
        let request = request.body(Empty::new()).unwrap();
        self.0.send_request(request).await
    }

    pub(super) async fn get(&mut self, path: &str) -> (u16, String) {
        self.get_as(path, None).await
    }

    pub(super) async fn get_as(&mut self, path: &str, token: Option<&str>) -> (u16, String) {
        let answer = self.send(Method::GET, path, token).await.unwrap();
        whole(answer).await
    }
}

pub(super) async fn whole(answer: Response<Incoming>) -> (u16, String) {
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

/// Writes lines to a log.
pub(super) fn say(writer: &mut Writer, text: &str) {
    writer.write(Stream::Stdout, text.as_bytes()).unwrap();
}

/// Reads of a body until it has all of a text.
pub(super) async fn hear(body: &mut Incoming, text: &str) {
    let mut heard = Vec::new();
    while heard.len() < text.len() {
        let frame = body.frame().await.expect("more comes").unwrap();
        heard.extend_from_slice(frame.data_ref().unwrap());
    }
    assert_eq!(String::from_utf8(heard).unwrap(), text);
}
