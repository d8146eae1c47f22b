//! Probes: when they are made, and what their results change.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;

fn probed(container: &str) -> World {
    World::new(&format!(
        r#"{{"containers":[{{"name":"a","image":"i:1",{container}}}],"restartPolicy":"Always",
           "terminationGracePeriodSeconds":20}}"#
    ))
}

/// Lets everything succeed but probes. Gives those under way then.
fn go_on(world: &mut World) -> Vec<Key> {
    world.settle_but(|kind| matches!(kind, Kind::Probe(_)))
}

/// Lets time pass until something is due, and goes on.
fn wake(world: &mut World) -> Vec<Key> {
    world.now = world.last.wake_at.expect("nothing is due");
    go_on(world)
}

/// The first probes of the kinds that a startup probe holds back.
fn held_back() -> Vec<Key> {
    let kinds = [ProbeKind::Liveness, ProbeKind::Readiness];
    kinds.into_iter().flat_map(|kind| probe(kind, 0)).collect()
}

fn probe(kind: ProbeKind, number: u32) -> Vec<Key> {
    vec![key(Some("a"), number, Kind::Probe(kind))]
}

#[test]
fn a_container_is_ready_once_its_readiness_probe_succeeds() {
    let mut world = probed(r#""readinessProbe":{"periodSeconds":5}"#);
    let first = go_on(&mut world);
    assert_eq!(first, probe(ProbeKind::Readiness, 0));
    assert_eq!(world.state("a"), "running");
    assert!(!world.container("a").ready);
    assert_eq!(world.container("a").started, Some(true));
    assert_eq!(
        world.condition("Ready"),
        ("False".into(), Some("ContainersNotReady".into()))
    );
    world.succeed(first[0].clone());
    go_on(&mut world);
    assert!(world.container("a").ready);
    assert_eq!(world.condition("ContainersReady").0, "True");
    assert_eq!(world.last.wake_at, Some(at(1_005)));
}

#[test]
fn readiness_changes_at_its_thresholds_and_tells_of_each_failure() {
    let mut world =
        probed(r#""readinessProbe":{"periodSeconds":1,"failureThreshold":2,"successThreshold":2}"#);
    let mut flying = go_on(&mut world);
    let mut ready = Vec::new();
    for healthy in [true, true, false, true, false, false, true, true] {
        match healthy {
            true => world.succeed(flying[0].clone()),
            false => world.unhealthy(flying[0].clone()),
        }
        go_on(&mut world);
        ready.push(world.container("a").ready);
        flying = wake(&mut world);
    }
    assert_eq!(ready, [false, true, true, true, true, false, false, true]);
    let unhealthy: Vec<&Event> = world
        .events
        .iter()
        .filter(|event| event.reason == "Unhealthy")
        .collect();
    assert_eq!(unhealthy.len(), 3);
    assert_eq!(unhealthy[0].message, "Readiness probe failed: no answer");
    assert_eq!(
        unhealthy[0].container.as_deref(),
        Some("spec.containers{a}")
    );
}

#[test]
fn the_first_probe_waits_for_the_delay_and_the_next_do_not_drift() {
    let mut world = probed(r#""readinessProbe":{"initialDelaySeconds":7,"periodSeconds":10}"#);
    assert_eq!(go_on(&mut world), []);
    assert_eq!(world.last.wake_at, Some(at(1_007)));
    let flying = wake(&mut world);
    assert_eq!(flying, probe(ProbeKind::Readiness, 0));
    // Its answer takes 4 s: the next is due 10 s after the first began.
    world.pass(4);
    world.succeed(flying[0].clone());
    go_on(&mut world);
    assert_eq!(world.last.wake_at, Some(at(1_017)));
    // One that takes longer than the period is followed by the next in the rhythm, and none is made up for.
    let flying = wake(&mut world);
    world.pass(25);
    world.succeed(flying[0].clone());
    let flying = go_on(&mut world);
    assert_eq!(flying, probe(ProbeKind::Readiness, 2));
    world.succeed(flying[0].clone());
    go_on(&mut world);
    assert_eq!(world.last.wake_at, Some(at(1_047)));
}

#[test]
fn a_startup_probe_holds_the_others_back_and_is_over_with_its_success() {
    let mut world = probed(
        r#""startupProbe":{"periodSeconds":2,"failureThreshold":3},"livenessProbe":{},"readinessProbe":{}"#,
    );
    let flying = go_on(&mut world);
    assert_eq!(flying, probe(ProbeKind::Startup, 0));
    assert_eq!(world.container("a").started, Some(false));
    world.unhealthy(flying[0].clone());
    assert_eq!(go_on(&mut world), []);
    let flying = wake(&mut world);
    assert_eq!(flying, probe(ProbeKind::Startup, 1));
    world.succeed(flying[0].clone());
    assert_eq!(go_on(&mut world), held_back());
    assert_eq!(world.container("a").started, Some(true));
    assert!(!world.container("a").ready);
}

#[test]
fn a_period_of_nothing_is_the_default() {
    for period in ["0", "10"] {
        let mut world = probed(&format!(r#""livenessProbe":{{"periodSeconds":{period}}}"#));
        let flying = go_on(&mut world);
        world.succeed(flying[0].clone());
        go_on(&mut world);
        assert_eq!(world.last.wake_at, Some(at(1_010)));
    }
}

/// Only what an agent adopts is spread over its period.
#[test]
fn what_a_long_startup_held_back_is_probed_at_once() {
    let mut world = probed(
        r#""startupProbe":{"periodSeconds":60},"livenessProbe":{"periodSeconds":1},"readinessProbe":{}"#,
    );
    let flying = go_on(&mut world);
    world.pass(50);
    world.succeed(flying[0].clone());
    assert_eq!(go_on(&mut world), held_back());
}

#[test]
fn a_failed_liveness_probe_restarts_the_container_by_its_own_grace() {
    let mut world = probed(
        r#""livenessProbe":{"periodSeconds":1,"failureThreshold":2,"terminationGracePeriodSeconds":4}"#,
    );
    let flying = go_on(&mut world);
    world.unhealthy(flying[0].clone());
    go_on(&mut world);
    let flying = wake(&mut world);
    world.unhealthy(flying[0].clone());
    let stops = world.step();
    assert_eq!(stops.len(), 1);
    assert_eq!(stops[0].key, key(Some("a"), 0, Kind::Stop));
    assert_eq!(
        stops[0].what,
        What::Stop {
            grace_seconds: 4,
            cause: Cause::Probe(ProbeKind::Liveness)
        }
    );
    let killing = world.events.last().unwrap();
    assert_eq!(killing.reason, "Killing");
    assert_eq!(
        killing.message,
        "Container a failed liveness probe, will be restarted"
    );
    // It is not probed again before it has a successor, whose probes have numbers of their own.
    world.pass(10);
    let flying = go_on(&mut world);
    assert_eq!(world.container("a").restart_count, 1);
    assert_eq!(flying, probe(ProbeKind::Liveness, 2));
    assert_eq!(world.state("a"), "running");
}

#[test]
fn a_failed_startup_probe_ends_a_pod_that_never_restarts() {
    let mut world = World::new(
        r#"{"containers":[{"name":"a","image":"i:1","startupProbe":{"failureThreshold":1}}],
            "restartPolicy":"Never"}"#,
    );
    let flying = go_on(&mut world);
    world.unhealthy(flying[0].clone());
    go_on(&mut world);
    assert_eq!(world.phase(), "Failed");
    assert!(
        world
            .events
            .iter()
            .any(|event| event.message == "Container a failed startup probe")
    );
}

/// A guest that ends well on its way out is restarted all the same: it was to be.
#[test]
fn a_container_that_failed_its_probe_is_restarted_whatever_it_ends_with() {
    let mut world = World::new(
        r#"{"containers":[{"name":"a","image":"i:1","livenessProbe":{"failureThreshold":1}}],
            "restartPolicy":"OnFailure"}"#,
    );
    let flying = go_on(&mut world);
    world.unhealthy(flying[0].clone());
    world.step();
    world.exit("a", 0, 0);
    world.succeed(key(Some("a"), 0, Kind::Stop));
    go_on(&mut world);
    assert_eq!(world.state("a"), "running");
    assert_eq!(world.container("a").restart_count, 1);
}

#[test]
fn an_error_of_the_prober_changes_nothing_and_is_told() {
    let mut world = probed(r#""livenessProbe":{"periodSeconds":3,"failureThreshold":1}"#);
    let flying = go_on(&mut world);
    world.fail(flying[0].clone(), "Unhealthy", Retry::Backoff);
    assert_eq!(go_on(&mut world), []);
    assert_eq!(world.state("a"), "running");
    assert_eq!(
        world.events.last().unwrap().message,
        "Liveness probe errored and resulted in failure state: it broke"
    );
    assert_eq!(wake(&mut world), probe(ProbeKind::Liveness, 1));
}

#[test]
fn a_warning_counts_as_success() {
    let mut world = probed(r#""readinessProbe":{}"#);
    let flying = go_on(&mut world);
    let output = Output::Probed {
        outcome: Outcome::Warning,
        message: "Probe terminated redirects".to_owned(),
    };
    let at = world.now;
    world
        .observed
        .actions
        .insert(flying[0].clone(), Progress::Done { at, output });
    go_on(&mut world);
    assert!(world.container("a").ready);
    let told = world.events.last().unwrap();
    assert_eq!(
        (told.reason.as_str(), told.message.as_str()),
        (
            "ProbeWarning",
            "Readiness probe warning: Probe terminated redirects"
        )
    );
}

#[test]
fn of_a_pod_that_ends_readiness_alone_is_probed() {
    let mut world =
        probed(r#""livenessProbe":{"failureThreshold":1},"readinessProbe":{"periodSeconds":1}"#);
    let flying = go_on(&mut world);
    for key in flying {
        world.succeed(key);
    }
    go_on(&mut world);
    world.pod.metadata.deletion_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now),
    );
    world.step();
    world.pass(15);
    let asked = world.step();
    let kinds: Vec<Kind> = asked.iter().map(|action| action.key.kind).collect();
    assert_eq!(kinds, [Kind::Probe(ProbeKind::Readiness)]);
    world.unhealthy(asked[0].key.clone());
    world.pass(1);
    let asked = world.step();
    world.unhealthy(asked[0].key.clone());
    world.pass(1);
    let asked = world.step();
    world.unhealthy(asked[0].key.clone());
    world.step();
    assert!(!world.container("a").ready);
}

/// The kubelet does not make a pod unready that it finds again; what was counted begins anew.
#[test]
fn a_restart_of_the_agent_keeps_what_was_decided_and_spreads_what_is_due() {
    let mut world = probed(
        r#""startupProbe":{},"livenessProbe":{"periodSeconds":100},"readinessProbe":{"periodSeconds":100}"#,
    );
    for _ in 0..3 {
        for key in go_on(&mut world) {
            world.succeed(key);
        }
    }
    go_on(&mut world);
    assert!(world.container("a").ready);
    let text = serde_json::to_vec(&world.memory).unwrap();
    world.memory = serde_json::from_slice(&text).unwrap();
    world.memory.adopted = true;
    world.now = at(5_000);
    assert_eq!(go_on(&mut world), []);
    assert!(world.container("a").ready);
    assert_eq!(world.container("a").started, Some(true));
    let due = world.last.wake_at.unwrap();
    assert!(due > at(5_000) && due < at(5_100), "{due}");
}

/// A node that adopts many guests does not probe them all at once.
#[test]
fn probes_of_what_is_adopted_are_spread_over_their_period() {
    let mut tenths = [0; 10];
    for number in 0..200 {
        let mut world = probed(r#""livenessProbe":{"periodSeconds":100}"#);
        world.pod.metadata.uid = Some(format!("7d1f4a1e-{number:04}"));
        let flying = go_on(&mut world);
        world.succeed(flying[0].clone());
        go_on(&mut world);
        let text = serde_json::to_vec(&world.memory).unwrap();
        world.memory = serde_json::from_slice(&text).unwrap();
        world.memory.adopted = true;
        world.now = at(5_000);
        go_on(&mut world);
        let due = world.last.wake_at.unwrap().as_second() - 5_000;
        tenths[usize::try_from(due / 10).unwrap()] += 1;
    }
    assert!(tenths.iter().all(|tenth| *tenth >= 5), "{tenths:?}");
}

#[test]
fn what_only_counts_needs_no_checkpoint() {
    let mut world = probed(r#""readinessProbe":{"periodSeconds":1,"failureThreshold":3}"#);
    let flying = go_on(&mut world);
    world.succeed(flying[0].clone());
    go_on(&mut world);
    let before = world.memory.clone();
    for _ in 0..2 {
        let flying = wake(&mut world);
        world.unhealthy(flying[0].clone());
        go_on(&mut world);
        assert!(world.memory.same_checkpoint(&before));
    }
    let flying = wake(&mut world);
    world.unhealthy(flying[0].clone());
    go_on(&mut world);
    assert!(!world.memory.same_checkpoint(&before));
}

#[test]
fn what_comes_after_a_sidecar_waits_until_it_has_started() {
    for (next, name) in [("", "a"), (r#",{"name":"i","image":"i:1"}"#, "i")] {
        let mut world = World::new(&format!(
            r#"{{"initContainers":[{{"name":"s","image":"i:1","restartPolicy":"Always","startupProbe":{{}}}}{next}],
                "containers":[{{"name":"a","image":"i:1"}}]}}"#
        ));
        let flying = go_on(&mut world);
        assert_eq!(flying, [key(Some("s"), 0, Kind::Probe(ProbeKind::Startup))]);
        assert_eq!(world.state(name), "waiting PodInitializing");
        world.succeed(flying[0].clone());
        go_on(&mut world);
        assert_eq!(world.state(name), "running");
    }
}
