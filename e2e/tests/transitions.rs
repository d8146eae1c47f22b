//! Every status that the simulator's nodes gave their pods, written to a real API server in order
//! and with a node's identity; and what the simulator's model of its validation refuses, which the
//! server has to refuse too.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use e2e::ControlPlane;
use futures::stream::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use simulator::{Sequence, sequences, validation};

const NODE: &str = "transitions";
const SEED: u64 = 1;
const HISTORIES: u64 = 120;

/// The node's own client, and one who may do everything.
async fn clients(plane: &ControlPlane) -> (Client, Client) {
    let path = plane.node_kubeconfig(NODE).unwrap();
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    config.proxy_url = None;
    (
        Client::try_from(config).unwrap(),
        plane.admin().await.unwrap(),
    )
}

/// The pod as somebody would create it: what the server gives it is left out.
async fn create(admin: &Client, name: &str, like: &Pod) -> Pod {
    let mut spec = serde_json::to_value(&like.spec).unwrap();
    spec["nodeName"] = json!(NODE);
    let manifest = json!({ "metadata": { "name": name }, "spec": spec });
    let api: Api<Pod> = Api::namespaced(admin.clone(), NODE);
    let made = serde_json::from_value(manifest).unwrap();
    api.create(&PostParams::default(), &made).await.unwrap()
}

/// As the publisher writes: a strategic merge patch that names the UID, in which lists that would
/// merge by address replace, and what is no longer there is null.
fn patch(pod: &Pod, wanted: &PodStatus) -> Value {
    let mut status = serde_json::to_value(wanted).unwrap();
    let old = serde_json::to_value(pod.status.clone().unwrap_or_default()).unwrap();
    let fields = status.as_object_mut().unwrap();
    fields.remove("qosClass");
    for list in ["podIPs", "hostIPs"] {
        if let Some(Value::Array(all)) = fields.get_mut(list) {
            all.insert(0, json!({ "$patch": "replace" }));
        }
    }
    for gone in old.as_object().unwrap().keys() {
        if !matches!(gone.as_str(), "qosClass" | "conditions") {
            fields.entry(gone.clone()).or_insert(Value::Null);
        }
    }
    json!({ "metadata": { "uid": pod.metadata.uid }, "status": status })
}

async fn write(api: &Api<Pod>, pod: &Pod, status: &PodStatus) -> kube::Result<Pod> {
    let name = pod.metadata.name.as_deref().unwrap();
    let patch = Patch::Strategic(patch(pod, status));
    api.patch_status(name, &PatchParams::default(), &patch)
        .await
}

#[tokio::test]
async fn a_real_api_server_takes_what_the_model_takes_and_refuses_what_it_refuses() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.namespace(NODE).await.unwrap();
    let (node, admin) = clients(&plane).await;
    let nodes: Api<Node> = Api::all(admin.clone());
    let object = json!({ "metadata": { "name": NODE } });
    let object = serde_json::from_value(object).unwrap();
    nodes.create(&PostParams::default(), &object).await.unwrap();
    let api: Api<Pod> = Api::namespaced(node, NODE);

    let all = sequences(SEED, HISTORIES);
    let written: Vec<usize> = futures::stream::iter(all.iter().enumerate())
        .map(|(number, sequence)| sequence_is_taken(&admin, &api, number, sequence))
        .buffer_unordered(8)
        .map(Ok::<_, kube::Error>)
        .try_collect()
        .await
        .unwrap();
    let statuses: usize = written.iter().sum();
    assert!(statuses > 1000, "only {statuses} statuses were written");
    println!("{} pods, {statuses} statuses, each accepted", all.len());
    illegal(&admin, &api).await;
}

async fn sequence_is_taken(
    admin: &Client,
    api: &Api<Pod>,
    number: usize,
    sequence: &Sequence,
) -> usize {
    let mut pod = create(admin, &format!("p{number}"), &sequence.pod).await;
    for (place, status) in sequence.statuses.iter().enumerate() {
        let seed = sequence.seed;
        pod = match write(api, &pod, status).await {
            Ok(pod) => pod,
            Err(error) => panic!("seed {seed}, status {place} of {status:?}: {error}"),
        };
        let phase = pod.status.as_ref().and_then(|one| one.phase.clone());
        assert_eq!(phase, status.phase, "seed {seed}");
    }
    sequence.statuses.len()
}

/// Each is refused by the model and by the server, in the same words; and its legal twin by neither.
async fn illegal(admin: &Client, api: &Api<Pod>) {
    let state = |state: Value| {
        json!({ "containerStatuses": [{ "name": "c", "image": "i", "imageID": "", "ready": false,
            "restartCount": 0, "state": state }] })
    };
    let init = |state: Value| {
        json!({ "initContainerStatuses": [{ "name": "i", "image": "i", "imageID": "", "ready": false,
            "restartCount": 0, "state": state }] })
    };
    let ended = |code: i32| json!({ "terminated": { "exitCode": code } });
    let running = || json!({ "running": {} });
    let waiting = || json!({ "waiting": { "reason": "ContainerCreating" } });
    let again = "may not be transitioned to non-terminated state";
    let family = "may specify no more than one IP for each IP family";
    let cases: [(&str, Value, Value, Option<&str>); 14] = [
        ("Never", state(ended(1)), state(running()), Some(again)),
        ("Never", state(ended(0)), state(waiting()), Some(again)),
        ("OnFailure", state(ended(0)), state(running()), Some(again)),
        ("OnFailure", state(ended(1)), state(running()), None),
        ("Always", state(ended(0)), state(running()), None),
        ("Never", init(ended(1)), init(running()), Some(again)),
        ("OnFailure", init(ended(0)), init(running()), Some(again)),
        ("Always", init(ended(0)), init(running()), None),
        (
            "Always",
            json!({}),
            json!({ "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "10.0.0.2" }] }),
            Some(family),
        ),
        (
            "Always",
            json!({}),
            json!({ "podIPs": [{ "ip": "here" }] }),
            Some("valid IP address"),
        ),
        (
            "Always",
            json!({}),
            json!({ "hostIP": "10.0.0.1", "hostIPs": [{ "ip": "10.0.0.2" }] }),
            Some("must be equal to `hostIP`"),
        ),
        (
            "Always",
            json!({}),
            json!({ "conditions": [{ "type": "no name!", "status": "True" }] }),
            Some("conditions"),
        ),
        (
            "Always",
            json!({}),
            json!({ "observedGeneration": -1 }),
            Some("non-negative integer"),
        ),
        (
            "Always",
            json!({}),
            json!({ "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] }),
            None,
        ),
    ];
    for (number, (policy, before, after, expected)) in cases.into_iter().enumerate() {
        let like: Pod = serde_json::from_value(json!({ "spec": {
            "restartPolicy": policy, "initContainers": [{ "name": "i", "image": "i" }],
            "containers": [{ "name": "c", "image": "i" }] } }))
        .unwrap();
        let pod = create(admin, &format!("illegal-{number}"), &like).await;
        let before: PodStatus = serde_json::from_value(before).unwrap();
        let pod = write(api, &pod, &before).await.unwrap();
        let after: PodStatus = serde_json::from_value(after).unwrap();
        let model = validation::update(&pod, &after)
            .err()
            .map(|all| all.join("; "));
        let server = write(api, &pod, &after)
            .await
            .err()
            .map(|error| error.to_string());
        let says = |what: &Option<String>| match (what, expected) {
            (Some(said), Some(expected)) => said.contains(expected),
            (None, None) => true,
            _ => false,
        };
        assert!(says(&model), "case {number}: the model says {model:?}");
        assert!(says(&server), "case {number}: the server says {server:?}");
    }
}
