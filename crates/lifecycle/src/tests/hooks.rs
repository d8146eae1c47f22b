//! Lifecycle hooks: who waits for them, and what their failure does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const POST_START: Kind = Kind::Exec(Hook::PostStart);
const PRE_STOP: Kind = Kind::Exec(Hook::PreStop);

fn hooked(lifecycle: &str) -> World {
    World::new(&format!(
        r#"{{"containers":[{{"name":"a","image":"i:1","lifecycle":{lifecycle}}},{{"name":"b","image":"i:1"}}],
            "restartPolicy":"Always","terminationGracePeriodSeconds":20}}"#
    ))
}

/// Lets everything succeed but hooks. Gives those under way then.
fn go_on(world: &mut World) -> Vec<Key> {
    world.settle_but(|kind| matches!(kind, Kind::Exec(_)))
}

fn delete(world: &mut World, grace: i64) {
    world.pod.metadata.deletion_timestamp = Some(Time(world.now));
    world.pod.metadata.deletion_grace_period_seconds = Some(grace);
}

const EXEC: &str = r#"{"exec":{"command":["x"]}}"#;

#[test]
fn a_container_counts_once_its_post_start_hook_is_done() {
    let mut world = hooked(&format!(r#"{{"postStart":{EXEC}}}"#));
    let hooks = go_on(&mut world);
    assert_eq!(hooks, [key(Some("a"), 0, POST_START)]);
    assert_eq!(world.state("a"), "waiting ContainerCreating");
    assert_eq!(world.container("a").started, Some(false));
    // The kubelet starts one after the other: b waits.
    assert_eq!(world.state("b"), "waiting ContainerCreating");
    assert_eq!(world.remembered("b").run, memory::Run::Waiting);
    world.succeed(hooks[0].clone());
    assert_eq!(go_on(&mut world), []);
    assert_eq!(
        (world.state("a").as_str(), world.state("b").as_str()),
        ("running", "running")
    );
    assert_eq!(world.condition("Ready").0, "True");
}

#[test]
fn one_that_could_not_begin_held_nobody_up_and_stops_nobody_once_it_can() {
    let mut world = hooked(&format!(r#"{{"postStart":{EXEC}}}"#));
    let mounts = |kind| kind == Kind::Mount;
    world.settle_but(mounts);
    world.succeed(key(None, 0, Kind::Mount));
    world.settle_but(mounts);
    world.fail(
        key(Some("a"), 0, Kind::Mount),
        "CreateContainerError",
        Retry::Backoff,
    );
    let b = [key(Some("b"), 0, Kind::Mount)];
    assert_eq!(world.settle_but(mounts), b);
    world.pass(10);
    let both = [key(Some("a"), 1, Kind::Mount), b[0].clone()];
    assert_eq!(world.settle_but(mounts), both);
    world.succeed(b[0].clone());
    world.settle_but(mounts);
    assert_eq!(world.state("b"), "running");
}

#[test]
fn a_post_start_hook_that_fails_ends_the_run() {
    let mut world = hooked(&format!(r#"{{"postStart":{EXEC}}}"#));
    let hooks = go_on(&mut world);
    world.fail(hooks[0].clone(), "FailedPostStartHook", Retry::Backoff);
    let asked = world.step();
    assert!(asked.iter().any(|action| action.key.kind == Kind::Stop));
    let told: Vec<(&str, &str)> = world
        .events
        .iter()
        .rev()
        .take(2)
        .map(|event| (event.reason.as_str(), event.message.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("Killing", "FailedPostStartHook"),
            ("FailedPostStartHook", "PostStartHook failed")
        ]
    );
    world.exit("a", 0, 143);
    world.succeed(key(Some("a"), 0, Kind::Stop));
    world.step();
    assert_eq!(world.state("a"), "waiting PostStartHookError");
    // The next run has a hook of its own.
    let hooks = go_on(&mut world);
    assert_eq!(hooks, [key(Some("a"), 1, POST_START)]);
    assert_eq!(world.state("b"), "running");
}

#[test]
fn a_hook_that_was_answered_in_the_clear_is_told_of_once() {
    let mut world = hooked(&format!(r#"{{"postStart":{EXEC}}}"#));
    let hooks = go_on(&mut world);
    let output = Output::FellBack {
        host: "192.0.2.1:443".to_owned(),
    };
    let at = world.now;
    world
        .observed
        .actions
        .insert(hooks[0].clone(), Progress::Done { at, output });
    assert_eq!(go_on(&mut world), []);
    let told: Vec<_> = world
        .events
        .iter()
        .filter(|event| event.reason == "LifecycleHTTPFallback")
        .map(|event| (event.container.clone(), event.message.as_str()))
        .collect();
    let words = "request to HTTPS lifecycle hook 192.0.2.1:443 got HTTP response, retry with HTTP succeeded";
    assert_eq!(told, [(None, words)]);
    assert_eq!(world.state("a"), "running");
}

#[test]
fn a_guest_that_ends_before_its_hook_does_waits_for_nothing() {
    let mut world = hooked(&format!(r#"{{"postStart":{EXEC}}}"#));
    let hooks = go_on(&mut world);
    world.exit("a", 0, 1);
    world.step();
    world.fail(hooks[0].clone(), "FailedPostStartHook", Retry::Never);
    let hooks = go_on(&mut world);
    assert_eq!(hooks, [key(Some("a"), 1, POST_START)]);
    assert_eq!(world.container("a").restart_count, 1);
    assert!(!world.told().contains(&"FailedPostStartHook"));
}

#[test]
fn a_hook_that_was_lost_with_an_agent_is_not_run_again() {
    let mut world = hooked(&format!(r#"{{"postStart":{EXEC}}}"#));
    let hooks = go_on(&mut world);
    world.observed.actions.remove(&hooks[0]);
    assert_eq!(go_on(&mut world), []);
    assert_eq!(world.state("a"), "running");
}

#[test]
fn a_hook_that_is_under_way_is_not_asked_for_again_by_who_forgot_it() {
    let mut world = hooked(&format!(r#"{{"postStart":{EXEC}}}"#));
    let hooks = go_on(&mut world);
    let a = world.memory.containers.get_mut("a").unwrap();
    a.post_start = memory::HookState::Due;
    assert!(world.step().is_empty());
    world.succeed(hooks[0].clone());
    assert_eq!(go_on(&mut world), []);
    assert_eq!(world.state("a"), "running");
}

#[test]
fn a_grace_without_an_end_wakes_nobody() {
    let mut world = hooked(&format!(r#"{{"preStop":{EXEC}}}"#));
    go_on(&mut world);
    delete(&mut world, i64::MAX);
    assert_eq!(go_on(&mut world), [key(Some("a"), 0, PRE_STOP)]);
    assert_eq!(world.last.wake_at, None);
}

#[test]
fn a_guest_that_began_after_its_end_was_asked_for_has_no_post_start_hook() {
    let mut world = hooked(&format!(r#"{{"postStart":{EXEC}}}"#));
    let starts = world.settle_but(|kind| kind == Kind::Start);
    assert_eq!(starts, [key(Some("a"), 0, Kind::Start)]);
    delete(&mut world, 20);
    world.step();
    world.succeed(starts[0].clone());
    assert_eq!(world.step(), []);
    assert_eq!(world.state("a"), "running");
    assert_eq!(go_on(&mut world), []);
    assert!(world.last.released);
}

#[test]
fn a_sidecar_that_begins_again_as_the_pod_is_done_has_no_post_start_hook() {
    let mut world = World::new(&format!(
        r#"{{"restartPolicy":"Never","initContainers":[
            {{"name":"s","image":"i:1","restartPolicy":"Always","lifecycle":{{"postStart":{EXEC}}}}}],
            "containers":[{{"name":"a","image":"i:1"}}]}}"#
    ));
    world.settle();
    world.exit("s", 0, 1);
    let starts = world.settle_but(|kind| kind == Kind::Start);
    assert_eq!(starts, [key(Some("s"), 1, Kind::Start)]);
    // Both are learnt of in the same step, of the sidecar first.
    world.succeed(starts[0].clone());
    world.exit("a", 0, 0);
    let asked = world.step();
    assert!(
        asked.iter().all(|one| one.key.kind != POST_START),
        "{asked:?}"
    );
    assert!(asked.iter().any(|one| one.key.kind == Kind::Stop));
    assert_eq!(go_on(&mut world), []);
    assert!(world.last.released);
}

#[test]
fn a_pre_stop_hook_comes_first_and_takes_of_the_grace() {
    let mut world = hooked(&format!(r#"{{"preStop":{EXEC}}}"#));
    go_on(&mut world);
    delete(&mut world, 20);
    let asked = world.step();
    let of_a: Vec<&Action> = asked
        .iter()
        .filter(|action| action.key.container.as_deref() == Some("a"))
        .collect();
    assert_eq!(of_a.len(), 1);
    assert_eq!(of_a[0].key, key(Some("a"), 0, PRE_STOP));
    assert!(
        matches!(
            &of_a[0].what,
            What::Exec {
                grace_seconds: Some(20),
                ..
            }
        ),
        "{of_a:?}"
    );
    world.pass(5);
    world.succeed(key(Some("a"), 0, PRE_STOP));
    let asked = world.step();
    let stop = asked
        .iter()
        .find(|action| action.key == key(Some("a"), 0, Kind::Stop));
    assert_eq!(
        stop.unwrap().what,
        What::Stop {
            grace_seconds: 15,
            cause: Cause::Deletion
        }
    );
}

#[test]
fn a_pre_stop_hook_that_never_ends_leaves_two_seconds() {
    let mut world = hooked(&format!(r#"{{"preStop":{EXEC}}}"#));
    go_on(&mut world);
    delete(&mut world, 20);
    world.step();
    assert_eq!(world.last.wake_at, Some(at(1_020)));
    world.pass(20);
    let asked = world.step();
    let stop = asked
        .iter()
        .find(|action| action.key == key(Some("a"), 0, Kind::Stop));
    assert_eq!(
        stop.unwrap().what,
        What::Stop {
            grace_seconds: 2,
            cause: Cause::Deletion
        }
    );
}

#[test]
fn a_pre_stop_hook_that_fails_is_told_and_ends_nothing() {
    let mut world = hooked(&format!(r#"{{"preStop":{EXEC}}}"#));
    go_on(&mut world);
    delete(&mut world, 20);
    world.step();
    world.fail(
        key(Some("a"), 0, PRE_STOP),
        "FailedPreStopHook",
        Retry::Never,
    );
    let asked = world.step();
    assert!(asked.iter().any(|action| action.key.kind == Kind::Stop));
    assert_eq!(world.events.last().unwrap().message, "PreStopHook failed");
}

#[test]
fn a_shorter_grace_shortens_the_hook_and_no_grace_skips_it() {
    let mut world = hooked(&format!(r#"{{"preStop":{EXEC}}}"#));
    go_on(&mut world);
    delete(&mut world, 20);
    world.step();
    delete(&mut world, 3);
    world.step();
    assert_eq!(world.last.wake_at, Some(at(1_003)));

    let mut world = hooked(&format!(r#"{{"preStop":{EXEC}}}"#));
    go_on(&mut world);
    world.observed.verdict = Some(Verdict::Evicted {
        eviction: Eviction::Pressure,
        message: "the node is low".to_owned(),
        grace_seconds: 0,
    });
    let asked = world.step();
    assert!(asked.iter().all(|action| action.key.kind == Kind::Stop));
    assert_eq!(asked.len(), 2);
}

#[test]
fn what_has_ended_has_no_pre_stop_hook() {
    let mut world = World::new(&format!(
        r#"{{"containers":[{{"name":"a","image":"i:1","lifecycle":{{"preStop":{EXEC}}}}},{{"name":"b","image":"i:1"}}],
            "restartPolicy":"Never"}}"#
    ));
    go_on(&mut world);
    world.exit("a", 0, 0);
    go_on(&mut world);
    delete(&mut world, 20);
    let asked = world.step();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].key, key(Some("b"), 0, Kind::Stop));
}

#[test]
fn a_guest_that_ends_during_its_pre_stop_hook_is_not_stopped() {
    let mut world = hooked(&format!(r#"{{"preStop":{EXEC}}}"#));
    go_on(&mut world);
    delete(&mut world, 20);
    world.step();
    world.exit("a", 0, 0);
    world.succeed(key(Some("a"), 0, PRE_STOP));
    let asked = world.step();
    assert!(
        asked
            .iter()
            .all(|action| action.key != key(Some("a"), 0, Kind::Stop))
    );
    assert_eq!(world.state("a"), "terminated 0 Completed");
}

#[test]
fn a_sidecars_pre_stop_hook_runs_at_once_but_its_guest_ends_last() {
    let mut world = World::new(&format!(
        r#"{{"initContainers":[{{"name":"s","image":"i:1","restartPolicy":"Always","lifecycle":{{"preStop":{EXEC}}}}}],
            "containers":[{{"name":"a","image":"i:1"}}],"restartPolicy":"Always","terminationGracePeriodSeconds":20}}"#
    ));
    go_on(&mut world);
    delete(&mut world, 20);
    let keys = |asked: Vec<Action>| -> Vec<Key> { asked.into_iter().map(|one| one.key).collect() };
    let hook = key(Some("s"), 0, PRE_STOP);
    let asked = keys(world.step());
    assert_eq!(asked, [key(Some("a"), 0, Kind::Stop), hook.clone()]);
    world.pass(5);
    world.succeed(hook);
    assert_eq!(keys(world.step()), []);
    // Waiting for its turn asks for nothing and changes nothing.
    let before = world.memory.clone();
    world.pass(14);
    assert_eq!(keys(world.step()), []);
    assert_eq!(world.memory, before);
    world.exit("a", 0, 143);
    world.succeed(key(Some("a"), 0, Kind::Stop));
    let asked = world.step();
    let stop = asked
        .iter()
        .find(|action| action.key == key(Some("s"), 0, Kind::Stop));
    let cause = Cause::Deletion;
    let grace_seconds = 2;
    let what = What::Stop {
        grace_seconds,
        cause,
    };
    assert_eq!(stop.unwrap().what, what);
}
