//! What ends a pod when several things do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const ONE: &str = r#"{"containers":[{"name":"a","image":"i:1"}]}"#;
const WITH_SIDECAR: &str = r#"{"restartPolicy":"Never",
    "initContainers":[{"name":"s","image":"i:1","restartPolicy":"Always"}],
    "containers":[{"name":"a","image":"i:1"}]}"#;

fn evicted(grace_seconds: u32) -> Verdict {
    Verdict::Evicted {
        eviction: Eviction::Pressure,
        message: "low on memory".to_owned(),
        grace_seconds,
    }
}

fn delete(world: &mut World, grace: i64) {
    world.pod.metadata.deletion_timestamp = Some(Time(world.now));
    world.pod.metadata.deletion_grace_period_seconds = Some(grace);
}

/// Grace and cause of the Stops that were asked for now.
fn stops(actions: &[Action]) -> Vec<(u32, Cause)> {
    let all = actions.iter().filter_map(|one| match one.what {
        What::Stop {
            grace_seconds,
            cause,
        } => Some((grace_seconds, cause)),
        _ => None,
    });
    all.collect()
}

fn reason(world: &World) -> (&str, Option<&str>) {
    (world.phase(), world.last.status.reason.as_deref())
}

#[test]
fn an_eviction_says_so_of_a_pod_that_was_being_deleted() {
    let mut world = World::running(ONE);
    delete(&mut world, 30);
    assert_eq!(stops(&world.step()), [(30, Cause::Deletion)]);
    world.observed.verdict = Some(evicted(5));
    let asked = world.step();
    assert_eq!(
        stops(&asked),
        [(5, Cause::Deletion)],
        "the first cause stays"
    );
    world.settle();
    assert_eq!(reason(&world), ("Failed", Some("Evicted")));
    assert_eq!(world.last.status.message.as_deref(), Some("low on memory"));
}

#[test]
fn what_ended_it_first_is_what_is_told() {
    let mut world = World::running(ONE);
    world.observed.verdict = Some(evicted(30));
    world.step();
    world.observed.verdict = Some(Verdict::Shutdown { grace_seconds: 3 });
    assert_eq!(stops(&world.step()), [(3, Cause::Eviction)]);
    world.settle();
    assert_eq!(reason(&world), ("Failed", Some("Evicted")));
}

#[test]
fn a_pod_that_was_done_is_not_evicted_any_more() {
    let mut world = World::running(WITH_SIDECAR);
    world.exit("a", 0, 0);
    let asked = world.step();
    assert_eq!(stops(&asked), [(30, Cause::PodDone)]);
    world.observed.verdict = Some(evicted(5));
    assert_eq!(stops(&world.step()), [(5, Cause::PodDone)]);
    world.settle();
    assert_eq!(reason(&world), ("Succeeded", None));
}

#[test]
fn a_deletion_of_a_pod_that_is_over_changes_nothing() {
    let mut world = World::running(WITH_SIDECAR);
    world.exit("a", 0, 0);
    world.settle();
    assert!(world.last.released);
    let before = world.last.status.clone();
    delete(&mut world, 30);
    world.observed.verdict = Some(evicted(0));
    assert!(world.step().is_empty());
    assert!(world.last.released);
    assert_eq!(world.last.status, before);
}

#[test]
fn without_a_grace_no_sidecar_waits_for_its_turn() {
    let mut world = World::running(WITH_SIDECAR);
    world.observed.verdict = Some(evicted(0));
    let asked = world.step();
    assert_eq!(stops(&asked), [(0, Cause::Eviction), (0, Cause::Eviction)]);
}

#[test]
fn a_grace_that_is_taken_away_leaves_not_even_the_least() {
    let mut world = World::running(ONE);
    delete(&mut world, 30);
    assert_eq!(stops(&world.step()), [(30, Cause::Deletion)]);
    world.observed.verdict = Some(evicted(0));
    assert_eq!(stops(&world.step()), [(0, Cause::Deletion)]);
}

#[test]
fn a_sidecar_that_is_being_started_again_waits_for_its_turn_too() {
    let mut world = World::running(WITH_SIDECAR);
    world.exit("s", 0, 1);
    let starts = |kind| kind == Kind::Start;
    assert_eq!(world.settle_but(starts), [key(Some("s"), 1, Kind::Start)]);
    delete(&mut world, 30);
    let asked = world.step();
    assert_eq!(stops(&asked), [(30, Cause::Deletion)]);
    let stop = asked.iter().find(|one| one.key.kind == Kind::Stop).unwrap();
    assert_eq!(stop.key.container.as_deref(), Some("a"));
    world.exit("a", 0, 143);
    world.succeed(stop.key.clone());
    assert_eq!(stops(&world.step()), [(30, Cause::Deletion)]);
}

#[test]
fn a_sidecar_goes_at_the_end_of_the_grace_if_not_before() {
    let mut world = World::running(WITH_SIDECAR);
    world.observed.gone = true;
    assert_eq!(stops(&world.step()), [(30, Cause::Removal)]);
    assert_eq!(world.last.wake_at, Some(at(1_030)));
    world.pass(29);
    assert_eq!(stops(&world.step()), []);
    world.pass(1);
    assert_eq!(stops(&world.step()).len(), 1, "its turn has come");
}

#[test]
fn the_grace_of_a_removal_is_the_deletions_if_there_was_one_and_never_none() {
    let grace = |spec: &str, deleted: Option<i64>| {
        let mut world = World::running(spec);
        world.pod.metadata.deletion_grace_period_seconds = deleted;
        world.observed.gone = true;
        stops(&world.step())[0].0
    };
    let seven = ONE.replacen('{', r#"{"terminationGracePeriodSeconds":7,"#, 1);
    let none = ONE.replacen('{', r#"{"terminationGracePeriodSeconds":0,"#, 1);
    assert_eq!(grace(ONE, None), 30);
    assert_eq!(grace(&seven, None), 7);
    assert_eq!(grace(&seven, Some(3)), 3);
    // No container gets less than `minimumGracePeriodInSeconds` of the kubelet's.
    assert_eq!(grace(&none, None), 2);
}

#[test]
fn a_stop_that_failed_is_asked_again_with_what_is_left_by_then() {
    let mut world = World::running(ONE);
    delete(&mut world, 30);
    world.step();
    let stop = key(Some("a"), 0, Kind::Stop);
    world.fail(stop.clone(), "Broken", Retry::Backoff);
    // Whoever keeps the facts may not have dropped that one yet.
    let known = world.observed.clone();
    world.step();
    let again = step(&world.pod, &world.memory, &known, world.now);
    assert_eq!(again.wake_at, Some(at(1_002)));
    assert_eq!(again.events, []);
    world.pass(1);
    delete(&mut world, 4);
    assert_eq!(stops(&world.step()), []);
    world.pass(1);
    assert_eq!(stops(&world.step()), [(3, Cause::Deletion)]);
}

/// A guest host that has not answered yet may have the guest.
#[test]
fn a_guest_that_was_asked_for_is_not_over_before_the_guests_are_known() {
    let mut world = World::new(ONE);
    world.settle_but(|kind| kind == Kind::Start);
    world.observed.actions.clear();
    world.observed.guest_host = None;
    world.observed.gone = true;
    assert!(world.step().is_empty());
    assert!(matches!(
        world.remembered("a").run,
        memory::Run::Starting { .. }
    ));
    world.observed.guest_host = Some(1);
    world.settle();
    assert!(world.last.released);
}

/// Message of a condition, if it is there and true.
fn says(world: &World, name: &str) -> Option<String> {
    let all = world.last.status.conditions.iter().flatten();
    let mut there = all.filter(|one| one.type_ == name && one.status == "True");
    there.next().map(|one| {
        assert_eq!(one.reason.as_deref(), Some("TerminationByKubelet"));
        one.message.clone().unwrap()
    })
}

#[test]
fn each_end_by_the_node_has_the_kubelets_words() {
    let by = |eviction| Verdict::Evicted {
        eviction,
        message: "too much".to_owned(),
        grace_seconds: 3,
    };
    let shutdown = "Pod was terminated in response to imminent node shutdown.";
    let preempted = "Pod was preempted by Kubelet to accommodate a critical pod.";
    let late = "Pod was active on the node longer than the specified deadline";
    for (verdict, cause, reason, message, disruption) in [
        (
            Some(by(Eviction::Pressure)),
            Cause::Eviction,
            "Evicted",
            "too much",
            Some("too much"),
        ),
        (
            Some(by(Eviction::StorageLimit)),
            Cause::StorageLimit,
            "Evicted",
            "too much",
            None,
        ),
        (
            Some(by(Eviction::Preemption)),
            Cause::Preemption,
            "Preempting",
            "too much",
            Some(preempted),
        ),
        (
            Some(Verdict::Shutdown { grace_seconds: 3 }),
            Cause::Shutdown,
            "Terminated",
            shutdown,
            Some(shutdown),
        ),
        (None, Cause::Deadline, "DeadlineExceeded", late, None),
    ] {
        let graceful = ONE.replacen(
            '{',
            r#"{"terminationGracePeriodSeconds":3,"activeDeadlineSeconds":60,"#,
            1,
        );
        let mut world = World::running(&graceful);
        world.events.clear();
        match verdict {
            Some(verdict) => world.observed.verdict = Some(verdict),
            None => world.pass(60),
        }
        assert_eq!(stops(&world.step()), [(3, cause)]);
        assert_eq!(says(&world, "DisruptionTarget").as_deref(), disruption);
        let (told, kind) = (&world.events[0], world.events[0].kind);
        match cause {
            Cause::Shutdown => assert_eq!(told.reason, "Killing"),
            Cause::Deadline => {
                assert_eq!((told.reason.as_str(), kind), (reason, EventKind::Normal))
            }
            _ => assert_eq!((told.reason.as_str(), kind), (reason, EventKind::Warning)),
        }
        world.settle();
        assert_eq!(reason_and_message(&world), (reason, message));
        assert_eq!(world.phase(), "Failed");
        let once = world.told().iter().filter(|one| **one == reason).count();
        assert!(once <= 1, "{reason} is told once");
    }
}

fn reason_and_message(world: &World) -> (&str, &str) {
    let status = &world.last.status;
    (
        status.reason.as_deref().unwrap(),
        status.message.as_deref().unwrap(),
    )
}

#[test]
fn a_pod_is_done_when_nothing_in_it_runs_again() {
    let spec = |policy: &str| {
        format!(
            r#"{{"restartPolicy":"{policy}","initContainers":[{{"name":"i","image":"i:1"}}],
                "containers":[{{"name":"a","image":"i:1"}},{{"name":"b","image":"i:1"}}]}}"#
        )
    };
    let ended = |policy: &str, codes: [i32; 2]| {
        let mut world = World::running(&spec(policy));
        world.exit("a", 0, codes[0]);
        world.settle();
        assert!(!world.last.released, "the other runs");
        world.exit("b", 0, codes[1]);
        world.settle();
        world.last.released.then(|| world.phase().to_owned())
    };
    assert_eq!(ended("Never", [0, 0]).as_deref(), Some("Succeeded"));
    assert_eq!(ended("Never", [1, 0]).as_deref(), Some("Failed"));
    assert_eq!(ended("Never", [0, 1]).as_deref(), Some("Failed"));
    assert_eq!(ended("OnFailure", [0, 0]).as_deref(), Some("Succeeded"));
    assert_eq!(ended("OnFailure", [0, 1]), None);
    assert_eq!(ended("Always", [0, 0]), None);
    // An init container decides it only by failing for good.
    for (policy, code, over) in [
        ("Never", 1, true),
        ("Never", 0, false),
        ("Always", 1, false),
    ] {
        let mut world = World::new(&spec(policy));
        world.settle();
        world.exit("i", 0, code);
        world.settle();
        assert_eq!(world.last.released, over, "{policy} {code}");
    }
}
