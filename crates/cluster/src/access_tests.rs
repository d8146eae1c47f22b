#![allow(clippy::unwrap_used)]

use rcgen::{CertificateParams, DnType, KeyPair};
use tempfile::TempDir;

use super::*;

/// A folder with the kubeconfig of `system:node:n`, self-signed from `begins` to `ends`, counted from now in seconds.
struct Folder {
    dir: TempDir,
}

impl Folder {
    fn new(begins: i64, ends: i64) -> Folder {
        let dir = TempDir::new().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "system:node:n");
        let at = |offset: i64| {
            std::time::SystemTime::from(Timestamp::now() + jiff::SignedDuration::from_secs(offset))
                .into()
        };
        params.not_before = at(begins);
        params.not_after = at(ends);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("n.crt"), certificate.pem()).unwrap();
        std::fs::write(dir.path().join("n.key"), key.serialize_pem()).unwrap();
        let folder = Folder { dir };
        folder.kubeconfig(
            "current-context: c",
            "certificate-authority: n.crt",
            "client-certificate: n.crt",
            "client-key: n.key",
        );
        folder
    }

    fn kubeconfig(&self, current: &str, ca: &str, certificate: &str, key: &str) {
        self.write(&format!(
            "apiVersion: v1\nkind: Config\n{current}\n\
             clusters: [{{name: k, cluster: {{server: 'https://127.0.0.1:1', {ca}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             users: [{{name: u, user: {{{certificate}, {key}}}}}]\n"
        ));
    }

    fn write(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    async fn error(&self) -> String {
        let text = Access::load(&self.file())
            .await
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(
            text.contains(&self.file().display().to_string()),
            "the file is named: {text}"
        );
        text
    }
}

#[tokio::test]
async fn a_node_s_kubeconfig_gives_its_identity() {
    let folder = Folder::new(-60, 60);
    let access = Access::load(&folder.file()).await.unwrap();
    assert_eq!(
        (access.user().as_deref(), access.node().as_deref()),
        (Some("system:node:n"), Some("n"))
    );
    assert_eq!(access.server(), "https://127.0.0.1:1/");
    assert!(access.for_node("n").is_ok());
    let other = access.for_node("m").unwrap_err().to_string();
    assert!(
        other.contains("\"system:node:n\"") && other.contains("--node-name n"),
        "{other}"
    );
    access.pods().map(drop).unwrap();
    access.heartbeats().map(drop).unwrap();
}

#[tokio::test]
async fn a_missing_file_and_a_broken_one() {
    let folder = Folder::new(-60, 60);
    std::fs::remove_file(folder.file()).unwrap();
    assert!(folder.error().await.contains("--kubeconfig"));
    for text in ["clusters: [", "\u{0}\u{1}", "- a\n- b\n"] {
        folder.write(text);
        let error = folder.error().await;
        assert!(error.contains("can't be parsed"), "{text:?}: {error}");
    }
    folder.write("");
    assert!(folder.error().await.contains("current-context: is not set"));
}

#[tokio::test]
async fn a_context_that_leads_nowhere() {
    let folder = Folder::new(-60, 60);
    let (ca, certificate, key) = (
        "certificate-authority: n.crt",
        "client-certificate: n.crt",
        "client-key: n.key",
    );
    folder.kubeconfig("", ca, certificate, key);
    assert!(
        folder
            .error()
            .await
            .contains("current-context: is not set; set it to one of: c")
    );
    folder.kubeconfig("current-context: x", ca, certificate, key);
    assert!(
        folder
            .error()
            .await
            .contains("current-context: there is no context \"x\"; set it to one of: c")
    );
    folder.write("current-context: c\ncontexts: [{name: c, context: {cluster: gone, user: u}}]\n");
    assert!(
        folder
            .error()
            .await
            .contains("contexts[name=c].context.cluster: there is no cluster \"gone\"")
    );
    folder.write("current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\nclusters: [{name: k, cluster: {server: 'https://h'}}]\n");
    assert!(
        folder
            .error()
            .await
            .contains("contexts[name=c].context.user")
    );
    folder.write("current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {}}]\n");
    assert!(
        folder
            .error()
            .await
            .contains("clusters[name=k].cluster.server: is not set")
    );
    folder.kubeconfig(
        "current-context: c",
        "proxy-url: 'http://proxy'",
        certificate,
        key,
    );
    assert!(
        folder
            .error()
            .await
            .contains("clusters[name=k].cluster.proxy-url")
    );
}

#[tokio::test]
async fn bad_certificate_data_is_named_by_its_field() {
    let folder = Folder::new(-60, 60);
    std::fs::write(folder.dir.path().join("junk"), "junk").unwrap();
    let (current, ca, certificate, key) = (
        "current-context: c",
        "certificate-authority: n.crt",
        "client-certificate: n.crt",
        "client-key: n.key",
    );
    let ca_field = "clusters[name=k].cluster.certificate-authority";
    let certificate_field = "users[name=u].user.client-certificate";
    let key_field = "users[name=u].user.client-key";
    for (ca, certificate, key, field) in [
        ("certificate-authority: absent", certificate, key, ca_field),
        ("certificate-authority: junk", certificate, key, ca_field),
        (
            "certificate-authority-data: '%%%'",
            certificate,
            key,
            ca_field,
        ),
        (ca, "client-certificate: absent", key, certificate_field),
        (ca, "client-certificate: junk", key, certificate_field),
        (ca, "client-certificate: n.key", key, certificate_field),
        (ca, "client-certificate-data: '%%%'", key, certificate_field),
        (
            ca,
            "client-certificate-data: anVuaw==",
            key,
            certificate_field,
        ),
        (ca, certificate, "client-key: absent", key_field),
        (ca, certificate, "client-key: junk", key_field),
        (ca, certificate, "client-key-data: '%%%'", key_field),
        (
            ca,
            "impersonate: nobody",
            "impersonate-uid: x",
            certificate_field,
        ),
    ] {
        folder.kubeconfig(current, ca, certificate, key);
        let error = folder.error().await;
        assert!(error.contains(field), "{ca}, {certificate}, {key}: {error}");
    }
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused() {
    let folder = Folder::new(-60, 60);
    let other = KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(folder.dir.path().join("n.key"), other).unwrap();
    assert!(
        folder
            .error()
            .await
            .contains("users[name=u].user.client-key")
    );
}

#[tokio::test]
async fn a_certificate_outside_its_lifetime_says_when() {
    let ended = Folder::new(-120, -60).error().await;
    assert!(
        ended.contains("the certificate of \"system:node:n\" ended at 20"),
        "{ended}"
    );
    let early = Folder::new(3600, 7200).error().await;
    assert!(
        early.contains("begins at 20") && early.contains("clock"),
        "{early}"
    );
}
