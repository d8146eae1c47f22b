//! Pods go their ways.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_succeeds_is_logged_and_goes() {
    let Some(module) = module(Guest::GoHello) else {
        return;
    };
    let scene = Scene::set("hello", &module).await;
    scene.apply("hello", "Never", &[]).await;
    let pod = scene.phase("hello", "Succeeded").await;
    let ended = state(&pod).terminated.unwrap();
    assert_eq!(
        (ended.exit_code, ended.reason.as_deref()),
        (0, Some("Completed"))
    );
    let status = pod.status.clone().unwrap();
    assert_eq!(status.pod_ip.as_deref(), Some(NODE_IP));
    assert!(
        status.container_statuses.unwrap()[0]
            .image_id
            .contains("@sha256:")
    );
    let log = scene.log(&pod, 0);
    assert!(log.contains(" stdout F hello from Go"), "{log}");
    scene.delete("hello").await;
    scene.gone("hello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_runs_is_ended_by_its_deletion() {
    let Some(module) = module(Guest::GoSleep) else {
        return;
    };
    let scene = Scene::set("ended", &module).await;
    scene.apply("sleeper", "Always", &["1h"]).await;
    let pod = scene.phase("sleeper", "Running").await;
    assert!(state(&pod).running.is_some());
    scene.delete("sleeper").await;
    scene.gone("sleeper").await;
    let uid = pod.metadata.uid.unwrap();
    assert!(
        !scene.node.root().join("pods").join(uid).exists(),
        "its folder is left"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_restarted_and_told() {
    let Some(module) = module(Guest::GoExit) else {
        return;
    };
    let scene = Scene::set("crash", &module).await;
    scene.apply("crash", "OnFailure", &["3"]).await;
    let restarted = |pod: Option<&Pod>| {
        pod.and_then(|p| p.status.as_ref()?.container_statuses.as_ref())
            .is_some_and(|all| {
                all[0].restart_count >= 1
                    && all[0]
                        .last_state
                        .as_ref()
                        .is_some_and(|s| s.terminated.is_some())
            })
    };
    let pod = scene
        .plane
        .await_pod("crash", "crash", "restarted", restarted)
        .await
        .unwrap()
        .unwrap();
    let status = pod.status.unwrap().container_statuses.unwrap();
    let last = status[0].last_state.clone().unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    scene.delete("crash").await;
    scene.gone("crash").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_run_says_why() {
    let Some(module) = module(Guest::GoHello) else {
        return;
    };
    let scene = Scene::set("refused", &module).await;
    let absent = format!("{}/none:1", scene.image.split('/').next().unwrap());
    for (pod, spec, expected) in [(
        "no-image",
        serde_json::json!({"image": absent}),
        "ErrImagePull",
    )] {
        let mut container = spec;
        container["name"] = "main".into();
        let manifest = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod, "namespace": "refused"},
            "spec": {"nodeName": "refused", "automountServiceAccountToken": false, "containers": [container]},
        });
        scene
            .plane
            .kubectl_with(&["apply", "-f", "-"], &manifest.to_string())
            .await
            .unwrap();
        let says = move |pod: Option<&Pod>| {
            pod.and_then(|p| serde_json::to_string(p.status.as_ref()?).ok())
                .is_some_and(|status| status.contains(expected))
        };
        let seen = scene.plane.await_pod("refused", pod, expected, says).await;
        seen.unwrap_or_else(|e| panic!("{e:#}\n{}", scene.node.log().unwrap()));
        scene.delete(pod).await;
        scene.gone(pod).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finalizer_keeps_the_object_and_nothing_that_runs() {
    let Some(module) = module(Guest::GoSleep) else {
        return;
    };
    let mut scene = Scene::set("finalized", &module).await;
    scene.apply("sleeper", "Always", &["1h"]).await;
    let pod = scene.phase("sleeper", "Running").await;
    let finalizers = |value: &str| format!(r#"{{"metadata":{{"finalizers":{value}}}}}"#);
    let patch = async |scene: &Scene, value: &str| {
        let (namespace, patch) = (scene.name, finalizers(value));
        let words = ["-n", namespace, "patch", "pod", "sleeper", "-p", &patch];
        scene.plane.kubectl(&words).await.unwrap();
    };
    patch(&scene, r#"["example.com/waits"]"#).await;
    scene.delete("sleeper").await;
    // restartPolicy Always, and all the same it ends for good: with the code of SIGTERM.
    let ended = scene.phase("sleeper", "Failed").await;
    assert_eq!(state(&ended).terminated.unwrap().exit_code, 143);
    // The folder goes although the object stays; an agent that comes back begins nothing.
    scene.node.kill().unwrap();
    scene.node.restart().unwrap();
    scene.ready().await;
    scene.apply("second", "Never", &["1ms"]).await;
    scene.phase("second", "Succeeded").await;
    let still = scene.phase("sleeper", "Failed").await;
    assert_eq!(still.metadata.uid, pod.metadata.uid);
    assert_eq!(state(&still), state(&ended));
    patch(&scene, "null").await;
    scene.gone("sleeper").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_told_of_services() {
    let Some(module) = module(Guest::GoInspect) else {
        return;
    };
    let mut scene = Scene::set("linked", &module).await;
    let service = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web-app", "namespace": "linked"},
        "spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 80, "name": "http"}]},
    });
    scene
        .plane
        .kubectl_with(&["apply", "-f", "-"], &service.to_string())
        .await
        .unwrap();
    // Its first list has the Service for sure, and pods wait for it.
    scene.node.kill().unwrap();
    scene.node.restart().unwrap();
    scene.apply("told", "Never", &["$(WEB_APP_PORT)"]).await;
    let pod = scene.phase("told", "Succeeded").await;
    let log = scene.log(&pod, 0);
    for told in [
        "KUBERNETES_SERVICE_HOST=10.96.0.1",
        "WEB_APP_SERVICE_HOST=10.96.7.7",
        "WEB_APP_SERVICE_PORT_HTTP=80",
        "tcp://10.96.7.7:80: error",
    ] {
        assert!(log.contains(told), "no {told} in {log}");
    }
}
