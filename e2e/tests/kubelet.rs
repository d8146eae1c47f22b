//! The node's port as a cluster uses it: `kubectl logs` through a real kube-apiserver, and who may ask it what.
//!
//! The API server's node proxy leads to no loopback address (`isProxyableHostname` of `pkg/registry/core/node`): it is
//! tested where nodes have others, in `hosts.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::sync::Arc;

use e2e::{ControlPlane, Identity, NodeProcess, Registry};
use guests::{Guest, Missing};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

/// The API server dials a Node's Hostname, and this one leads to loopback on every machine.
const NODE: &str = "localhost";
/// Pods report it: an address of documentation (RFC 5737), which nothing here has to reach.
const NODE_IP: &str = "192.0.2.10";
/// What the guest `files` says.
const LINES: &str = "create: ok\nappend: ok\nrename: ok\nthousand: ok\nsymlinks: ok\nremove: ok\n";

struct Scene {
    plane: ControlPlane,
    registry: Arc<Registry>,
    node: NodeProcess,
}

impl Scene {
    async fn set() -> Scene {
        let plane = ControlPlane::start().await.unwrap();
        let registry = Arc::new(Registry::start().await.unwrap());
        let binary = e2e::binary().unwrap();
        let node = NodeProcess::start(&plane, &binary, NODE, &["--node-ip", NODE_IP]).unwrap();
        let scene = Scene {
            plane,
            registry,
            node,
        };
        scene.wait("node/localhost", "create").await;
        scene.wait("node/localhost", "condition=Ready").await;
        scene
    }

    async fn wait(&self, what: &str, until: &str) {
        let until = format!("--for={until}");
        let words = ["wait", what, &until, "--timeout=300s"];
        if let Err(error) = self.plane.kubectl(&words).await {
            panic!("{error:#}\n{}", self.node.log().unwrap());
        }
    }

    /// Runs a guest in a pod of its name; false, with the reason printed, where its language was left out.
    async fn run(&self, pod: &str, guest: Guest, args: &[&str], restart: &str) -> bool {
        let module = match guests::path(guest) {
            Ok(module) => module,
            Err(missing @ Missing::LeftOut { .. }) => {
                println!("not run: {missing}");
                return false;
            }
            Err(missing) => panic!("{missing}"),
        };
        let image = self.registry.push_module(&format!("{pod}:1"), &module);
        let manifest = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod},
            "spec": {
                "nodeName": NODE, "restartPolicy": restart, "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "image": image.unwrap(), "args": args}],
            },
        });
        let apply = ["apply", "-f", "-"];
        let manifest = manifest.to_string();
        self.plane.kubectl_with(&apply, &manifest).await.unwrap();
        true
    }

    async fn phase(&self, pod: &str, phase: &str) {
        let until = format!("jsonpath={{.status.phase}}={phase}");
        self.wait(&format!("pod/{pod}"), &until).await;
    }

    async fn kubectl(&self, words: &[&str]) -> String {
        match self.plane.kubectl(words).await {
            Ok(said) => said,
            Err(error) => panic!("{error:#}\n{}", self.node.log().unwrap()),
        }
    }

    async fn refused(&self, words: &[&str]) -> String {
        format!("{:#}", self.plane.kubectl(words).await.unwrap_err())
    }

    /// Somebody's client of the node itself, with a token instead of the certificate if given.
    async fn directly(&self, who: &Identity, token: Option<String>) -> Client {
        let file = self.plane.kubeconfig(&who.user, who).unwrap();
        let mut kubeconfig = Kubeconfig::read_from(file).unwrap();
        let cluster = kubeconfig.clusters[0].cluster.as_mut().unwrap();
        cluster.server = Some(format!("https://127.0.0.1:{}", self.node.port()));
        let user = kubeconfig.auth_infos[0].auth_info.as_mut().unwrap();
        if token.is_some() {
            (user.client_certificate, user.client_key) = (None, None);
            user.token = token.map(Into::into);
        }
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options);
        let mut config = config.await.unwrap();
        // It signs itself.
        config.accept_invalid_certs = true;
        config.proxy_url = None;
        Client::try_from(config).unwrap()
    }
}

async fn get(client: &Client, path: &str) -> Result<String, String> {
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let said = client.request_text(request).await;
    said.map_err(|error| format!("{error:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_port_serves_kubectl_through_the_api_server() {
    let scene = Scene::set().await;
    let port = "jsonpath={.status.daemonEndpoints.kubeletEndpoint.Port}";
    let told = scene.kubectl(&["get", "node", NODE, "-o", port]).await;
    assert_eq!(told, scene.node.port().to_string());
    what_there_is(&scene).await;
    who_may(&scene).await;
    let there = scene.run("lines", Guest::GoFiles, &[], "Never").await;
    if !there {
        return;
    }
    scene.run("follow", Guest::GoSleep, &["3s"], "Never").await;
    scene.run("crash", Guest::GoExit, &["3"], "Always").await;
    log_options(&scene).await;
    following(&scene).await;
    previous(&scene).await;
}

async fn what_there_is(scene: &Scene) {
    let admin = scene.directly(&Identity::admin(), None).await;
    let raw = async |path: &str| get(&admin, path).await.unwrap();
    assert_eq!(raw("/healthz").await, "ok");
    let verbose = raw("/healthz?verbose").await;
    for check in ["ping", "log", "syncloop", "guests", "node"] {
        assert!(verbose.contains(&format!("[+]{check} ok")), "{verbose}");
    }
    let configuration: Value = serde_json::from_str(&raw("/configz").await).unwrap();
    let kubelet = &configuration["kubeletconfig"];
    assert_eq!(kubelet["port"], scene.node.port());
    assert_eq!(kubelet["nodeIP"], NODE_IP);
    let pods: Value = serde_json::from_str(&raw("/pods").await).unwrap();
    assert_eq!(pods["kind"], "PodList");
    let refused = get(&admin, "/metrics").await.unwrap_err();
    assert!(refused.contains("501"), "{refused}");
}

async fn who_may(scene: &Scene) {
    let ann = Identity::new("ann", &[]);
    let refused = get(&scene.directly(&ann, None).await, "/pods").await;
    let forbidden = "Forbidden (user=ann, verb=get, resource=nodes, subresource(s)=[pods proxy])";
    assert!(
        refused.as_ref().is_err_and(|why| why.contains(forbidden)),
        "{refused:?}"
    );

    let create = ["create", "serviceaccount", "reader"];
    scene.kubectl(&create).await;
    let token = scene.kubectl(&["create", "token", "reader"]).await;
    let bind = [
        "create",
        "clusterrolebinding",
        "reader",
        "--clusterrole=system:kubelet-api-admin",
        "--serviceaccount=default:reader",
    ];
    scene.kubectl(&bind).await;
    let token = token.trim().to_owned();
    let reader = scene.directly(&ann, Some(token.clone())).await;
    assert_eq!(get(&reader, "/healthz").await, Ok("ok".to_owned()));
    let forged = scene.directly(&ann, Some(format!("{token}x"))).await;
    let refused = get(&forged, "/healthz").await.unwrap_err();
    assert!(refused.contains("401"), "{refused}");
}

async fn log_options(scene: &Scene) {
    scene.phase("lines", "Succeeded").await;
    for (options, expected) in [
        (&[][..], LINES),
        (&["--tail=2"], "symlinks: ok\nremove: ok\n"),
        (&["--tail=0"], ""),
        (&["--limit-bytes=9"], "create: o"),
        (&["--since=1h"], LINES),
        (&["--since-time=2999-01-01T00:00:00Z"], ""),
        (&["-c", "main", "-f", "--tail=1"], "remove: ok\n"),
    ] {
        let said = scene.kubectl(&[&["logs", "lines"], options].concat()).await;
        assert_eq!(said, expected, "{options:?}");
    }
    let stamped = scene.kubectl(&["logs", "lines", "--timestamps"]).await;
    for (line, expected) in stamped.lines().zip(LINES.lines()) {
        let (time, text) = line.split_once(' ').unwrap();
        assert_eq!(text, expected);
        time.parse::<jiff::Timestamp>().unwrap();
    }
    // The API server passes it on behind a feature gate (PodLogsQuerySplitStreams) that is off.
    let admin = scene.directly(&Identity::admin(), None).await;
    let stream = async |name: &str| {
        let path = format!("/containerLogs/default/lines/main?stream={name}");
        get(&admin, &path).await.unwrap()
    };
    assert_eq!(stream("Stderr").await, "");
    assert_eq!(stream("Stdout").await, LINES);
    let refused = scene.refused(&["logs", "lines", "-p"]).await;
    let text = "previous terminated container \"main\" in pod \"lines\" not found";
    assert!(refused.contains(text), "{refused}");
}

async fn following(scene: &Scene) {
    // Whether it has ended by now or not: what it says is the same, and following ends.
    let said = scene.kubectl(&["logs", "-f", "follow"]).await;
    assert_eq!(said, "sleeping\nawake, early: false\n");
}

async fn previous(scene: &Scene) {
    let restarted = "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}=3";
    scene.wait("pod/crash", restarted).await;
    let said = scene.kubectl(&["logs", "-p", "crash"]).await;
    assert_eq!(said, "exiting with 3\n");
}
