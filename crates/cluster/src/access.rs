//! The kubeconfig: read, checked field by field, and made into clients.
//!
//! Everything that will never heal by itself (a missing file, a field that can't be read, a certificate that ended) is
//! an error here, with the file, the field and what helps. Whether the server answers is not asked: that may heal.

mod reader;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use kube::client::ConfigExt;
use kube::config::KubeConfigOptions;
use kube::{Client, Config};

use reader::Reader;

/// The prefix of a node's own user name.
const NODE_USER: &str = "system:node:";

/// How long a heartbeat may take, connection included: the kubelet's limit for its own.
pub(crate) const HEARTBEAT_LIMIT: Duration = Duration::from_secs(10);

/// A way into a cluster that has been checked: who we are and where the API server is.
#[derive(Debug, Clone)]
pub struct Access {
    file: PathBuf,
    config: Config,
    user: Option<String>,
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
        // Both ring and another provider may be compiled in; without a default rustls would panic at the first client.
        let _already_set = rustls::crypto::ring::default_provider().install_default();
        let reader = Reader { file };
        let kubeconfig = reader.read()?;
        let names = reader.names(&kubeconfig)?;
        let authority = names.authority(&kubeconfig);
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
        // Our own backoff sees every refusal, and says it in the log.
        config.default_retry = false;
        // HTTPS_PROXY is for what leaves the cluster's network; kube would take it whatever NO_PROXY says.
        config.proxy_url = None;
        config.auth_layer().map_err(|error| {
            reader.field(names.user_field("token"), error.to_string(), "mend it")
        })?;
        config
            .rustls_client_config()
            .map_err(|error| reader.tls(&names, &error))?;
        Ok(Access {
            file: file.to_owned(),
            config,
            user,
            authority,
        })
    }

    /// The file of the cluster's CA, where the kubeconfig names one.
    pub fn authority_file(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    /// The cluster's CA, in DER; empty where the kubeconfig has none.
    pub fn authority(&self) -> Vec<Vec<u8>> {
        self.config.root_cert.clone().unwrap_or_default()
    }

    /// The API server's address.
    pub fn server(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// The user name of the client certificate, where there is one.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The node whose identity this is: the name after `system:node:`.
    pub fn node(&self) -> Option<&str> {
        self.user()?.strip_prefix(NODE_USER)
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
                owner: owner.to_owned(),
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
        Client::try_from(self.config.clone())
    }

    /// A client for heartbeats alone: connections of its own, and no call of it takes more than 10 s. Call it on the
    /// runtime that runs the heartbeat.
    ///
    /// # Errors
    /// As [`Access::pods`].
    pub fn heartbeats(&self) -> kube::Result<Client> {
        let mut config = self.config.clone();
        config.connect_timeout = Some(HEARTBEAT_LIMIT);
        config.write_timeout = Some(HEARTBEAT_LIMIT);
        Client::try_from(config)
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
