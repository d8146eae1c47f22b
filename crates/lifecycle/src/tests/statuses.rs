//! The whole of a status, as the API server gets it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::*;

const POD: &str = r#"{"restartPolicy":"Always","nodeName":"node",
    "initContainers":[{"name":"i","image":"i:1"}],
    "containers":[{"name":"a","image":"i:1","resources":{"requests":{"cpu":"100m"},
                   "limits":{"cpu":"200m","memory":"64Mi"}}}]}"#;

fn status(world: &World) -> Value {
    serde_json::to_value(&world.last.status).unwrap()
}

/// Conditions that are true since then.
fn all_true(names: &[(&str, &str)]) -> Vec<Value> {
    let one = |(name, since): &(&str, &str)| json!({"type": name, "status": "True", "lastTransitionTime": since, "observedGeneration": 3});
    names.iter().map(one).collect()
}

/// What every status of this pod has.
fn with(mut more: Value) -> Value {
    let all = [
        ("qosClass", json!("Burstable")),
        ("observedGeneration", json!(3)),
        ("startTime", json!(BEGIN)),
        ("hostIP", json!("192.0.2.1")),
        ("hostIPs", json!([{"ip": "192.0.2.1"}])),
    ];
    for (name, value) in all {
        more[name] = value;
    }
    more
}

const BEGIN: &str = "1970-01-01T00:16:40Z";
const LATER: &str = "1970-01-01T00:16:50Z";

#[test]
fn of_a_pod_that_begins() {
    let mut world = World::new(POD);
    world.step();
    let mut conditions = all_true(&[
        ("PodReadyToStartContainers", BEGIN),
        ("Initialized", BEGIN),
        ("Ready", BEGIN),
        ("ContainersReady", BEGIN),
        ("PodScheduled", BEGIN),
    ]);
    let unready = ("ContainersNotReady", "containers with unready status: [a]");
    let uninitialized = (
        "ContainersNotInitialized",
        "containers with incomplete status: [i]",
    );
    conditions[0]["status"] = "False".into();
    for (place, (reason, message)) in [(1, uninitialized), (2, unready), (3, unready)] {
        conditions[place]["status"] = "False".into();
        conditions[place]["reason"] = reason.into();
        conditions[place]["message"] = message.into();
    }
    let waits = |name: &str| {
        json!({"name": name, "image": "i:1", "imageID": "", "ready": false, "started": false,
            "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}},
            "lastState": {}})
    };
    let wanted = with(json!({
        "phase": "Pending",
        "conditions": conditions,
        "initContainerStatuses": [waits("i")],
        "containerStatuses": [waits("a")],
    }));
    assert_eq!(status(&world), wanted);
}

#[test]
fn of_a_pod_that_runs_and_was_restarted() {
    let mut world = World::running(POD);
    world.pass(10);
    world.exit("a", 0, 3);
    world.settle();
    let ended = |name: &str, code: i32, reason: &str, at: &str| {
        json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": at,
            "finishedAt": at, "containerID": format!("coracle://{name}-0")}})
    };
    let init = json!({
        "name": "i", "image": "i:1", "imageID": "sha256:aa", "containerID": "coracle://i-0",
        "ready": true, "started": false, "restartCount": 0, "resources": {},
        "state": ended("i", 0, "Completed", BEGIN), "lastState": {},
    });
    let main = json!({
        "name": "a", "image": "i:1", "imageID": "sha256:aa", "containerID": "coracle://a-1",
        "ready": true, "started": true, "restartCount": 1,
        "allocatedResources": {"cpu": "100m"},
        "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m", "memory": "64Mi"}},
        "state": {"running": {"startedAt": LATER}},
        "lastState": ended("a", 3, "Error", LATER),
    });
    let wanted = with(json!({
        "phase": "Running",
        "podIP": "192.0.2.1",
        "podIPs": [{"ip": "192.0.2.1"}],
        "conditions": all_true(&[
            ("PodReadyToStartContainers", BEGIN),
            ("Initialized", BEGIN),
            ("Ready", LATER),
            ("ContainersReady", LATER),
            ("PodScheduled", BEGIN),
        ]),
        "initContainerStatuses": [init],
        "containerStatuses": [main],
    }));
    assert_eq!(status(&world), wanted);
}

#[test]
fn of_a_pod_that_was_refused() {
    let mut world = World::new(POD);
    world.observed.verdict = Some(Verdict::Refused {
        reason: "OutOfcpu".to_owned(),
        message: "no cpu".to_owned(),
    });
    world.step();
    let wanted = json!({
        "phase": "Failed",
        "reason": "OutOfcpu",
        "message": "Pod was rejected: no cpu",
        "qosClass": "Burstable",
        "observedGeneration": 3,
        "startTime": BEGIN,
    });
    assert_eq!(status(&world), wanted);
}

#[test]
fn of_an_ephemeral_container_in_a_list_of_its_own() {
    let mut world = World::running(POD);
    let spec = world.pod.spec.as_mut().unwrap();
    let one = r#"[{"name":"e","image":"i:1"}]"#;
    spec.ephemeral_containers = serde_json::from_str(one).unwrap();
    world.settle();
    let shown = status(&world);
    let wanted = json!([{
        "name": "e", "image": "i:1", "imageID": "sha256:aa", "containerID": "coracle://e-0",
        "ready": false, "restartCount": 0, "resources": {},
        "state": {"running": {"startedAt": BEGIN}}, "lastState": {},
    }]);
    assert_eq!(shown["ephemeralContainerStatuses"], wanted);
    assert_eq!(shown["containerStatuses"].as_array().unwrap().len(), 1);
}
