//! What the workload controllers make of Wasm nodes: Deployments, DaemonSets, StatefulSets, and pods of nobody's.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::Api;
use kube::runtime::wait::await_condition;
use serde_json::json;

use crate::objects::{deployment, once, pod, spec};
use crate::space::{Space, is_ready, phase, place, uid};

fn image(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref().unwrap();
    spec.containers[0].image.as_deref().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls_out_and_back() {
    let Some(space) = Space::take("rollout").await else {
        return;
    };
    let images = &space.scene.images;
    let mut object = deployment("app", 4, &spec(&images.sleeper, &[]));
    object["spec"]["strategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}});
    space.create::<Deployment>(object).await;
    let status = ["rollout", "status", "deployment/app", "--timeout=200s"];
    space.kubectl(&status).await;

    let all_have = async |wanted: &str| {
        let all = |pods: &[&Pod]| {
            pods.len() == 4 && pods.iter().all(|pod| is_ready(pod) && image(pod) == wanted)
        };
        space.pods("app=app", wanted, all).await
    };
    all_have(&images.sleeper).await;
    let set = format!("main={}", images.other);
    space
        .kubectl(&["set", "image", "deployment/app", &set])
        .await;
    space.kubectl(&status).await;
    all_have(&images.other).await;

    // One that can't be had never takes the place of what runs, and is undone.
    let set = format!("main={}", images.absent);
    space
        .kubectl(&["set", "image", "deployment/app", &set])
        .await;
    let stuck = |pods: &[&Pod]| {
        let of = |image: &str| {
            let those = pods.iter().filter(|pod| self::image(pod) == image);
            those.map(|pod| phase(pod)).collect::<Vec<_>>()
        };
        of(&images.absent) == ["Pending", "Pending"] && of(&images.other) == ["Running"; 3]
    };
    space.pods("app=app", "the rollout is stuck", stuck).await;
    let undo = ["rollout", "undo", "deployment/app"];
    space.kubectl(&undo).await;
    space.kubectl(&status).await;
    all_have(&images.other).await;
}

/// How many pods a Deployment is scaled to.
const MANY: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_scaled_to_hundreds_and_back() {
    let Some(space) = Space::take("scale").await else {
        return;
    };
    let sleeper = spec(&space.scene.images.sleeper, &[]);
    let object = deployment("many", 0, &sleeper);
    space.create::<Deployment>(object).await;
    let scale = format!("--replicas={MANY}");
    let begun = std::time::Instant::now();
    space.kubectl(&["scale", "deployment/many", &scale]).await;
    let available = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|one| one.status.as_ref());
        let available = status.and_then(|status| status.available_replicas);
        available == i32::try_from(MANY).ok()
    };
    space.until("many", "available", available).await;
    println!("{MANY} pods were available after {:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    space
        .kubectl(&["scale", "deployment/many", "--replicas=0"])
        .await;
    let none = |pods: &[&Pod]| pods.is_empty();
    space.pods("app=many", "all are gone", none).await;
    println!("and gone after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_set_runs_on_wasm_nodes_only() {
    let Some(space) = Space::take("daemons").await else {
        return;
    };
    let labels = json!({"app": "daemon"});
    let template = spec(&space.scene.images.sleeper, &[]);
    let object = json!({
        "metadata": {"name": "daemon"},
        "spec": {"selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template}},
    });
    space.create::<DaemonSet>(object).await;
    let names: BTreeSet<&str> = space.scene.names.iter().map(String::as_str).collect();
    let each = |pods: &[&Pod]| {
        let places: BTreeSet<&str> = pods.iter().map(|pod| place(pod)).collect();
        let ready = pods.iter().all(|pod| is_ready(pod));
        ready && pods.len() == names.len() && places == names
    };
    space
        .pods("app=daemon", "one on each Wasm node", each)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_keeps_its_names_and_their_order() {
    let Some(space) = Space::take("stateful").await else {
        return;
    };
    let labels = json!({"app": "db"});
    space
        .create::<Service>(json!({"metadata": {"name": "db"},
            "spec": {"clusterIP": "None", "selector": labels, "ports": [{"port": 80}]}}))
        .await;
    let template = spec(&space.scene.images.sleeper, &[]);
    let object = json!({
        "metadata": {"name": "db"},
        "spec": {"serviceName": "db", "replicas": 3, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template}},
    });
    space.create::<StatefulSet>(object).await;
    let named = |wanted: &'static [&'static str]| {
        move |pods: &[&Pod]| {
            let ready = pods.iter().all(|pod| is_ready(pod));
            let names = pods.iter().filter_map(|pod| pod.metadata.name.as_deref());
            ready && names.eq(wanted.iter().copied())
        }
    };
    let three = named(&["db-0", "db-1", "db-2"]);
    let pods = space.pods("app=db", "three", three).await;
    let made: Vec<_> = pods
        .iter()
        .map(|pod| pod.status.as_ref().unwrap().start_time.clone())
        .collect();
    assert!(made.is_sorted(), "one after the other: {made:?}");

    let first = uid(&pods[1]).to_owned();
    space
        .kubectl(&["delete", "pod", "db-1", "--wait=false"])
        .await;
    let another = |pod: Option<&Pod>| pod.is_some_and(|pod| uid(pod) != first && is_ready(pod));
    space.until("db-1", "another, and Ready", another).await;
    space
        .kubectl(&["scale", "statefulset/db", "--replicas=1"])
        .await;
    space.pods("app=db", "one", named(&["db-0"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_nobodys_run_where_they_may() {
    let Some(space) = Space::take("bare").await else {
        return;
    };
    let images = &space.scene.images;
    space
        .create::<Pod>(pod("stays", &spec(&images.sleeper, &[])))
        .await;
    space
        .create::<Pod>(pod("ends", &once(&images.exit, &["0"])))
        .await;
    space
        .create::<Pod>(pod("fails", &once(&images.exit, &["3"])))
        .await;
    let mut off = spec(&images.sleeper, &[]);
    off["tolerations"] = json!([]);
    space.create::<Pod>(pod("off", &off)).await;

    space.phase("stays", "Running").await;
    space.phase("ends", "Succeeded").await;
    let failed = space.phase("fails", "Failed").await;
    let ended = failed.status.unwrap().container_statuses.unwrap();
    let ended = ended[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!(ended.exit_code, 3);
    let untolerated = |pod: Option<&Pod>| {
        let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|condition| {
            let message = condition.message.as_deref().unwrap_or_default();
            condition.reason.as_deref() == Some("Unschedulable")
                && message.contains("untolerated taint")
        })
    };
    let off = space.until("off", "kept off", untolerated).await.unwrap();
    assert_eq!(place(&off), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_names_the_runtime_class_needs_nothing_else() {
    let Some(space) = Space::take("class").await else {
        return;
    };
    let class = json!({
        "metadata": {"name": "coracle"}, "handler": "coracle",
        "scheduling": {
            "nodeSelector": {"kubernetes.io/arch": "wasm32-wasi"},
            "tolerations": crate::objects::tolerations(),
        },
    });
    let classes: Api<k8s_openapi::api::node::v1::RuntimeClass> = Api::all(space.client.clone());
    let class = serde_json::from_value(class).unwrap();
    let params = kube::api::PostParams::default();
    classes.create(&params, &class).await.unwrap();
    await_condition(classes, "coracle", |class: Option<&_>| class.is_some())
        .await
        .unwrap();
    let spec = json!({
        "runtimeClassName": "coracle",
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": space.scene.images.sleeper}],
    });
    space.create::<Pod>(pod("app", &spec)).await;
    let pod = space.phase("app", "Running").await;
    assert!(!place(&pod).is_empty());
    let delete = ["delete", "runtimeclass", "coracle"];
    space.kubectl(&delete).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_sees_a_config_map_as_it_was_when_the_pod_was_made() {
    let Some(space) = Space::take("config").await else {
        return;
    };
    let map = json!({"metadata": {"name": "settings"}, "data": {"greeting": "old"}});
    space.create::<ConfigMap>(map).await;
    for (name, greeting) in [("before", "old"), ("after", "new")] {
        let mut object = pod(name, &once(&space.scene.images.inspect, &[]));
        object["spec"]["nodeName"] = json!(space.scene.names[0]);
        object["spec"]["containers"][0]["env"] = json!([{"name": "GREETING",
            "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "greeting"}}}]);
        space.create::<Pod>(object).await;
        space.phase(name, "Succeeded").await;
        let said = space.kubectl(&["logs", name]).await;
        let wanted = format!("GREETING={greeting}");
        assert!(said.contains(&wanted), "{name}: {said}");
        // What the node has read of it is seconds old.
        let change = r#"{"data":{"greeting":"new"}}"#;
        space
            .kubectl(&["patch", "configmap", "settings", "-p", change])
            .await;
    }
}
