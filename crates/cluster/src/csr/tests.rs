#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex};

use http::{Method, Response};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};
use kube::Client;
use kube::client::Body;
use rcgen::CertifiedIssuer;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use x509_parser::prelude::{FromDer, ParsedExtension, X509CertificationRequest};

use super::*;

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Signed,
    Denied,
    Failed,
    Gone,
    Silence,
    SignedForAnotherKey,
}

/// An API server that keeps requests, and says one thing about each.
#[derive(Clone)]
struct Server {
    kept: Arc<Mutex<Vec<CertificateSigningRequest>>>,
    /// How many calls fail first.
    away: Arc<Mutex<usize>>,
    verdict: Verdict,
}

impl Server {
    fn new(verdict: Verdict) -> Server {
        Server {
            kept: Arc::default(),
            away: Arc::default(),
            verdict,
        }
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let server = server.clone();
            async move { server.answer(request).await }
        });
        Client::new(service, "default")
    }

    async fn answer(
        &self,
        request: http::Request<Body>,
    ) -> Result<Response<Body>, std::convert::Infallible> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let path = request.uri().path().to_owned();
        let method = request.method().clone();
        let body = request.into_body().collect_bytes().await.unwrap();
        let away = {
            let mut away = self.away.lock().unwrap();
            let is = *away > 0;
            *away = away.saturating_sub(1);
            is
        };
        if away {
            return Ok(status(503, "ServiceUnavailable"));
        }
        let name = path.rsplit('/').next().unwrap();
        if query.contains("watch=") {
            // Nothing happens, until the client lets go.
            return std::future::pending().await;
        }
        let mut kept = self.kept.lock().unwrap();
        let answer = match method {
            Method::POST => {
                let mut object: CertificateSigningRequest = serde_json::from_slice(&body).unwrap();
                if kept.iter().any(|k| k.metadata.name == object.metadata.name) {
                    return Ok(status(409, "AlreadyExists"));
                }
                object.metadata.uid = Some(format!("uid-{}", kept.len()));
                object.metadata.resource_version = Some("1".into());
                kept.push(object.clone());
                serde_json::to_value(&object).unwrap()
            }
            _ if name == "certificatesigningrequests" => {
                let asked = |k: &&CertificateSigningRequest| {
                    let name = k.metadata.name.as_deref().unwrap();
                    query.contains(&format!("metadata.name%3D{name}"))
                };
                let asked = kept.iter().filter(asked);
                let items: Vec<_> = asked.filter_map(|k| self.judged(k)).collect();
                json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequestList",
                       "metadata": {"resourceVersion": "2"}, "items": items})
            }
            _ => {
                let found = kept
                    .iter()
                    .find(|k| k.metadata.name.as_deref() == Some(name));
                serde_json::to_value(found.unwrap()).unwrap()
            }
        };
        Ok(Response::new(Body::from(answer.to_string().into_bytes())))
    }

    fn judged(&self, request: &CertificateSigningRequest) -> Option<CertificateSigningRequest> {
        let condition = |kind: &str, reason: &str| CertificateSigningRequestCondition {
            type_: kind.into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some("so it was decided".into()),
            ..Default::default()
        };
        let (conditions, certificate) = match self.verdict {
            Verdict::Gone => return None,
            Verdict::Silence => (vec![], None),
            Verdict::Denied => (vec![condition("Denied", "Stranger")], None),
            Verdict::Failed => {
                let approved = condition("Approved", "Known");
                (
                    vec![approved, condition("Failed", "SignerValidationFailure")],
                    None,
                )
            }
            Verdict::Signed => (
                vec![condition("Approved", "Known")],
                Some(sign(request, None)),
            ),
            Verdict::SignedForAnotherKey => {
                let other = KeyPair::generate().unwrap();
                (
                    vec![condition("Approved", "Known")],
                    Some(sign(request, Some(&other))),
                )
            }
        };
        let mut judged = request.clone();
        judged.status = Some(CertificateSigningRequestStatus {
            certificate: certificate.map(|pem| ByteString(pem.into_bytes())),
            conditions: Some(conditions),
        });
        Some(judged)
    }
}

fn status(code: u16, reason: &str) -> Response<Body> {
    let body = json!({"kind": "Status", "status": "Failure", "reason": reason, "message": "no", "code": code});
    Response::builder()
        .status(code)
        .body(Body::from(body.to_string().into_bytes()))
        .unwrap()
}

/// As kube-controller-manager does, for the key that was asked for or for another.
fn sign(request: &CertificateSigningRequest, other: Option<&KeyPair>) -> String {
    let ca =
        CertifiedIssuer::self_signed(CertificateParams::default(), KeyPair::generate().unwrap());
    let ca = ca.unwrap();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "system:node:n");
    match other {
        Some(key) => params.signed_by(key, &ca).unwrap().pem(),
        None => params.signed_by(&Asked::of(request), &ca).unwrap().pem(),
    }
}

/// What a request holds.
struct Asked {
    key: Vec<u8>,
    subject: String,
    names: usize,
}

impl Asked {
    fn of(request: &CertificateSigningRequest) -> Asked {
        let der = CertificateSigningRequestDer::from_pem_slice(&request.spec.request.0).unwrap();
        let (_, parsed) = X509CertificationRequest::from_der(&der).unwrap();
        let info = &parsed.certification_request_info;
        let extensions = parsed.requested_extensions().into_iter().flatten();
        let names = extensions.map(|extension| match extension {
            ParsedExtension::SubjectAlternativeName(names) => names.general_names.len(),
            _ => 0,
        });
        Asked {
            key: info.subject_pki.subject_public_key.data.to_vec(),
            subject: info.subject.to_string(),
            names: names.sum(),
        }
    }
}

impl PublicKeyData for Asked {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

async fn asked(server: &Server, request: &Request) -> Result<crate::Certified, CsrError> {
    let quiet = |_: &str| {};
    request.certificate(server.client(), PATIENCE, quiet).await
}

#[tokio::test(start_paused = true)]
async fn a_signed_request_is_a_certificate_with_its_key() {
    let key = new_key().unwrap();
    let request = Request::new("n", &key, &Signer::Client).unwrap();
    let server = Server::new(Verdict::Signed);
    *server.away.lock().unwrap() = 3;
    let mut told = Vec::new();
    let tell = |text: &str| told.push(text.to_owned());
    let certified = request
        .certificate(server.client(), PATIENCE, tell)
        .await
        .unwrap();
    assert_eq!(
        (certified.user(), certified.key()),
        ("system:node:n", key.as_str())
    );
    assert!(
        told[0].starts_with("waiting to ask for a certificate: create certificatesigningrequests"),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|text| text.contains("kubectl certificate approve node-csr-")),
        "{told:?}"
    );
    let kept = server.kept.lock().unwrap();
    assert_eq!(
        kept[0].spec.signer_name,
        "kubernetes.io/kube-apiserver-client-kubelet"
    );
    assert_eq!(
        kept[0].spec.usages.as_deref().unwrap(),
        ["digital signature", "client auth"]
    );
}

/// A node that was killed while it waited finds its own request again.
#[tokio::test(start_paused = true)]
async fn the_same_key_asks_once() {
    let key = new_key().unwrap();
    let server = Server::new(Verdict::Signed);
    for _ in 0..2 {
        let request = Request::new("n", &key, &Signer::Client).unwrap();
        asked(&server, &request).await.unwrap();
    }
    assert_eq!(server.kept.lock().unwrap().len(), 1);
    let other = Request::new("n", &new_key().unwrap(), &Signer::Client).unwrap();
    asked(&server, &other).await.unwrap();
    assert_eq!(server.kept.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_who_refused_and_why() {
    let request = Request::new("n", &new_key().unwrap(), &Signer::Client).unwrap();
    for (verdict, says) in [
        (Verdict::Denied, "was denied: Stranger: so it was decided"),
        (
            Verdict::Failed,
            "failed: SignerValidationFailure: so it was decided",
        ),
        (Verdict::Gone, "was deleted before it was signed"),
        (Verdict::Silence, "was not approved within 3600 s"),
        (Verdict::SignedForAnotherKey, "can't be used"),
    ] {
        let error = asked(&Server::new(verdict), &request).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(says) && text.contains(request.name()),
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_of_another_key_under_the_name_is_not_taken() {
    let server = Server::new(Verdict::Signed);
    let request = Request::new("n", &new_key().unwrap(), &Signer::Client).unwrap();
    let mut foreign = Request::new("n", &new_key().unwrap(), &Signer::Client).unwrap();
    foreign.object.metadata.name = Some(request.name.clone());
    server.kept.lock().unwrap().push(foreign.object);
    let error = asked(&server, &request).await.unwrap_err();
    assert!(matches!(error, CsrError::Taken { .. }), "{error}");
}

#[test]
fn a_client_s_request_has_no_names_and_a_server_s_has_those_that_are_dialled() {
    let key = new_key().unwrap();
    let serving = Signer::Serving {
        names: vec!["n".into()],
        addresses: vec!["10.0.0.1".parse().unwrap()],
    };
    let parsed = |signer: &Signer| {
        let request = Request::new("n", &key, signer).unwrap();
        let asked = Asked::of(&request.object);
        (request, asked)
    };
    let (client, asked) = parsed(&Signer::Client);
    assert_eq!(asked.subject, "O=system:nodes, CN=system:node:n");
    assert_eq!(asked.names, 0);
    let (server, asked) = parsed(&serving);
    assert_eq!(asked.subject, "O=system:nodes, CN=system:node:n");
    assert_eq!(asked.names, 2);
    let signer = &server.object.spec.signer_name;
    assert_eq!(signer, "kubernetes.io/kubelet-serving");
    assert_ne!(client.name(), server.name());
    let wrong = Signer::Serving {
        names: vec!["not a name ü".into()],
        addresses: vec![],
    };
    assert!(matches!(
        Request::new("n", &key, &wrong),
        Err(CsrError::Make(_))
    ));
}
