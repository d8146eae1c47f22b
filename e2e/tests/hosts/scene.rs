//! The cluster that all tests share, and what they run in it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use e2e::Cluster;
use e2e::cluster::WasmNode;
use guests::{Guest, Missing};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client, Config};
use tokio::sync::{OnceCell, RwLock};

/// How long anything may take on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// Names the cluster that the tests run in: `current`, of the kubeconfig; else one is made.
const CLUSTER: &str = "CORACLE_E2E_CLUSTER";

/// Where images are pushed to that nodes of a cluster of others pull from: `HOST[:PORT][/PATH]`.
const REGISTRY: &str = "CORACLE_E2E_REGISTRY";

/// A cluster with Wasm nodes.
pub(crate) struct Scene {
    /// What only a cluster has that was made here.
    pub(crate) ours: Option<Ours>,
    /// The Wasm nodes that pods come to.
    pub(crate) names: Vec<String>,
    pub(crate) images: Images,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    /// Held by one test alone while it does something that all others would notice.
    pub(crate) calm: RwLock<()>,
}

/// Two hosts, with a Wasm node on each.
pub(crate) struct Ours {
    pub(crate) cluster: Cluster,
    _nodes: Vec<WasmNode>,
    /// The sleeper in a registry that wants a password.
    pub(crate) private: String,
}

/// What pods run.
pub(crate) struct Images {
    /// A web server.
    pub(crate) server: String,
    /// What it answers.
    pub(crate) greeting: &'static str,
    /// Sleeps for ever, or for as long as [`Images::sleeping`] says.
    pub(crate) sleeper: String,
    in_milliseconds: bool,
    /// The same under another tag.
    pub(crate) other: String,
    /// Exits with the code of its argument.
    pub(crate) exit: String,
    /// Prints its environment.
    pub(crate) inspect: String,
    /// One that there is none of.
    pub(crate) absent: String,
}

impl Images {
    fn push(to: &dyn Fn(&str, &Path) -> anyhow::Result<String>) -> Images {
        let (server, in_rust) = either(Guest::RustServer, Guest::GoListen);
        let greeting = if in_rust {
            "hello from Rust"
        } else {
            "hello from Go"
        };
        let (sleeper, in_milliseconds) = either(Guest::RustSleeper, Guest::GoSleep);
        let (exit, _) = either(Guest::RustExit, Guest::GoExit);
        let (inspect, _) = either(Guest::RustInspect, Guest::GoInspect);
        let push = |name: &str, module: &Path| to(name, module).unwrap();
        let exit = push("exit:1", &exit);
        Images {
            server: push("server:1", &server),
            greeting,
            sleeper: push("sleeper:1", &sleeper),
            in_milliseconds,
            other: push("sleeper:2", &sleeper),
            absent: exit.replace("exit:1", "none:1"),
            exit,
            inspect: push("inspect:1", &inspect),
        }
    }

    /// The sleeper's argument for this long.
    pub(crate) fn sleeping(&self, time: Duration) -> String {
        match self.in_milliseconds {
            true => time.as_millis().to_string(),
            false => format!("{}ms", time.as_millis()),
        }
    }
}

/// The first guest, and true; the other where its language was left out.
fn either(first: Guest, other: Guest) -> (PathBuf, bool) {
    match guests::path(first) {
        Ok(module) => (module, true),
        Err(Missing::LeftOut { .. }) => (guests::path(other).unwrap(), false),
        Err(missing) => panic!("{missing}"),
    }
}

/// The scene of all tests here; `None`, with the reason printed, where this machine can't have one.
pub(crate) async fn scene() -> Option<&'static Scene> {
    static SCENE: OnceCell<Scene> = OnceCell::const_new();
    static TOLD: OnceLock<()> = OnceLock::new();
    if std::env::var_os(CLUSTER).is_some() {
        return Some(SCENE.get_or_init(visit).await);
    }
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
    let images = Images::push(&|name, module| cluster.push_module(name, module));
    let (sleeper, _) = either(Guest::RustSleeper, Guest::GoSleep);
    let private = cluster.push_private("private:1", &sleeper).unwrap();
    let nodes: Vec<WasmNode> = (0..2)
        .map(|host| cluster.start_node(host, &[]).unwrap())
        .collect();
    let scene = Scene {
        kubeconfig: cluster.outer_kubeconfig().unwrap(),
        kubectl: cluster.programs().path("kubectl"),
        names: nodes.iter().map(|node| node.name().to_owned()).collect(),
        ours: Some(Ours {
            cluster,
            _nodes: nodes,
            private,
        }),
        images,
        calm: RwLock::new(()),
    };
    for node in &scene.names {
        scene.ready(node).await;
    }
    scene
}

/// A cluster of somebody's, with the Wasm nodes that are Ready there.
async fn visit() -> Scene {
    let named = std::env::var(CLUSTER).unwrap();
    assert_eq!(named, "current", "{CLUSTER} may be `current`");
    let registry = std::env::var(REGISTRY).unwrap_or_else(|_| "127.0.0.1:5000".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let images =
        Images::push(&|name, module| e2e::push_module_to(&registry, folder.path(), name, module));
    let home = || Path::new(&std::env::var("HOME").unwrap()).join(".kube/config");
    let mut scene = Scene {
        kubeconfig: std::env::var_os("KUBECONFIG").map_or_else(home, PathBuf::from),
        kubectl: e2e::programs::Programs::find().unwrap().path("kubectl"),
        names: Vec::new(),
        ours: None,
        images,
        calm: RwLock::new(()),
    };
    let nodes: Api<Node> = Api::all(scene.client().await);
    let wasm = ListParams::default().labels("kubernetes.io/arch=wasm32-wasi");
    let ready = |node: &Node| condition(Some(node), "Ready") == Some("True");
    // Those with another taint are somebody's own.
    let open = |node: &Node| {
        let spec = node.spec.as_ref();
        spec.and_then(|spec| spec.taints.as_ref())
            .is_none_or(|all| all.len() == 1)
    };
    let all = nodes.list(&wasm).await.unwrap();
    let usable = all.into_iter().filter(|node| ready(node) && open(node));
    scene.names = usable.filter_map(|node| node.metadata.name).collect();
    assert!(
        !scene.names.is_empty(),
        "no Wasm node is Ready in this cluster"
    );
    scene
}

impl Scene {
    /// A client of one who may do everything. It lives on the current runtime: each test makes its own.
    pub(crate) async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options);
        let mut config = config.await.unwrap();
        config.proxy_url = None;
        Client::try_from(config).unwrap()
    }

    /// Runs kubectl as one who may do everything, with an input. Gives what it printed, or said of its failure.
    pub(crate) async fn try_kubectl(&self, words: &[&str], input: &str) -> Result<String, String> {
        let mut child = tokio::process::Command::new(&self.kubectl)
            .args(words)
            .env("KUBECONFIG", &self.kubeconfig)
            .env(
                "KUBECACHEDIR",
                std::env::temp_dir().join("coracle-e2e-kubectl"),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let work = async {
            let _not_read = tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await;
            drop(stdin);
            child.wait_with_output().await.unwrap()
        };
        let Ok(output) = tokio::time::timeout(PATIENCE, work).await else {
            return Err(format!("not ended after {PATIENCE:?}"));
        };
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }

    /// As [`Scene::try_kubectl`], where it has to work.
    pub(crate) async fn kubectl(&self, words: &[&str]) -> String {
        match self.try_kubectl(words, "").await {
            Ok(said) => said,
            Err(why) => panic!("kubectl {}: {why}", words.join(" ")),
        }
    }

    /// Asks kubectl again until it prints this. For what no watch tells.
    pub(crate) async fn until(&self, words: &[&str], wanted: &str) {
        let mut pauses = tokio::time::interval(Duration::from_millis(500));
        let mut said = Ok(String::new());
        let asking = async {
            while said.as_ref().map(|said| said.trim()) != Ok(wanted) {
                pauses.tick().await;
                said = self.try_kubectl(words, "").await;
            }
        };
        if tokio::time::timeout(PATIENCE, asking).await.is_err() {
            panic!("kubectl {}: {wanted:?} expected: {said:?}", words.join(" "));
        }
    }

    /// Waits until a Node is as expected.
    pub(crate) async fn node(&self, name: &str, what: &str, expected: impl Condition<Node>) {
        let nodes: Api<Node> = Api::all(self.client().await);
        let waited = await_condition(nodes.clone(), name, expected);
        if tokio::time::timeout(PATIENCE, waited).await.is_err() {
            let node = nodes.get_opt(name).await;
            panic!("the Node {name} is not {what}: {node:?}");
        }
    }

    /// Waits until a Node is Ready.
    pub(crate) async fn ready(&self, name: &str) {
        let ready = |node: Option<&Node>| condition(node, "Ready") == Some("True");
        self.node(name, "Ready", ready).await;
    }

    /// Runs kubectl where nothing can be awaited. Gives what it printed, or said of its failure.
    pub(crate) fn kubectl_now(&self, words: &[&str]) -> String {
        let ran = std::process::Command::new(&self.kubectl)
            .args(words)
            .arg("--request-timeout=20s")
            .env("KUBECONFIG", &self.kubeconfig)
            .output();
        match ran {
            Ok(ran) if ran.status.success() => String::from_utf8_lossy(&ran.stdout).into_owned(),
            Ok(ran) => String::from_utf8_lossy(&ran.stderr).into_owned(),
            Err(error) => error.to_string(),
        }
    }
}

/// A Node's condition of this kind.
pub(crate) fn condition<'a>(node: Option<&'a Node>, kind: &str) -> Option<&'a str> {
    let all = node?.status.as_ref()?.conditions.as_ref()?;
    let found = all.iter().find(|condition| condition.type_ == kind)?;
    Some(&found.status)
}
