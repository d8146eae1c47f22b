//! Pods that have to leave: a node that is drained, a taint, an eviction.

use e2e::cluster::{NodePlan, WasmNode};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::EvictParams;
use serde_json::{Value, json};

use crate::objects::{deployment, pod, spec, tolerations};
use crate::space::{Space, is_ready, place};

impl Space {
    /// A Wasm node on a host that only this test's pods come to.
    pub(crate) async fn start_node(&self, host: usize, name: &str, port: u16) -> WasmNode {
        let own = self.own_node();
        let plan = NodePlan {
            name,
            folder: name,
            port,
            server: self.cluster().server(),
            arguments: &[&own[0], &own[1]],
        };
        let node = self.cluster().start_node_as(host, &plan).unwrap();
        self.scene.ready(name).await;
        node
    }

    /// A pod's spec for the nodes of this test alone.
    pub(crate) fn apart(&self, image: &str, args: &[&str]) -> Value {
        let mut spec = spec(image, args);
        let mut all = tolerations();
        all.as_array_mut().unwrap().push(self.keep_off());
        spec["tolerations"] = all;
        spec["nodeSelector"] = json!({"scene": self.name});
        spec
    }
}

/// How many of the pods that don't leave are Ready, and on this node.
fn ready_on(pods: &[&Pod], node: &str) -> usize {
    let stays = |pod: &&&Pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod);
    pods.iter()
        .filter(stays)
        .filter(|pod| place(pod) == node)
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_drained_as_the_disruption_budget_allows() {
    let Some(space) = Space::on_hosts("drain").await else {
        return;
    };
    let (from, _to) = tokio::join!(
        space.start_node(0, "drain-a", 10270),
        space.start_node(1, "drain-b", 10270)
    );
    let mut template = space.apart(&space.scene.images.sleeper, &[]);
    template["topologySpreadConstraints"] = json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "nodeTaintsPolicy": "Honor", "labelSelector": {"matchLabels": {"app": "app"}},
    }]);
    space
        .create::<Deployment>(deployment("app", 4, &template))
        .await;
    let even = |pods: &[&Pod]| ready_on(pods, "drain-a") == 2 && ready_on(pods, "drain-b") == 2;
    space.pods("app=app", "two on each", even).await;
    let budget = |least: u32| json!({"spec": {"minAvailable": least, "selector": {"matchLabels": {"app": "app"}}}});
    let mut object = budget(4);
    object["metadata"] = json!({"name": "app"});
    space.create::<PodDisruptionBudget>(object).await;
    let counted = |one: Option<&PodDisruptionBudget>| {
        one.and_then(|one| one.status.as_ref())
            .is_some_and(|status| status.current_healthy == Some(4))
    };
    space.until("app", "counted", counted).await;

    let drain = ["drain", "drain-a", "--timeout=3s"];
    let refused = space.try_kubectl(&drain).await.unwrap_err();
    assert!(refused.contains("disruption budget"), "{refused}");
    let cordoned = |node: Option<&Node>| {
        let spec = node.and_then(|node| node.spec.as_ref());
        spec.is_some_and(|spec| spec.unschedulable == Some(true))
    };
    let scene = space.scene;
    scene.node(from.name(), "cordoned", cordoned).await;

    let patch = budget(3).to_string();
    let words = ["patch", "pdb", "app", "--type=merge", "-p", &patch];
    space.kubectl(&words).await;
    let drain = ["drain", "drain-a", "--timeout=200s"];
    space.kubectl(&drain).await;
    let moved = |pods: &[&Pod]| ready_on(pods, "drain-b") == 4 && pods.len() == 4;
    space.pods("app=app", "all on the other", moved).await;
    space.kubectl(&["uncordon", "drain-a"]).await;
    space
        .kubectl(&["scale", "deployment/app", "--replicas=6"])
        .await;
    let back = |pods: &[&Pod]| ready_on(pods, "drain-a") == 2;
    space.pods("app=app", "new ones on the first", back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taint_evicts_who_does_not_tolerate_it_in_their_time() {
    let Some(space) = Space::on_hosts("taint").await else {
        return;
    };
    let _node = space.start_node(0, "taint-a", 10280).await;
    let make = async |name: &str, seconds: Option<Option<u32>>| {
        let mut spec = space.apart(&space.scene.images.sleeper, &[]);
        if let Some(seconds) = seconds {
            let mut toleration =
                json!({"key": "trial", "operator": "Exists", "effect": "NoExecute"});
            if let Some(seconds) = seconds {
                toleration["tolerationSeconds"] = json!(seconds);
            }
            spec["tolerations"].as_array_mut().unwrap().push(toleration);
        }
        space.create::<Pod>(pod(name, &spec)).await;
    };
    make("leaves", None).await;
    make("later", Some(Some(4))).await;
    make("stays", Some(None)).await;
    for name in ["leaves", "later", "stays"] {
        space.phase(name, "Running").await;
    }
    space
        .kubectl(&["taint", "node", "taint-a", "trial=now:NoExecute"])
        .await;
    space.gone("leaves").await;
    space.gone("later").await;
    let stays = space.phase("stays", "Running").await;
    assert_eq!(stays.metadata.deletion_timestamp, None);
    // Nor does it come to a node that is tainted so.
    make("never", None).await;
    let refused = |pod: Option<&Pod>| {
        let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|condition| condition.reason.as_deref() == Some("Unschedulable"))
    };
    space.until("never", "kept off", refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_by_the_api_ends_a_pod_in_good_order() {
    let Some(space) = Space::take("evict").await else {
        return;
    };
    let image = &space.scene.images.sleeper;
    space.create::<Pod>(pod("app", &spec(image, &[]))).await;
    space.phase("app", "Running").await;
    let api = space.api::<Pod>();
    api.evict("app", &EvictParams::default()).await.unwrap();
    let marked =
        |pod: Option<&Pod>| pod.is_none_or(|pod| crate::space::is_true(pod, "DisruptionTarget"));
    space.until("app", "marked as evicted", marked).await;
    space.gone("app").await;
}
