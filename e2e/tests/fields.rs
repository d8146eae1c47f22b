//! What single fields of a Pod do on a node of a real control plane: RuntimeClasses, last words, names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::sync::Arc;
use std::time::Duration;

use e2e::{ControlPlane, NodeProcess, Registry};
use futures::StreamExt;
use guests::{Guest, Missing};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::runtime::WatchStreamExt;
use serde_json::{Value, json};

const NODE: &str = "localhost";
/// Pods report it: an address of documentation (RFC 5737), which nothing here has to reach.
const NODE_IP: &str = "192.0.2.10";

/// What passes it hangs.
const PATIENCE: Duration = Duration::from_secs(300);

struct Scene {
    plane: ControlPlane,
    node: NodeProcess,
    image: String,
    /// It ends with the scene.
    _registry: Arc<Registry>,
}

impl Scene {
    /// Nothing, with the reason printed, where guests in Rust were left out.
    async fn set() -> Option<Scene> {
        let module = match guests::path(Guest::RustTool) {
            Ok(module) => module,
            Err(missing @ Missing::LeftOut { .. }) => {
                println!("not run: {missing}");
                return None;
            }
            Err(missing) => panic!("{missing}"),
        };
        let plane = ControlPlane::start().await.unwrap();
        let registry = Arc::new(Registry::start().await.unwrap());
        let image = registry.push_module("tool:1", &module).unwrap();
        let binary = e2e::binary().unwrap();
        let node = NodeProcess::start(&plane, &binary, NODE, &["--node-ip", NODE_IP]).unwrap();
        let scene = Scene {
            plane,
            node,
            image,
            _registry: registry,
        };
        scene.wait("node/localhost", "create").await;
        scene.wait("node/localhost", "condition=Ready").await;
        Some(scene)
    }

    async fn wait(&self, what: &str, until: &str) {
        let until = format!("--for={until}");
        self.kubectl(&["wait", what, &until, "--timeout=300s"])
            .await;
    }

    async fn kubectl(&self, words: &[&str]) -> String {
        match self.plane.kubectl(words).await {
            Ok(said) => said,
            Err(error) => panic!("{error:#}\n{}", self.node.log().unwrap()),
        }
    }

    async fn apply(&self, object: Value) {
        let apply = ["apply", "-f", "-"];
        let applied = self.plane.kubectl_with(&apply, &object.to_string()).await;
        applied.unwrap();
    }

    /// A pod of one container that is run once, with these fields beside those that it needs.
    async fn pod(&self, name: &str, args: &[&str], spec: Value, container: Value) {
        let mut whole = json!({
            "nodeName": NODE, "restartPolicy": "Never", "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": self.image, "args": args}],
        });
        merge(&mut whole["containers"][0], container);
        merge(&mut whole, spec);
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole});
        self.apply(pod).await;
    }

    /// The message of the first event of a reason that there is of a pod.
    async fn event(&self, pod: &str, reason: &str) -> String {
        let events: Api<Event> = Api::default_namespaced(self.plane.admin().await.unwrap());
        let of = format!("involvedObject.name={pod},reason={reason}");
        let wanted = kube::runtime::watcher::Config::default().fields(&of);
        let mut told = Box::pin(kube::runtime::watcher(events, wanted).applied_objects());
        let first = tokio::time::timeout(PATIENCE, told.next()).await;
        first.unwrap().unwrap().unwrap().message.unwrap()
    }

    async fn ended(&self, pod: &str) -> Value {
        let over = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
        self.wait(&format!("pod/{pod}"), over).await;
        let read = "jsonpath={.status.containerStatuses[0].state.terminated}";
        let told = self.kubectl(&["get", "pod", pod, "-o", read]).await;
        serde_json::from_str(&told).unwrap()
    }
}

fn merge(into: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    for (field, value) in more {
        into[field] = value;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_a_pod_do_on_a_node_what_they_do_on_a_kubelets() {
    let Some(scene) = Scene::set().await else {
        return;
    };
    last_words(&scene).await;
    names(&scene).await;
    classes(&scene).await;
}

async fn last_words(scene: &Scene) {
    let words = ["write", "/dev/termination-log", "3", "bye"];
    let read_only = json!({"securityContext": {"readOnlyRootFilesystem": true}});
    scene.pod("words", &words, json!({}), read_only).await;
    let told = scene.ended("words").await;
    assert_eq!(
        (&told["exitCode"], &told["message"]),
        (&json!(3), &json!("bye\n"))
    );
    let logged = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
    scene
        .pod("logged", &["cat", "/none"], json!({}), logged)
        .await;
    let told = scene.ended("logged").await;
    let message = told["message"].as_str().unwrap();
    assert!(message.starts_with("tool: /none: "), "{message}");
}

async fn names(scene: &Scene) {
    let spec = json!({"hostname": "db", "subdomain": "data", "setHostnameAsFQDN": true});
    scene
        .pod("named", &["cat", "/etc/hostname"], spec, json!({}))
        .await;
    scene.ended("named").await;
    let said = scene.kubectl(&["logs", "named"]).await;
    assert_eq!(said, "db.data.default.svc.cluster.local\n");
}

async fn classes(scene: &Scene) {
    let class = |name: &str, handler: &str| {
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name},
            "handler": handler})
    };
    scene.apply(class("wasm", "coracle")).await;
    scene.apply(class("kata", "kata")).await;
    let of = |class: &str| json!({"runtimeClassName": class});
    scene.pod("wasm", &["true"], of("wasm"), json!({})).await;
    assert_eq!(scene.ended("wasm").await["exitCode"], 0);
    scene.pod("kata", &["true"], of("kata"), json!({})).await;
    let message = scene.event("kata", "FailedCreatePodSandBox").await;
    let expected =
        "Failed to create pod sandbox: failed to get sandbox runtime: no runtime for \"kata\"";
    assert!(message.starts_with(expected), "{message}");
    let phase = ["get", "pod", "kata", "-o", "jsonpath={.status.phase}"];
    assert_eq!(scene.kubectl(&phase).await, "Pending");
}
