//! Certificates by CertificateSigningRequest: asked for, waited for, and taken.
//!
//! What each must hold is `pkg/apis/certificates/helpers.go`'s to say: the subject is the node's, a
//! client's has no names beside it, a server's has at least one. Must not know: where certificates
//! are kept, and what they are used for.

mod wait;

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData, SanType};
use sha2::{Digest, Sha256};

use crate::access::NODE_USER;
use crate::certificate::{CertificateError, Certified};
use crate::error::CallError;

/// The group of all nodes.
const NODES: &str = "system:nodes";

/// How long the first certificate is waited for, as by the kubelet
/// (`pkg/kubelet/certificate/bootstrap/bootstrap.go`).
pub const PATIENCE: Duration = Duration::from_secs(3600);

/// Who signs, and so what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// `kubernetes.io/kube-apiserver-client-kubelet`: who the node is to the API server.
    Client,
    /// `kubernetes.io/kubelet-serving`, with the names that clients dial. Nobody approves it by itself.
    Serving {
        /// Host names.
        names: Vec<String>,
        /// Addresses.
        addresses: Vec<IpAddr>,
    },
}

/// A request that can be sent as often as needed: its name follows from what it asks for.
#[derive(Debug)]
pub struct Request {
    object: CertificateSigningRequest,
    name: String,
    key: String,
    public_key: Vec<u8>,
}

/// Why there is no certificate. Asking again with another key may help; waiting won't.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// The request can't be made.
    #[error("the request for a certificate can't be made")]
    Make(#[source] rcgen::Error),
    /// Somebody refused.
    #[error(
        "the CertificateSigningRequest {name} was denied: {why}; approve a new one, or ask whoever denied it"
    )]
    Denied {
        /// The request.
        name: String,
        /// Reason and message.
        why: String,
    },
    /// The signer can't sign.
    #[error("the CertificateSigningRequest {name} failed: {why}")]
    Failed {
        /// The request.
        name: String,
        /// Reason and message.
        why: String,
    },
    /// It was deleted, or replaced by another of its name.
    #[error("the CertificateSigningRequest {name} was deleted before it was signed")]
    Deleted {
        /// The request.
        name: String,
    },
    /// One of this name asks for another key.
    #[error(
        "the CertificateSigningRequest {name} is another's: it asks for another key; delete it"
    )]
    Taken {
        /// The request.
        name: String,
    },
    /// Nobody approved it, or nobody signed.
    #[error("the CertificateSigningRequest {name} was not {what} within {} s", .after.as_secs())]
    Late {
        /// The request.
        name: String,
        /// `approved` or `signed`.
        what: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// What was signed is no certificate of the key.
    #[error("the certificate of the CertificateSigningRequest {name} can't be used")]
    Garbled {
        /// The request.
        name: String,
        /// Why.
        #[source]
        source: CertificateError,
    },
    /// The API server will never take the request.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A new key: ECDSA over P-256, PEM.
///
/// # Errors
/// [`CsrError::Make`] if the machine has no randomness.
pub fn new_key() -> Result<String, CsrError> {
    let key = KeyPair::generate().map_err(CsrError::Make)?;
    Ok(key.serialize_pem())
}

impl Request {
    /// For the node's key.
    ///
    /// # Errors
    /// [`CsrError::Make`] if the key or a name can't be used.
    pub fn new(node: &str, key: &str, signer: &Signer) -> Result<Request, CsrError> {
        let pair = KeyPair::from_pem(key).map_err(CsrError::Make)?;
        let user = format!("{NODE_USER}{node}");
        let params = signer.params(&user)?;
        let request = params.serialize_request(&pair).map_err(CsrError::Make)?;
        let pem = request.pem().map_err(CsrError::Make)?;
        let public_key = pair.subject_public_key_info();
        let name = signer.name_for(&public_key, &user);
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        };
        let spec = CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: signer.signer().to_owned(),
            usages: Some(signer.usages().map(str::to_owned).into()),
            ..CertificateSigningRequestSpec::default()
        };
        let object = CertificateSigningRequest {
            metadata,
            spec,
            status: None,
        };
        Ok(Request {
            object,
            name,
            key: key.to_owned(),
            public_key,
        })
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Signer {
    /// Whether a certificate has all the names and addresses that are asked for.
    pub fn is_for(&self, certified: &Certified) -> bool {
        match self {
            Signer::Client => true,
            Signer::Serving { names, addresses } => {
                names.iter().all(|name| certified.has_name(name))
                    && addresses.iter().all(|ip| certified.has_address(*ip))
            }
        }
    }

    fn signer(&self) -> &'static str {
        match self {
            Signer::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Signer::Serving { .. } => "kubernetes.io/kubelet-serving",
        }
    }

    fn usages(&self) -> [&'static str; 2] {
        match self {
            Signer::Client => ["digital signature", "client auth"],
            Signer::Serving { .. } => ["digital signature", "server auth"],
        }
    }

    fn params(&self, user: &str) -> Result<CertificateParams, CsrError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, NODES);
        params.distinguished_name.push(DnType::CommonName, user);
        params.subject_alt_names = self.names()?;
        Ok(params)
    }

    fn names(&self) -> Result<Vec<SanType>, CsrError> {
        let Signer::Serving { names, addresses } = self else {
            return Ok(Vec::new());
        };
        let addresses = addresses.iter().map(|ip| Ok(SanType::IpAddress(*ip)));
        let names = names.iter().map(|name| {
            let name = name.as_str().try_into().map_err(CsrError::Make)?;
            Ok(SanType::DnsName(name))
        });
        names.chain(addresses).collect()
    }

    /// The same key asks under the same name, also after a restart (`digestedName` of the kubelet's bootstrap).
    fn name_for(&self, public_key: &[u8], user: &str) -> String {
        let mut digest = Sha256::new();
        let names = format!("{self:?}");
        for part in [public_key, user.as_bytes(), names.as_bytes()] {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        let kind = match self {
            Signer::Client => "node-csr",
            Signer::Serving { .. } => "node-serving-csr",
        };
        format!("{kind}-{}", hex::encode(digest.finalize()))
    }
}

#[cfg(test)]
mod tests;
