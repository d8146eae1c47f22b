//! The node's end, if it was told to take its pods with it: the Node is not Ready, pods end in their
//! order, what became of them is told.

use std::future::Future;
use std::time::Duration;

use cluster::{Health, heartbeat};
use k8s_openapi::api::core::v1::Node;
use lifecycle::node::Period;
use tokio::sync::watch;

/// For so long the API server may take to hear that the Node is not Ready, or of the last statuses.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// Beyond the pods' own time: for what is slow to be unmade.
const BEYOND: Duration = Duration::from_secs(30);

/// The kubelet's words (`pkg/kubelet/nodeshutdown`).
const MESSAGE: &str = "node is shutting down";

/// Says that the Node is not Ready, and waits until that is known.
pub(super) async fn not_ready(
    health: &watch::Sender<Health>,
    heard: &mut watch::Receiver<heartbeat::State>,
) {
    health.send_modify(|health| health.not_ready = Some(MESSAGE.to_owned()));
    let known = heard.wait_for(|state| state.node.as_ref().is_some_and(is_not_ready));
    if tokio::time::timeout(TOLD_WITHIN, known).await.is_err() {
        tracing::warn!("the API server has not heard that the node is not Ready");
    }
}

fn is_not_ready(node: &Node) -> bool {
    let status = node.status.as_ref();
    let mut conditions = status.iter().flat_map(|it| it.conditions.iter().flatten());
    conditions.any(|one| {
        (
            one.type_.as_str(),
            one.status.as_str(),
            one.message.as_deref(),
        ) == ("Ready", "False", Some(MESSAGE))
    })
}

/// Waits until all pods have ended, or their time is more than over.
pub(super) async fn pods(ended: impl Future<Output = ()>, periods: &[Period]) {
    let seconds = periods.iter().map(|period| u64::from(period.seconds)).sum();
    let most = Duration::from_secs(seconds).saturating_add(BEYOND);
    if tokio::time::timeout(most, ended).await.is_err() {
        tracing::warn!("some pods have not ended in time");
    }
}

/// Waits until what became of the pods is told.
pub(super) async fn told(behind: impl Fn() -> usize) {
    let told = async {
        while behind() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(TOLD_WITHIN, told).await.is_err() {
        let behind = behind();
        tracing::warn!(
            behind,
            "the API server has not heard of the end of some pods"
        );
    }
}
