//! Linux and Wasm side by side: Services between them, and what stays off which node.

use serde_json::{Value, json};

use crate::objects::tolerations;
use crate::scene::scene;
use crate::space::{Space, hosts};

impl Space {
    /// Makes an object of any kind, by kubectl.
    async fn apply(&self, object: &Value) {
        let words = ["-n", self.name, "apply", "-f", "-"];
        let applied = self.scene.try_kubectl(&words, &object.to_string()).await;
        applied.unwrap_or_else(|why| panic!("{object}: {why}"));
    }

    /// Where a namespace's pods are, sorted.
    async fn places(&self, selector: &str) -> Vec<String> {
        let names = r#"jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}"#;
        let said = self
            .kubectl(&["get", "pods", "-l", selector, "-o", names])
            .await;
        let mut places: Vec<String> = said.lines().map(str::to_owned).collect();
        places.sort();
        places
    }

    /// A server's Deployment, and its Service. By its hostPort the scheduler puts one replica on each Wasm node.
    async fn deploy_server(&self, port: u16) {
        let labels = json!({"app": "web"});
        self.apply(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web"},
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
                        "containers": [{"name": "main", "image": self.scene.images.server,
                            "ports": [{"name": "http", "containerPort": port, "hostPort": port}]}],
                    },
                },
            },
        }))
        .await;
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": "http"}]},
        }))
        .await;
    }

    /// A Linux pod that waits, to ask from. Its kubelet's host is `host`.
    async fn linux(&self, name: &str, host: &str) {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "nodeName": host,
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "image": "localhost/testapp:1", "imagePullPolicy": "Never"}],
            },
        }))
        .await;
        self.phase(name, "Running").await;
    }

    /// Asks kubectl until it prints this.
    async fn says(&self, words: &[&str], wanted: &str) {
        self.scene
            .until(&[&["-n", self.name], words].concat(), wanted)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_leads_linux_pods_to_a_deployment_on_wasm_nodes() {
    let Some(space) = Space::on_hosts("web").await else {
        return;
    };
    space.deploy_server(8080).await;
    let available = "jsonpath={.status.availableReplicas}";
    space
        .says(&["get", "deployment", "web", "-o", available], "2")
        .await;
    assert_eq!(space.places("app=web").await, ["wasm-a", "wasm-b"]);

    // Each has its host's address, never a loopback one, and the endpoints say so.
    let addresses = "jsonpath={.items[*].endpoints[*].addresses[0]}";
    let slices = ["get", "endpointslices", "-o", addresses];
    let mut said = String::new();
    while said.split_whitespace().count() != 2 {
        said = space.kubectl(&slices).await;
    }
    let mut endpoints: Vec<&str> = said.split_whitespace().collect();
    endpoints.sort_unstable();
    assert_eq!(endpoints, ["172.30.0.1", "172.30.0.2"]);

    for host in ["a", "b"] {
        let client = format!("client-{host}");
        space.linux(&client, host).await;
        for url in ["http://web.web.svc.cluster.local/", "http://web/"] {
            let ask = ["exec", &client, "--", "/testapp", "get", url];
            space.says(&ask, space.scene.images.greeting).await;
        }
    }

    let delete = ["delete", "deployment", "web", "--wait=false"];
    space.kubectl(&delete).await;
    space
        .pods("app=web", "all are gone", |pods| pods.is_empty())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn linux_workloads_stay_off_wasm_nodes() {
    let Some(space) = Space::on_hosts("linux").await else {
        return;
    };
    let labels = json!({"app": "agent"});
    let container =
        json!([{"name": "main", "image": "localhost/testapp:1", "imagePullPolicy": "Never"}]);
    space
        .apply(&json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "agent"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": container,
                    "terminationGracePeriodSeconds": 1}},
            },
        }))
        .await;
    // As kube-proxy and CNIs are deployed: they tolerate everything, and select Linux.
    let proxy = json!({"app": "proxy"});
    space
        .apply(&json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "proxy"},
            "spec": {
                "selector": {"matchLabels": proxy},
                "template": {"metadata": {"labels": proxy}, "spec": {"containers": container,
                    "terminationGracePeriodSeconds": 1,
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "tolerations": [{"operator": "Exists"}]}},
            },
        }))
        .await;
    for name in ["agent", "proxy"] {
        let ready = "jsonpath={.status.desiredNumberScheduled} {.status.numberReady}";
        space
            .says(&["get", "daemonset", name, "-o", ready], "2 2")
            .await;
    }
    assert_eq!(space.places("app=agent").await, ["a", "b"]);
    assert_eq!(space.places("app=proxy").await, ["a", "b"]);
}

/// kindnet's loop over Nodes (`main.go` and `cni.go` of kindnetd): the Node with its own host's InternalIP is itself, and
/// that one's podCIDR goes into the host's CNI configuration. A second Node there with that address would take its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_cni_that_finds_itself_by_internal_ip_finds_the_kubelet() {
    let Some(scene) = scene().await else { return };
    let Some(ours) = hosts(scene) else { return };
    let said = scene.kubectl(&["get", "nodes", "-o", "json"]).await;
    let nodes: Value = serde_json::from_str(&said).unwrap();
    let internal = |node: &Value| -> Vec<String> {
        let all = node["status"]["addresses"].as_array().unwrap();
        let chosen = all.iter().filter(|address| address["type"] == "InternalIP");
        chosen
            .map(|address| address["address"].as_str().unwrap().to_owned())
            .collect()
    };
    let nodes = nodes["items"].as_array().unwrap();
    assert!(nodes.len() >= 4);
    for host in ours.cluster.hosts() {
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
    for node in &scene.names {
        let raw = async |path: &str| {
            let path = format!("/api/v1/nodes/{}/proxy/{path}", node);
            scene.try_kubectl(&["get", "--raw", &path], "").await
        };
        assert_eq!(raw("healthz").await.unwrap(), "ok");
        let configuration = raw("configz").await.unwrap();
        let configuration: Value = serde_json::from_str(&configuration).unwrap();
        let name = &configuration["kubeletconfig"]["nodeName"];
        assert_eq!(name, node.as_str());
        let refused = raw("metrics").await.unwrap_err();
        let text = "metrics and statistics are not supported";
        assert!(refused.contains(text), "{refused}");
    }
}
