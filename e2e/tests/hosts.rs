//! Wasm nodes in a real cluster: two hosts, each with a real kubelet, containerd, CNI and kube-proxy, and a Wasm node
//! beside them; the real scheduler and controllers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::sync::OnceLock;

use e2e::Cluster;
use e2e::cluster::WasmNode;
use guests::{Guest, Missing};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// What a pod says to be scheduled to a Wasm node (Krustlet's users say the same).
fn tolerations() -> Value {
    json!([{"key": "kubernetes.io/arch", "operator": "Equal", "value": "wasm32-wasi", "effect": "NoSchedule"}])
}

/// A cluster with a Wasm node on each of its two hosts.
struct Scene {
    cluster: Cluster,
    nodes: Vec<WasmNode>,
    /// The image of a web server.
    server: String,
    /// What it answers.
    greeting: &'static str,
}

/// The scene of all tests here; `None`, with the reason printed, where this machine can't have one.
async fn scene() -> Option<&'static Scene> {
    static SCENE: OnceCell<Scene> = OnceCell::const_new();
    static TOLD: OnceLock<()> = OnceLock::new();
    if let Some(lack) = Cluster::lacks() {
        assert!(
            std::env::var("CI").is_err(),
            "a cluster can't be left out with CI=true: {lack}"
        );
        TOLD.get_or_init(|| println!("not run: {lack}"));
        return None;
    }
    Some(SCENE.get_or_init(set).await)
}

async fn set() -> Scene {
    let cluster = Cluster::start(2).await.unwrap();
    let (module, greeting) = match guests::path(Guest::RustServer) {
        Ok(module) => (module, "hello from Rust"),
        Err(Missing::LeftOut { .. }) => (guests::path(Guest::GoListen).unwrap(), "hello from Go"),
        Err(missing) => panic!("{missing}"),
    };
    let server = cluster.push_module("server:1", &module).unwrap();
    let nodes: Vec<WasmNode> = (0..2)
        .map(|host| cluster.start_node(host, &[]).unwrap())
        .collect();
    let scene = Scene {
        cluster,
        nodes,
        server,
        greeting,
    };
    for node in &scene.nodes {
        let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        scene
            .until(&["get", "node", node.name(), "-o", ready], "True")
            .await;
    }
    scene
}

impl Scene {
    fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(arguments).unwrap()
    }

    fn apply(&self, object: &Value) {
        self.cluster
            .kubectl_with(&["apply", "-f", "-"], &object.to_string())
            .unwrap();
    }

    /// Waits until kubectl prints this.
    async fn until(&self, arguments: &[&str], wanted: &str) {
        let said = self
            .cluster
            .await_kubectl(arguments, wanted, |said| said.trim() == wanted)
            .await;
        if let Err(error) = said {
            let logs: Vec<String> = self.nodes.iter().map(|node| node.log().unwrap()).collect();
            panic!("{error:#}\n{}", logs.join("\n--\n"));
        }
    }

    /// Where a namespace's pods are, sorted.
    fn places(&self, namespace: &str, selector: &str) -> Vec<String> {
        let names = r#"jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}"#;
        let said = self.kubectl(&["-n", namespace, "get", "pods", "-l", selector, "-o", names]);
        let mut places: Vec<String> = said.lines().map(str::to_owned).collect();
        places.sort();
        places
    }

    /// A server's Deployment, and its Service. By its hostPort the scheduler puts one replica on each Wasm node.
    fn deploy_server(&self, namespace: &str, port: u16) {
        self.kubectl(&["create", "namespace", namespace]);
        let labels = json!({"app": "web"});
        self.apply(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "automountServiceAccountToken": false,
                        "terminationGracePeriodSeconds": 5,
                        "tolerations": tolerations(),
                        "nodeSelector": {"kubernetes.io/arch": "wasm32-wasi"},
                        "containers": [{"name": "main", "image": self.server,
                            "ports": [{"name": "http", "containerPort": port, "hostPort": port}]}],
                    },
                },
            },
        }));
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": "http"}]},
        }));
    }

    /// A Linux pod that waits, to ask from. Its kubelet's host is `host`.
    async fn linux(&self, namespace: &str, name: &str, host: &str) {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "nodeName": host,
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "image": "localhost/testapp:1", "imagePullPolicy": "Never"}],
            },
        }));
        let phase = [
            "-n",
            namespace,
            "get",
            "pod",
            name,
            "-o",
            "jsonpath={.status.phase}",
        ];
        self.until(&phase, "Running").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_leads_linux_pods_to_a_deployment_on_wasm_nodes() {
    let Some(scene) = scene().await else { return };
    scene.deploy_server("web", 8080);
    let available = "jsonpath={.status.availableReplicas}";
    scene
        .until(
            &["-n", "web", "get", "deployment", "web", "-o", available],
            "2",
        )
        .await;
    assert_eq!(scene.places("web", "app=web"), ["wasm-a", "wasm-b"]);

    // Each has its host's address, never a loopback one, and the endpoints say so.
    let addresses = "jsonpath={.items[*].endpoints[*].addresses[0]}";
    let slices = ["-n", "web", "get", "endpointslices", "-o", addresses];
    let two = |said: &str| said.split_whitespace().count() == 2;
    let said = scene
        .cluster
        .await_kubectl(&slices, "two endpoints", two)
        .await
        .unwrap();
    let mut endpoints: Vec<&str> = said.split_whitespace().collect();
    endpoints.sort_unstable();
    assert_eq!(endpoints, ["172.30.0.1", "172.30.0.2"]);

    for host in ["a", "b"] {
        let client = format!("client-{host}");
        scene.linux("web", &client, host).await;
        for url in ["http://web.web.svc.cluster.local/", "http://web/"] {
            let ask = ["-n", "web", "exec", &client, "--", "/testapp", "get", url];
            scene.until(&ask, scene.greeting).await;
        }
    }

    scene.kubectl(&["-n", "web", "delete", "deployment", "web", "--wait=false"]);
    let left = ["-n", "web", "get", "pods", "-l", "app=web", "-o", "name"];
    scene.until(&left, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn linux_workloads_stay_off_wasm_nodes() {
    let Some(scene) = scene().await else { return };
    scene.kubectl(&["create", "namespace", "linux"]);
    let labels = json!({"app": "agent"});
    let container =
        json!([{"name": "main", "image": "localhost/testapp:1", "imagePullPolicy": "Never"}]);
    scene.apply(&json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "linux"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": container,
                "terminationGracePeriodSeconds": 1}},
        },
    }));
    // As kube-proxy and CNIs are deployed: they tolerate everything, and select Linux.
    let proxy = json!({"app": "proxy"});
    scene.apply(&json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "proxy", "namespace": "linux"},
        "spec": {
            "selector": {"matchLabels": proxy},
            "template": {"metadata": {"labels": proxy}, "spec": {"containers": container,
                "terminationGracePeriodSeconds": 1,
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "tolerations": [{"operator": "Exists"}]}},
        },
    }));
    for name in ["agent", "proxy"] {
        let ready = "jsonpath={.status.desiredNumberScheduled} {.status.numberReady}";
        scene
            .until(
                &["-n", "linux", "get", "daemonset", name, "-o", ready],
                "2 2",
            )
            .await;
    }
    assert_eq!(scene.places("linux", "app=agent"), ["a", "b"]);
    assert_eq!(scene.places("linux", "app=proxy"), ["a", "b"]);
}

/// kindnet's loop over Nodes (`main.go` and `cni.go` of kindnetd): the Node with its own host's InternalIP is itself, and
/// that one's podCIDR goes into the host's CNI configuration. A second Node there with that address would take its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_cni_that_finds_itself_by_internal_ip_finds_the_kubelet() {
    let Some(scene) = scene().await else { return };
    let nodes: Value =
        serde_json::from_str(&scene.kubectl(&["get", "nodes", "-o", "json"])).unwrap();
    let internal = |node: &Value| -> Vec<String> {
        let all = node["status"]["addresses"].as_array().unwrap();
        let chosen = all.iter().filter(|address| address["type"] == "InternalIP");
        chosen
            .map(|address| address["address"].as_str().unwrap().to_owned())
            .collect()
    };
    let nodes = nodes["items"].as_array().unwrap();
    assert_eq!(nodes.len(), 4);
    for host in scene.cluster.hosts() {
        let itself: Vec<&str> = nodes
            .iter()
            .filter(|node| internal(node).iter().any(|ip| ip == host.ip()))
            .map(|node| node["metadata"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(itself, [host.name()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_servers_node_proxy_leads_to_each_wasm_node() {
    let Some(scene) = scene().await else { return };
    for node in &scene.nodes {
        let raw = |path: &str| {
            let path = format!("/api/v1/nodes/{}/proxy/{path}", node.name());
            scene.cluster.kubectl(&["get", "--raw", &path])
        };
        assert_eq!(raw("healthz").unwrap(), "ok");
        let configuration: Value = serde_json::from_str(&raw("configz").unwrap()).unwrap();
        let name = &configuration["kubeletconfig"]["nodeName"];
        assert_eq!(name, node.name());
        let refused = format!("{:#}", raw("metrics").unwrap_err());
        let text = "metrics and statistics are not supported";
        assert!(refused.contains(text), "{refused}");
    }
}
