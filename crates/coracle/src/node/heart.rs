//! The lease and the Node's status, on a thread that nothing else can keep busy.

use cluster::{Access, Health, heartbeat};
use tokio::sync::watch;

use super::config::NodeConfig;
use super::describe::Site;

/// Begins it; it goes on for as long as the process.
///
/// # Errors
/// When the API server would not take such a Node, or no thread is to be had.
pub(super) fn begin(
    access: Access,
    site: &Site,
    config: &NodeConfig,
    health: watch::Receiver<Health>,
    state: watch::Sender<heartbeat::State>,
) -> anyhow::Result<()> {
    let description = site.description.clone();
    description.check()?;
    let rhythm = rhythm(config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let beat = move || {
        let Err(error) =
            runtime.block_on(heartbeat::run(&access, description, rhythm, health, state));
        tracing::error!(%error, "the heartbeat ended: no client can be made of the kubeconfig");
    };
    std::thread::Builder::new()
        .name("heartbeat".to_owned())
        .spawn(beat)?;
    Ok(())
}

fn rhythm(config: &NodeConfig) -> heartbeat::Rhythm {
    heartbeat::Rhythm {
        lease_seconds: config.node_lease_duration_seconds,
        update: config.node_status_update_frequency.0,
        report: config.node_status_report_frequency.0,
    }
}
