//! The CA of clients, and who a client's certificate says it is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::authentication::v1::UserInfo;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::stamp::Stamp;
use crate::tls::provider;

/// The attribute of a subject that holds the user's UID (`apimachinery/pkg/apis/asn1/oid.go`).
const UID: &str = "1.3.6.1.4.1.57683.2";
/// The extra key under which the certificate's digest is told (`apiserver/pkg/authentication/user`).
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Where the CA's certificates come from.
#[derive(Clone, Debug)]
pub enum CaSource {
    /// A file in PEM, read again when it has changed.
    File(PathBuf),
    /// These, in DER.
    Given(Vec<CertificateDer<'static>>),
}

/// The CA that signs clients' certificates.
pub struct ClientCa {
    source: CaSource,
    state: Mutex<State>,
}

struct State {
    stamp: Option<Stamp>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Why there is no CA of clients.
#[derive(Debug, thiserror::Error)]
pub enum ClientCaError {
    /// The file can't be read.
    #[error("can't read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// What is there is no CA.
    #[error("{from} holds no usable CA certificate in PEM: {why}")]
    Content {
        /// The file, or what else it comes from.
        from: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Why a certificate says nothing of who its bearer is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("its certificate is not accepted")]
    Refused(#[source] rustls::Error),
    #[error("its certificate can't be read")]
    Unreadable,
    #[error("its certificate's subject {0}")]
    Subject(&'static str),
}

impl ClientCa {
    /// Reads the CA.
    ///
    /// # Errors
    /// [`ClientCaError`].
    pub fn new(source: CaSource) -> Result<ClientCa, ClientCaError> {
        let (stamp, verifier) = match &source {
            CaSource::File(file) => {
                let (stamp, verifier) = read(file)?;
                (Some(stamp), verifier)
            }
            CaSource::Given(certificates) => {
                (None, verifier("the kubeconfig", certificates.clone())?)
            }
        };
        Ok(ClientCa {
            source,
            state: Mutex::new(State { stamp, verifier }),
        })
    }

    /// The CA as its file has it now; the one before, while that can't be used.
    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let CaSource::File(file) = &self.source {
            let now = Stamp::of(file).ok();
            if now.is_some() && now != state.stamp {
                state.stamp = now; // What can't be used is told once.
                match read(file) {
                    Ok((stamp, verifier)) => {
                        tracing::info!(file = %file.display(), "the CA of clients has changed");
                        *state = State {
                            stamp: Some(stamp),
                            verifier,
                        };
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the CA of clients stays what it was");
                    }
                }
            }
        }
        Arc::clone(&state.verifier)
    }

    /// Who bears this certificate: CN is the user and each O a group
    /// (`CommonNameUserConversion` of `apiserver/pkg/authentication/request/x509`).
    ///
    /// # Errors
    /// [`CertificateError`]: it is not of this CA, not of this time, not for clients, or names nobody.
    pub(crate) fn user(
        &self,
        chain: &[CertificateDer<'static>],
        now: UnixTime,
    ) -> Result<UserInfo, CertificateError> {
        let Some((end, between)) = chain.split_first() else {
            return Err(CertificateError::Unreadable);
        };
        let verifier = self.verifier();
        verifier
            .verify_client_cert(end, between, now)
            .map_err(CertificateError::Refused)?;
        subject(end)
    }
}

fn read(file: &Path) -> Result<(Stamp, Arc<dyn ClientCertVerifier>), ClientCaError> {
    let failed = |source| ClientCaError::Read {
        file: file.to_owned(),
        source,
    };
    // Before its content, so that a change in between is seen next time.
    let stamp = Stamp::of(file).map_err(failed)?;
    let pem = std::fs::read(file).map_err(failed)?;
    let from = file.display().to_string();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|why| ClientCaError::Content {
        from: from.clone(),
        why: format!("{why:?}"),
    })?;
    Ok((stamp, verifier(&from, certificates)?))
}

fn verifier(
    from: &str,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, ClientCaError> {
    let content = |why: String| ClientCaError::Content {
        from: from.to_owned(),
        why,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|why| content(why.to_string()))?;
    }
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    built.map_err(|why| content(why.to_string()))
}

fn subject(certificate: &CertificateDer<'_>) -> Result<UserInfo, CertificateError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::Unreadable)?;
    let subject = parsed.subject();
    let text = CertificateError::Subject("has a name that is no text");
    // Where there are several the last one counts, as in Go.
    let Some(name) = subject.iter_common_name().last() else {
        return Err(CertificateError::Subject("has no common name"));
    };
    let Ok(name) = name.as_str() else {
        return Err(text);
    };
    if name.is_empty() {
        return Err(CertificateError::Subject("has no common name"));
    }
    let groups: Result<Vec<String>, _> = subject
        .iter_organization()
        .map(|group| group.as_str().map(str::to_owned))
        .collect();
    let Ok(groups) = groups else {
        return Err(text);
    };
    let mut uids = subject
        .iter_attributes()
        .filter(|attribute| attribute.attr_type().to_id_string() == UID);
    let uid = match (uids.next(), uids.next()) {
        (None, _) => None,
        (Some(uid), None) => match uid.as_str() {
            Ok(uid) if !uid.is_empty() => Some(uid.to_owned()),
            _ => return Err(CertificateError::Subject("has a UID that is none")),
        },
        _ => return Err(CertificateError::Subject("has several UIDs")),
    };
    let digest = format!("X509SHA256={}", hex::encode(Sha256::digest(certificate)));
    Ok(UserInfo {
        username: Some(name.to_owned()),
        groups: Some(groups),
        uid,
        extra: Some([(CREDENTIAL_ID.to_owned(), vec![digest])].into()),
    })
}
