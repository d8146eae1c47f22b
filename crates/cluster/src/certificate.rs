//! A certificate with its key, as PEM: read, held together, and when it is to be replaced.

use std::net::IpAddr;

use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The part of a lifetime after which a certificate is replaced, at the least and at the most
/// (`jitteryDuration` of client-go's certificate manager).
const REPLACED: (f64, f64) = (0.7, 0.9);

/// A certificate, its chain and its private key, which belong together.
#[derive(Clone)]
pub struct Certified {
    certificate: String,
    key: String,
    user: String,
    not_before: Timestamp,
    not_after: Timestamp,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl std::fmt::Debug for Certified {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} until {}", self.user, self.not_after)
    }
}

/// Why two texts are no certificate and its key.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// There is no certificate.
    #[error("is not a certificate in PEM: {0}")]
    Certificate(String),
    /// There is no private key.
    #[error("is not a private key in PEM: {0}")]
    Key(#[source] rcgen::Error),
    /// The key is another certificate's.
    #[error("the private key is not the one of the certificate of {0:?}")]
    OtherKey(String),
}

impl Certified {
    /// Reads a certificate, with its chain, and its key; both may be one text.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn read(certificate: &str, key: &str) -> Result<Certified, CertificateError> {
        let wrong = |why: String| CertificateError::Certificate(why);
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|why| wrong(format!("{why:?}")))?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|why| wrong(why.to_string()))?;
        let user = parsed
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .unwrap_or_default()
            .to_owned();
        let key = section(key, "PRIVATE KEY");
        let pair = KeyPair::from_pem(&key).map_err(CertificateError::Key)?;
        if pair.subject_public_key_info() != parsed.public_key().raw {
            return Err(CertificateError::OtherKey(user));
        }
        let (names, addresses) = alternatives(&parsed);
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        Ok(Certified {
            certificate: section(certificate, "CERTIFICATE"),
            key,
            not_before: at(parsed.validity().not_before.timestamp()),
            not_after: at(parsed.validity().not_after.timestamp()),
            user,
            names,
            addresses,
        })
    }

    /// The certificate and its chain, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The private key, PEM.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Both, as one file holds them.
    pub fn pem(&self) -> String {
        format!("{}{}", self.certificate, self.key)
    }

    /// Its common name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether it is for this host name.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|has| has == name)
    }

    /// Whether it is for this address.
    pub(crate) fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// When it ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether it is valid then.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// When it is to be replaced: by chance after 70 % to 90 % of its lifetime, so that nodes which came together don't
    /// all ask together.
    pub fn replace_at(&self) -> Timestamp {
        self.replaced_with(rand::random())
            .max(self.soonest(Timestamp::now()))
    }

    /// A signer backdates what it signs by five minutes, so 70 % of a short life may be over when it begins: a tenth of
    /// what is left is lived at least.
    fn soonest(&self, now: Timestamp) -> Timestamp {
        let left = self.not_after.as_second() - now.as_second();
        Timestamp::from_second(now.as_second().saturating_add(left.max(0) / 10)).unwrap_or(now)
    }

    /// After 70 % (`jitter` 0) to 90 % (`jitter` 1).
    fn replaced_with(&self, jitter: f64) -> Timestamp {
        let whole = self.not_after.as_second() - self.not_before.as_second();
        let (least, most) = REPLACED;
        let part = least + (most - least) * jitter.clamp(0.0, 1.0);
        let after = (whole as f64 * part) as i64;
        let at = self.not_before.as_second().saturating_add(after);
        Timestamp::from_second(at).unwrap_or(self.not_after)
    }
}

/// The names and addresses beside the subject.
fn alternatives(certificate: &X509Certificate<'_>) -> (Vec<String>, Vec<IpAddr>) {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    let extension = certificate.subject_alternative_name().ok().flatten();
    for name in extension.iter().flat_map(|e| &e.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let sixteen = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                addresses.extend(four.or(sixteen));
            }
            _ => {}
        }
    }
    (names, addresses)
}

/// The blocks of a PEM text whose label ends so, each with its line's end.
fn section(text: &str, label: &str) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in text.lines() {
        let marks = |word: &str| {
            line.starts_with(word) && line.trim_end().ends_with(&format!("{label}-----"))
        };
        inside |= marks("-----BEGIN ");
        if inside {
            kept.push_str(line.trim_end());
            kept.push('\n');
        }
        inside &= !marks("-----END ");
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::{CertificateParams, DnType};

    use super::*;

    fn signed(key: &KeyPair, from: i64, until: i64) -> String {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "system:node:n");
        let at = |seconds: i64| {
            let at = Timestamp::from_second(seconds).unwrap();
            std::time::SystemTime::from(at).into()
        };
        (params.not_before, params.not_after) = (at(from), at(until));
        params.self_signed(key).unwrap().pem()
    }

    #[test]
    fn one_text_may_hold_both() {
        let key = KeyPair::generate().unwrap();
        let both = format!("{}{}", signed(&key, 1000, 2000), key.serialize_pem());
        let read = Certified::read(&both, &both).unwrap();
        assert_eq!(read.user(), "system:node:n");
        let again = Certified::read(&read.pem(), &read.pem()).unwrap();
        assert_eq!(
            (again.certificate(), again.key()),
            (read.certificate(), read.key())
        );
        assert!(
            !format!("{read:?}").contains("KEY"),
            "a key is never printed"
        );
    }

    #[test]
    fn it_is_replaced_between_70_and_90_percent_of_its_life() {
        let key = KeyPair::generate().unwrap();
        let read = Certified::read(&signed(&key, 1000, 2000), &key.serialize_pem()).unwrap();
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(read.replaced_with(0.0), at(1700));
        assert_eq!(read.replaced_with(1.0), at(1900));
        assert_eq!(read.soonest(at(1950)), at(1955));
        assert_eq!(read.soonest(at(3000)), at(3000));
        assert!(read.is_valid(at(2000)) && !read.is_valid(at(2001)) && !read.is_valid(at(999)));
    }

    #[test]
    fn it_is_for_the_names_in_it_alone() {
        let key = KeyPair::generate().unwrap();
        let names = ["n".to_owned(), "10.0.0.1".to_owned(), "fd00::1".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let read = Certified::read(&pem, &key.serialize_pem()).unwrap();
        let serving = |name: &str, address: &str| crate::csr::Signer::Serving {
            names: vec![name.to_owned()],
            addresses: vec![address.parse().unwrap()],
        };
        assert!(serving("n", "10.0.0.1").is_for(&read));
        assert!(serving("n", "fd00::1").is_for(&read));
        assert!(!serving("m", "10.0.0.1").is_for(&read));
        assert!(!serving("n", "10.0.0.2").is_for(&read));
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let certificate = signed(&key, 0, 1);
        let error = Certified::read(&certificate, &other.serialize_pem()).unwrap_err();
        assert!(matches!(error, CertificateError::OtherKey(_)), "{error}");
        let error = Certified::read(&certificate, &certificate).unwrap_err();
        assert!(matches!(error, CertificateError::Key(_)), "{error}");
        let error = Certified::read("", &key.serialize_pem()).unwrap_err();
        assert!(matches!(error, CertificateError::Certificate(_)), "{error}");
    }
}
