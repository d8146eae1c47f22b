//! One history each.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const ONE: &str = r#"{"containers":[{"name":"a","image":"i:1"}],"restartPolicy":"Never"}"#;

fn one(policy: &str) -> World {
    World::new(&format!(
        r#"{{"containers":[{{"name":"a","image":"i:1"}}],"restartPolicy":"{policy}"}}"#
    ))
}

fn kinds(actions: &[Action]) -> Vec<Kind> {
    actions.iter().map(|action| action.key.kind).collect()
}

#[test]
fn from_pending_to_succeeded_and_released() {
    let mut world = World::new(ONE);
    assert_eq!(kinds(&world.step()), [Kind::Address, Kind::Pull]);
    assert_eq!(
        (world.phase(), world.state("a").as_str()),
        ("Pending", "waiting ContainerCreating")
    );
    world.settle();
    assert_eq!(
        (world.phase(), world.state("a").as_str()),
        ("Running", "running")
    );
    let status = world.container("a");
    assert!(status.ready && status.started == Some(true));
    assert_eq!(status.container_id.as_deref(), Some("coracle://a-0"));
    assert_eq!(status.image_id, "sha256:aa");
    for name in [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ] {
        assert_eq!(world.condition(name).0, "True", "{name}");
    }
    assert_eq!(world.last.status.pod_ip.as_deref(), Some("192.0.2.1"));
    world.exit("a", 0, 0);
    world.settle();
    assert_eq!(
        (world.phase(), world.state("a").as_str()),
        ("Succeeded", "terminated 0 Completed")
    );
    assert_eq!(
        world.condition("Ready"),
        ("False".into(), Some("PodCompleted".into()))
    );
    assert!(world.last.released);
    assert_eq!(
        world.observed.actions.len(),
        0,
        "facts are left: {:?}",
        world.observed.actions
    );
    assert_eq!(world.observed.exits.len(), 0);
    assert_eq!(world.told(), ["Pulled", "Created", "Started"]);
}

#[test]
fn a_failure_that_may_not_restart_fails_the_pod() {
    let mut world = World::new(ONE);
    world.settle();
    world.exit("a", 0, 3);
    world.settle();
    assert_eq!(
        (world.phase(), world.state("a").as_str()),
        ("Failed", "terminated 3 Error")
    );
    assert!(world.last.released);
}

#[test]
fn restarts_at_once_then_backs_off_from_the_exit() {
    let mut world = one("Always");
    world.settle();
    let mut waits = Vec::new();
    for attempt in 0..8 {
        world.exit("a", attempt, 1);
        world.step();
        let begun = world.now;
        while world.remembered("a").run == memory::Run::Waiting {
            assert_eq!(world.state("a"), "waiting CrashLoopBackOff");
            assert_eq!(world.phase(), "Running");
            world.now = world.last.wake_at.unwrap();
            world.step();
        }
        waits.push(world.now.as_second() - begun.as_second());
        for action in world.last.actions.clone() {
            world.succeed(action.key);
        }
        world.settle();
        assert_eq!(
            world.container("a").restart_count,
            i32::try_from(attempt + 1).unwrap()
        );
        assert!(
            world
                .container("a")
                .last_state
                .as_ref()
                .unwrap()
                .terminated
                .is_some()
        );
    }
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(
        world
            .told()
            .iter()
            .filter(|reason| **reason == "BackOff")
            .count(),
        7
    );
}

#[test]
fn on_failure_ends_with_success() {
    let mut world = one("OnFailure");
    world.settle();
    world.exit("a", 0, 1);
    world.settle();
    assert_eq!(world.state("a"), "running");
    world.exit("a", 1, 0);
    world.settle();
    assert_eq!(
        (world.phase(), world.container("a").restart_count),
        ("Succeeded", 1)
    );
}

#[test]
fn a_pull_fails_backs_off_and_succeeds() {
    let mut world = World::new(ONE);
    world.step();
    let pull = |attempt| key(Some("a"), attempt, Kind::Pull);
    world.fail(pull(0), "ErrImagePull", Retry::Backoff);
    world.step();
    assert_eq!(
        (world.phase(), world.state("a").as_str()),
        ("Pending", "waiting ErrImagePull")
    );
    world.pass(5);
    world.step();
    assert_eq!(world.state("a"), "waiting ImagePullBackOff");
    let state = world.container("a").state.clone().unwrap();
    assert_eq!(
        state.waiting.unwrap().message.unwrap(),
        "Back-off pulling image \"i:1\": ErrImagePull: it broke"
    );
    assert!(!world.observed.actions.contains_key(&pull(1)));
    world.pass(5);
    world.step();
    assert!(world.observed.actions.contains_key(&pull(1)));
    world.fail(pull(1), "ErrImagePull", Retry::Backoff);
    world.step();
    world.pass(19);
    world.step();
    assert!(!world.observed.actions.contains_key(&pull(2)), "20 s");
    world.pass(1);
    world.step();
    world.succeed(pull(2));
    world.succeed(key(None, 0, Kind::Address));
    world.settle();
    assert_eq!(world.state("a"), "running");
}

#[test]
fn a_bad_image_name_waits_for_another_image() {
    let mut world = World::new(ONE);
    world.step();
    world.fail(
        key(Some("a"), 0, Kind::Pull),
        "InvalidImageName",
        Retry::Never,
    );
    world.pass(3600);
    world.step();
    world.pass(3600);
    assert!(world.step().is_empty());
    assert_eq!(world.state("a"), "waiting InvalidImageName");
    assert_eq!(world.last.wake_at, None);
    world.pod.spec.as_mut().unwrap().containers[0].image = Some("j:1".to_owned());
    world.step();
    assert!(
        world
            .observed
            .actions
            .contains_key(&key(Some("a"), 1, Kind::Pull))
    );
}

#[test]
fn init_containers_run_in_order_and_retry() {
    let mut world = World::new(
        r#"{"initContainers":[{"name":"i","image":"i:1"},{"name":"j","image":"i:1"}],
            "containers":[{"name":"a","image":"i:1"}]}"#,
    );
    world.settle();
    assert_eq!(world.state("i"), "running");
    assert_eq!(world.state("j"), "waiting PodInitializing");
    assert_eq!(
        world.condition("Initialized"),
        ("False".into(), Some("ContainersNotInitialized".into()))
    );
    world.exit("i", 0, 1);
    world.settle();
    assert_eq!(
        (world.phase(), world.state("i").as_str()),
        ("Pending", "running")
    );
    world.exit("i", 1, 0);
    world.settle();
    assert_eq!(
        (world.state("i").as_str(), world.state("j").as_str()),
        ("terminated 0 Completed", "running")
    );
    assert_eq!(world.state("a"), "waiting PodInitializing");
    world.exit("j", 0, 0);
    world.settle();
    assert_eq!(
        (world.phase(), world.state("a").as_str()),
        ("Running", "running")
    );
    assert!(world.container("i").ready);
}

#[test]
fn an_init_container_that_may_not_restart_fails_the_pod() {
    let mut world = World::new(
        r#"{"initContainers":[{"name":"i","image":"i:1"}],
            "containers":[{"name":"a","image":"i:1"}],"restartPolicy":"Never"}"#,
    );
    world.settle();
    world.exit("i", 0, 2);
    world.settle();
    assert_eq!(
        (world.phase(), world.state("i").as_str()),
        ("Failed", "terminated 2 Error")
    );
    assert_eq!(world.state("a"), "waiting PodInitializing");
    assert!(world.last.released);
}

#[test]
fn sidecars_start_first_restart_and_stop_last_in_reverse() {
    let mut world = World::new(
        r#"{"initContainers":[{"name":"s","image":"i:1","restartPolicy":"Always"},
                              {"name":"t","image":"i:1","restartPolicy":"Always"}],
            "containers":[{"name":"a","image":"i:1"}],"restartPolicy":"Never"}"#,
    );
    world.settle();
    assert_eq!(
        (world.phase(), world.state("s").as_str()),
        ("Running", "running")
    );
    world.exit("s", 0, 0);
    world.settle();
    assert_eq!(
        (
            world.state("s").as_str(),
            world.container("s").restart_count
        ),
        ("running", 1)
    );
    world.exit("a", 0, 0);
    let stops = |world: &mut World| {
        let stops: Vec<String> = world
            .step()
            .iter()
            .filter(|action| action.key.kind == Kind::Stop)
            .map(|action| action.key.container.clone().unwrap())
            .collect();
        stops
    };
    assert_eq!(stops(&mut world), ["t"]);
    assert_eq!(world.phase(), "Running", "a terminal phase is withheld");
    world.exit("t", 0, 143);
    assert_eq!(stops(&mut world), ["s"]);
    world.exit("s", 1, 143);
    world.step();
    assert_eq!(world.phase(), "Succeeded");
}

#[test]
fn a_deletion_stops_shortens_and_releases() {
    let mut world = one("Always");
    world.settle();
    world.pod.metadata.deletion_timestamp = Some(Time(world.now));
    world.pod.metadata.deletion_grace_period_seconds = Some(30);
    let actions = world.step();
    assert_eq!(
        actions[0].what,
        What::Stop {
            grace_seconds: 30,
            cause: Cause::Deletion
        }
    );
    assert!(world.told().contains(&"Killing"));
    world.pass(5);
    assert!(world.step().is_empty());
    world.pod.metadata.deletion_grace_period_seconds = Some(4);
    let actions = world.step();
    assert_eq!(
        actions[0].what,
        What::Stop {
            grace_seconds: 4,
            cause: Cause::Deletion
        }
    );
    world.pod.metadata.deletion_grace_period_seconds = Some(60);
    assert!(world.step().is_empty(), "a grace never grows");
    assert_eq!(world.phase(), "Running");
    world.exit("a", 0, 143);
    world.succeed(key(Some("a"), 0, Kind::Stop));
    assert_eq!(kinds(&world.step()), [Kind::Unmount]);
    assert_eq!(
        (world.phase(), world.state("a").as_str()),
        ("Failed", "terminated 143 Error")
    );
    assert!(!world.last.released);
    world.succeed(key(Some("a"), 0, Kind::Unmount));
    world.settle();
    assert!(world.last.released);
    assert_eq!(world.condition("PodReadyToStartContainers").0, "False");
}

#[test]
fn a_deletion_meets_a_start_in_flight() {
    let mut world = one("Always");
    let start = key(Some("a"), 0, Kind::Start);
    while !world.observed.actions.contains_key(&start) {
        for action in world.step() {
            if action.key != start {
                world.succeed(action.key);
            }
        }
    }
    world.pod.metadata.deletion_timestamp = Some(Time(world.now));
    assert_eq!(kinds(&world.step()), [Kind::Stop]);
    // The Stop is answered before the guest runs: it is asked for again.
    world.succeed(key(Some("a"), 0, Kind::Stop));
    world.step();
    world.succeed(start);
    world.step();
    assert_eq!(world.state("a"), "running");
    world.settle();
    assert!(world.last.released);
    assert_eq!(world.state("a"), "terminated 143 Error");
}

#[test]
fn a_stop_from_before_the_guest_ran_proves_nothing_when_it_is_answered_after() {
    let mut world = one("Always");
    let start = key(Some("a"), 0, Kind::Start);
    while !world.observed.actions.contains_key(&start) {
        for action in world.step() {
            if action.key != start {
                world.succeed(action.key);
            }
        }
    }
    world.pod.metadata.deletion_timestamp = Some(Time(world.now));
    assert_eq!(kinds(&world.step()), [Kind::Stop]);
    // There was nothing to stop yet; then the guest ran; the answers come the other way round.
    world.succeed(start);
    world.step();
    world.succeed(key(Some("a"), 0, Kind::Stop));
    world.step();
    assert_eq!(kinds(&world.step()), [Kind::Stop]);
    world.pass(6);
    world.step();
    assert_eq!(
        (world.phase(), world.state("a").as_str()),
        ("Running", "running")
    );
}

#[test]
fn a_pod_that_is_deleted_while_it_pulls_ends_failed() {
    let mut world = one("Always");
    world.step();
    world.succeed(key(None, 0, Kind::Address));
    world.pod.metadata.deletion_timestamp = Some(Time(world.now));
    assert_eq!(kinds(&world.step()), [Kind::Release]);
    assert_eq!(
        (world.phase(), world.state("a").as_str()),
        ("Failed", "terminated 137 ContainerStatusUnknown")
    );
    world.succeed(key(None, 0, Kind::Release));
    world.step();
    assert!(world.last.released);
}

#[test]
fn removal_from_the_source_ends_it_with_its_own_grace() {
    let mut world = one("Always");
    world.settle();
    world.observed.gone = true;
    let actions = world.step();
    assert_eq!(
        actions[0].what,
        What::Stop {
            grace_seconds: 30,
            cause: Cause::Removal
        }
    );
}

#[test]
fn a_refusal_is_terminal_and_holds_nothing() {
    let mut world = World::new(ONE);
    world.observed.verdict = Some(Verdict::Refused {
        reason: "OutOfcpu".into(),
        message: "no cpu".into(),
    });
    assert!(world.step().is_empty());
    let status = &world.last.status;
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("OutOfcpu"))
    );
    assert_eq!(status.message.as_deref(), Some("Pod was rejected: no cpu"));
    assert!(world.last.released);
    world.observed.verdict = Some(Verdict::Admitted);
    assert!(world.step().is_empty(), "a refusal stands");
    assert_eq!(world.told(), ["OutOfcpu"]);
}

#[test]
fn an_eviction_and_a_shutdown_fail_the_pod_in_the_kubelets_words() {
    for (verdict, reason) in [
        (
            Verdict::Evicted {
                eviction: Eviction::Pressure,
                message: "low on memory".into(),
                grace_seconds: 0,
            },
            "Evicted",
        ),
        (Verdict::Shutdown { grace_seconds: 0 }, "Terminated"),
    ] {
        let mut world = one("Always");
        world.settle();
        world.observed.verdict = Some(verdict);
        let actions = world.step();
        assert!(matches!(
            actions[0].what,
            What::Stop {
                grace_seconds: 0,
                ..
            }
        ));
        assert_eq!(world.last.status.reason, None, "withheld while it may run");
        assert_eq!(
            world.condition("DisruptionTarget").1.as_deref(),
            Some("TerminationByKubelet")
        );
        world.exit("a", 0, 143);
        world.settle();
        assert_eq!(
            (world.phase(), world.last.status.reason.as_deref()),
            ("Failed", Some(reason))
        );
    }
}

#[test]
fn the_deadline_ends_it() {
    let mut world =
        World::new(r#"{"containers":[{"name":"a","image":"i:1"}],"activeDeadlineSeconds":60}"#);
    world.settle();
    assert_eq!(world.last.wake_at, Some(at(1_060)));
    world.pass(60);
    world.settle();
    assert_eq!(
        (world.phase(), world.last.status.reason.as_deref()),
        ("Failed", Some("DeadlineExceeded"))
    );
}

#[test]
fn a_restarted_agent_adopts_what_runs_and_counts_what_is_lost() {
    let mut world = one("Always");
    world.settle();
    let facts = std::mem::take(&mut world.observed.actions);
    world.observed.guest_host = None;
    assert!(world.step().is_empty());
    assert_eq!(
        world.state("a"),
        "running",
        "nothing is declared lost before the guests are known"
    );
    world.observed.guest_host = Some(1);
    world.observed.actions = facts;
    assert!(world.step().is_empty());
    assert_eq!(
        (
            world.state("a").as_str(),
            world.container("a").restart_count
        ),
        ("running", 0)
    );
    world.observed.actions.clear();
    world.step();
    assert_eq!(world.state("a"), "waiting ContainerCreating");
    assert_eq!(
        (world.phase(), world.container("a").restart_count),
        ("Running", 1)
    );
    let last = world
        .container("a")
        .last_state
        .clone()
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!(
        (last.exit_code, last.reason.as_deref()),
        (137, Some("ContainerStatusUnknown"))
    );
    for action in world.last.actions.clone() {
        world.succeed(action.key);
    }
    world.settle();
    assert_eq!(
        (
            world.state("a").as_str(),
            world.container("a").restart_count
        ),
        ("running", 1)
    );
}

#[test]
fn a_start_that_fails_is_a_run_and_a_root_that_fails_is_none() {
    let mut world = one("Always");
    world.step();
    world.succeed(key(None, 0, Kind::Address));
    world.succeed(key(Some("a"), 0, Kind::Pull));
    world.step();
    world.succeed(key(None, 0, Kind::Mount));
    world.step();
    world.fail(
        key(Some("a"), 0, Kind::Mount),
        "CreateContainerError",
        Retry::Backoff,
    );
    world.step();
    assert_eq!(world.state("a"), "waiting CreateContainerError");
    world.pass(10);
    world.step();
    world.succeed(key(Some("a"), 1, Kind::Pull));
    world.step();
    world.succeed(key(Some("a"), 1, Kind::Mount));
    world.step();
    world.fail(
        key(Some("a"), 1, Kind::Start),
        "RunContainerError",
        Retry::Backoff,
    );
    world.step();
    assert_eq!(world.state("a"), "waiting RunContainerError");
    let status = world.container("a");
    assert_eq!(status.restart_count, 0);
    let last = status.last_state.clone().unwrap().terminated.unwrap();
    assert_eq!(
        (last.exit_code, last.reason.as_deref()),
        (128, Some("StartError"))
    );
    for action in world.last.actions.clone() {
        world.succeed(action.key);
    }
    world.settle();
    assert_eq!(
        (
            world.state("a").as_str(),
            world.container("a").restart_count
        ),
        ("running", 1)
    );
}

#[test]
fn root_is_refused_as_the_kubelet_does() {
    let mut world = World::new(
        r#"{"containers":[{"name":"a","image":"i:1"}],
            "securityContext":{"runAsNonRoot":true,"runAsUser":0}}"#,
    );
    world.settle();
    assert_eq!(world.state("a"), "waiting CreateContainerConfigError");
    assert!(
        world
            .events
            .iter()
            .any(|event| event.message.contains("breaks non-root policy"))
    );
}

#[test]
fn root_is_refused_to_who_asked_for_no_root_and_nobody_else() {
    let runs = |shared: &str, own: &str| {
        let mut world = World::new(&format!(
            r#"{{"containers":[{{"name":"a","image":"i:1","securityContext":{own}}}],
                "securityContext":{shared}}}"#
        ));
        world.settle();
        world.state("a") == "running"
    };
    for (shared, own, is) in [
        (r#"{"runAsNonRoot":true}"#, r#"{"runAsUser":0}"#, false),
        (
            r#"{"runAsNonRoot":true,"runAsUser":0}"#,
            r#"{"runAsUser":1}"#,
            true,
        ),
        (
            r#"{"runAsNonRoot":true,"runAsUser":0}"#,
            r#"{"runAsNonRoot":false}"#,
            true,
        ),
        (r#"{"runAsNonRoot":true}"#, "{}", true),
        (r#"{"runAsUser":0}"#, "{}", true),
    ] {
        assert_eq!(runs(shared, own), is, "{shared} {own}");
    }
}

#[test]
fn a_changed_image_restarts_that_container_whatever_the_policy() {
    let mut world = World::new(ONE);
    world.settle();
    world.pod.spec.as_mut().unwrap().containers[0].image = Some("i:2".to_owned());
    world.settle();
    assert_eq!(
        (
            world.state("a").as_str(),
            world.container("a").restart_count
        ),
        ("running", 1)
    );
    assert!(
        world
            .events
            .iter()
            .any(|e| e.message.contains("definition changed, will be restarted"))
    );
}

#[test]
fn what_a_changed_image_alone_restarts_is_never_shown_as_ended() {
    // The API server refuses that it leaves `terminated` where the policy does not restart it.
    let mut world = World::new(ONE);
    world.settle();
    let change = |world: &mut World, image: &str| {
        world.pod.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
        world.step();
    };
    change(&mut world, "i:2");
    world.exit("a", 0, 143);
    world.step();
    assert_eq!(world.state("a"), "waiting ContainerCreating");
    world.fail(
        key(Some("a"), 1, Kind::Pull),
        "ErrImagePull",
        Retry::Backoff,
    );
    world.step();
    assert_eq!(world.state("a"), "waiting ErrImagePull");
    change(&mut world, "i:3");
    assert_eq!(world.state("a"), "waiting ContainerCreating");
}

#[test]
fn an_undoing_that_fails_is_asked_for_again() {
    let mut world = World::new(ONE);
    world.settle();
    world.exit("a", 0, 0);
    world.step();
    let unmount = key(Some("a"), 0, Kind::Unmount);
    world.fail(unmount.clone(), "Busy", Retry::Backoff);
    assert!(world.step().is_empty());
    assert_eq!(world.last.wake_at, Some(at(1_010)));
    world.pass(10);
    assert_eq!(kinds(&world.step()), [Kind::Unmount]);
    world.succeed(unmount);
    world.settle();
    assert!(world.last.released);
}

#[test]
fn folders_and_addresses_that_are_not_unmade_are_asked_for_again() {
    for kind in [Kind::Unmount, Kind::Release] {
        let mut world = World::new(ONE);
        world.settle();
        world.exit("a", 0, 0);
        world.settle_but(|held| held == kind);
        world.succeed(key(Some("a"), 0, Kind::Unmount));
        world.settle_but(|held| held == kind);
        let undo = key(None, 0, kind);
        world.fail(undo.clone(), "Busy", Retry::Backoff);
        assert!(world.step().is_empty());
        assert_eq!(world.events.last().unwrap().message, "Busy: it broke");
        let told = world.events.len();
        assert_eq!(world.last.wake_at, Some(at(1_010)));
        world.pass(9);
        assert!(world.step().is_empty());
        world.pass(1);
        assert_eq!(kinds(&world.step()), [kind]);
        world.succeed(undo);
        world.settle();
        assert!(world.last.released);
        assert_eq!(world.events.len(), told);
    }
}

#[test]
fn a_pod_that_was_deleted_before_the_node_judged_it_is_not_judged() {
    let mut world = World::new(ONE);
    world.observed.verdict = None;
    world.pod.metadata.deletion_timestamp = Some(Time(world.now));
    assert!(world.step().is_empty());
    assert!(world.last.released);
    let before = world.memory.clone();
    world.observed.verdict = Some(Verdict::Refused {
        reason: "OutOfcpu".to_owned(),
        message: "no room".to_owned(),
    });
    world.step();
    assert_eq!(world.memory, before);
    assert_eq!(world.events, []);
}

#[test]
fn a_stop_is_asked_for_once_the_answer_to_another_was_dropped() {
    let mut world = World::new(ONE);
    world.settle();
    world.succeed(key(Some("a"), 0, Kind::Stop));
    world.observed.gone = true;
    assert!(world.step().is_empty());
    assert_eq!(world.last.wake_at, Some(world.now));
    assert_eq!(kinds(&world.step()), [Kind::Stop]);
}

#[test]
fn a_stop_without_an_exit_converges() {
    let mut world = one("Always");
    world.settle();
    world.observed.gone = true;
    world.step();
    world.succeed(key(Some("a"), 0, Kind::Stop));
    world.step();
    assert_eq!(world.last.wake_at, Some(at(1_005)));
    world.pass(5);
    world.settle();
    assert_eq!(world.state("a"), "terminated 137 ContainerStatusUnknown");
    assert!(world.last.released);
}

#[test]
fn a_pod_that_was_over_before_is_left_alone() {
    let mut world = World::new(ONE);
    world.pod.status =
        Some(serde_json::from_str(r#"{"phase":"Succeeded","message":"done"}"#).unwrap());
    assert!(world.step().is_empty());
    assert!(world.last.released);
    assert_eq!(world.last.status, world.pod.status.clone().unwrap());
}

#[test]
fn the_status_of_a_lost_checkpoint_counts() {
    let mut world = one("Always");
    world.settle();
    world.pod.status = Some(world.last.status.clone());
    world.memory = Memory::default();
    world.observed.actions.clear();
    world.settle();
    assert_eq!(
        (
            world.state("a").as_str(),
            world.container("a").restart_count
        ),
        ("running", 1)
    );
}

#[test]
fn times_are_whole_seconds_and_messages_are_cut() {
    let mut world = World::new(ONE);
    world.now = Timestamp::from_nanosecond(1_000_700_000_000).unwrap();
    world.settle();
    let exit = Exit {
        code: 1,
        kind: ExitKind::Trapped,
        message: "é".repeat(20_000),
        started_at: world.now,
        finished_at: world.now,
    };
    world.observed.exits.insert(("a".to_owned(), 0), exit);
    world.settle();
    let over = world
        .container("a")
        .state
        .clone()
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!(over.message.unwrap().len(), 12 * 1024);
    assert_eq!(over.finished_at, Some(Time(at(1_000))));
    assert_eq!(world.last.status.start_time, Some(Time(at(1_000))));
}

#[test]
fn a_stop_is_not_asked_again_for_less_than_a_second() {
    let mut world = World::new(
        r#"{"initContainers":[{"name":"s","image":"s","restartPolicy":"Always"}],
            "containers":[{"name":"a","image":"a"}]}"#,
    );
    world.settle();
    let spec = world.pod.spec.as_mut().unwrap();
    spec.init_containers.as_mut().unwrap()[0].image = Some("s:2".to_owned());
    let held = |kind| kind == Kind::Stop;
    assert_eq!(world.settle_but(held), [key(Some("s"), 0, Kind::Stop)]);
    let millis = |more: i64| Timestamp::from_millisecond(1_000_000 + more).unwrap();
    world.now = millis(700);
    world.observed.verdict = Some(Verdict::Evicted {
        eviction: Eviction::Pressure,
        message: String::new(),
        grace_seconds: 29,
    });
    world.settle_but(held);
    // The sidecar's turn comes 28.2 s before the end of all: in whole seconds later than it was told.
    world.now = millis(1_500);
    world.exit("a", 0, 143);
    world.succeed(key(Some("a"), 0, Kind::Stop));
    let asked = world.step();
    assert!(
        asked.iter().all(|action| action.key.kind != Kind::Stop),
        "{asked:?}"
    );
    let told = match &world.remembered("s").run {
        memory::Run::Running { stop, .. } => stop.as_ref().map(|stop| stop.until),
        other => panic!("{other:?}"),
    };
    assert_eq!(told, Some(at(1_030)), "what it was told stands");
    world.observed.verdict = Some(Verdict::Evicted {
        eviction: Eviction::Pressure,
        message: String::new(),
        grace_seconds: 5,
    });
    let asked = world.step();
    assert!(
        asked
            .iter()
            .any(|action| action.key == key(Some("s"), 0, Kind::Stop)),
        "{asked:?}"
    );
}
