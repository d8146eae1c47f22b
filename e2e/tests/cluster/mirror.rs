//! Mirror pods: a real API server takes them from a node, and shows what is said of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use cluster::mirror::{HASH, MIRROR, Owner};
use cluster::{Mirrors, PodEvent, Publisher, pods};
use e2e::{ControlPlane, Guard};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;

use crate::bench::{Beat, PATIENCE, access, phase, status, until};

const NAME: &str = "mirrored";

/// A static pod as a node makes it of a file.
fn static_pod(hash: &str) -> Arc<Pod> {
    let pod = serde_json::json!({
        "metadata": {"name": "web-mirrored", "namespace": NAME, "uid": hash, "annotations": {
            HASH: hash,
            "kubernetes.io/config.source": "file",
            "kubernetes.io/config.seen": "2026-01-01T00:00:00Z",
        }},
        "spec": {
            "nodeName": NAME,
            "tolerations": [{"operator": "Exists", "effect": "NoExecute"}],
            "containers": [{"name": "main", "image": "web:1"}],
        },
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

/// Mirrors that are told of everything that the watch tells.
async fn mirrors(plane: &Guard) -> Mirrors {
    let client = access(plane, NAME).await.pods().unwrap();
    let (publisher, mut reports) = Publisher::new(client.clone());
    let mirrors = Mirrors::new(client.clone(), publisher);
    let told = mirrors.clone();
    tokio::spawn(async move {
        let mut events = Box::pin(pods::watch(client, NAME));
        loop {
            let event = tokio::select! {
                Some(event) = events.next() => event,
                Some(_) = reports.recv() => continue,
            };
            match event {
                PodEvent::Mirror(mirror) => told.observe(&mirror),
                PodEvent::MirrorDeleted(mirror) => {
                    told.deleted(mirror.metadata.uid.as_deref().unwrap());
                }
                PodEvent::Synced => told.synced(),
                other => panic!("no other pod is here: {other:?}"),
            }
        }
    });
    mirrors
}

fn is(pod: Option<&Pod>, hash: &str, said: &str) -> bool {
    let annotations = pod.and_then(|pod| pod.metadata.annotations.as_ref());
    annotations.is_some_and(|all| all.get(MIRROR).is_some_and(|it| it == hash))
        && phase(pod) == said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_made_told_made_again_and_goes_with_its_pod() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.namespace(NAME).await.unwrap();
    let mut beat = Beat::start(&access(&plane, NAME).await, NAME);
    beat.told(|state| state.node.is_some()).await;
    let nodes: Api<Node> = Api::all(plane.admin().await.unwrap());
    let node = nodes.get(NAME).await.unwrap().metadata.uid.unwrap();

    let mirrors = mirrors(&plane).await;
    mirrors.owner(Owner {
        name: NAME.to_owned(),
        uid: node.clone(),
    });
    let name = (NAME.to_owned(), "web-mirrored".to_owned());
    mirrors.expect(BTreeSet::from([name]));
    mirrors.publish(&static_pod("h1"), status("Running"));
    let api: Api<Pod> = Api::namespaced(plane.admin().await.unwrap(), NAME);
    let shown = |hash: &'static str| {
        let wanted = move |pod: Option<&Pod>| is(pod, hash, "Running");
        tokio::time::timeout(PATIENCE, until(api.clone(), "web-mirrored", wanted))
    };
    let first = shown("h1").await.unwrap().unwrap();
    let owner = first.metadata.owner_references.clone().unwrap().remove(0);
    assert_eq!((owner.kind.as_str(), owner.uid), ("Node", node));

    // Somebody deletes it, in good order: another one takes its place.
    let delete = ["-n", NAME, "delete", "pod", "web-mirrored", "--wait=false"];
    plane.kubectl(&delete).await.unwrap();
    let before = first.metadata.uid.clone();
    let again = until(api.clone(), "web-mirrored", move |pod: Option<&Pod>| {
        is(pod, "h1", "Running") && pod.unwrap().metadata.uid != before
    });
    again.await.unwrap();

    // The file says something else: that is another pod, and another mirror.
    mirrors.forget("h1");
    mirrors.publish(&static_pod("h2"), status("Running"));
    shown("h2").await.unwrap().unwrap();

    mirrors.forget("h2");
    mirrors.expect(BTreeSet::new());
    until(api.clone(), "web-mirrored", |pod: Option<&Pod>| {
        pod.is_none()
    })
    .await;
}
