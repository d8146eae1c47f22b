//! Who the node is: from a bootstrap token to a certificate of `system:node:<name>`, and from each
//! certificate to the next, for as long as the node runs.
//!
//! What may heal is waited for, with a sentence in the log and among the [`Waits`]: a request that
//! nobody approves, a certificate that ended, an API server that is away. Must not know: what is done
//! with the identity.

mod bootstrap;
mod reload;
mod rotate;
mod serving;
mod store;
mod waits;

use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::{Access, AccessError};
use jiff::Timestamp;

pub(crate) use serving::ServingRotation;
pub(crate) use waits::Waits;

use super::config::NodeConfig;
use crate::dirs::Dirs;
use store::Store;

/// How often something is looked at that a person has to mend.
const LOOK: Duration = Duration::from_secs(10);

/// The name of the client's certificate among the files, and of its line among the waits.
const CLIENT: &str = "kubelet-client";

/// The way into the cluster, and whose it is.
pub(crate) struct Identity {
    /// The way in. What is renewed is renewed in it.
    pub(crate) access: Access,
    store: Store,
    files: Vec<PathBuf>,
}

/// Finds the identity: of the kubeconfig, of the store, of the pod that this runs in, or by bootstrap.
///
/// # Errors
/// What no waiting heals: a file that is missing or malformed, a certificate of another node.
pub(crate) async fn establish(
    config: &NodeConfig,
    dirs: &Dirs,
    waits: &Waits,
) -> anyhow::Result<Identity> {
    let store = Store::open(dirs.pki(), CLIENT)?;
    let Some(kubeconfig) = kubeconfig(config, dirs) else {
        let access = Access::in_cluster()?;
        return Ok(Identity {
            access,
            store,
            files: Vec::new(),
        });
    };
    let access = loop {
        let why = match load(&kubeconfig, &store).await {
            Ok(access) => break access,
            Err(why) => why,
        };
        let lacking = is_missing(&why) || is_ended(&why);
        if let Some(bootstrap) = config.bootstrap_kubeconfig.as_deref().filter(|_| lacking) {
            tracing::info!("bootstrapping: {why}");
            let name = super::describe::name_without_identity(config);
            bootstrap::run(bootstrap, &kubeconfig, &name, &store, waits).await?;
            continue;
        }
        if !is_ended(&why) {
            return Err(why.into());
        }
        waits.say(CLIENT, &format!("waiting for another certificate: {why}"));
        tokio::time::sleep(LOOK).await;
    };
    waits.done(CLIENT);
    let mut files = vec![kubeconfig];
    files.extend(access.files());
    Ok(Identity {
        access,
        store,
        files,
    })
}

/// The one that was named; the one that bootstrap writes, where only that was named.
fn kubeconfig(config: &NodeConfig, dirs: &Dirs) -> Option<PathBuf> {
    let written = || dirs.root().join("kubeconfig");
    let named = config.kubeconfig.clone();
    named.or_else(|| config.bootstrap_kubeconfig.is_some().then(written))
}

/// The kubeconfig, with the store's certificate where that was written later.
async fn load(kubeconfig: &Path, store: &Store) -> Result<Access, AccessError> {
    let newer = || {
        let at = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
        at(&store.link()) >= at(kubeconfig)
    };
    let stored = store
        .current()
        .filter(|certified| certified.is_valid(Timestamp::now()) && newer());
    match stored {
        Some(certified) => Access::load_as(kubeconfig, &certified).await,
        None => Access::load(kubeconfig).await,
    }
}

fn is_missing(error: &AccessError) -> bool {
    matches!(error, AccessError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

fn is_ended(error: &AccessError) -> bool {
    matches!(error, AccessError::Lifetime { .. })
}

impl Identity {
    /// Keeps it: takes what the files come to hold, and asks for the next certificate in time. Ends with the runtime.
    pub(crate) fn keep(self, config: &NodeConfig, node: &str, waits: &Waits) {
        // A certificate of somebody else's is not ours to renew.
        if config.rotate_certificates && self.access.node().is_some() {
            let rotation = rotate::Rotation {
                store: self.store,
                access: self.access.clone(),
                node: node.to_owned(),
                waits: waits.clone(),
            };
            tokio::spawn(rotation.client());
        }
        tokio::spawn(reload::follow(self.files, self.access));
    }
}

#[cfg(test)]
mod tests;
