//! What admission and mirror pods need of the Node's object, from the heartbeat, which fetches it every 10 s.

use std::sync::Arc;

use agent::Agent;
use cluster::events::{Severity, Subject};
use cluster::heartbeat::State;
use cluster::mirror::Owner;
use cluster::{Mirrors, NodeDescription, Recorder};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use lifecycle::NodeObject;
use tokio::sync::watch;

/// As it is registered: what counts until the API server has told (`initialNode` of the kubelet).
pub(super) fn registered(description: &NodeDescription) -> NodeObject {
    NodeObject {
        name: description.name.clone(),
        labels: description.labels(),
        taints: description.taints(),
        seen: Timestamp::MIN,
    }
}

/// Tells the agent and the mirror pods of each Node that is fetched, as long as there is a heartbeat.
pub(super) async fn follow(agent: Arc<Agent>, mirrors: Mirrors, mut heard: watch::Receiver<State>) {
    while heard.changed().await.is_ok() {
        let seen = Timestamp::now();
        let node = heard.borrow_and_update().node.clone();
        if let Some(node) = node {
            if let (Some(name), Some(uid)) = (&node.metadata.name, &node.metadata.uid) {
                let (name, uid) = (name.clone(), uid.clone());
                mirrors.owner(Owner { name, uid });
            }
            agent.node_seen(seen_as(&node, seen));
        }
    }
}

/// Tells once that the machine was booted anew, in the kubelet's words (`pkg/kubelet/nodestatus/setters.go`).
pub(super) async fn tell_reboot(
    recorder: Recorder,
    description: NodeDescription,
    mut heard: watch::Receiver<State>,
) {
    if heard.wait_for(|state| state.rebooted).await.is_ok() {
        let NodeDescription { name, machine, .. } = &description;
        let message = format!(
            "Node {name} has been rebooted, boot id: {}",
            machine.boot_id
        );
        tracing::warn!("{message}");
        recorder.record(&Subject::Node, Severity::Warning, "Rebooted", &message);
    }
}

fn seen_as(node: &Node, seen: Timestamp) -> NodeObject {
    let meta = &node.metadata;
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone());
    NodeObject {
        name: meta.name.clone().unwrap_or_default(),
        labels: meta.labels.clone().unwrap_or_default(),
        taints: taints.unwrap_or_default(),
        seen,
    }
}
