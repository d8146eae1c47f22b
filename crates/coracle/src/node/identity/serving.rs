//! The certificate that the node serves with: self-signed until one of the cluster is approved, which
//! nobody does by itself (`kubernetes.io/kubelet-serving`).

use std::net::IpAddr;
use std::sync::Arc;

use cluster::csr::{PATIENCE, Signer};
use cluster::{Access, Certified};
use jiff::Timestamp;

use super::rotate::{RETRY, Rotation, until};
use super::{Store, Waits};
use crate::dirs::Dirs;

/// Its name among the files and the waits.
const SERVER: &str = "kubelet-server";

/// Puts certificates of the cluster into the place of the self-signed one.
pub(crate) struct ServingRotation {
    rotation: Rotation,
    signer: Signer,
    serving: Arc<api::Serving>,
}

impl ServingRotation {
    /// Begins with what the store holds, if that is for these addresses.
    ///
    /// # Errors
    /// When the store can't be made.
    pub(crate) fn begin(
        access: &Access,
        dirs: &Dirs,
        (node, addresses): (&str, Vec<IpAddr>),
        serving: Arc<api::Serving>,
        waits: &Waits,
    ) -> anyhow::Result<ServingRotation> {
        let store = Store::open(dirs.pki(), SERVER)?;
        let rotation = Rotation {
            store,
            access: access.clone(),
            node: node.to_owned(),
            waits: waits.clone(),
        };
        let names = vec![node.to_owned()];
        Ok(ServingRotation {
            rotation,
            signer: Signer::Serving { names, addresses },
            serving,
        })
    }

    /// Asks for one of the cluster, and for the next in time. Never ends.
    pub(crate) async fn follow(self) {
        let stored = self.rotation.store.current();
        let mut current = stored.filter(|stored| {
            stored.is_valid(Timestamp::now()) && self.signer.is_for(stored) && self.serve(stored)
        });
        loop {
            if let Some(certified) = &current {
                until(certified.replace_at()).await;
            }
            match self.rotation.next(SERVER, &self.signer, PATIENCE).await {
                Ok(certified) => {
                    self.serve(&certified);
                    current = Some(certified);
                }
                Err(error) => {
                    self.rotation.waits.say(SERVER, &format!("{error:#}"));
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn serve(&self, certified: &Certified) -> bool {
        let (certificate, key) = (certified.certificate(), certified.key());
        match self.serving.replace(certificate.as_bytes(), key.as_bytes()) {
            Ok(()) => {
                tracing::info!(until = %certified.not_after(), "a certificate of the cluster is served with");
                true
            }
            Err(error) => {
                tracing::error!(%error, "a certificate of the cluster can't be served with");
                false
            }
        }
    }
}
