//! What is said of a container that does not run as it should.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

const ONE: &str = r#"{"containers":[{"name":"a","image":"i:1"}]}"#;

/// The waiting container's message.
fn waits_for(world: &World) -> String {
    let state = world.container("a").state.clone().unwrap();
    state.waiting.unwrap().message.unwrap_or_default()
}

fn last_message(world: &World) -> String {
    let last = world.container("a").last_state.clone().unwrap();
    last.terminated.unwrap().message.unwrap_or_default()
}

/// Message of the latest event of that reason.
fn told(world: &World, reason: &str) -> String {
    let mut all = world.events.iter().rev();
    all.find(|one| one.reason == reason)
        .unwrap()
        .message
        .clone()
}

#[test]
fn a_type_of_event_is_spelt_as_the_api_does() {
    assert_eq!(EventKind::Normal.as_str(), "Normal");
    assert_eq!(EventKind::Warning.as_str(), "Warning");
}

#[test]
fn of_a_crash_loop() {
    let mut world = World::running(ONE);
    world.exit("a", 0, 1);
    world.settle();
    world.exit("a", 1, 1);
    world.step();
    assert_eq!(world.state("a"), "waiting CrashLoopBackOff");
    let said = "back-off 10s restarting failed container=a pod=p_n(u)";
    assert_eq!(waits_for(&world), said);
    let event = "Back-off restarting failed container a in pod p_n(u)";
    assert_eq!(told(&world, "BackOff"), event);
    assert_eq!(world.last.wake_at, Some(at(1_010)));
    for attempt in 2..7 {
        world.now = world.last.wake_at.unwrap();
        world.settle();
        world.exit("a", attempt, 1);
        world.step();
    }
    let said = "back-off 5m0s restarting failed container=a pod=p_n(u)";
    assert_eq!(waits_for(&world), said);
}

#[test]
fn of_a_root_and_of_a_guest_that_could_not_be_made() {
    for (kind, reason, counts) in [
        (Kind::Mount, "CreateContainerError", 0),
        (Kind::Start, "CreateContainerError", 0),
        (Kind::Start, "RunContainerError", 1),
    ] {
        let mut world = World::new(ONE);
        world.settle_but(|held| held == kind);
        if kind == Kind::Mount {
            // The pod's own comes first.
            world.succeed(key(None, 0, Kind::Mount));
            world.settle_but(|held| held == kind);
        }
        world.fail(key(Some("a"), 0, kind), reason, Retry::Backoff);
        let pulls = |asked: Vec<Action>| asked.iter().any(|one| one.key.kind == Kind::Pull);
        let at_once = pulls(world.step());
        assert_eq!(at_once, counts == 1, "a run that ended has its own backoff");
        assert_eq!(world.state("a"), format!("waiting {reason}"));
        assert_eq!(waits_for(&world), "it broke");
        assert_eq!(told(&world, "Failed"), "Error: it broke");
        let ended = world.remembered("a").ended.as_ref();
        assert_eq!(ended.is_some(), counts == 1, "{reason}");
        world.pass(9);
        assert!(!pulls(world.step()));
        world.pass(1);
        world.settle();
        assert_eq!(world.state("a"), "running");
        assert_eq!(world.container("a").restart_count, counts);
        if counts == 1 {
            assert_eq!(last_message(&world), "it broke");
        }
    }
}

#[test]
fn one_that_is_not_to_be_tried_again_wakes_nobody() {
    let mut world = World::new(ONE);
    world.settle_but(|kind| kind == Kind::Mount);
    world.succeed(key(None, 0, Kind::Mount));
    world.settle_but(|kind| kind == Kind::Mount);
    let mount = key(Some("a"), 0, Kind::Mount);
    world.fail(mount, "CreateContainerConfigError", Retry::Never);
    world.step();
    assert_eq!(world.state("a"), "waiting CreateContainerConfigError");
    assert_eq!(world.last.wake_at, None);
}

#[test]
fn of_each_way_to_end() {
    for (kind, code, reason) in [
        (ExitKind::Exited, 0, "Completed"),
        (ExitKind::Exited, 1, "Error"),
        (ExitKind::Trapped, 134, "Error"),
        (ExitKind::OomKilled, 137, "OOMKilled"),
        (ExitKind::Lost, 137, "ContainerStatusUnknown"),
    ] {
        let exit = Exit {
            code,
            kind,
            message: "it said".to_owned(),
            started_at: at(1),
            finished_at: at(2),
        };
        let ended = memory::Ended::of(&exit, String::new());
        let shown = (ended.exit_code, ended.reason.as_str(), &*ended.message);
        assert_eq!(shown, (code, reason, "it said"));
        assert_eq!((ended.started_at, ended.finished_at), (Some(at(1)), at(2)));
    }
}

#[test]
fn of_a_run_that_is_gone() {
    let mut world = World::running(ONE);
    world.observed.actions.clear();
    world.step();
    let gone = "The container could not be located when the pod was deleted.  \
        The container used to be Running";
    assert_eq!(last_message(&world), gone);
    assert_eq!(waits_for(&world), "");
    // Of one that nobody has seen run, somebody was asked for it.
    let mut world = World::new(ONE);
    world.settle_but(|kind| kind == Kind::Start);
    world.observed.actions.clear();
    world.observed.guest_host = Some(2);
    world.step();
    assert_eq!(world.container("a").restart_count, 0);
    let ended = world.remembered("a").ended.clone().unwrap();
    assert_eq!((ended.exit_code, ended.started_at), (137, None));
    assert!(
        ended.message.starts_with("The guest host died"),
        "{ended:?}"
    );
    world.settle();
    assert_eq!(world.container("a").restart_count, 1);
}

#[test]
fn of_what_the_pod_could_not_be_given() {
    for (kind, reason, message) in [
        (
            Kind::Address,
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: it broke",
        ),
        (Kind::Mount, "FailedMount", "it broke"),
    ] {
        let mut world = World::new(ONE);
        world.settle_but(|held| held == kind);
        world.fail(key(None, 0, kind), "Broken", Retry::Backoff);
        world.step();
        assert_eq!(told(&world, reason), message);
        assert_eq!(world.state("a"), "waiting ContainerCreating");
        assert_eq!(world.last.wake_at, Some(at(1_010)));
        world.pass(9);
        assert!(world.step().is_empty());
        world.pass(1);
        world.step();
        assert!(world.observed.actions.contains_key(&key(None, 1, kind)));
        world.settle();
        assert_eq!(world.state("a"), "running");
    }
    // Nothing helps: it waits, for somebody to delete it.
    let mut world = World::new(ONE);
    world.settle_but(|held| held == Kind::Mount);
    world.fail(key(None, 0, Kind::Mount), "Broken", Retry::Never);
    world.step();
    world.pass(3_600);
    assert!(world.step().is_empty());
    assert_eq!(world.last.wake_at, None);
}

#[test]
fn of_a_guest_that_could_not_be_stopped() {
    let mut world = World::running(ONE);
    world.observed.gone = true;
    world.step();
    let stop = key(Some("a"), 0, Kind::Stop);
    world.fail(stop.clone(), "Broken", Retry::Backoff);
    assert!(world.step().is_empty());
    assert_eq!(told(&world, "FailedKillPod"), "error killing pod: it broke");
    assert_eq!(world.last.wake_at, Some(at(1_002)));
    world.pass(1);
    assert!(world.step().is_empty());
    world.pass(1);
    let asked = world.step();
    assert_eq!(asked[0].key, stop);
    let What::Stop { grace_seconds, .. } = asked[0].what else {
        unreachable!("{asked:?}");
    };
    assert_eq!(grace_seconds, 28, "of the same grace");
    world.settle();
    assert!(world.last.released);
}
