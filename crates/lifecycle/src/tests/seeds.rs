//! A pod whose checkpoint is gone: what its status says is all that is known.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::*;

const TIME: &str = "1970-01-01T00:10:00Z";

/// A pod of containers `i` (init), `a` and `b` with that status, after its first step.
fn seeded(policy: &str, status: Value) -> World {
    let mut world = World::new(&format!(
        r#"{{"restartPolicy":"{policy}","initContainers":[{{"name":"i","image":"i:1"}}],
            "containers":[{{"name":"a","image":"i:1"}},{{"name":"b","image":"i:1"}}]}}"#
    ));
    world.pod.status = Some(serde_json::from_value(status).unwrap());
    world.step();
    world
}

fn over(code: i32) -> Value {
    json!({"terminated": {"exitCode": code, "reason": "Error", "message": "it said", "startedAt": TIME,
        "finishedAt": TIME, "containerID": "coracle://old"}})
}

fn container(name: &str, restarts: i32, state: Value, last: Value) -> Value {
    json!({"name": name, "image": "i:1", "imageID": "sha256:aa", "ready": true, "started": true,
        "restartCount": restarts, "state": state, "lastState": last,
        "containerID": "coracle://old", "resources": {"limits": {"cpu": "1"}}})
}

fn running() -> Value {
    json!({"running": {"startedAt": TIME}})
}

fn statuses(mains: Vec<Value>) -> Value {
    json!({"phase": "Running", "startTime": TIME, "containerStatuses": mains,
        "conditions": [{"type": "Initialized", "status": "True", "lastTransitionTime": TIME}],
        "initContainerStatuses": [container("i", 0, over(0), json!({}))]})
}

#[test]
fn times_are_those_that_were_told() {
    let world = seeded(
        "Always",
        statuses(vec![container("a", 0, running(), json!({}))]),
    );
    let told = &world.last.status;
    assert_eq!(told.start_time.as_ref().unwrap().0, at(600));
    let conditions = told.conditions.clone().unwrap();
    let initialized = conditions.iter().find(|one| one.type_ == "Initialized");
    let since = initialized.unwrap().last_transition_time.clone();
    assert_eq!(since.unwrap().0, at(600));
    let none = seeded("Always", json!({}));
    assert_eq!(none.last.status.start_time.as_ref().unwrap().0, at(1_000));
}

#[test]
fn one_that_ran_is_taken_for_running_and_counts_on() {
    let a = container("a", 2, running(), over(3));
    let mut world = World::new(r#"{"containers":[{"name":"a","image":"i:1"}]}"#);
    world.pod.status = Some(
        serde_json::from_value(json!({"phase": "Running", "containerStatuses": [a]})).unwrap(),
    );
    // The guest host has it.
    world.succeed(key(Some("a"), 2, Kind::Start));
    world.step();
    let known = world.remembered("a");
    assert_eq!(
        (known.attempt, known.restart_count, known.next_count),
        (2, 2, 3)
    );
    assert!(known.started && known.ready && known.applied.is_some());
    assert_eq!(world.state("a"), "running");
    let shown = world.container("a").clone();
    assert_eq!(shown.restart_count, 2);
    assert_eq!(shown.container_id.as_deref(), Some("coracle://old"));
    let begun = shown.state.unwrap().running.unwrap().started_at.unwrap();
    assert_eq!(begun.0, at(600));
    let last = shown.last_state.unwrap().terminated.unwrap();
    assert_eq!(
        (last.exit_code, last.message.as_deref()),
        (3, Some("it said"))
    );
    // It has not, by now.
    world.observed.actions.clear();
    world.step();
    assert_eq!(world.container("a").restart_count, 3);
    world.settle();
    assert!(
        world
            .observed
            .actions
            .contains_key(&key(Some("a"), 3, Kind::Start))
    );
}

#[test]
fn one_that_ended_is_run_again_only_if_its_policy_says_so() {
    let ended = |policy: &str, code: i32| {
        let main = container("a", 1, over(code), over(9));
        let world = seeded(policy, statuses(vec![main]));
        let known = world.remembered("a").clone();
        let (ended, last) = (known.ended.unwrap(), known.last.unwrap());
        assert_eq!((ended.exit_code, last.exit_code), (code, 9));
        assert_eq!(ended.container_id, "coracle://old");
        assert_eq!(
            (known.attempt, known.restart_count, known.next_count),
            (2, 1, 2)
        );
        known.run != memory::Run::Over
    };
    assert!(!ended("Never", 1));
    assert!(!ended("OnFailure", 0));
    assert!(ended("OnFailure", 1));
    assert!(ended("Always", 0));
}

#[test]
fn one_that_waits_has_its_end_in_the_last_state() {
    let waits = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let world = seeded(
        "Always",
        statuses(vec![container("a", 4, waits.clone(), over(5))]),
    );
    let known = world.remembered("a");
    assert_eq!(known.ended.as_ref().unwrap().exit_code, 5);
    assert_eq!(known.last, None);
    assert_eq!((known.attempt, known.next_count), (5, 5));
    // One that never ran begins with its first run.
    let world = seeded(
        "Always",
        statuses(vec![container("a", 0, waits, json!({}))]),
    );
    let known = world.remembered("a");
    assert_eq!((known.attempt, known.next_count), (0, 0));
    assert_eq!(known.ended, None);
    // Or with as many restarts as it had, if how the last run ended is not told.
    let waits = json!({"waiting": {"reason": "ContainerCreating"}});
    let world = seeded(
        "Always",
        statuses(vec![container("a", 2, waits, json!({}))]),
    );
    let known = world.remembered("a");
    assert_eq!((known.attempt, known.next_count), (2, 2));
}

#[test]
fn init_containers_are_done_once_a_main_one_had_its_turn() {
    let initialized = |mains: Vec<Value>| seeded("Always", statuses(mains)).memory.initialized;
    let mut status = statuses(Vec::new());
    status["initContainerStatuses"][0] = container("i", 0, running(), json!({}));
    assert!(!seeded("Always", status).memory.initialized);
    assert!(initialized(vec![container("b", 0, running(), json!({}))]));
    assert!(initialized(vec![container("b", 0, over(1), json!({}))]));
    // Whatever is known of them.
    for (main, is) in [
        (container("b", 0, running(), json!({})), true),
        (container("b", 0, over(1), json!({})), true),
        (container("b", 0, json!({}), json!({})), false),
    ] {
        let mut status = statuses(vec![main]);
        status["initContainerStatuses"] = json!([]);
        assert_eq!(
            seeded("Always", status.clone()).memory.initialized,
            is,
            "{status}"
        );
    }
    let unknown = container("nobody", 0, running(), json!({}));
    let world = seeded("Always", statuses(vec![unknown]));
    assert!(world.memory.containers.get("nobody").is_none());
}

#[test]
fn a_sidecar_that_waits_for_its_first_run_keeps_the_pod_pending() {
    let of = |sidecar: Value, last: Value| {
        let mut world = World::new(
            r#"{"initContainers":[{"name":"s","image":"i:1","restartPolicy":"Always"}],
                "containers":[{"name":"a","image":"i:1"}]}"#,
        );
        let status = json!({"phase": "Running",
            "initContainerStatuses": [container("s", 0, sidecar, last)],
            "containerStatuses": [container("a", 0, running(), json!({}))]});
        world.pod.status = Some(serde_json::from_value(status).unwrap());
        world.succeed(key(Some("a"), 0, Kind::Start));
        world.succeed(key(Some("s"), 0, Kind::Start));
        world.step();
        world.phase().to_owned()
    };
    let waits = json!({"waiting": {"reason": "PodInitializing"}});
    assert_eq!(of(waits.clone(), json!({})), "Pending");
    assert_eq!(of(waits, over(1)), "Running");
    assert_eq!(of(running(), json!({})), "Running");
}

/// What came after it has run, so it has too, whatever its status said.
#[test]
fn an_init_container_whose_end_was_never_told_has_failed() {
    let mut world = World::new(
        r#"{"initContainers":[{"name":"s","image":"i:1","restartPolicy":"Always"},
            {"name":"i","image":"i:1"},{"name":"j","image":"i:1"}],
            "containers":[{"name":"a","image":"i:1"}]}"#,
    );
    let waits = json!({"waiting": {"reason": "PodInitializing"}});
    let inits = [
        container("s", 0, waits, json!({})),
        container("i", 0, running(), json!({})),
    ];
    let status = json!({"phase": "Pending", "initContainerStatuses": inits});
    world.pod.status = Some(serde_json::from_value(status).unwrap());
    world.observed.gone = true;
    world.settle();
    assert!(world.last.released);
    assert_eq!(world.state("s"), "terminated 137 ContainerStatusUnknown");
    assert_eq!(world.state("j"), "waiting PodInitializing");
}

#[test]
fn a_pod_that_was_over_stays_as_it_is() {
    for phase in ["Succeeded", "Failed"] {
        let world = seeded("Always", json!({"phase": phase, "message": "it is"}));
        assert!(world.memory.inherited && world.last.released);
        assert_eq!(Some(&world.last.status), world.pod.status.as_ref());
    }
    let world = seeded("Always", json!({"phase": "Running"}));
    assert!(!world.memory.inherited && !world.last.released);
}
