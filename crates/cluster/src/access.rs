//! The kubeconfig: read, checked field by field, and made into clients.
//!
//! Everything that will never heal by itself (a missing file, a field that can't be read, a certificate that ended) is
//! an error here, with the file, the field and what helps. Whether the server answers is not asked: that may heal.

mod reader;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::client::ConfigExt;
use kube::config::{AuthInfo, KubeConfigOptions};
use kube::{Client, Config};
use serde_json::json;

use crate::certificate::Certified;
use crate::swap::Live;
use reader::Reader;

/// The prefix of a node's own user name.
pub(crate) const NODE_USER: &str = "system:node:";

/// How long a heartbeat may take, connection included: the kubelet's limit for its own.
pub(crate) const HEARTBEAT_LIMIT: Duration = Duration::from_secs(10);

/// A way into a cluster that has been checked: who we are and where the API server is. Its clones are one: what
/// [`Access::renew`] takes into use holds for all, and for every client that was made of them.
#[derive(Debug, Clone)]
pub struct Access {
    file: PathBuf,
    live: Arc<Live>,
    authority: Option<PathBuf>,
}

/// Why a kubeconfig can't be used. Nothing of this heals by itself.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file is missing or can't be read.
    #[error("can't read the kubeconfig {}: {source}; name the file with --kubeconfig", file.display())]
    Read {
        /// The kubeconfig.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file isn't a kubeconfig.
    #[error("the kubeconfig {} can't be parsed: {why}; it must be YAML of kind Config (apiVersion v1)", file.display())]
    Parse {
        /// The kubeconfig.
        file: PathBuf,
        /// Where and why.
        why: String,
    },
    /// A field is missing, names nothing, or holds what can't be used.
    #[error("the kubeconfig {}: {field}: {why}; {help}", file.display())]
    Field {
        /// The kubeconfig.
        file: PathBuf,
        /// The field's path: `users[name=u].user.client-certificate-data`.
        field: String,
        /// What is wrong with it.
        why: String,
        /// What to do.
        help: String,
    },
    /// The client certificate is outside its lifetime.
    #[error("the kubeconfig {}: {field}: the certificate of {subject:?} {when}; {help}", file.display())]
    Lifetime {
        /// The kubeconfig.
        file: PathBuf,
        /// The field's path.
        field: String,
        /// The certificate's common name.
        subject: String,
        /// `ended at …, it is now …` or `begins at …, it is now …`.
        when: String,
        /// What to do.
        help: &'static str,
    },
    /// This process runs in no pod, or its service account can't be read.
    #[error(
        "no kubeconfig was named, and this is no pod of the cluster: {0}; name a kubeconfig with --kubeconfig"
    )]
    InCluster(#[source] kube::config::InClusterError),
    /// A new certificate can't be used with this server.
    #[error("the new certificate of {user:?} can't be used: {why}")]
    Renewed {
        /// Whose it is.
        user: String,
        /// Why.
        why: String,
    },
    /// The certificate is another node's.
    #[error("the kubeconfig {} is of {user:?}, which may not act for the node {node:?}; start with --node-name {owner}, or use a kubeconfig of {NODE_USER}{node}", file.display())]
    OtherNode {
        /// The kubeconfig.
        file: PathBuf,
        /// Whose certificate it is.
        user: String,
        /// The node's name in it.
        owner: String,
        /// The node that was asked for.
        node: String,
    },
}

impl Access {
    /// Reads and checks a kubeconfig: its current context, the cluster's CA, and the user's certificate and key.
    ///
    /// # Errors
    /// [`AccessError`], which names the file and the field.
    pub async fn load(file: &Path) -> Result<Access, AccessError> {
        Access::read(file, None).await
    }

    /// As [`Access::load`], with another certificate in the place of the user's credentials, which are not looked at.
    ///
    /// # Errors
    /// As [`Access::load`].
    pub async fn load_as(file: &Path, certified: &Certified) -> Result<Access, AccessError> {
        Access::read(file, Some(certified)).await
    }

    async fn read(file: &Path, certified: Option<&Certified>) -> Result<Access, AccessError> {
        // Both ring and another provider may be compiled in; without a default rustls would panic at the first client.
        let _already_set = rustls::crypto::ring::default_provider().install_default();
        let reader = Reader { file };
        let mut kubeconfig = reader.read()?;
        let names = reader.names(&kubeconfig)?;
        let authority = names.authority(&kubeconfig);
        if let Some(certified) = certified {
            names.set_user(&mut kubeconfig, auth(certified)?);
        }
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let mut config = config.map_err(|error| reader.sort(&names, error))?;
        if config.root_cert.as_ref().is_some_and(Vec::is_empty) {
            return Err(reader.field(
                names.ca(),
                "holds no certificate",
                "put the cluster's CA there, in PEM",
            ));
        }
        let user = reader.certificate(&names, &config.auth_info, Timestamp::now())?;
        ours(&mut config);
        config.auth_layer().map_err(|error| {
            reader.field(names.user_field("token"), error.to_string(), "mend it")
        })?;
        config
            .rustls_client_config()
            .map_err(|error| reader.tls(&names, &error))?;
        Ok(Access {
            file: file.to_owned(),
            live: Live::new(config, user),
            authority,
        })
    }

    /// The file of the cluster's CA, where the kubeconfig names one.
    pub fn authority_file(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    /// The cluster's CA, in DER; empty where the kubeconfig has none.
    pub fn authority(&self) -> Vec<Vec<u8>> {
        self.live.config().root_cert.unwrap_or_default()
    }

    /// As the service account of the pod that this process runs in.
    ///
    /// # Errors
    /// [`AccessError::InCluster`].
    pub fn in_cluster() -> Result<Access, AccessError> {
        let _already_set = rustls::crypto::ring::default_provider().install_default();
        let mut config = Config::incluster().map_err(AccessError::InCluster)?;
        ours(&mut config);
        Ok(Access {
            file: PathBuf::new(),
            live: Live::new(config, None),
            authority: None,
        })
    }

    /// Takes a certificate into use: each call from now on is made with it, over connections of its own. What is under
    /// way ends as it began; a watch is ended by the server within a minute, and resumed with the new one.
    ///
    /// # Errors
    /// [`AccessError::Renewed`], with nothing changed.
    pub fn renew(&self, certified: &Certified) -> Result<(), AccessError> {
        let wrong = |why: String| AccessError::Renewed {
            user: certified.user().to_owned(),
            why,
        };
        let mut config = self.live.config();
        config.auth_info = auth(certified)?;
        config
            .rustls_client_config()
            .map_err(|error| wrong(error.to_string()))?;
        self.live.replace(config, Some(certified.user().to_owned()));
        Ok(())
    }

    /// Takes over what `other` was loaded with: the file has changed.
    pub fn adopt(&self, other: &Access) {
        self.live.replace(other.live.config(), other.user());
    }

    /// The certificate and key that count, if there are any.
    pub fn certified(&self) -> Option<Certified> {
        let auth = self.live.config().auth_info;
        reader::certified(&auth)
    }

    /// The files that its credentials are in, beside the kubeconfig.
    pub fn files(&self) -> Vec<PathBuf> {
        let auth = self.live.config().auth_info;
        let files = [auth.client_certificate, auth.client_key, auth.token_file];
        files.into_iter().flatten().map(PathBuf::from).collect()
    }

    /// A kubeconfig for the same cluster with a certificate and its key in one file, as the kubelet writes it after its
    /// bootstrap. YAML, in JSON's form.
    pub fn kubeconfig_with(&self, certificate: &Path) -> String {
        let config = self.live.config();
        let pem = |der: &Vec<u8>| reader::pem(der, "CERTIFICATE");
        let ca: String = config.root_cert.iter().flatten().map(pem).collect();
        let mut cluster = json!({ "server": config.cluster_url.to_string() });
        if let Some(cluster) = cluster.as_object_mut() {
            if config.root_cert.is_some() {
                let data = json!(ByteString(ca.into_bytes()));
                cluster.insert("certificate-authority-data".to_owned(), data);
            }
            if let Some(name) = &config.tls_server_name {
                cluster.insert("tls-server-name".to_owned(), json!(name));
            }
            if config.accept_invalid_certs {
                cluster.insert("insecure-skip-tls-verify".to_owned(), json!(true));
            }
        }
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "default-cluster", "cluster": cluster }],
            "contexts": [{ "name": "default-context",
                "context": { "cluster": "default-cluster", "user": "default-auth", "namespace": "default" } }],
            "current-context": "default-context",
            "users": [{ "name": "default-auth",
                "user": { "client-certificate": certificate, "client-key": certificate } }],
        });
        format!("{text:#}\n")
    }

    /// The API server's address.
    pub fn server(&self) -> String {
        self.live.config().cluster_url.to_string()
    }

    /// The user name of the client certificate, where there is one.
    pub fn user(&self) -> Option<String> {
        self.live.user()
    }

    /// The node whose identity this is: the name after `system:node:`.
    pub fn node(&self) -> Option<String> {
        Some(self.user()?.strip_prefix(NODE_USER)?.to_owned())
    }

    /// Whether this identity may act for `node`. An identity that is no node's (an administrator's) may.
    ///
    /// # Errors
    /// [`AccessError::OtherNode`].
    pub fn for_node(&self, node: &str) -> Result<(), AccessError> {
        match self.node() {
            Some(owner) if owner != node => Err(AccessError::OtherNode {
                file: self.file.clone(),
                user: format!("{NODE_USER}{owner}"),
                owner,
                node: node.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// A client for pods and events. Its connections live on the runtime that this is called on.
    ///
    /// # Errors
    /// [`kube::Error`] if the TLS library refuses what [`Access::load`] has accepted.
    pub fn pods(&self) -> kube::Result<Client> {
        self.live.client(|_| {})
    }

    /// A client for heartbeats alone: connections of its own, and no call of it takes more than 10 s. Call it on the
    /// runtime that runs the heartbeat.
    ///
    /// # Errors
    /// As [`Access::pods`].
    pub fn heartbeats(&self) -> kube::Result<Client> {
        self.live.client(|config| {
            config.connect_timeout = Some(HEARTBEAT_LIMIT);
            config.write_timeout = Some(HEARTBEAT_LIMIT);
        })
    }
}

/// A user who has this certificate.
fn auth(certified: &Certified) -> Result<AuthInfo, AccessError> {
    let data = |pem: &str| ByteString(pem.as_bytes().to_vec());
    serde_json::from_value(json!({
        "client-certificate-data": data(certified.certificate()),
        "client-key-data": data(certified.key()),
    }))
    .map_err(|error| AccessError::Renewed {
        user: certified.user().to_owned(),
        why: error.to_string(),
    })
}

/// What every client of ours has.
fn ours(config: &mut Config) {
    // Our own backoff sees every refusal, and says it in the log.
    config.default_retry = false;
    // HTTPS_PROXY is for what leaves the cluster's network; kube would take it whatever NO_PROXY says.
    config.proxy_url = None;
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
