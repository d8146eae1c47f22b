//! One test's namespace: what it makes there, waits for, and leaves for its reader when it fails.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::Cluster;
use e2e::cluster::WasmNode;
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::runtime::wait::{Condition, await_condition};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{RwLockReadGuard, RwLockWriteGuard};

use crate::scene::{Ours, PATIENCE, Scene, scene};

/// See the module. What is in it is deleted with it.
pub(crate) struct Space {
    pub(crate) scene: &'static Scene,
    /// A cluster that was made here, where there is one.
    ours: Option<&'static Ours>,
    pub(crate) name: &'static str,
    pub(crate) client: Client,
    _turn: Turn,
}

/// The hosts of a cluster that was made here; `None`, with the reason printed, in one of others.
pub(crate) fn hosts(scene: &'static Scene) -> Option<&'static Ours> {
    if scene.ours.is_none() {
        println!("not run: it needs hosts that the tests made");
    }
    scene.ours.as_ref()
}

/// What a test holds while it works: others may work too, or none.
enum Turn {
    Beside {
        _held: RwLockReadGuard<'static, ()>,
    },
    Alone {
        _held: RwLockWriteGuard<'static, ()>,
    },
}

impl Space {
    /// Makes the namespace; `None` where there is no cluster.
    pub(crate) async fn take(name: &'static str) -> Option<Space> {
        let scene = scene().await?;
        let turn = Turn::Beside {
            _held: scene.calm.read().await,
        };
        Some(Space::new(scene, name, turn).await)
    }

    /// As [`Space::take`], for a test that needs hosts which were made here: `None` in a cluster of others.
    pub(crate) async fn on_hosts(name: &'static str) -> Option<Space> {
        hosts(scene().await?)?;
        Space::take(name).await
    }

    /// As [`Space::on_hosts`], for a test that all others would notice: they wait.
    pub(crate) async fn alone(name: &'static str) -> Option<Space> {
        let scene = scene().await?;
        hosts(scene)?;
        let turn = Turn::Alone {
            _held: scene.calm.write().await,
        };
        Some(Space::new(scene, name, turn).await)
    }

    async fn new(scene: &'static Scene, name: &'static str, turn: Turn) -> Space {
        let client = scene.client().await;
        scene.kubectl(&["create", "namespace", name]).await;
        let space = Space {
            scene,
            ours: scene.ours.as_ref(),
            name,
            client,
            _turn: turn,
        };
        // Pods are refused without it, and its controller may be about to come back from what another test did.
        let there = |account: Option<&ServiceAccount>| account.is_some();
        space.until("default", "there", there).await;
        space
    }

    /// The hosts, in a test that asked for some.
    pub(crate) fn ours(&self) -> &'static Ours {
        self.ours.expect("this test asked for hosts")
    }

    pub(crate) fn cluster(&self) -> &'static Cluster {
        &self.ours().cluster
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), self.name)
    }

    /// Makes an object of its JSON.
    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
        K::DynamicType: Default,
    {
        let typed: K = serde_json::from_value(object.clone()).unwrap();
        let made = self.api::<K>().create(&PostParams::default(), &typed).await;
        made.unwrap_or_else(|error| panic!("{object}: {error}"))
    }

    /// Runs kubectl in this namespace.
    pub(crate) async fn kubectl(&self, words: &[&str]) -> String {
        self.scene
            .kubectl(&[&["-n", self.name], words].concat())
            .await
    }

    /// As [`Space::kubectl`], where it may fail.
    pub(crate) async fn try_kubectl(&self, words: &[&str]) -> Result<String, String> {
        let words = [&["-n", self.name], words].concat();
        self.scene.try_kubectl(&words, "").await
    }

    /// Waits, by a watch, until an object is as expected. `what` puts that into words for the failure.
    pub(crate) async fn until<K>(
        &self,
        name: &str,
        what: &str,
        expected: impl Condition<K>,
    ) -> Option<K>
    where
        K: Resource<Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let waited = await_condition(api.clone(), name, expected);
        match tokio::time::timeout(PATIENCE, waited).await {
            Ok(seen) => seen.unwrap(),
            Err(_) => panic!("{name} is not {what}: {:#?}", api.get_opt(name).await),
        }
    }

    /// Waits, by a watch, until a pod is in a phase.
    pub(crate) async fn phase(&self, pod: &str, wanted: &'static str) -> Pod {
        let is = move |pod: Option<&Pod>| pod.is_some_and(|pod| phase(pod) == wanted);
        self.until(pod, wanted, is).await.unwrap()
    }

    /// Waits, by a watch, until a pod is no longer there.
    pub(crate) async fn gone(&self, pod: &str) {
        let gone = |pod: Option<&Pod>| pod.is_none();
        self.until(pod, "gone", gone).await;
    }

    /// Waits, by a watch, until the namespace's pods with these labels are together as expected.
    pub(crate) async fn pods(
        &self,
        labels: &str,
        what: &str,
        expected: impl Fn(&[&Pod]) -> bool,
    ) -> Vec<Pod> {
        let config = watcher::Config::default().labels(labels);
        let mut events = std::pin::pin!(watcher(self.api::<Pod>(), config));
        let mut seen = BTreeMap::new();
        let waiting = async {
            let mut whole = false;
            loop {
                match events.next().await {
                    Some(Ok(Event::Init)) => (whole, seen) = (false, BTreeMap::new()),
                    Some(Ok(Event::InitDone)) => whole = true,
                    Some(Ok(Event::Apply(pod) | Event::InitApply(pod))) => {
                        seen.insert(name(&pod), pod);
                    }
                    Some(Ok(Event::Delete(pod))) => {
                        seen.remove(&name(&pod));
                    }
                    // It is tried again, with a backoff that the poll below has no need of: an API server that is away
                    // refuses at once, and one that is there answers.
                    Some(Err(_)) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
                    None => panic!("the watch ended"),
                }
                if whole && expected(&seen.values().collect::<Vec<_>>()) {
                    return;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let told: Vec<String> = seen.values().map(summary).collect();
            panic!("{what}: not so:\n{}", told.join("\n"));
        }
        seen.into_values().collect()
    }

    /// A Wasm node of this test alone, on which no pod of others is.
    pub(crate) fn keep_off(&self) -> Value {
        serde_json::json!({"key": "scene", "operator": "Equal", "value": self.name, "effect": "NoSchedule"})
    }

    /// What a node of its own is registered with, so that no pod of others comes: it is labelled so, too.
    pub(crate) fn own_node(&self) -> [String; 2] {
        let name = self.name;
        [
            format!("--register-with-taints=scene={name}:NoSchedule"),
            format!("--node-labels=scene={name}"),
        ]
    }

    /// Says, of a failure, what a node wrote.
    pub(crate) fn blame(&self, node: &WasmNode) -> String {
        node.log().unwrap_or_default()
    }
}

fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

/// One line about a pod.
fn summary(pod: &Pod) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    format!("{} on {node:?}: {}", name(pod), phase(pod))
}

/// A pod's phase.
pub(crate) fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Whether a pod's condition of this kind is true.
pub(crate) fn is_true(pod: &Pod, kind: &str) -> bool {
    let status = pod.status.as_ref();
    let all = status.and_then(|status| status.conditions.as_ref());
    all.is_some_and(|all| {
        all.iter()
            .any(|condition| condition.type_ == kind && condition.status == "True")
    })
}

/// Whether a pod is Ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    is_true(pod, "Ready")
}

/// The node that a pod is bound to.
pub(crate) fn place(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default()
}

/// A pod's UID.
pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

impl Drop for Space {
    fn drop(&mut self) {
        let scene = self.scene;
        let kubectl = |words: &[&str]| scene.kubectl_now(words);
        if std::thread::panicking() {
            let folder = save(scene, self.name, kubectl);
            eprintln!("what is known of this is in {}", folder.display());
        }
        // What is left would have the others wait.
        kubectl(&["delete", "namespace", self.name, "--wait=false"]);
    }
}

/// Writes down what there is: the namespace's objects and events, the nodes and what they wrote, what the API server was
/// asked.
fn save(scene: &Scene, namespace: &str, kubectl: impl Fn(&[&str]) -> String) -> PathBuf {
    let parent = std::env::var_os("CORACLE_E2E_FAILURES").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).join("failures"),
        PathBuf::from,
    );
    let folder = parent.join(namespace);
    let _not_there = std::fs::remove_dir_all(&folder);
    let _told_below = std::fs::create_dir_all(&folder);
    let write = |name: &str, text: &str| {
        if let Err(error) = std::fs::write(folder.join(name), text) {
            eprintln!("{name} can't be written: {error}");
        }
    };
    let objects = [
        "-n",
        namespace,
        "get",
        "pods,deployments,replicasets,jobs,events",
    ];
    write(
        "objects.yaml",
        &kubectl(&[&objects[..], &["-o", "yaml"]].concat()),
    );
    let events = ["get", "events", "-A", "--sort-by=.lastTimestamp"];
    write("events.txt", &kubectl(&events));
    write("nodes.yaml", &kubectl(&["get", "nodes", "-o", "yaml"]));
    if let Some(ours) = &scene.ours {
        save_hosts(&ours.cluster, namespace, &folder);
    }
    folder
}

/// What the hosts' programs wrote, and what the API server was asked about the namespace and the nodes.
fn save_hosts(cluster: &Cluster, namespace: &str, folder: &Path) {
    for host in cluster.hosts() {
        for entry in std::fs::read_dir(host.dir())
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".log") {
                let to = folder.join(format!("{}-{name}", host.name()));
                let _gone = std::fs::copy(entry.path(), to);
            }
        }
    }
    let wanted = format!("\"namespace\":\"{namespace}\"");
    let nodes = "\"resource\":\"nodes\"";
    let audit = Command::new("grep")
        .args(["-F", "-e", &wanted, "-e", nodes])
        .arg(cluster.audit_log())
        .output();
    if let Ok(audit) = audit {
        let _not_written = std::fs::write(folder.join("audit.jsonl"), audit.stdout);
    }
}
