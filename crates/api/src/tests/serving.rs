#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use std::net::Ipv4Addr;

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::*;

fn made(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn names(key: &CertifiedKey) -> Vec<String> {
    let (_, parsed) = X509Certificate::from_der(&key.cert[0]).unwrap();
    let sans = parsed.subject_alternative_name().unwrap().unwrap();
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => format!("{bytes:?}"),
        other => format!("{other:?}"),
    };
    sans.value.general_names.iter().map(name).collect()
}

#[test]
fn a_certificate_of_our_own_has_the_nodes_names_and_is_renewed() {
    let address = Ipv4Addr::new(192, 0, 2, 10);
    let serving = Serving::self_signed("wasm-1", &[address.into()]).unwrap();
    let now = SystemTime::now();
    let first = serving.current(now);
    assert_eq!(names(&first), ["wasm-1", "[192, 0, 2, 10]"]);
    assert!(Arc::ptr_eq(&first, &serving.current(now)));
    let late = serving.current(now + LIFETIME - RENEWAL);
    assert!(!Arc::ptr_eq(&first, &late));
    assert_eq!(names(&late), names(&first));
    Serving::self_signed("kein Náme", &[]).unwrap_err();
}

#[test]
fn files_are_read_again_and_halves_of_a_change_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let (old, new) = (made("old"), made("new"));
    std::fs::write(&certificate, &old.0).unwrap();
    std::fs::write(&key, &old.1).unwrap();
    let serving = Serving::of_files(&certificate, &key).unwrap();
    let current = || names(&serving.current(SystemTime::now()));
    assert_eq!(current(), ["old"]);
    std::fs::write(&certificate, &new.0).unwrap();
    assert_eq!(current(), ["old"], "its key is not there");
    std::fs::write(&key, &new.1).unwrap();
    assert_eq!(current(), ["new"]);
    std::fs::remove_file(&key).unwrap();
    assert_eq!(current(), ["new"]);
}

#[test]
fn what_can_not_be_served_names_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let refused = || Serving::of_files(&certificate, &key).unwrap_err();
    assert!(matches!(refused(), TlsError::Read { file, .. } if file == certificate));
    std::fs::write(&certificate, "rubbish").unwrap();
    std::fs::write(&key, made("a").1).unwrap();
    assert!(
        refused()
            .to_string()
            .ends_with("tls.crt: holds no certificate in PEM")
    );
    std::fs::write(&certificate, made("a").0).unwrap();
    assert!(matches!(refused(), TlsError::Pair { .. }));
    std::fs::write(&key, "rubbish").unwrap();
    assert!(
        refused()
            .to_string()
            .contains("tls.key: holds no private key")
    );
}

#[test]
fn another_certificate_takes_the_place_of_the_one_before() {
    let serving = Serving::self_signed("wasm-1", &[]).unwrap();
    let (certificate, key) = made("signed-by-the-cluster");
    let current = || names(&serving.current(SystemTime::now() + LIFETIME));
    serving
        .replace(certificate.as_bytes(), b"rubbish")
        .unwrap_err();
    assert_eq!(current(), ["wasm-1"]);
    serving
        .replace(certificate.as_bytes(), key.as_bytes())
        .unwrap();
    assert_eq!(current(), ["signed-by-the-cluster"]);
}
