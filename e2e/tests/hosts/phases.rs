//! Pods that are deleted in every phase of their lives, in good order and by force.

use k8s_openapi::api::core::v1::{ContainerState, Pod};
use serde_json::{Value, json};

use crate::objects::{once, pod, spec};
use crate::space::{Space, phase, uid};

/// An address that nothing answers from, on the hosts' default route.
const NOWHERE: &str = "10.255.255.1:5000/app:1";

/// A moment of a pod's life: how it is made, and how it is known.
struct Moment {
    name: &'static str,
    spec: Value,
    is: fn(&Pod) -> bool,
}

fn first_state(pod: &Pod) -> Option<&ContainerState> {
    let status = pod.status.as_ref()?;
    status.container_statuses.as_ref()?.first()?.state.as_ref()
}

fn waits(pod: &Pod) -> Option<&str> {
    first_state(pod)?.waiting.as_ref()?.reason.as_deref()
}

fn moments(space: &Space) -> Vec<Moment> {
    let images = &space.scene.images;
    let mut init = spec(&images.sleeper, &[]);
    init["initContainers"] = json!([{"name": "first", "image": images.sleeper}]);
    let mut scheduling = spec(&images.sleeper, &[]);
    scheduling["tolerations"] = json!([]);
    vec![
        Moment {
            name: "scheduling",
            spec: scheduling,
            is: |pod| phase(pod) == "Pending",
        },
        Moment {
            name: "pulling",
            spec: spec(NOWHERE, &[]),
            is: |pod| waits(pod) == Some("ContainerCreating"),
        },
        Moment {
            name: "pull-backoff",
            spec: spec(&images.absent, &[]),
            is: |pod| waits(pod) == Some("ImagePullBackOff"),
        },
        Moment {
            name: "backing-off",
            spec: spec(&images.exit, &["1"]),
            is: |pod| waits(pod) == Some("CrashLoopBackOff"),
        },
        Moment {
            name: "init",
            spec: init,
            is: |pod| {
                let status = pod.status.as_ref();
                let all = status.and_then(|status| status.init_container_statuses.as_ref());
                let state = all.and_then(|all| all[0].state.as_ref());
                state.is_some_and(|state| state.running.is_some())
            },
        },
        Moment {
            name: "running",
            spec: spec(&images.sleeper, &[]),
            is: |pod| first_state(pod).is_some_and(|state| state.running.is_some()),
        },
        Moment {
            name: "failed",
            spec: once(&images.exit, &["1"]),
            is: |pod| phase(pod) == "Failed",
        },
        Moment {
            name: "succeeded",
            spec: once(&images.exit, &["0"]),
            is: |pod| phase(pod) == "Succeeded",
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_deleted_in_every_phase() {
    let Some(space) = Space::take("phases").await else {
        return;
    };
    let moments = moments(&space);
    let each = moments.iter().map(|moment| async {
        let made = make(&space, moment, "gently").await;
        space
            .kubectl(&["delete", "pod", &made, "--wait=false"])
            .await;
        space.gone(&made).await;
    });
    futures::future::join_all(each).await;
    nothing_is_left(&space).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_deleted_by_force_in_every_phase() {
    let Some(space) = Space::take("forced").await else {
        return;
    };
    let moments = moments(&space);
    let each = moments.iter().map(|moment| async {
        let made = make(&space, moment, "forced").await;
        let words = ["delete", "pod", &made, "--force", "--grace-period=0"];
        space.kubectl(&words).await;
        space.gone(&made).await;
    });
    futures::future::join_all(each).await;
    nothing_is_left(&space).await;
}

/// Makes a pod, and waits for the moment. Gives its name.
async fn make(space: &Space, moment: &Moment, how: &str) -> String {
    let name = format!("{}-{how}", moment.name);
    space.create::<Pod>(pod(&name, &moment.spec)).await;
    let is = |pod: Option<&Pod>| pod.is_some_and(moment.is);
    let pod = space.until(&name, moment.name, is).await.unwrap();
    assert!(!uid(&pod).is_empty());
    name
}

/// What the nodes themselves say that they have, of this namespace: nothing, once what was forced has ended.
async fn nothing_is_left(space: &Space) {
    let left = async |node: &str| {
        let path = format!("/api/v1/nodes/{node}/proxy/pods");
        let said = space.kubectl(&["get", "--raw", &path]).await;
        let pods: Value = serde_json::from_str(&said).unwrap();
        let all = pods["items"].as_array().cloned().unwrap_or_default();
        let ours = all
            .iter()
            .filter(|pod| pod["metadata"]["namespace"] == space.name);
        ours.count()
    };
    for node in &space.scene.names {
        let asking = async {
            while left(node).await > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            }
        };
        let asked = tokio::time::timeout(crate::scene::PATIENCE, asking).await;
        assert!(asked.is_ok(), "{node} has pods left");
    }
}
