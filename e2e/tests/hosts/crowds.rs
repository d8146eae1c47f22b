//! Many pods at once: a namespace that goes with all of them, and bad ones beside a good one.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::DeleteParams;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use crate::objects::{deployment, once, pod, spec};
use crate::scene::PATIENCE;
use crate::space::{Space, is_ready, phase};

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_with_two_hundred_pods() {
    let Some(space) = Space::take("doomed").await else {
        return;
    };
    let sleeper = spec(&space.scene.images.sleeper, &[]);
    space
        .create::<Deployment>(deployment("many", 200, &sleeper))
        .await;
    let running = |pods: &[&Pod]| pods.iter().filter(|pod| phase(pod) == "Running").count() == 200;
    space.pods("app=many", "all run", running).await;
    let namespaces: Api<Namespace> = Api::all(space.client.clone());
    let params = DeleteParams::default();
    namespaces.delete(space.name, &params).await.unwrap();
    let gone = await_condition(namespaces.clone(), space.name, |one: Option<&_>| {
        one.is_none()
    });
    if tokio::time::timeout(PATIENCE, gone).await.is_err() {
        panic!("it stays: {:?}", namespaces.get_opt(space.name).await);
    }
}

/// Every way to be bad that the API server takes.
fn bad(space: &Space, number: usize) -> Value {
    let images = &space.scene.images;
    match number % 6 {
        0 => spec(&images.exit, &["1"]),
        1 => spec(&images.absent, &[]),
        2 => once(&images.exit, &["7"]),
        3 => {
            let mut spec = spec(&images.sleeper, &[]);
            spec["hostPID"] = json!(true);
            spec
        }
        4 => {
            let mut spec = spec(&images.sleeper, &[]);
            spec["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "absent"}}]);
            spec
        }
        _ => {
            let mut spec = spec(&images.sleeper, &[]);
            spec["initContainers"] =
                json!([{"name": "first", "image": images.exit, "args": ["2"]}]);
            spec
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_bad_pods_leave_a_good_one_alone() {
    let Some(space) = Space::take("bad").await else {
        return;
    };
    let image = &space.scene.images.sleeper;
    space.create::<Pod>(pod("before", &spec(image, &[]))).await;
    let ready = |pod: Option<&Pod>| pod.is_some_and(is_ready);
    space.until("before", "Ready", ready).await;
    let made = (0..100).map(|number| {
        let mut pod = pod(&format!("bad-{number}"), &bad(&space, number));
        pod["metadata"]["labels"] = json!({"kind": "bad"});
        space.create::<Pod>(pod)
    });
    futures::future::join_all(made).await;
    space.create::<Pod>(pod("after", &spec(image, &[]))).await;
    space.until("after", "Ready", ready).await;
    // Each says what is wrong with it, or has ended of it.
    let told = |pods: &[&Pod]| pods.iter().filter(|pod| trouble(pod)).count() == 100;
    space
        .pods("kind=bad", "each tells of its trouble", told)
        .await;
    for name in ["before", "after"] {
        let pod = space.phase(name, "Running").await;
        let all = pod.status.unwrap().container_statuses.unwrap();
        assert_eq!((all[0].restart_count, all[0].ready), (0, true), "{name}");
    }
    let all = ["delete", "pods", "-l", "kind=bad", "--wait=false"];
    space.kubectl(&all).await;
    space
        .pods("kind=bad", "all are gone", |pods| pods.is_empty())
        .await;
}

/// Whether a pod has failed, or one of its containers says why it waits.
fn trouble(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    let init = status.init_container_statuses.iter().flatten();
    let mut all = init.chain(status.container_statuses.iter().flatten());
    let reasons = [
        "CrashLoopBackOff",
        "ErrImagePull",
        "ImagePullBackOff",
        "CreateContainerConfigError",
    ];
    phase(pod) == "Failed"
        || all.any(|one| {
            let waiting = one.state.as_ref().and_then(|state| state.waiting.as_ref());
            let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
            reason.is_some_and(|reason| reasons.contains(&reason))
        })
}
