//! The cluster's certificates: a CA, the API server's, and one for each who comes.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

/// Who a client certificate is of, as RBAC sees it, and until when.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The user: the certificate's common name.
    pub user: String,
    /// Its groups: the organisations.
    pub groups: Vec<String>,
    /// From when it is valid, and until when.
    pub lifetime: (SystemTime, SystemTime),
}

impl Identity {
    /// Someone, for a day.
    pub fn new(user: &str, groups: &[&str]) -> Identity {
        let now = SystemTime::now();
        Identity {
            user: user.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            lifetime: (
                now - Duration::from_secs(300),
                now + Duration::from_secs(24 * 3600),
            ),
        }
    }

    /// Who may do everything.
    pub fn admin() -> Identity {
        Identity::new("admin", &["system:masters"])
    }

    /// The node's own.
    pub fn node(name: &str) -> Identity {
        Identity::new(&format!("system:node:{name}"), &["system:nodes"])
    }
}

/// The CA and the folder where everything it signs lies.
pub(crate) struct Pki {
    dir: PathBuf,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// As [`Pki::with_addresses`], for an API server on loopback alone.
    pub(crate) fn new(dir: &Path) -> Result<Pki> {
        Pki::with_addresses(dir, &[])
    }

    /// A new CA, the API server's certificate for loopback and `addresses`, and the key that signs service account
    /// tokens. The CA's own key is written too: kube-controller-manager signs with it.
    pub(crate) fn with_addresses(dir: &Path, addresses: &[&str]) -> Result<Pki> {
        std::fs::create_dir_all(dir)?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "coracle-e2e-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let key_pem = key.serialize_pem();
        let ca = CertifiedIssuer::self_signed(params, key)?;
        let pki = Pki {
            dir: dir.to_owned(),
            ca,
        };
        pki.write("ca.crt", &pki.ca.pem())?;
        pki.write("ca.key", &key_pem)?;
        let mut server = params_of(&Identity::new("kube-apiserver", &[]));
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.subject_alt_names = vec![
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::DnsName("localhost".try_into()?),
            SanType::DnsName("kubernetes.default.svc".try_into()?),
        ];
        for address in addresses {
            let address = SanType::IpAddress(address.parse()?);
            server.subject_alt_names.push(address);
        }
        pki.sign("apiserver", server)?;
        let tokens = KeyPair::generate()?;
        pki.write("sa.key", &tokens.serialize_pem())?;
        pki.write("sa.pub", &tokens.public_key_pem())?;
        Ok(pki)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What kube-apiserver serves with, knows others by and signs tokens with. To kubelets it is
    /// `apiserver-kubelet`, whose [`Pki::kubeconfig`] is to be written before.
    pub(crate) fn give_to_apiserver(&self, server: &mut Command) {
        for (flag, file) in [
            ("--tls-cert-file", "apiserver.crt"),
            ("--tls-private-key-file", "apiserver.key"),
            ("--client-ca-file", "ca.crt"),
            ("--kubelet-client-certificate", "apiserver-kubelet.crt"),
            ("--kubelet-client-key", "apiserver-kubelet.key"),
            ("--service-account-key-file", "sa.pub"),
            ("--service-account-signing-key-file", "sa.key"),
        ] {
            server.arg(flag).arg(self.path(file));
        }
    }

    /// Signs a client certificate and writes a kubeconfig that holds it. Returns the kubeconfig's path.
    pub(crate) fn kubeconfig(
        &self,
        file: &str,
        identity: &Identity,
        server: &str,
    ) -> Result<PathBuf> {
        let mut params = params_of(identity);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, params)?;
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "e2e", "cluster": { "server": server, "certificate-authority": self.path("ca.crt") } }],
            "users": [{ "name": identity.user, "user": {
                "client-certificate": self.path(&format!("{file}.crt")),
                "client-key": self.path(&format!("{file}.key")),
            } }],
            "contexts": [{ "name": "e2e", "context": { "cluster": "e2e", "user": identity.user } }],
            "current-context": "e2e",
        });
        self.write(
            &format!("{file}.kubeconfig"),
            &serde_json::to_string_pretty(&config)?,
        )
    }

    /// A kubeconfig that holds a token. Returns its path.
    pub(crate) fn token_kubeconfig(
        &self,
        file: &str,
        token: &str,
        server: &str,
    ) -> Result<PathBuf> {
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "e2e", "cluster": { "server": server, "certificate-authority": self.path("ca.crt") } }],
            "users": [{ "name": file, "user": { "token": token } }],
            "contexts": [{ "name": "e2e", "context": { "cluster": "e2e", "user": file } }],
            "current-context": "e2e",
        });
        let file = format!("{file}.kubeconfig");
        self.write(&file, &serde_json::to_string_pretty(&config)?)
    }

    fn sign(&self, name: &str, params: CertificateParams) -> Result<()> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.ca)?;
        self.write(&format!("{name}.crt"), &certificate.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem())?;
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

fn params_of(identity: &Identity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, identity.user.clone());
    for group in &identity.groups {
        params
            .distinguished_name
            .push(DnType::OrganizationName, group.clone());
    }
    params.not_before = identity.lifetime.0.into();
    params.not_after = identity.lifetime.1.into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}
