//! Who asks, whom one believes, and where a registry may send one: tokens, TLS, redirects.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]
mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use common::registry::{Registry, Reply, Request, is_blob};
use common::{Made, Place, Tar, WASM, wasi};
use image::{Certificates, Credentials, Error, Image, PullOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

fn options() -> PullOptions {
    PullOptions {
        backoff: Duration::from_millis(1),
        attempts: 3,
        ..PullOptions::default()
    }
}

fn app() -> Made {
    wasi(&[
        Tar::default().file("app.wasm", WASM).bytes(),
        Tar::default().file("data", &[7; 5000]).bytes(),
    ])
}

async fn pull(registry: &Registry, options: &PullOptions) -> Result<Image, Error> {
    let place = Place::new();
    let name = registry.reference("app:v1");
    place.store.pull(&name, options).await
}

/// A registry that gives tokens by `tokens`, and takes those that `is_good`.
async fn with_tokens(
    tokens: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    is_good: impl Fn(&Request, &str) -> bool + Send + Sync + 'static,
) -> Registry {
    let realm = Arc::new(OnceLock::<String>::new());
    let known = realm.clone();
    let registry = Registry::start(&app(), move |r| {
        if r.path.starts_with("/token") {
            return Some(tokens(r));
        }
        if r.path == "/v2/" {
            return None;
        }
        let shown = r.header("authorization").unwrap_or_default();
        let token = shown.strip_prefix("Bearer ").unwrap_or_default();
        (!is_good(r, token)).then(|| {
            let scope = "repository:app:pull";
            let realm = known.get().unwrap();
            Reply::challenge(format!(
                r#"Bearer realm="http://{realm}/token",service="the registry",scope="{scope}""#
            ))
        })
    })
    .await;
    realm.set(registry.address.to_string()).unwrap();
    registry
}

#[tokio::test]
async fn a_refresh_token_is_posted_and_never_shown_elsewhere() {
    let registry = with_tokens(
        |r| {
            let fields = [
                "grant_type=refresh_token",
                "service=the+registry",
                "client_id=coracle",
                "scope=repository%3Aapp%3Apull",
                "refresh_token=identity",
            ];
            let right = fields.iter().all(|f| r.body.contains(f));
            match right && r.path == "/token" && r.header("authorization").is_none() {
                true => Reply::ok(br#"{"access_token":"abc","expires_in":60}"#),
                false => Reply::Answer(400, vec![], br#"{"error":"invalid_grant"}"#.to_vec()),
            }
        },
        |_, token| token == "abc",
    )
    .await;
    let with = |token: &str| PullOptions {
        credentials: Credentials::Identity(token.to_owned()),
        ..options()
    };
    pull(&registry, &with("identity")).await.unwrap();
    let error = pull(&registry, &with("stale")).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(!format!("{error:?} {:?}", with("stale")).contains("stale"));
}

#[tokio::test]
async fn one_token_serves_a_pull_and_an_expired_one_is_asked_for_again() {
    let (given, used) = (Arc::new(AtomicUsize::new(0)), Mutex::new(0));
    let counter = given.clone();
    let registry = with_tokens(
        move |r| {
            assert!(
                r.path.contains("scope=repository%3Aapp%3Apull"),
                "{}",
                r.path
            );
            let n = counter.fetch_add(1, Ordering::Relaxed);
            Reply::ok(format!(r#"{{"token":"t{n}"}}"#).as_bytes())
        },
        move |_, token| {
            // The first is good for two requests, in the middle of a pull of four.
            let mut used = used.lock().unwrap();
            *used += usize::from(token == "t0");
            token.starts_with('t') && (token != "t0" || *used <= 2)
        },
    )
    .await;
    let one_by_one = PullOptions {
        parallel: 1,
        ..options()
    };
    pull(&registry, &one_by_one).await.unwrap();
    assert_eq!(given.load(Ordering::Relaxed), 2);
    // Side by side as well: whoever is refused while another asks takes what that one got.
    pull(&registry, &options()).await.unwrap();
}

#[tokio::test]
async fn a_token_service_that_stumbles_or_lies() {
    let flaky = with_tokens(
        |r| match r.before {
            0 => Reply::status(503),
            1 => Reply::Answer(429, vec![("Retry-After", "0".to_owned())], vec![]),
            _ => Reply::ok(br#"{"token":"abc"}"#),
        },
        |_, token| token == "abc",
    );
    pull(&flaky.await, &options()).await.unwrap();
    for (answer, word) in [
        (&b"{}"[..], "no token"),
        (b"<html>", "no token"),
        (br#"{"token":"a b\r\nx: y"}"#, "no token"),
        (&[b' '; 300 << 10], "more than"),
    ] {
        let answer = answer.to_vec();
        let registry = with_tokens(move |_| Reply::ok(&answer), |_, token| token == "abc");
        let error = pull(&registry.await, &options()).await.unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, Error::Protocol { .. }) && text.contains(word),
            "{text}"
        );
    }
    // A token that is refused at once is not asked for again and again.
    let useless = with_tokens(|_| Reply::ok(br#"{"token":"no"}"#), |_, _| false).await;
    let error = pull(&useless, &options()).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_eq!(useless.asked("/token"), 1);
}

#[tokio::test]
async fn a_token_service_in_plain_http_elsewhere_gets_nothing() {
    let challenge = r#"Bearer realm="http://192.0.2.1/token""#;
    let registry = Registry::start(&app(), move |_| {
        Some(Reply::challenge(challenge.to_owned()))
    })
    .await;
    let me = PullOptions {
        credentials: Credentials::Basic("me".to_owned(), "secret".to_owned()),
        ..options()
    };
    let error = pull(&registry, &me).await.unwrap_err().to_string();
    assert!(error.contains("plain HTTP"), "{error}");
}

#[tokio::test]
async fn another_host_is_shown_nothing() {
    let basic = |r: &Request| r.header("authorization") == Some("Basic bWU6c2VjcmV0");
    let seen = Arc::new(Mutex::new(Vec::new()));
    for asks in [false, true] {
        let log = seen.clone();
        let store = Registry::start(&app(), move |r| {
            log.lock()
                .unwrap()
                .push(r.header("authorization").map(str::to_owned));
            // The other host asks for credentials of its own, which it must not get.
            asks.then(|| Reply::challenge("Basic realm=\"mine\"".to_owned()))
        })
        .await;
        let to = store.address;
        let registry = Registry::start(&app(), move |r| match () {
            () if r.path == "/v2/" => None,
            () if !basic(r) => Some(Reply::challenge("Basic realm=\"r\"".to_owned())),
            () if is_blob(r) => Some(Reply::redirect(format!("http://{to}{}", r.path))),
            () => None,
        })
        .await;
        let me = PullOptions {
            credentials: Credentials::Basic("me".to_owned(), "secret".to_owned()),
            ..options()
        };
        match pull(&registry, &me).await {
            Ok(_) => assert!(!asks),
            Err(error) => assert!(asks && matches!(error, Error::Refused { .. }), "{error}"),
        }
    }
    let seen = seen.lock().unwrap();
    assert!(
        seen.len() >= 4 && seen.iter().all(Option::is_none),
        "{seen:?}"
    );
}

#[tokio::test]
async fn redirects_end() {
    let registry = Registry::start(&app(), |r| {
        is_blob(r).then(|| Reply::redirect(format!("{}x", r.path)))
    })
    .await;
    let error = pull(&registry, &options()).await.unwrap_err();
    assert!(error.to_string().contains("more than 10 times"), "{error}");
}

/// An authority, and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    fn sign(
        &self,
        name: &str,
        change: impl Fn(&mut CertificateParams),
    ) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// A server's end of TLS, which may ask for a certificate of `clients`.
    fn acceptor(
        &self,
        name: &str,
        clients: Option<&Authority>,
        change: impl Fn(&mut CertificateParams),
    ) -> TlsAcceptor {
        let (certificate, key) = self.sign(name, change);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let config = config.with_single_cert(vec![certificate.der().clone()], key);
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }
}

fn trusting(authority: &Authority) -> PullOptions {
    PullOptions {
        certificates: Certificates {
            authorities: vec![authority.pem()],
            client: None,
        },
        ..options()
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_it_is_named() {
    let authority = Authority::new();
    let tls = authority.acceptor("127.0.0.1", None, |_| {});
    let registry = Registry::start_with(&app(), Some(tls), |_| None).await;
    pull(&registry, &trusting(&authority)).await.unwrap();

    let error = pull(&registry, &options()).await.unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, Error::Untrusted { .. }) && !error.retryable(),
        "{text}"
    );
    assert!(
        text.contains("unknown authority") && text.contains("ca.crt"),
        "{text}"
    );
    // Another authority doesn't help, and neither does a file that is none.
    let other = trusting(&Authority::new());
    assert!(matches!(
        pull(&registry, &other).await.unwrap_err(),
        Error::Untrusted { .. }
    ));
    let mut broken = options();
    broken.certificates.authorities = vec![b"no PEM".to_vec()];
    let error = pull(&registry, &broken).await.unwrap_err().to_string();
    assert!(error.contains("no certificate in PEM"), "{error}");
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said() {
    let authority = Authority::new();
    let past = |p: &mut CertificateParams| {
        p.not_before = rcgen::date_time_ymd(2001, 1, 1);
        p.not_after = rcgen::date_time_ymd(2002, 1, 1);
    };
    let future = |p: &mut CertificateParams| {
        p.not_before = rcgen::date_time_ymd(4000, 1, 1);
        p.not_after = rcgen::date_time_ymd(4001, 1, 1);
    };
    for (tls, words) in [
        (
            authority.acceptor("other.example.org", None, |_| {}),
            ["another name", "other.example.org"],
        ),
        (
            authority.acceptor("127.0.0.1", None, past),
            ["expired", "2002"],
        ),
        (
            authority.acceptor("127.0.0.1", None, future),
            ["not valid yet", "4000"],
        ),
    ] {
        let registry = Registry::start_with(&app(), Some(tls), |_| None).await;
        let error = pull(&registry, &trusting(&authority)).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Untrusted { .. }), "{error:?}");
        // What a date looks like is the library's affair.
        assert!(text.contains(words[0]), "{text} lacks {words:?}");
        assert_eq!(
            registry.asked("/"),
            0,
            "nothing is said to whom one does not trust"
        );
    }
}

#[tokio::test]
async fn a_clients_certificate_is_shown() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let tls = authority.acceptor("127.0.0.1", Some(&clients), |_| {});
    let registry = Registry::start_with(&app(), Some(tls), |_| None).await;
    let (certificate, key) = clients.sign("me", |_| {});
    let mut me = trusting(&authority);
    me.certificates.client = Some(format!("{}\n{}", certificate.pem(), key.serialize_pem()).into());
    pull(&registry, &me).await.unwrap();
    let error = pull(&registry, &trusting(&authority)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("client's certificate"), "{text}");
    me.certificates.client = Some(b"no PEM".to_vec());
    let error = pull(&registry, &me).await.unwrap_err().to_string();
    assert!(error.contains("client's certificate"), "{error}");
}
