//! From a request to its certificate.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::PostParams;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::{CsrError, Request};
use crate::access::HEARTBEAT_LIMIT;
use crate::backoff::Backoff;
use crate::certificate::Certified;
use crate::error::{Call, CallError, Kind};

/// Seconds after which the server ends a watch, which is then resumed.
const WATCH_SECONDS: u32 = 55;

impl Request {
    /// Sends the request, unless it is there already, and waits until it is signed. Whatever may heal is tried again;
    /// `tell` hears in a sentence what is waited for, each time that changes.
    ///
    /// # Errors
    /// [`CsrError`]; [`CsrError::Late`] after `patience`.
    pub async fn certificate(
        &self,
        client: Client,
        patience: Duration,
        mut tell: impl FnMut(&str),
    ) -> Result<Certified, CsrError> {
        let mut what = "approved";
        let waited = tokio::time::timeout(patience, async {
            let uid = self.send(&client, &mut tell).await?;
            self.signed(client, &uid, &mut what, &mut tell).await
        })
        .await;
        match waited {
            Ok(signed) => self.take(&signed?.0),
            Err(_) => Err(CsrError::Late {
                name: self.name.clone(),
                what,
                after: patience,
            }),
        }
    }

    /// The object's UID, once it exists.
    async fn send(&self, client: &Client, tell: &mut impl FnMut(&str)) -> Result<String, CsrError> {
        let api: Api<CertificateSigningRequest> = Api::all(client.clone());
        let mut backoff = Backoff::calls();
        let mut said = String::new();
        loop {
            let error = match self.send_once(&api).await {
                Ok(found) => {
                    self.ours(&found)?;
                    return Ok(found.metadata.uid.unwrap_or_default());
                }
                Err(error) if error.kind() == Kind::Invalid => return Err(error.into()),
                Err(error) => error,
            };
            let text = format!("waiting to ask for a certificate: {error}");
            if text != said {
                tell(&text);
                said = text;
            }
            tokio::time::sleep(backoff.next(error.retry_after())).await;
        }
    }

    async fn send_once(
        &self,
        api: &Api<CertificateSigningRequest>,
    ) -> Result<CertificateSigningRequest, CallError> {
        let params = PostParams::default();
        let create = api.create(&params, &self.object);
        match self.call("create").run(HEARTBEAT_LIMIT, create).await {
            Err(error) if error.kind() == Kind::AlreadyExists => {
                let get = api.get(&self.name);
                self.call("get").run(HEARTBEAT_LIMIT, get).await
            }
            other => other,
        }
    }

    /// Whether it asks for our key; the name alone does not say so.
    fn ours(&self, found: &CertificateSigningRequest) -> Result<(), CsrError> {
        let der = CertificateSigningRequestDer::from_pem_slice(&found.spec.request.0);
        let theirs = der.ok().and_then(|der| {
            let (_, parsed) = X509CertificationRequest::from_der(&der).ok()?;
            let info = parsed.certification_request_info;
            Some(info.subject_pki.raw == self.public_key)
        });
        match theirs {
            Some(true) => Ok(()),
            _ => Err(CsrError::Taken {
                name: self.name.clone(),
            }),
        }
    }

    /// Follows the object until it says yes or no.
    async fn signed(
        &self,
        client: Client,
        uid: &str,
        what: &mut &'static str,
        tell: &mut impl FnMut(&str),
    ) -> Result<ByteString, CsrError> {
        let config = watcher::Config::default()
            .fields(&format!("metadata.name={}", self.name))
            .timeout(WATCH_SECONDS);
        let api: Api<CertificateSigningRequest> = Api::all(client);
        let events = watch(api, config).backoff(Backoff::calls());
        let mut events = std::pin::pin!(events);
        tell(&format!(
            "waiting for the CertificateSigningRequest {} to be approved and signed; if nobody does: kubectl certificate approve {}",
            self.name, self.name
        ));
        let deleted = || CsrError::Deleted {
            name: self.name.clone(),
        };
        let mut listed = false;
        loop {
            match events.next().await {
                Some(Ok(Event::Init)) => listed = false,
                Some(Ok(Event::InitApply(found) | Event::Apply(found))) => {
                    listed = true;
                    if found.metadata.uid.as_deref() != Some(uid) {
                        return Err(deleted());
                    }
                    if let Some(signed) = self.verdict(found, what)? {
                        return Ok(signed);
                    }
                }
                Some(Ok(Event::Delete(_))) | None => return Err(deleted()),
                Some(Ok(Event::InitDone)) if !listed => return Err(deleted()),
                Some(Ok(Event::InitDone)) => {}
                Some(Err(error)) => tell(&format!(
                    "waiting to hear of the CertificateSigningRequest {}: {error}",
                    self.name
                )),
            }
        }
    }

    fn verdict(
        &self,
        found: CertificateSigningRequest,
        what: &mut &'static str,
    ) -> Result<Option<ByteString>, CsrError> {
        let status = found.status.unwrap_or_default();
        for condition in status.conditions.iter().flatten() {
            let why = [&condition.reason, &condition.message];
            let why: Vec<&str> = why.into_iter().flatten().map(String::as_str).collect();
            let (name, why) = (self.name.clone(), why.join(": "));
            match condition.type_.as_str() {
                "Denied" => return Err(CsrError::Denied { name, why }),
                "Failed" => return Err(CsrError::Failed { name, why }),
                "Approved" => *what = "signed",
                _ => {}
            }
        }
        Ok(status
            .certificate
            .filter(|certificate| !certificate.0.is_empty()))
    }

    fn take(&self, certificate: &[u8]) -> Result<Certified, CsrError> {
        let pem = String::from_utf8_lossy(certificate);
        Certified::read(&pem, &self.key).map_err(|source| CsrError::Garbled {
            name: self.name.clone(),
            source,
        })
    }

    fn call(&self, verb: &'static str) -> Call {
        Call::on(verb, "certificatesigningrequests", &self.name)
    }
}
