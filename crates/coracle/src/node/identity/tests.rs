#![allow(clippy::unwrap_used)]

use std::fs;

use cluster::csr::new_key;
use rcgen::{CertificateParams, DnType, KeyPair};

use super::*;

fn certified(node: &str) -> cluster::Certified {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    let user = format!("system:node:{node}");
    params.distinguished_name.push(DnType::CommonName, user);
    let pem = params.self_signed(&key).unwrap().pem();
    cluster::Certified::read(&pem, &key.serialize_pem()).unwrap()
}

fn store(folder: &tempfile::TempDir) -> Store {
    Store::open(folder.path().join("pki"), CLIENT).unwrap()
}

fn files(folder: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path().join("pki")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A kubeconfig of a certificate, with a CA of its own.
fn kubeconfig(path: &Path, certified: &cluster::Certified) {
    let (pem, key) = (certified.certificate(), certified.key());
    let at = |name: &str| path.with_extension(name);
    fs::write(at("crt"), pem).unwrap();
    fs::write(at("key"), key).unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: k, cluster: {{server: 'https://127.0.0.1:1', certificate-authority: {ca}}}}}]\n\
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         users: [{{name: u, user: {{client-certificate: {crt}, client-key: {key}}}}}]\n",
        ca = at("crt").display(),
        crt = at("crt").display(),
        key = at("key").display(),
    );
    fs::write(path, text).unwrap();
}

#[test]
fn the_newest_certificate_is_behind_a_link_and_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    assert!(store.current().is_none());
    for _ in 0..3 {
        let next = certified("n");
        store.keep(&next).unwrap();
        assert_eq!(store.current().unwrap().pem(), next.pem());
        assert_eq!(files(&folder).len(), 2, "the file and the link");
    }
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&store.link().metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// Every state that a process killed at some point leaves is one that the next goes on from.
#[test]
fn what_a_killed_process_leaves_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let first = certified("n");
    store.keep(&first).unwrap();
    let pki = folder.path().join("pki");
    // Half of a file; a whole one that nothing leads to; a link that was not renamed.
    fs::write(pki.join("kubelet-client-2099.pem.part"), "half").unwrap();
    fs::write(pki.join("kubelet-client-2098.pem"), certified("n").pem()).unwrap();
    std::os::unix::fs::symlink(
        "kubelet-client-2098.pem",
        pki.join("kubelet-client-updated.pem"),
    )
    .unwrap();
    assert_eq!(store.current().unwrap().pem(), first.pem());
    let second = certified("n");
    store.keep(&second).unwrap();
    assert_eq!(store.current().unwrap().pem(), second.pem());
    assert_eq!(files(&folder).len(), 2, "{:?}", files(&folder));
}

#[test]
fn a_damaged_certificate_is_none_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    store.keep(&certified("n")).unwrap();
    fs::write(store.link(), "not a certificate").unwrap();
    assert!(store.current().is_none());
}

/// The request's name follows from the key, so a process that is started again finds its own request.
#[test]
fn the_key_that_was_asked_with_is_kept_until_there_is_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (store, again) = (store(&folder), store(&folder));
    let key = store.key().unwrap();
    assert_eq!(again.key().unwrap(), key);
    store.forget_key();
    assert_ne!(store.key().unwrap(), key);
    fs::write(folder.path().join("pki/kubelet-client.key.tmp"), "damaged").unwrap();
    assert!(store.key().unwrap().contains("PRIVATE KEY"));
    assert_ne!(new_key().unwrap(), new_key().unwrap());
}

#[tokio::test]
async fn the_certificate_that_was_written_last_counts() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let file = folder.path().join("kubeconfig");
    let (given, rotated) = (certified("n"), certified("n"));
    kubeconfig(&file, &given);
    let pem = |access: &Access| access.certified().unwrap().pem();
    assert_eq!(pem(&load(&file, &store).await.unwrap()), given.pem());
    store.keep(&rotated).unwrap();
    assert_eq!(pem(&load(&file, &store).await.unwrap()), rotated.pem());
    // An administrator writes another one.
    let newer = certified("n");
    kubeconfig(&file, &newer);
    let later = std::time::SystemTime::now() + Duration::from_secs(10);
    fs::File::open(&file).unwrap().set_modified(later).unwrap();
    assert_eq!(pem(&load(&file, &store).await.unwrap()), newer.pem());
}

#[tokio::test]
async fn a_kubeconfig_that_changes_is_taken_over_unless_it_is_another_node_s() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    kubeconfig(&file, &certified("n"));
    let access = Access::load(&file).await.unwrap();
    let next = certified("n");
    kubeconfig(&file, &next);
    reload::reload(&file, &access).await.unwrap();
    assert_eq!(access.certified().unwrap().pem(), next.pem());
    kubeconfig(&file, &certified("m"));
    let error = reload::reload(&file, &access).await.unwrap_err();
    assert!(matches!(error, AccessError::OtherNode { .. }), "{error}");
    assert_eq!(access.node().as_deref(), Some("n"));
}

#[tokio::test]
async fn what_bootstrap_writes_is_a_kubeconfig_of_the_store_s_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let bootstrap = folder.path().join("bootstrap");
    kubeconfig(&bootstrap, &certified("somebody"));
    let access = Access::load(&bootstrap).await.unwrap();
    let given = certified("n");
    store.keep(&given).unwrap();
    let file = folder.path().join("kubeconfig");
    store::write(&file, access.kubeconfig_with(&store.link()).as_bytes()).unwrap();
    let own = Access::load(&file).await.unwrap();
    assert_eq!(own.node().as_deref(), Some("n"));
    assert_eq!(own.server(), access.server());
    assert_eq!(own.certified().unwrap().pem(), given.pem());
}
