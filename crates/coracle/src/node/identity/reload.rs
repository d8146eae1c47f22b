//! Takes over what the kubeconfig's files come to hold: credentials that were renewed by somebody
//! else need no restart.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cluster::Access;

use super::LOOK;

/// Looks at the files for ever. The first is the kubeconfig.
pub(super) async fn follow(files: Vec<PathBuf>, access: Access) {
    let Some(kubeconfig) = files.first() else {
        return;
    };
    let mut known = stamps(&files);
    loop {
        tokio::time::sleep(LOOK).await;
        let now = stamps(&files);
        if now == known {
            continue;
        }
        match reload(kubeconfig, &access).await {
            Ok(()) => {
                tracing::info!(file = %kubeconfig.display(), "the kubeconfig has changed, and is in use")
            }
            // Half a file is whole at the next look; the old credentials serve until then.
            Err(error) => tracing::warn!("the kubeconfig has changed, and can't be used: {error}"),
        }
        known = now;
    }
}

/// # Errors
/// When the files can't be used, or are another node's.
pub(super) async fn reload(kubeconfig: &Path, access: &Access) -> Result<(), cluster::AccessError> {
    let new = Access::load(kubeconfig).await?;
    if let Some(node) = access.node() {
        new.for_node(&node)?;
    }
    access.adopt(&new);
    Ok(())
}

type Stamp = Option<(SystemTime, u64)>;

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let meta = file.metadata().ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    files.iter().map(stamp).collect()
}
