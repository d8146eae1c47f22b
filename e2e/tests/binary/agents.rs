//! The agent, or its guest host, ends: killed, told to, or under a supervisor.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_comes_back_and_adopts_what_runs() {
    let Some(module) = module(Guest::GoSleep) else {
        return;
    };
    let mut scene = Scene::set("adopted", &module).await;
    scene.apply("sleeper", "Always", &["1h"]).await;
    let before = scene.phase("sleeper", "Running").await;
    scene.node.kill().unwrap();
    scene.node.restart().unwrap();
    scene.ready().await;
    // A second pod goes its whole way, so the agent works; the first is as it was.
    scene.apply("second", "Always", &["1h"]).await;
    scene.phase("second", "Running").await;
    let after = scene.phase("sleeper", "Running").await;
    assert_eq!(container_id(&after), container_id(&before));
    assert_eq!(state(&after).running, state(&before).running);
    let status = after.status.unwrap().container_statuses.unwrap();
    assert_eq!(status[0].restart_count, 0, "{}", scene.node.log().unwrap());
    for pod in ["sleeper", "second"] {
        scene.delete(pod).await;
        scene.gone(pod).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_grace_period_ends_its_pods_and_says_so() {
    let Some(module) = module(Guest::GoSleep) else {
        return;
    };
    let arguments = ["--shutdown-grace-period=20s"];
    let mut scene = Scene::set_with("drained", &module, &arguments).await;
    scene.apply("sleeper", "Always", &["1h"]).await;
    scene.phase("sleeper", "Running").await;
    let ended = scene.node.terminate().await.unwrap();
    assert!(ended.success(), "{}", scene.node.log().unwrap());
    let status = scene.phase("sleeper", "Failed").await.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("Terminated"));
    assert_eq!(
        status.message.as_deref(),
        Some("Pod was terminated in response to imminent node shutdown.")
    );
    let nodes: Api<Node> = Api::all(scene.plane.admin().await.unwrap());
    let conditions = nodes
        .get("drained")
        .await
        .unwrap()
        .status
        .unwrap()
        .conditions;
    let ready = conditions
        .unwrap()
        .into_iter()
        .find(|one| one.type_ == "Ready");
    let ready = ready.unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.message.as_deref()),
        ("False", Some("node is shutting down"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_host_that_dies_takes_its_guests_and_they_are_restarted() {
    let Some(module) = module(Guest::GoSleep) else {
        return;
    };
    let scene = Scene::set("lost", &module).await;
    scene.apply("sleeper", "Always", &["1h"]).await;
    scene.phase("sleeper", "Running").await;
    scene.node.kill_children().unwrap();
    let restarted = |pod: Option<&Pod>| {
        pod.and_then(|p| p.status.as_ref()?.container_statuses.as_ref())
            .is_some_and(|all| {
                all[0].restart_count == 1
                    && all[0].state.as_ref().is_some_and(|s| s.running.is_some())
            })
    };
    let pod = scene
        .plane
        .await_pod("lost", "sleeper", "restarted", restarted)
        .await;
    let pod = pod
        .unwrap_or_else(|e| panic!("{e:#}\n{}", scene.node.log().unwrap()))
        .unwrap();
    let status = pod.status.unwrap().container_statuses.unwrap();
    let last = status[0].last_state.clone().unwrap().terminated.unwrap();
    assert_eq!(last.exit_code, 137);
    scene.delete("sleeper").await;
    scene.gone("sleeper").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_that_the_node_works_is_alive_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let plane = ControlPlane::shared().await.unwrap();
    let environment = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "400000"),
    ];
    let environment = environment.map(|(name, value)| (name.into(), value.into()));
    let (binary, arguments) = (e2e::binary().unwrap(), ["--node-ip", NODE_IP]);
    let mut node =
        NodeProcess::start_in(&plane, &binary, "supervised", &arguments, &environment).unwrap();
    let mut heard = Vec::<String>::new();
    let mut told = async |wanted: &str| {
        let mut message = [0; 4096];
        while !heard.iter().any(|line| line == wanted) {
            let next = tokio::time::timeout(
                std::time::Duration::from_secs(300),
                socket.recv(&mut message),
            );
            let length = next
                .await
                .unwrap_or_else(|_| panic!("{wanted} was not told"));
            let text = String::from_utf8_lossy(&message[..length.unwrap()]).into_owned();
            heard.extend(text.lines().map(str::to_owned));
        }
    };
    told("STATUS=waiting for an identity").await;
    told("READY=1").await;
    told("WATCHDOG=1").await;
    told("STATUS=registered").await;
    let ended = node.terminate().await.unwrap();
    assert!(ended.success(), "{}", node.log().unwrap());
    told("STOPPING=1").await;
}
