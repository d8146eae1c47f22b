//! The kubelet's port: listeners, certificates and who may ask, on a runtime of its own, so that no client's load is
//! the pods' or the lease's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use api::{
    Api, BindError, CaSource, ClientCa, Handle, Health, Limits, ReviewError, Reviews, Serving,
};
use async_trait::async_trait;
use cluster::{Access, CallError, Kind};
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use k8s_openapi::api::authorization::v1::{SubjectAccessReviewSpec, SubjectAccessReviewStatus};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::config::NodeConfig;
use super::describe::Site;
use super::known::Known;

/// How long requests may go on once the node ends.
const GRACE: Duration = Duration::from_secs(1);
/// The most connections at once that ask for health alone.
const HEALTH: usize = 64;

/// A runtime that is left behind without waiting: dropping one in the middle of another is a panic.
struct Apart(Option<Runtime>);

/// Listeners that nobody is served by yet, and certificates: what is wrong with them is known before anything has begun.
pub(super) struct Bound {
    runtime: Apart,
    access: Access,
    authority: Option<ClientCa>,
    /// None where the node is to sign its own.
    serving: Option<Arc<Serving>>,
    api: TcpListener,
    health: Option<TcpListener>,
}

/// The port, open until this is closed or dropped.
pub(super) struct Port {
    // Dropped in this order.
    handles: Vec<Handle>,
    /// What it serves with, where no files were named: a certificate of the cluster may take its place.
    own: Option<Arc<Serving>>,
    _runtime: Apart,
}

impl Apart {
    fn new() -> anyhow::Result<Apart> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("api")
            .enable_all()
            .build()?;
        Ok(Apart(Some(runtime)))
    }

    /// Does something there.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
    ) -> anyhow::Result<T> {
        let runtime = self.0.as_ref().context("the port's runtime has ended")?;
        runtime.spawn(work).await?
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bound {
    /// Reads the certificates and listens.
    ///
    /// # Errors
    /// When a port is taken or refused, or a certificate can't be used, with the flag that helps.
    pub(super) async fn new(config: &NodeConfig, access: &Access) -> anyhow::Result<Bound> {
        let serving = match (&config.tls_cert_file, &config.tls_private_key_file) {
            (Some(certificate), Some(key)) => {
                let serving = Serving::of_files(certificate, key);
                Some(serving.context("--tls-cert-file and --tls-private-key-file")?)
            }
            _ => None,
        };
        let authority = authority(config, access)?;
        let runtime = Apart::new()?;
        let address = config
            .address
            .unwrap_or(match super::describe::ip(config, access)? {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            });
        let (port, healthz_port) = (config.port, config.healthz_port);
        let listeners = runtime.run(async move {
            let api = bind(address, port, "--port").await?;
            let health = match healthz_port {
                0 => None,
                port => Some(bind(Ipv4Addr::LOCALHOST.into(), port, "--healthz-port").await?),
            };
            Ok((api, health))
        });
        let (api, health) = listeners.await?;
        Ok(Bound {
            runtime,
            access: access.clone(),
            authority,
            serving,
            api,
            health,
        })
    }

    /// Serves.
    ///
    /// # Errors
    /// When no certificate can be made for the node's name.
    pub(super) async fn serve(
        self,
        site: &Site,
        known: Arc<Known>,
        health: Health,
    ) -> anyhow::Result<Port> {
        let node = site.description.name.clone();
        let (serving, own) = match self.serving {
            Some(serving) => (serving, None),
            None => {
                let own = Serving::self_signed(&node, &site.host_ips)?;
                (own.clone(), Some(own))
            }
        };
        let (access, authority) = (self.access, self.authority);
        let (listener, plain) = (self.api, self.health);
        let served = self.runtime.run(async move {
            // Its connections live on this runtime.
            let reviews = Arc::new(Asked(cluster::Reviews::new(access.pods()?)));
            let health = Arc::new(health);
            let api = Api::new(&node, authority, reviews, known, Arc::clone(&health));
            let mut handles = vec![api::serve(listener, serving, api, Limits::default())?];
            let limits = Limits {
                connections: HEALTH,
                ..Limits::default()
            };
            handles.extend(plain.map(|plain| api::serve_health(plain, health, limits)));
            Ok(handles)
        });
        Ok(Port {
            handles: served.await?,
            own,
            _runtime: self.runtime,
        })
    }
}

impl Port {
    /// What a certificate of the cluster may take the place of.
    pub(super) fn own(&self) -> Option<Arc<Serving>> {
        self.own.clone()
    }

    /// Takes no more requests, and gives those that are being answered a moment.
    pub(super) async fn close(mut self) {
        for handle in std::mem::take(&mut self.handles) {
            handle.stop(GRACE).await;
        }
    }
}

async fn bind(address: IpAddr, port: u16, flag: &str) -> anyhow::Result<TcpListener> {
    let refused = |error: BindError| {
        let help = match error {
            BindError::Zero => format!("give {flag} a port of its own, such as 10250"),
            BindError::Busy(_) => format!(
                "end that one, which may be a kubelet or another coracle node, or choose another port with {flag}"
            ),
            BindError::Refused { .. } => format!("choose others with --address and {flag}"),
        };
        let why = crate::program::sentence(&error);
        anyhow!("{flag} {port}: {why}; {help}")
    };
    api::bind(address, port).await.map_err(refused)
}

/// The CA of clients: the one that is asked for, else the cluster's.
fn authority(config: &NodeConfig, access: &Access) -> anyhow::Result<Option<ClientCa>> {
    let given: Vec<_> = access
        .authority()
        .into_iter()
        .map(CertificateDer::from)
        .collect();
    let asked = &config.authentication.x509.client_ca_file;
    let source = match (asked, access.authority_file()) {
        (Some(file), _) => CaSource::File(file.clone()),
        (None, Some(file)) => CaSource::File(file.to_owned()),
        (None, None) if !given.is_empty() => CaSource::Given(given),
        (None, None) => {
            tracing::warn!(
                "nobody is known by a certificate: the kubeconfig has no CA; name one with --client-ca-file"
            );
            return Ok(None);
        }
    };
    let authority = ClientCa::new(source);
    Ok(Some(authority.context(
        "the CA of clients: mend it, or name another with --client-ca-file",
    )?))
}

/// The API server's word.
struct Asked(cluster::Reviews);

#[async_trait]
impl Reviews for Asked {
    async fn token(&self, token: &str) -> Result<TokenReviewStatus, ReviewError> {
        self.0.token(token).await.map_err(failed)
    }

    async fn access(
        &self,
        asked: &SubjectAccessReviewSpec,
    ) -> Result<SubjectAccessReviewStatus, ReviewError> {
        self.0.access(asked).await.map_err(failed)
    }
}

/// What may be answered in a moment is what apiserver's webhooks ask again for (`DefaultShouldRetry`).
fn failed(error: CallError) -> ReviewError {
    let transient = matches!(error.kind(), Kind::Server | Kind::Timeout | Kind::Throttled);
    ReviewError {
        message: error.to_string(),
        transient,
    }
}
