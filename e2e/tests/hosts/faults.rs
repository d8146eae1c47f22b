//! What goes away and comes back: the agent, the API server, the network between them; and a second agent of one name.

use std::time::Duration;

use e2e::cluster::{NodePlan, WasmNode};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;

use crate::objects::{once, pod, spec};
use crate::scene::{PATIENCE, condition};
use crate::space::{Space, phase, uid};

/// What tells whether it is still the same run.
fn run(pod: &Pod) -> (Option<String>, i32) {
    let status = pod.status.clone().unwrap();
    let container = status.container_statuses.unwrap().remove(0);
    (container.container_id, container.restart_count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_comes_back_and_adopts_its_guests() {
    let Some(space) = Space::on_hosts("adopt").await else {
        return;
    };
    let mut node = space.start_node(0, "adopt-a", 10290).await;
    let image = &space.scene.images.sleeper;
    let stays = space.apart(image, &[]);
    space.create::<Pod>(pod("stays", &stays)).await;
    let mut ends = space.apart(
        image,
        &[&space.scene.images.sleeping(Duration::from_secs(3))],
    );
    ends["restartPolicy"] = json!("Never");
    space.create::<Pod>(pod("ends", &ends)).await;
    space.create::<Pod>(pod("goes", &stays)).await;
    for name in ["stays", "ends", "goes"] {
        let begun = |pod: Option<&Pod>| pod.is_some_and(|pod| phase(pod) != "Pending");
        space.until(name, "begun", begun).await;
    }
    let before = space.phase("stays", "Running").await;
    node.kill().unwrap();
    // What is wanted meanwhile is done afterwards.
    space
        .kubectl(&["delete", "pod", "goes", "--wait=false"])
        .await;
    space.create::<Pod>(pod("comes", &stays)).await;
    space.cluster().restart_node(0, &mut node).unwrap();
    space.phase("comes", "Running").await;
    space.phase("ends", "Succeeded").await;
    space.gone("goes").await;
    let after = space.phase("stays", "Running").await;
    assert_eq!((uid(&after), run(&after)), (uid(&before), run(&before)));
    assert_eq!(run(&after).1, 0, "{}", space.blame(&node));
}

/// A pod that stays, and one that ends in four seconds, both begun.
async fn before(space: &Space) -> Pod {
    let images = &space.scene.images;
    space
        .create::<Pod>(pod("stays", &spec(&images.sleeper, &[])))
        .await;
    let time = images.sleeping(Duration::from_secs(4));
    let ends = once(&images.sleeper, &[&time]);
    space.create::<Pod>(pod("ends", &ends)).await;
    let begun = |pod: Option<&Pod>| pod.is_some_and(|pod| phase(pod) != "Pending");
    space.until("ends", "begun", begun).await;
    space.phase("stays", "Running").await
}

/// What ended while nobody could be told is told, what stayed is the same run, and a new pod runs.
async fn afterwards(space: &Space, before: &Pod) {
    space.phase("ends", "Succeeded").await;
    let after = space.phase("stays", "Running").await;
    assert_eq!(run(&after), run(before));
    let sleeper = spec(&space.scene.images.sleeper, &[]);
    space.create::<Pod>(pod("after", &sleeper)).await;
    space.phase("after", "Running").await;
}

/// Longer than what ends by itself.
const AWAY: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_killed_stops_nothing_that_runs() {
    let Some(space) = Space::alone("apiserver").await else {
        return;
    };
    let known = before(&space).await;
    let cluster = space.cluster();
    cluster.kill_api_server();
    tokio::time::sleep(AWAY).await;
    cluster.start_api_server().await.unwrap();
    afterwards(&space, &known).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_hangs_stops_nothing_that_runs() {
    let Some(space) = Space::alone("etcd").await else {
        return;
    };
    let known = before(&space).await;
    let paused = space.cluster().pause_etcd().unwrap();
    tokio::time::sleep(AWAY).await;
    drop(paused);
    afterwards(&space, &known).await;
}

/// A node whose way to the API server can be cut without any other's noticing.
async fn aside(space: &Space, name: &str, port: u16) -> WasmNode {
    let own = space.own_node();
    let cluster = space.cluster();
    let plan = NodePlan {
        name,
        folder: name,
        port,
        server: cluster.aside(),
        arguments: &[&own[0], &own[1]],
    };
    let node = cluster.start_node_as(1, &plan).unwrap();
    space.scene.ready(node.name()).await;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_cut_stops_nothing_that_runs_and_all_is_told_afterwards() {
    let Some(space) = Space::on_hosts("cut").await else {
        return;
    };
    let node = aside(&space, "cut-b", 10290).await;
    let images = &space.scene.images;
    let stays = space.apart(&images.sleeper, &[]);
    space.create::<Pod>(pod("stays", &stays)).await;
    let time = images.sleeping(Duration::from_secs(10));
    let mut ends = space.apart(&images.sleeper, &[&time]);
    ends["restartPolicy"] = json!("Never");
    space.create::<Pod>(pod("ends", &ends)).await;
    let before = space.phase("stays", "Running").await;
    space.phase("ends", "Running").await;
    let cut = space.cluster().cut().unwrap();
    // The node controller notices before it is mended: it is told of an end, and the pods are not Ready.
    let unknown = |node: Option<&Node>| condition(node, "Ready") == Some("Unknown");
    space.scene.node(node.name(), "unknown", unknown).await;
    let still = space.phase("ends", "Running").await;
    assert_eq!(phase(&still), "Running");
    drop(cut);
    space.scene.ready(node.name()).await;
    let ended = space.phase("ends", "Succeeded").await;
    let state = ended.status.unwrap().container_statuses.unwrap()[0].clone();
    let state = state.state.unwrap().terminated.unwrap();
    let lasted = state.finished_at.unwrap().0.as_second() - state.started_at.unwrap().0.as_second();
    assert!((9..40).contains(&lasted), "{lasted} s: told as it was");
    let ready = |pod: Option<&Pod>| pod.is_some_and(crate::space::is_ready);
    let after = space.until("stays", "Ready again", ready).await.unwrap();
    assert_eq!(run(&after), run(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_of_one_name_refuses_and_says_why() {
    let Some(space) = Space::on_hosts("twins").await else {
        return;
    };
    let first = space.start_node(0, "twin", 10300).await;
    let cluster = space.cluster();
    let own = space.own_node();
    let mut plan = NodePlan {
        name: "twin",
        folder: "twin",
        port: 10310,
        server: cluster.server(),
        arguments: &[&own[0], &own[1]],
    };
    // In the same root folder: it ends.
    let mut same = cluster.start_node_as(0, &plan).unwrap();
    let ended = tokio::task::block_in_place(|| same.wait()).unwrap();
    assert!(!ended.success());
    let log = same.log().unwrap();
    assert!(log.contains("is in use by another coracle node"), "{log}");

    // In another one, on another host: it waits, says for whom, and touches nothing.
    let nodes: Api<Node> = Api::all(space.client.clone());
    plan.folder = "twin-2";
    let second = cluster.start_node_as(1, &plan).unwrap();
    let says = async {
        loop {
            let log = second.log().unwrap();
            if log.contains("belongs to another") {
                return log;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let Ok(log) = tokio::time::timeout(PATIENCE, says).await else {
        panic!("it says nothing: {}", second.log().unwrap());
    };
    assert!(log.contains("twin"), "{log}");
    let node = nodes.get("twin").await.unwrap().status.unwrap();
    let addresses = node.addresses.unwrap();
    let host = cluster.hosts()[0].ip();
    assert!(
        addresses.iter().any(|one| one.address == host),
        "{addresses:?}"
    );

    // Once the first is gone, and its lease with it, the second is the node.
    drop(first);
    let moved = |node: Option<&Node>| {
        let status = node.and_then(|node| node.status.as_ref());
        let mut all = status
            .and_then(|status| status.addresses.clone())
            .into_iter()
            .flatten();
        all.any(|one| one.address == "172.30.0.2") && condition(node, "Ready") == Some("True")
    };
    space.scene.node("twin", "the second's", moved).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_booted_anew_is_told_of() {
    let Some(space) = Space::on_hosts("reboot").await else {
        return;
    };
    let mut node = space.start_node(0, "reboot-a", 10320).await;
    node.terminate().unwrap();
    let patch = json!({"status": {"nodeInfo": {"bootID": "another"}}}).to_string();
    let words = [
        "patch",
        "node",
        "reboot-a",
        "--subresource=status",
        "-p",
        &patch,
    ];
    space.kubectl(&words).await;
    space.cluster().restart_node(0, &mut node).unwrap();
    let events: Api<Event> = Api::namespaced(space.client.clone(), "default");
    let fields = "reason=Rebooted,involvedObject.name=reboot-a";
    let config = watcher::Config::default().fields(fields);
    let mut told = std::pin::pin!(watcher(events, config).applied_objects());
    let event = tokio::time::timeout(PATIENCE, told.next()).await;
    let Ok(Some(Ok(event))) = event else {
        panic!("nobody is told: {}", space.blame(&node));
    };
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    let message = event.message.unwrap();
    assert!(
        message.starts_with("Node reboot-a has been rebooted, boot id: "),
        "{message}"
    );
}
