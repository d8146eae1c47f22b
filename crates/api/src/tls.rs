//! The serving certificate, and TLS that asks for a client's certificate without insisting on one.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

use crate::stamp::Stamp;

/// How long a certificate of our own holds, as the kubelet's does.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// A new one is made when the old one has less left than this.
const RENEWAL: Duration = Duration::from_secs(30 * 24 * 3600);
/// Clocks of a cluster differ.
const SKEW: Duration = Duration::from_secs(3600);

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("can't read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// What was given is no certificate in PEM, or no private key.
    #[error("{from}: {why}")]
    Content {
        /// The file, or what else it comes from.
        from: String,
        /// What is wrong with it.
        why: String,
    },
    /// The private key is not the certificate's, or of an algorithm that is not supported.
    #[error("the certificate of {from} can't be served with its private key")]
    Pair {
        /// Where the certificate comes from.
        from: String,
        /// What TLS said.
        #[source]
        source: rustls::Error,
    },
    /// None can be made.
    #[error("a self-signed certificate can't be made")]
    SelfSigned(#[source] rcgen::Error),
    /// TLS can't be had with it.
    #[error("TLS can't be set up")]
    Setup(#[source] rustls::Error),
}

/// The certificate that the node serves with. It can be put into the place of another at any time: the next handshake
/// has the new one.
pub struct Serving(Mutex<State>);

struct State {
    source: Source,
    key: Arc<CertifiedKey>,
}

enum Source {
    /// Signed by itself, for these names.
    Own {
        sans: Vec<SanType>,
        name: String,
        renew_at: SystemTime,
    },
    /// From files, read again when they have changed.
    Files {
        certificate: PathBuf,
        key: PathBuf,
        stamps: [Option<Stamp>; 2],
    },
    /// Given by [`Serving::replace`].
    Given,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serving")
    }
}

impl Serving {
    /// A certificate that signs itself, for a node of this name at these addresses. It is never the cluster's: who wants
    /// to know the node needs one that the cluster has signed.
    ///
    /// # Errors
    /// [`TlsError`], as when the name is no DNS name.
    pub fn self_signed(name: &str, addresses: &[IpAddr]) -> Result<Arc<Serving>, TlsError> {
        let dns = name.to_owned().try_into().map_err(TlsError::SelfSigned)?;
        let mut sans = vec![SanType::DnsName(dns)];
        sans.extend(addresses.iter().copied().map(SanType::IpAddress));
        let now = SystemTime::now();
        let source = Source::Own {
            sans: sans.clone(),
            name: name.to_owned(),
            renew_at: now + LIFETIME - RENEWAL,
        };
        let key = own(name, &sans, now)?;
        Ok(Arc::new(Serving(Mutex::new(State { source, key }))))
    }

    /// The certificate, with those that lead to its CA behind it, and the private key of files in PEM. They are read
    /// again when they have changed; while they don't fit together, as in the middle of a change, the old ones stay.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn of_files(certificate: &Path, key: &Path) -> Result<Arc<Serving>, TlsError> {
        let stamps = [Stamp::of(certificate).ok(), Stamp::of(key).ok()];
        let certified = of_files(certificate, key)?;
        let source = Source::Files {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            stamps,
        };
        Ok(Arc::new(Serving(Mutex::new(State {
            source,
            key: certified,
        }))))
    }

    /// Puts another certificate in its place, in PEM; from then on nothing else does.
    ///
    /// # Errors
    /// [`TlsError`]; then the old one stays.
    pub fn replace(&self, certificate: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let new = certified(("the new certificate", certificate), ("its key", key))?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State {
            source: Source::Given,
            key: new,
        };
        Ok(())
    }

    /// The certificate of now.
    fn current(&self, now: SystemTime) -> Arc<CertifiedKey> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = match &mut state.source {
            Source::Own {
                sans,
                name,
                renew_at,
            } if now >= *renew_at => {
                *renew_at = now + LIFETIME - RENEWAL;
                Some(own(name, sans, now))
            }
            Source::Files {
                certificate,
                key,
                stamps,
            } => {
                let found = [Stamp::of(certificate).ok(), Stamp::of(key).ok()];
                let changed = found != *stamps;
                *stamps = found; // What does not fit is told once, and tried again when it has changed.
                changed.then(|| of_files(certificate, key))
            }
            _ => None,
        };
        match renewed {
            Some(Ok(new)) => {
                tracing::info!("the serving certificate has changed");
                state.key = new;
            }
            Some(Err(error)) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "the serving certificate stays what it was");
            }
            None => {}
        }
        Arc::clone(&state.key)
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current(SystemTime::now()))
    }
}

/// What TLS is made of: ring, as everywhere here.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// TLS for a server.
pub(crate) fn config(serving: Arc<Serving>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let clients = Arc::new(Requested(provider.signature_verification_algorithms));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(serving);
    // As Go's server offers them.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Asks for a client's certificate and takes any: whose it is, each request finds out, so that one that the CA does not
/// know is as none at all. That the client has the certificate's key is proven here.
#[derive(Debug)]
struct Requested(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for Requested {
    /// None is named: a client sends what it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

fn own(name: &str, sans: &[SanType], now: SystemTime) -> Result<Arc<CertifiedKey>, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = sans.to_vec();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = (now - SKEW).into();
    params.not_after = (now + LIFETIME).into();
    let key = KeyPair::generate().map_err(TlsError::SelfSigned)?;
    let certificate = params.self_signed(&key).map_err(TlsError::SelfSigned)?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|why| content("", why))?;
    pair("this node's own", vec![certificate.der().clone()], private)
}

fn of_files(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let read = |file: &Path| {
        std::fs::read(file).map_err(|source| TlsError::Read {
            file: file.to_owned(),
            source,
        })
    };
    certified(
        (&certificate.display().to_string(), &read(certificate)?),
        (&key.display().to_string(), &read(key)?),
    )
}

/// A certificate and its key of PEM, each with where it comes from.
fn certified(
    (from, certificate): (&str, &[u8]),
    (key_from, key): (&str, &[u8]),
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|why| content(from, &format!("is no PEM: {why:?}")))?;
    if chain.is_empty() {
        return Err(content(from, "holds no certificate in PEM"));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|why| content(key_from, &format!("holds no private key in PEM: {why:?}")))?;
    pair(from, chain, key)
}

fn pair(
    from: &str,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let certified = CertifiedKey::from_der(chain, key, &provider());
    certified.map(Arc::new).map_err(|source| TlsError::Pair {
        from: from.to_owned(),
        source,
    })
}

fn content(from: &str, why: &str) -> TlsError {
    TlsError::Content {
        from: from.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
#[path = "tests/serving.rs"]
mod tests;
