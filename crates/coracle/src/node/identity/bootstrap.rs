//! From a bootstrap kubeconfig to the node's own.

use std::path::Path;

use anyhow::Context;
use cluster::Access;
use cluster::csr::{CsrError, PATIENCE, Signer};

use super::rotate::{RETRY, Rotation};
use super::{CLIENT, Store, Waits, store};

/// Asks until there is a certificate, and writes a kubeconfig that names its file.
///
/// # Errors
/// When the bootstrap kubeconfig can't be used, or the disk.
pub(super) async fn run(
    bootstrap: &Path,
    kubeconfig: &Path,
    node: &str,
    store: &Store,
    waits: &Waits,
) -> anyhow::Result<()> {
    let access = Access::load(bootstrap)
        .await
        .context("the bootstrap kubeconfig")?;
    let rotation = Rotation {
        store: store.clone(),
        access: access.clone(),
        node: node.to_owned(),
        waits: waits.clone(),
    };
    loop {
        match rotation.next(CLIENT, &Signer::Client, PATIENCE).await {
            Ok(_) => break,
            Err(error) if error.downcast_ref::<CsrError>().is_some() => {
                waits.say(
                    CLIENT,
                    &format!("{error:#}; asking again in {} s", RETRY.as_secs()),
                );
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => return Err(error),
        }
    }
    let text = access.kubeconfig_with(&store.link());
    store::write(kubeconfig, text.as_bytes())?;
    tracing::info!(node, kubeconfig = %kubeconfig.display(), "bootstrapped");
    Ok(())
}
