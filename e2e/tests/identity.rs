//! The real binary from a bootstrap token to a node's identity and on, with certificates that last a minute; and
//! `--check`, with what is right and what is wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{ControlPlane, Guard, Identity, NodeProcess};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client, Config};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(240);
/// Pods report it: an address of documentation (RFC 5737), which nothing here has to reach.
const NODE_IP: &str = "192.0.2.10";

/// The state of one node, for its reader when a test fails.
struct Scene {
    plane: Guard,
    node: NodeProcess,
    name: &'static str,
}

impl Scene {
    /// A node that has a bootstrap token, and asks for a serving certificate too.
    async fn set(name: &'static str) -> Scene {
        let plane = ControlPlane::shared().await.unwrap();
        let bootstrap = plane.signer().await.unwrap();
        Scene::with(plane, name, &bootstrap)
    }

    fn with(plane: Guard, name: &'static str, bootstrap: &Path) -> Scene {
        let config = plane.dir().join(format!("{name}.yaml"));
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nserverTLSBootstrap: true\n";
        std::fs::write(&config, text).unwrap();
        let config = config.display().to_string();
        let arguments = ["--node-ip", NODE_IP, "--config", &config];
        let binary = e2e::binary().unwrap();
        let node = NodeProcess::bootstrap(&plane, &binary, name, bootstrap, &arguments).unwrap();
        Scene { plane, node, name }
    }

    async fn ready(&self) {
        let nodes: Api<Node> = Api::all(self.plane.admin().await.unwrap());
        let ready = |node: Option<&Node>| {
            let all = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
            let mut all = all.into_iter().flatten();
            all.any(|one| one.type_ == "Ready" && one.status == "True")
        };
        self.until(nodes, self.name, ready).await;
    }

    async fn until<K>(&self, api: Api<K>, name: &str, expected: impl Condition<K>)
    where
        K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
    {
        let waited = await_condition(api, name, expected);
        if tokio::time::timeout(PATIENCE, waited).await.is_err() {
            panic!("{name} is not as expected: {}", self.node.log().unwrap());
        }
    }

    /// Waits until the node's log has a text so many times.
    async fn logged(&self, text: &str, times: usize) {
        let waiting = async {
            while self.node.log().unwrap().matches(text).count() < times {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("{text:?} {times} times: {}", self.node.log().unwrap());
        }
    }

    /// Whether the node's port shows a certificate of the cluster's.
    async fn is_trusted(&self) -> bool {
        let file = self.plane.kubeconfig("visitor", &Identity::admin());
        let mut kubeconfig = Kubeconfig::read_from(file.unwrap()).unwrap();
        let cluster = kubeconfig.clusters[0].cluster.as_mut().unwrap();
        cluster.server = Some(format!("https://127.0.0.1:{}", self.node.port()));
        cluster.tls_server_name = Some(self.name.to_owned());
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let mut config = config.unwrap();
        config.proxy_url = None;
        let client = Client::try_from(config).unwrap();
        let request = http::Request::get("/healthz").body(Vec::new()).unwrap();
        client.request_text(request).await.is_ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_token_becomes_an_identity_that_is_renewed_while_the_node_works() {
    let scene = Scene::set("boot-node").await;
    scene.ready().await;
    // Nothing is granted to it but what every node has.
    let nodes: Api<Node> = Api::all(scene.plane.admin().await.unwrap());
    let version = nodes.get("boot-node").await.unwrap().status.unwrap();
    assert!(version.node_info.is_some());

    // Its server's certificate signs itself until a person approves the cluster's.
    assert!(!scene.is_trusted().await);
    let requests: Api<CertificateSigningRequest> = Api::all(scene.plane.admin().await.unwrap());
    scene.logged("node-serving-csr-", 1).await;
    let all = requests.list(&ListParams::default()).await.unwrap();
    let mut serving = all
        .into_iter()
        .filter(|one| one.spec.signer_name == "kubernetes.io/kubelet-serving")
        // Another test's node asks for one too.
        .filter(|one| one.spec.username.as_deref() == Some("system:node:boot-node"));
    let name = serving.next().unwrap().metadata.name.unwrap();
    let approve = ["certificate", "approve", &name];
    scene.plane.kubectl(&approve).await.unwrap();
    scene
        .logged("a certificate of the cluster is served with", 1)
        .await;
    assert!(scene.is_trusted().await);

    // Certificates last a minute: the third is another life.
    scene.logged("a new certificate is in use", 3).await;
    let link = scene.node.root().join("pki/kubelet-client-current.pem");
    assert!(link.exists());
    // Pods come by a watch that outlived them.
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "boot-node"}, "spec": {
        "nodeName": "boot-node", "automountServiceAccountToken": false,
        "containers": [{"name": "main", "image": "127.0.0.1:1/none"}]}});
    let apply = ["apply", "-f", "-"];
    let pod = pod.to_string();
    scene.plane.kubectl_with(&apply, &pod).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(scene.plane.admin().await.unwrap());
    let seen = |pod: Option<&Pod>| {
        let all = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
        all.is_some_and(|all| !all.is_empty())
    };
    scene.until(pods, "boot-node", seen).await;
    scene.ready().await;
    let delete = ["delete", "pod", "boot-node", "--force"];
    scene.plane.kubectl(&delete).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bootstrap_script_prints_joins_a_node_and_does_nothing_else() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.signer().await.unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/bootstrap.sh");
    let kubectl = plane.programs().path("kubectl");
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", kubectl.parent().unwrap().display());
    let run = |kubeconfig: &Path| {
        let mut script = Command::new(&script);
        script.env("PATH", &path).env("KUBECONFIG", kubeconfig);
        script.stdin(Stdio::null()).output().unwrap()
    };
    let printed = run(plane.admin_kubeconfig());
    let said = String::from_utf8(printed.stderr).unwrap();
    assert!(printed.status.success(), "{said}");
    let bootstrap = plane.dir().join("printed.kubeconfig");
    std::fs::write(&bootstrap, printed.stdout).unwrap();
    let scene = Scene::with(plane, "printed-node", &bootstrap);
    scene.ready().await;

    let mut list = Command::new(&kubectl);
    list.args(["get", "nodes", "--kubeconfig"]).arg(&bootstrap);
    let list = list.output().unwrap();
    let said = String::from_utf8(list.stderr).unwrap();
    assert!(
        !list.status.success() && said.contains("coracle-bootstrap"),
        "{said}"
    );
    let nowhere = run(Path::new("/nowhere"));
    let said = String::from_utf8(nowhere.stderr).unwrap();
    assert!(
        !nowhere.status.success() && said.contains("no current context"),
        "{said}"
    );
}

/// What `coracle node --check` says, and whether it found nothing wrong. The root folder stands in the environment, so
/// that words may name another.
fn check(root: &Path, words: &[&str]) -> (bool, String) {
    let output = Command::new(e2e::binary().unwrap())
        .args(["node", "--check"])
        .args(words)
        .env("CORACLE_ROOT_DIR", root)
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complained = String::from_utf8(output.stderr).unwrap();
    (output.status.success(), format!("{said}{complained}"))
}

/// The lines that say `fail`.
fn failures(said: &str) -> Vec<&str> {
    let lines = said.lines().filter(|line| line.starts_with("fail"));
    lines.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_nothing_wrong_where_a_node_would_work_and_changes_nothing() {
    let plane = ControlPlane::shared().await.unwrap();
    let kubeconfig = plane.node_kubeconfig("checked").unwrap();
    let kubeconfig = kubeconfig.display().to_string();
    let root = tempfile::tempdir().unwrap();
    let words = ["--kubeconfig", &kubeconfig, "--node-ip", NODE_IP];
    let (good, said) = check(root.path(), &words);
    assert!(good && failures(&said).is_empty(), "{said}");
    for line in [
        "configuration: flags",
        "identity: system:node:checked",
        "API server: https://127.0.0.1:",
        "is v1.36",
        "patch nodes/status",
    ] {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }
    let nodes: Api<Node> = Api::all(plane.admin().await.unwrap());
    assert!(nodes.get_opt("checked").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_is_wrong_and_what_to_do() {
    let plane = ControlPlane::shared().await.unwrap();
    let own = plane.node_kubeconfig("wrong").unwrap();
    let own = own.display().to_string();
    let stranger = Identity::new("stranger", &[]);
    let stranger = plane.kubeconfig("check-stranger", &stranger).unwrap();
    let stranger = stranger.display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let elsewhere = std::fs::read_to_string(&own).unwrap();
    let elsewhere = elsewhere.replace(&plane.server(), "https://127.0.0.1:1");
    let elsewhere = file("elsewhere.kubeconfig", &elsewhere);
    let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    let unknown = file("unknown.yaml", &format!("{head}maxPod: 5\n"));
    let nonsense = file("nonsense.yaml", &format!("{head}maxPods: many\n"));
    let not_yaml = file("not.kubeconfig", "{");
    let ip = ["--node-ip", NODE_IP];
    let cases: [(&[&str], &[&str]); 8] = [
        (
            &["--kubeconfig", &elsewhere],
            &["API server", "127.0.0.1:1"],
        ),
        (
            &["--kubeconfig", &own, "--node-name", "right"],
            &["identity", "wrong", "right"],
        ),
        (
            &["--kubeconfig", &stranger, "--node-name", "right"],
            &["create nodes", "not allowed", "system:node:right"],
        ),
        (
            &["--kubeconfig", &own, "--config", &unknown],
            &["configuration", "unknown.yaml", "maxPod", "3"],
        ),
        (
            &["--kubeconfig", &own, "--config", &nonsense],
            &["configuration", "nonsense.yaml", "maxPods"],
        ),
        (
            &["--kubeconfig", &not_yaml],
            &["identity", "not.kubeconfig"],
        ),
        (
            &["--kubeconfig", "/nowhere/kubeconfig"],
            &["identity", "/nowhere/kubeconfig"],
        ),
        (
            &["--kubeconfig", &own, "--root-dir", "/proc/coracle"],
            &["root folder", "--root-dir"],
        ),
    ];
    for (words, told) in cases {
        let root = folder.path().join("root");
        let words = [words, &ip].concat();
        let (good, said) = check(&root, &words);
        assert!(!good, "{words:?}: {said}");
        let failures = failures(&said).join("\n");
        for word in told {
            assert!(
                failures.contains(word),
                "{words:?}: {word:?} is not in {said}"
            );
        }
    }
}
