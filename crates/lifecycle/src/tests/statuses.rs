//! The whole of a status, as the API server gets it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::*;

const POD: &str = r#"{"restartPolicy":"Always","nodeName":"node",
    "initContainers":[{"name":"i","image":"i:1"}],
    "containers":[{"name":"a","image":"i:1","volumeMounts":[{"name":"v","mountPath":"/v"},
                   {"name":"w","mountPath":"/w","readOnly":true}],"resources":{"requests":{"cpu":"100m"},
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

/// Its mounts, which are there whether or not it runs.
fn mounts() -> Value {
    json!([
        {"name": "v", "mountPath": "/v"},
        {"name": "w", "mountPath": "/w", "readOnly": true, "recursiveReadOnly": "Disabled"},
    ])
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
    let mut main = waits("a");
    main["volumeMounts"] = mounts();
    let wanted = with(json!({
        "phase": "Pending",
        "conditions": conditions,
        "initContainerStatuses": [waits("i")],
        "containerStatuses": [main],
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
        "volumeMounts": mounts(),
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

#[test]
fn a_readiness_gate_is_closed_until_others_open_it() {
    let gated = POD.replacen('{', r#"{"readinessGates":[{"conditionType":"x/y"}],"#, 1);
    let mut world = World::running(&gated);
    let says = |world: &mut World, status: Option<&str>| {
        let given = status.map(|status| json!({"conditions": [{"type": "x/y", "status": status}]}));
        world.pod.status = given.map(|given| serde_json::from_value(given).unwrap());
        world.step();
        assert_eq!(world.condition("ContainersReady").0, "True");
        let all = world.last.status.conditions.clone().unwrap();
        let ready = all.into_iter().find(|one| one.type_ == "Ready").unwrap();
        (ready.reason, ready.message)
    };
    let closed = |message: &str| {
        let reason = Some("ReadinessGatesNotReady".to_owned());
        (reason, Some(message.to_owned()))
    };
    let missing = r#"corresponding condition of pod readiness gate "x/y" does not exist."#;
    assert_eq!(says(&mut world, None), closed(missing));
    let shut = r#"the status of pod readiness gate "x/y" is not "True", but False"#;
    assert_eq!(says(&mut world, Some("False")), closed(shut));
    assert_eq!(says(&mut world, Some("True")), (None, None));
    assert_eq!(world.condition("Ready").0, "True");
}

#[test]
fn a_sidecar_that_ends_before_a_main_one_begins_leaves_the_pod_uninitialized_without_rules() {
    let says = |main: &str| {
        let mut world = World::new(&format!(
            r#"{{"initContainers":[{{"name":"s","image":"i:1","restartPolicy":"Always"}}],
                "containers":[{{"name":"a","image":"j:1"{main}}}]}}"#
        ));
        let held = |kind| kind == Kind::Pull;
        world.settle_but(held);
        assert_eq!(world.condition("Initialized").0, "False", "nothing was");
        world.succeed(key(Some("s"), 0, Kind::Pull));
        world.settle_but(held);
        assert_eq!(world.condition("Initialized").0, "True");
        world.exit("s", 0, 1);
        world.settle_but(held);
        world.condition("Initialized").0
    };
    assert_eq!(says(""), "False");
    let restarts = r#","restartPolicy":"Never","restartPolicyRules":[
        {"action":"RestartAllContainers","exitCodes":{"operator":"In","values":[42]}}]"#;
    assert_eq!(says(restarts), "True");
}

#[test]
fn what_a_pod_that_is_over_can_not_account_for_has_failed() {
    let states = |begin: &dyn Fn(&mut World)| {
        let mut world = World::new(
            r#"{"initContainers":[{"name":"s","image":"i:1","restartPolicy":"Always"},
                {"name":"i","image":"i:1"},{"name":"j","image":"i:1"}],
                "containers":[{"name":"a","image":"i:1"}]}"#,
        );
        begin(&mut world);
        world.observed.gone = true;
        world.settle();
        assert!(world.last.released);
        assert_eq!(world.phase(), "Failed");
        ["s", "i", "j", "a"].map(|name| world.state(name))
    };
    let waits = "waiting PodInitializing";
    let unknown = "terminated 137 ContainerStatusUnknown";
    let killed = "terminated 143 Error";
    let done = "terminated 0 Completed";
    assert_eq!(states(&|world| drop(world.step())), [waits; 4]);
    assert_eq!(states(&World::settle), [killed, killed, waits, waits]);
    let second = |world: &mut World| {
        world.settle();
        world.exit("i", 0, 0);
        world.settle_but(|kind| kind == Kind::Pull);
    };
    assert_eq!(states(&second), [killed, done, waits, waits]);
    let mains = |world: &mut World| {
        world.settle();
        for name in ["i", "j"] {
            world.exit(name, 0, 0);
            world.settle_but(|kind| kind == Kind::Pull);
            if name == "i" {
                world.settle();
            }
        }
    };
    assert_eq!(states(&mains), [killed, done, done, unknown]);
}

#[test]
fn a_sidecar_counts_in_the_phase_while_it_runs_or_waits_for_its_first_run() {
    let begun = || {
        let mut world = World::new(
            r#"{"restartPolicy":"Never",
                "initContainers":[{"name":"s","image":"i:1","restartPolicy":"Always"}],
                "containers":[{"name":"a","image":"i:1"}]}"#,
        );
        world.settle_but(|kind| kind == Kind::Start);
        world.succeed(key(Some("s"), 0, Kind::Start));
        world.step();
        world.settle_but(|kind| kind == Kind::Start);
        assert_eq!(
            (world.phase(), world.state("s")),
            ("Pending", "running".into())
        );
        world.succeed(key(Some("a"), 0, Kind::Start));
        world
    };
    // It has ended before anybody has seen it run.
    let mut world = begun();
    world.exit("a", 0, 0);
    world.step();
    assert_eq!(world.phase(), "Running", "the sidecar runs");
    world.settle();
    assert_eq!(world.phase(), "Succeeded");
    // One that is restarted counts for nothing.
    let mut world = begun();
    world.step();
    world.exit("s", 0, 1);
    world.settle_but(|kind| kind == Kind::Pull);
    assert_eq!(world.phase(), "Running");
}

#[test]
fn containers_share_the_room_for_messages() {
    let mut world = World::running(
        r#"{"initContainers":[{"name":"i","image":"i:1"}],"restartPolicy":"Never",
            "containers":[{"name":"a","image":"i:1"},{"name":"b","image":"i:1"}],
            "ephemeralContainers":[{"name":"e","image":"i:1"}]}"#,
    );
    let exit = Exit {
        code: 1,
        kind: ExitKind::Exited,
        message: "x".repeat(20_000),
        started_at: world.now,
        finished_at: world.now,
    };
    for name in ["a", "b", "e"] {
        let run = (name.to_owned(), 0);
        world.observed.exits.insert(run, exit.clone());
    }
    world.settle();
    for name in ["a", "b", "e"] {
        let state = world.container(name).state.clone().unwrap();
        let message = state.terminated.unwrap().message.unwrap();
        assert_eq!(message.len(), 12 * 1024 / 4, "{name}");
    }
}

#[test]
fn one_that_ends_before_anybody_has_seen_it_run_has_run() {
    let mut world = World::new(r#"{"containers":[{"name":"a","image":"i:1"}]}"#);
    world.settle_but(|kind| kind == Kind::Start);
    world.succeed(key(Some("a"), 0, Kind::Start));
    world.exit("a", 0, 1);
    world.step();
    assert_eq!(world.phase(), "Running");
}
