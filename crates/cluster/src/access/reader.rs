//! Reads a kubeconfig's parts and puts what is wrong with them at their field.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::config::{AuthInfo, Kubeconfig, KubeconfigError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::AccessError;
use crate::certificate::Certified;

/// The names that the current context leads to.
pub(super) struct Names {
    context: String,
    cluster: String,
    user: Option<String>,
}

impl Names {
    pub(super) fn ca(&self) -> String {
        format!(
            "clusters[name={}].cluster.certificate-authority(-data)",
            self.cluster
        )
    }

    /// The file of the cluster's CA: what stands in the kubeconfig itself comes before one.
    pub(super) fn authority(&self, config: &Kubeconfig) -> Option<PathBuf> {
        let named = config.clusters.iter().find(|c| c.name == self.cluster)?;
        let cluster = named.cluster.as_ref()?;
        match &cluster.certificate_authority_data {
            Some(_) => None,
            None => cluster.certificate_authority.clone().map(PathBuf::from),
        }
    }

    pub(super) fn user_field(&self, field: &str) -> String {
        format!(
            "users[name={}].user.{field}",
            self.user.as_deref().unwrap_or_default()
        )
    }
}

impl Names {
    /// Puts other credentials in the place of the user's.
    pub(super) fn set_user(&self, config: &mut Kubeconfig, auth: AuthInfo) {
        let users = config.auth_infos.iter_mut();
        for user in users.filter(|user| Some(&user.name) == self.user.as_ref()) {
            user.auth_info = Some(auth.clone());
        }
    }
}

pub(super) struct Reader<'a> {
    pub(super) file: &'a Path,
}

impl Reader<'_> {
    pub(super) fn field(
        &self,
        field: impl Into<String>,
        why: impl Into<String>,
        help: impl Into<String>,
    ) -> AccessError {
        AccessError::Field {
            file: self.file.to_owned(),
            field: field.into(),
            why: why.into(),
            help: help.into(),
        }
    }

    pub(super) fn read(&self) -> Result<Kubeconfig, AccessError> {
        Kubeconfig::read_from(self.file).map_err(|error| match error {
            KubeconfigError::ReadConfig(source, file) => AccessError::Read { file, source },
            other => AccessError::Parse {
                file: self.file.to_owned(),
                why: first_line(&other.to_string()),
            },
        })
    }

    /// Follows current-context to a cluster and a user, each of which must stand in the file.
    pub(super) fn names(&self, config: &Kubeconfig) -> Result<Names, AccessError> {
        let known: Vec<&str> = config.contexts.iter().map(|c| c.name.as_str()).collect();
        let known = match known.is_empty() {
            true => "add a context that names a cluster and a user".to_owned(),
            false => format!("set it to one of: {}", known.join(", ")),
        };
        let Some(name) = config
            .current_context
            .clone()
            .filter(|name| !name.is_empty())
        else {
            return Err(self.field("current-context", "is not set", known));
        };
        let found = config
            .contexts
            .iter()
            .find(|c| c.name == name)
            .and_then(|c| c.context.as_ref());
        let Some(context) = found else {
            return Err(self.field(
                "current-context",
                format!("there is no context {name:?}"),
                known,
            ));
        };
        let cluster = config
            .clusters
            .iter()
            .find(|c| c.name == context.cluster)
            .and_then(|c| c.cluster.as_ref());
        let Some(cluster) = cluster else {
            let field = format!("contexts[name={name}].context.cluster");
            let why = format!("there is no cluster {:?}", context.cluster);
            return Err(self.field(field, why, "name one of the file's clusters"));
        };
        if cluster.server.as_ref().is_none_or(String::is_empty) {
            let field = format!("clusters[name={}].cluster.server", context.cluster);
            return Err(self.field(
                field,
                "is not set",
                "give the API server's address: https://HOST:6443",
            ));
        }
        if let Some(proxy) = cluster.proxy_url.as_ref().filter(|proxy| !proxy.is_empty()) {
            let field = format!("clusters[name={}].cluster.proxy-url", context.cluster);
            let why = format!("{proxy:?}: a proxy to the API server is not supported");
            return Err(self.field(
                field,
                why,
                "remove it, and make the server reachable directly",
            ));
        }
        let user = context.user.clone().filter(|user| !user.is_empty());
        let known = |user: &String| {
            config
                .auth_infos
                .iter()
                .any(|u| u.name == *user && u.auth_info.is_some())
        };
        match user {
            Some(user) if known(&user) => Ok(Names {
                context: name,
                cluster: context.cluster.clone(),
                user: Some(user),
            }),
            user => {
                let field = format!("contexts[name={name}].context.user");
                let why = format!("there is no user {:?}", user.unwrap_or_default());
                Err(self.field(
                    field,
                    why,
                    "name one of the file's users: a node needs credentials",
                ))
            }
        }
    }

    /// Puts kube's error at its field.
    pub(super) fn sort(&self, names: &Names, error: KubeconfigError) -> AccessError {
        let why = error.to_string();
        match error {
            KubeconfigError::LoadCertificateAuthority(_)
            | KubeconfigError::ParseCertificates(_) => self.field(
                names.ca(),
                why,
                "put the cluster's CA there, in PEM (base64 of it in …-data)",
            ),
            KubeconfigError::LoadClientCertificate(_) => {
                let help = "put the node's certificate there, in PEM (base64 of it in …-data)";
                self.field(names.user_field("client-certificate(-data)"), why, help)
            }
            KubeconfigError::LoadClientKey(_) => {
                let help =
                    "put the certificate's private key there, in PEM (base64 of it in …-data)";
                self.field(names.user_field("client-key(-data)"), why, help)
            }
            KubeconfigError::MissingClusterUrl | KubeconfigError::ParseClusterUrl(_) => {
                let field = format!("clusters[name={}].cluster.server", names.cluster);
                self.field(
                    field,
                    why,
                    "give the API server's address: https://HOST:6443",
                )
            }
            _ => self.field(
                format!("contexts[name={}]", names.context),
                why,
                "mend the file",
            ),
        }
    }

    /// The certificate's user name, once it is known to be a certificate and alive.
    pub(super) fn certificate(
        &self,
        names: &Names,
        user: &AuthInfo,
        now: Timestamp,
    ) -> Result<Option<String>, AccessError> {
        let (field, pem) = match (&user.client_certificate_data, &user.client_certificate) {
            (Some(data), _) => ("client-certificate-data", base64(data)),
            (None, Some(file)) => (
                "client-certificate",
                std::fs::read(file).map_err(|e| format!("can't read {file}: {e}")),
            ),
            (None, None) => return self.other_credentials(names, user),
        };
        let field = names.user_field(field);
        let help = "put the node's certificate there, in PEM";
        let pem = pem.map_err(|why| self.field(&field, why, help))?;
        let der = CertificateDer::from_pem_slice(&pem).map_err(|why| {
            self.field(
                &field,
                format!("is not a certificate in PEM: {why:?}"),
                help,
            )
        })?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|why| {
            self.field(&field, format!("is not an X.509 certificate: {why}"), help)
        })?;
        let name = certificate
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok());
        let subject = name.unwrap_or_default().to_owned();
        let validity = certificate.validity();
        let lifetime = |when, help| AccessError::Lifetime {
            file: self.file.to_owned(),
            field: field.clone(),
            subject: subject.clone(),
            when,
            help,
        };
        if now.as_second() > validity.not_after.timestamp() {
            let when = format!(
                "ended at {}, it is now {now:.0}",
                utc(validity.not_after.timestamp())
            );
            return Err(lifetime(when, "have a new one signed"));
        }
        if now.as_second() < validity.not_before.timestamp() {
            let when = format!(
                "begins at {}, it is now {now:.0}",
                utc(validity.not_before.timestamp())
            );
            return Err(lifetime(when, "set this machine's clock"));
        }
        Ok(Some(subject))
    }

    fn other_credentials(
        &self,
        names: &Names,
        user: &AuthInfo,
    ) -> Result<Option<String>, AccessError> {
        let any = user.token.is_some()
            || user.token_file.is_some()
            || user.exec.is_some()
            || user.username.is_some();
        match any {
            true => Ok(None),
            false => Err(self.field(
                names.user_field("client-certificate(-data)"),
                "there are no credentials",
                "put a certificate of system:node:<name> and its key there",
            )),
        }
    }

    /// The certificate has been read by now, so what TLS still refuses is its key, the CA, or how they belong together.
    pub(super) fn tls(&self, names: &Names, error: &kube::Error) -> AccessError {
        let why = error.to_string();
        match why.contains("root certificate") {
            true => self.field(names.ca(), why, "put the cluster's CA there, in PEM"),
            false => self.field(
                names.user_field("client-key(-data)"),
                why,
                "put the certificate's own private key there, in PEM",
            ),
        }
    }
}

/// A user's certificate and key, if both can be read.
pub(super) fn certified(auth: &AuthInfo) -> Option<Certified> {
    // Secrets show themselves to serde alone here.
    let json = serde_json::to_value(auth).ok()?;
    let text = |data: &str, file: &str| {
        let found = match json.get(data).and_then(|data| data.as_str()) {
            Some(data) => base64(data).ok()?,
            None => std::fs::read(json.get(file)?.as_str()?).ok()?,
        };
        String::from_utf8(found).ok()
    };
    let certificate = text("client-certificate-data", "client-certificate")?;
    let key = text("client-key-data", "client-key")?;
    Certified::read(&certificate, &key).ok()
}

/// DER as a block of PEM.
pub(super) fn pem(der: &[u8], label: &str) -> String {
    let json = serde_json::to_value(ByteString(der.to_vec())).unwrap_or_default();
    let text = json.as_str().unwrap_or_default();
    let mut lines = format!("-----BEGIN {label}-----\n");
    for (place, letter) in text.chars().enumerate() {
        if place > 0 && place % 64 == 0 {
            lines.push('\n');
        }
        lines.push(letter);
    }
    lines.push_str(&format!("\n-----END {label}-----\n"));
    lines
}

fn base64(data: &str) -> Result<Vec<u8>, String> {
    let bytes: Result<ByteString, _> = serde_json::from_value(serde_json::Value::from(data));
    bytes
        .map(|bytes| bytes.0)
        .map_err(|why| format!("is not base64: {why}"))
}

fn utc(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .map_or_else(|_| format!("{seconds} s after 1970"), |at| at.to_string())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
