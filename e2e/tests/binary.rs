//! The real binary as a node of a real API server: images from a real registry, kubectl, real guests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use e2e::{ControlPlane, Guard, NodeProcess, Registry};
use guests::{Guest, Missing};
use k8s_openapi::api::core::v1::{ContainerState, Node, Pod};
use kube::Api;
use kube::runtime::wait::await_condition;
use tokio::sync::OnceCell;

/// Pods report it: an address of documentation (RFC 5737), which nothing here has to reach.
const NODE_IP: &str = "192.0.2.10";

/// A guest's module; `None`, with the reason printed, where its language was left out.
fn module(guest: Guest) -> Option<PathBuf> {
    match guests::path(guest) {
        Ok(path) => Some(path),
        Err(missing @ Missing::LeftOut { .. }) => {
            println!("not run: {missing}");
            None
        }
        Err(missing) => panic!("{missing}"),
    }
}

async fn registry() -> Arc<Registry> {
    static REGISTRY: OnceCell<Arc<Registry>> = OnceCell::const_new();
    REGISTRY
        .get_or_init(|| async { Arc::new(Registry::start().await.unwrap()) })
        .await
        .clone()
}

/// A node, a namespace and an image of the same name.
struct Scene {
    name: &'static str,
    plane: Guard,
    node: NodeProcess,
    _registry: Arc<Registry>,
    image: String,
}

impl Scene {
    async fn set(name: &'static str, module: &Path) -> Scene {
        Scene::set_with(name, module, &[]).await
    }

    /// With arguments for the node.
    async fn set_with(name: &'static str, module: &Path, arguments: &[&str]) -> Scene {
        let plane = ControlPlane::shared().await.unwrap();
        let registry = registry().await;
        let image = registry.push_module(&format!("{name}:1"), module).unwrap();
        plane.namespace(name).await.unwrap();
        let node = start(&plane, name, arguments);
        let scene = Scene {
            name,
            plane,
            node,
            _registry: registry,
            image,
        };
        scene.ready().await;
        scene
    }

    async fn ready(&self) {
        let nodes: Api<Node> = Api::all(self.plane.admin().await.unwrap());
        let ready = |node: Option<&Node>| {
            node.and_then(|n| n.status.as_ref()?.conditions.as_ref())
                .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
        };
        tokio::time::timeout(
            std::time::Duration::from_secs(300),
            await_condition(nodes, self.name, ready),
        )
        .await
        .unwrap_or_else(|_| panic!("not Ready: {}", self.node.log().unwrap()))
        .unwrap();
    }

    /// A pod that is bound to the node, as the scheduler would have done.
    async fn apply(&self, pod: &str, restart: &str, args: &[&str]) {
        let manifest = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod, "namespace": self.name},
            "spec": {
                "nodeName": self.name,
                "restartPolicy": restart,
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 5,
                "tolerations": [{"key": "kubernetes.io/arch", "operator": "Equal", "value": "wasm32-wasi", "effect": "NoSchedule"}],
                "containers": [{"name": "main", "image": self.image, "args": args,
                    "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}}}],
            },
        });
        self.plane
            .kubectl_with(&["apply", "-f", "-"], &manifest.to_string())
            .await
            .unwrap();
    }

    async fn phase(&self, pod: &str, phase: &'static str) -> Pod {
        let is = move |pod: Option<&Pod>| {
            pod.and_then(|p| p.status.as_ref()?.phase.as_deref()) == Some(phase)
        };
        match self.plane.await_pod(self.name, pod, phase, is).await {
            Ok(pod) => pod.unwrap(),
            Err(error) => panic!("{error:#}\n{}", self.node.log().unwrap()),
        }
    }

    async fn gone(&self, pod: &str) {
        let is = |pod: Option<&Pod>| pod.is_none();
        if let Err(error) = self.plane.await_pod(self.name, pod, "gone", is).await {
            panic!("{error:#}\n{}", self.node.log().unwrap());
        }
    }

    async fn delete(&self, pod: &str) {
        self.plane
            .kubectl(&["-n", self.name, "delete", "pod", pod, "--wait=false"])
            .await
            .unwrap();
    }

    fn log(&self, pod: &Pod, run: u32) -> String {
        let uid = pod.metadata.uid.clone().unwrap();
        let folder = format!("{}_{}_{uid}", self.name, pod.metadata.name.clone().unwrap());
        let path = self
            .node
            .root()
            .join("logs")
            .join(folder)
            .join(format!("main/{run}.log"));
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

fn start(plane: &ControlPlane, name: &str, arguments: &[&str]) -> NodeProcess {
    let arguments = [&["--node-ip", NODE_IP], arguments].concat();
    NodeProcess::start(plane, &e2e::binary().unwrap(), name, &arguments).unwrap()
}

fn state(pod: &Pod) -> ContainerState {
    let status = pod.status.clone().unwrap();
    status.container_statuses.unwrap()[0].state.clone().unwrap()
}

fn container_id(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap();
    status.container_statuses.unwrap()[0]
        .container_id
        .clone()
        .unwrap()
}

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
async fn a_killed_agent_comes_back_and_adopts_what_runs() {
    let Some(module) = module(Guest::GoSleep) else {
        return;
    };
    let mut scene = Scene::set("adopted", &module).await;
    scene.apply("sleeper", "Always", &["1h"]).await;
    let before = scene.phase("sleeper", "Running").await;
    scene.node.kill().unwrap();
    scene.node.restart().unwrap();
    scene.ready().await;
    // A second pod goes its whole way, so the agent works; the first is as it was.
    scene.apply("second", "Always", &["1h"]).await;
    scene.phase("second", "Running").await;
    let after = scene.phase("sleeper", "Running").await;
    assert_eq!(container_id(&after), container_id(&before));
    assert_eq!(state(&after).running, state(&before).running);
    let status = after.status.unwrap().container_statuses.unwrap();
    assert_eq!(status[0].restart_count, 0, "{}", scene.node.log().unwrap());
    for pod in ["sleeper", "second"] {
        scene.delete(pod).await;
        scene.gone(pod).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_grace_period_ends_its_pods_and_says_so() {
    let Some(module) = module(Guest::GoSleep) else {
        return;
    };
    let arguments = ["--shutdown-grace-period=20s"];
    let mut scene = Scene::set_with("drained", &module, &arguments).await;
    scene.apply("sleeper", "Always", &["1h"]).await;
    scene.phase("sleeper", "Running").await;
    let ended = scene.node.terminate().await.unwrap();
    assert!(ended.success(), "{}", scene.node.log().unwrap());
    let status = scene.phase("sleeper", "Failed").await.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("Terminated"));
    assert_eq!(
        status.message.as_deref(),
        Some("Pod was terminated in response to imminent node shutdown.")
    );
    let nodes: Api<Node> = Api::all(scene.plane.admin().await.unwrap());
    let conditions = nodes
        .get("drained")
        .await
        .unwrap()
        .status
        .unwrap()
        .conditions;
    let ready = conditions
        .unwrap()
        .into_iter()
        .find(|one| one.type_ == "Ready");
    let ready = ready.unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.message.as_deref()),
        ("False", Some("node is shutting down"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_host_that_dies_takes_its_guests_and_they_are_restarted() {
    let Some(module) = module(Guest::GoSleep) else {
        return;
    };
    let scene = Scene::set("lost", &module).await;
    scene.apply("sleeper", "Always", &["1h"]).await;
    scene.phase("sleeper", "Running").await;
    scene.node.kill_children().unwrap();
    let restarted = |pod: Option<&Pod>| {
        pod.and_then(|p| p.status.as_ref()?.container_statuses.as_ref())
            .is_some_and(|all| {
                all[0].restart_count == 1
                    && all[0].state.as_ref().is_some_and(|s| s.running.is_some())
            })
    };
    let pod = scene
        .plane
        .await_pod("lost", "sleeper", "restarted", restarted)
        .await;
    let pod = pod
        .unwrap_or_else(|e| panic!("{e:#}\n{}", scene.node.log().unwrap()))
        .unwrap();
    let status = pod.status.unwrap().container_statuses.unwrap();
    let last = status[0].last_state.clone().unwrap().terminated.unwrap();
    assert_eq!(last.exit_code, 137);
    scene.delete("sleeper").await;
    scene.gone("sleeper").await;
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
