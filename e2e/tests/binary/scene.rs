//! A node of the real binary, with an API server, a registry and an image.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use e2e::{ControlPlane, Guard, NodeProcess, Registry};
use guests::{Guest, Missing};
use k8s_openapi::api::core::v1::{ContainerState, Node, Pod};
use kube::Api;
use kube::runtime::wait::await_condition;
use tokio::sync::OnceCell;

/// Pods report it: an address of documentation (RFC 5737), which nothing here has to reach.
pub(crate) const NODE_IP: &str = "192.0.2.10";

/// A guest's module; `None`, with the reason printed, where its language was left out.
pub(crate) fn module(guest: Guest) -> Option<PathBuf> {
    match guests::path(guest) {
        Ok(path) => Some(path),
        Err(missing @ Missing::LeftOut { .. }) => {
            println!("not run: {missing}");
            None
        }
        Err(missing) => panic!("{missing}"),
    }
}

pub(crate) async fn registry() -> Arc<Registry> {
    static REGISTRY: OnceCell<Arc<Registry>> = OnceCell::const_new();
    REGISTRY
        .get_or_init(|| async { Arc::new(Registry::start().await.unwrap()) })
        .await
        .clone()
}

/// A node, a namespace and an image of the same name.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) plane: Guard,
    pub(crate) node: NodeProcess,
    registry: Arc<Registry>,
    pub(crate) image: String,
}

impl Scene {
    pub(crate) async fn set(name: &'static str, module: &Path) -> Scene {
        Scene::set_with(name, module, &[]).await
    }

    /// With arguments for the node.
    pub(crate) async fn set_with(name: &'static str, module: &Path, arguments: &[&str]) -> Scene {
        Scene::make(name, module, arguments, &[]).await
    }

    /// With variables in the node's environment.
    pub(crate) async fn set_in(
        name: &'static str,
        module: &Path,
        environment: &[(OsString, OsString)],
    ) -> Scene {
        Scene::make(name, module, &[], environment).await
    }

    async fn make(
        name: &'static str,
        module: &Path,
        arguments: &[&str],
        environment: &[(OsString, OsString)],
    ) -> Scene {
        let plane = ControlPlane::shared().await.unwrap();
        let registry = registry().await;
        let image = registry.push_module(&format!("{name}:1"), module).unwrap();
        plane.namespace(name).await.unwrap();
        let arguments = [&["--node-ip", NODE_IP], arguments].concat();
        let binary = e2e::binary().unwrap();
        let node = NodeProcess::start_in(&plane, &binary, name, &arguments, environment).unwrap();
        let scene = Scene {
            name,
            plane,
            node,
            registry,
            image,
        };
        scene.ready().await;
        scene
    }

    /// Another image of this scene's.
    pub(crate) fn push(&self, name: &str, module: &Path) -> String {
        self.registry.push_module(name, module).unwrap()
    }

    pub(crate) async fn ready(&self) {
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
    pub(crate) async fn apply(&self, pod: &str, restart: &str, args: &[&str]) {
        self.apply_image(pod, restart, &self.image, args).await;
    }

    /// As [`Scene::apply`], of another image.
    pub(crate) async fn apply_image(&self, pod: &str, restart: &str, image: &str, args: &[&str]) {
        let manifest = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod, "namespace": self.name},
            "spec": {
                "nodeName": self.name,
                "restartPolicy": restart,
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 5,
                "tolerations": [{"key": "kubernetes.io/arch", "operator": "Equal", "value": "wasm32-wasi", "effect": "NoSchedule"}],
                "containers": [{"name": "main", "image": image, "args": args,
                    "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}}}],
            },
        });
        self.plane
            .kubectl_with(&["apply", "-f", "-"], &manifest.to_string())
            .await
            .unwrap();
    }

    pub(crate) async fn phase(&self, pod: &str, phase: &'static str) -> Pod {
        let is = move |pod: Option<&Pod>| {
            pod.and_then(|p| p.status.as_ref()?.phase.as_deref()) == Some(phase)
        };
        match self.plane.await_pod(self.name, pod, phase, is).await {
            Ok(pod) => pod.unwrap(),
            Err(error) => panic!("{error:#}\n{}", self.node.log().unwrap()),
        }
    }

    pub(crate) async fn gone(&self, pod: &str) {
        let is = |pod: Option<&Pod>| pod.is_none();
        if let Err(error) = self.plane.await_pod(self.name, pod, "gone", is).await {
            panic!("{error:#}\n{}", self.node.log().unwrap());
        }
    }

    pub(crate) async fn delete(&self, pod: &str) {
        self.plane
            .kubectl(&["-n", self.name, "delete", "pod", pod, "--wait=false"])
            .await
            .unwrap();
    }

    pub(crate) fn log(&self, pod: &Pod, run: u32) -> String {
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

pub(crate) fn state(pod: &Pod) -> ContainerState {
    let status = pod.status.clone().unwrap();
    status.container_statuses.unwrap()[0].state.clone().unwrap()
}

pub(crate) fn container_id(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap();
    status.container_statuses.unwrap()[0]
        .container_id
        .clone()
        .unwrap()
}
