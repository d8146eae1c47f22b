//! The Node, its status and its lease.

use cluster::Health;
use e2e::{ControlPlane, Identity};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::Api;

use crate::bench::{Beat, access, until};

fn ready(node: Option<&Node>) -> Option<NodeCondition> {
    let conditions = node?.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")
        .cloned()
}

fn says(node: Option<&Node>, status: &str, message: &str) -> bool {
    ready(node).is_some_and(|ready| {
        ready.status == status && ready.message.unwrap_or_default().contains(message)
    })
}

#[tokio::test]
async fn a_node_registers_ready_with_its_taint_and_renews_its_lease() {
    let plane = ControlPlane::shared().await.unwrap();
    let mut beat = Beat::start(&access(&plane, "fresh").await, "fresh");
    let nodes: Api<Node> = Api::all(plane.admin().await.unwrap());
    let node = until(nodes.clone(), "fresh", |node: Option<&Node>| {
        says(node, "True", "posting")
    })
    .await
    .unwrap();
    assert_eq!(
        node.spec.unwrap().taints.unwrap()[0],
        cluster::node::taint()
    );
    assert_eq!(
        node.metadata.labels.unwrap()["kubernetes.io/os"],
        "wasm32-wasi"
    );
    let status = node.status.unwrap();
    assert_eq!(
        status.node_info.unwrap().kubelet_version,
        "v1.36.0-coracle.0.1.0"
    );
    assert_eq!(status.allocatable.unwrap()["cpu"].0, "2");

    let leases: Api<Lease> = Api::namespaced(plane.admin().await.unwrap(), "kube-node-lease");
    let first = beat.told(|state| state.renewed.is_some()).await.renewed;
    beat.told(|state| state.renewed > first).await;
    let lease = leases.get("fresh").await.unwrap();
    assert_eq!(
        lease.metadata.owner_references.unwrap()[0].uid,
        node.metadata.uid.unwrap()
    );
    let spec = lease.spec.unwrap();
    assert_eq!(
        (spec.lease_duration_seconds, spec.holder_identity.as_deref()),
        (Some(40), Some("fresh"))
    );
    assert!(spec.renew_time.unwrap().0 > first.unwrap());
}

#[tokio::test]
async fn trouble_is_told_at_once_and_so_is_its_end() {
    let plane = ControlPlane::shared().await.unwrap();
    let beat = Beat::start(&access(&plane, "troubled").await, "troubled");
    let nodes: Api<Node> = Api::all(plane.admin().await.unwrap());
    until(nodes.clone(), "troubled", |node: Option<&Node>| {
        says(node, "True", "posting")
    })
    .await;
    beat.health.send_replace(Health {
        not_ready: Some("the guest host is gone".into()),
        ..Default::default()
    });
    let node = until(nodes.clone(), "troubled", |node: Option<&Node>| {
        says(node, "False", "the guest host is gone")
    })
    .await;
    assert_eq!(
        ready(node.as_ref()).unwrap().reason.as_deref(),
        Some("KubeletNotReady")
    );
    beat.health.send_replace(Health::default());
    until(nodes, "troubled", |node: Option<&Node>| {
        says(node, "True", "posting")
    })
    .await;
}

#[tokio::test]
async fn an_existing_node_is_updated_and_stays_not_ready_until_it_has_the_taint() {
    let plane = ControlPlane::shared().await.unwrap();
    let manifest = "apiVersion: v1\nkind: Node\nmetadata: {name: bare, labels: {keep: me}}\n";
    plane
        .kubectl_with(&["create", "-f", "-"], manifest)
        .await
        .unwrap();
    let mut beat = Beat::start(&access(&plane, "bare").await, "bare");
    let nodes: Api<Node> = Api::all(plane.admin().await.unwrap());
    let command = "kubectl taint nodes bare kubernetes.io/arch=wasm32-wasi:NoSchedule";
    let node = until(nodes.clone(), "bare", |node: Option<&Node>| {
        says(node, "False", command)
    })
    .await
    .unwrap();
    let labels = node.metadata.labels.unwrap();
    assert_eq!(
        (
            labels["keep"].as_str(),
            labels["kubernetes.io/arch"].as_str()
        ),
        ("me", "wasm32-wasi")
    );
    assert!(
        beat.told(|state| state.node.is_some())
            .await
            .waiting
            .unwrap()
            .contains(command)
    );
    // The very command that the node asks for.
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    plane.kubectl(&arguments).await.unwrap();
    until(nodes, "bare", |node: Option<&Node>| {
        says(node, "True", "posting")
    })
    .await;
}

#[tokio::test]
async fn a_deleted_node_is_registered_again_and_an_overwritten_one_mended() {
    let plane = ControlPlane::shared().await.unwrap();
    let _beat = Beat::start(&access(&plane, "deleted").await, "deleted");
    let nodes: Api<Node> = Api::all(plane.admin().await.unwrap());
    let node = until(nodes.clone(), "deleted", |node: Option<&Node>| {
        says(node, "True", "posting")
    })
    .await
    .unwrap();
    // As the node controller does when it has heard nothing for too long.
    let unknown =
        r#"{"status":{"conditions":[{"type":"Ready","status":"Unknown","message":"unheard of"}]}}"#;
    plane
        .kubectl(&[
            "patch",
            "node",
            "deleted",
            "--subresource=status",
            "-p",
            unknown,
        ])
        .await
        .unwrap();
    until(nodes.clone(), "deleted", |node: Option<&Node>| {
        says(node, "True", "posting")
    })
    .await;
    plane.kubectl(&["delete", "node", "deleted"]).await.unwrap();
    let uid = node.metadata.uid;
    let other = move |node: Option<&Node>| {
        says(node, "True", "posting") && node.unwrap().metadata.uid != uid
    };
    until(nodes, "deleted", other).await;
}

#[tokio::test]
async fn a_refused_identity_waits_and_says_for_what() {
    let plane = ControlPlane::shared().await.unwrap();
    let stranger = plane
        .kubeconfig("stranger", &Identity::new("stranger", &[]))
        .unwrap();
    let stranger = cluster::Access::load(&stranger).await.unwrap();
    let mut beat = Beat::start(&stranger, "refused");
    let waiting = beat
        .told(|state| state.waiting.is_some())
        .await
        .waiting
        .unwrap();
    assert!(
        waiting.contains("create nodes")
            && waiting.contains("\"create\" on the resource \"nodes\""),
        "{waiting}"
    );
    // Rights may be granted later: it goes on by itself.
    let rights = [
        "create",
        "clusterrolebinding",
        "stranger",
        "--clusterrole=cluster-admin",
        "--user=stranger",
    ];
    plane.kubectl(&rights).await.unwrap();
    beat.told(|state| state.node.is_some()).await;
}
