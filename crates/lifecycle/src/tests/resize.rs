//! Pods whose resources change while they run.

use k8s_openapi::api::core::v1::PodCondition;

use super::*;

/// A pod whose one container has these resources and this resize policy.
fn world(resources: &str, policy: &str) -> World {
    let mut world = World::new(&spec(resources, policy));
    world.settle();
    world
}

fn spec(resources: &str, policy: &str) -> String {
    format!(
        r#"{{"containers":[{{"name":"a","image":"i","resources":{resources},"resizePolicy":[{policy}]}}]}}"#
    )
}

const SMALL: &str =
    r#"{"limits":{"cpu":"1","memory":"64Mi"},"requests":{"cpu":"100m","memory":"64Mi"}}"#;
const LARGE: &str =
    r#"{"limits":{"cpu":"2","memory":"128Mi"},"requests":{"cpu":"200m","memory":"128Mi"}}"#;
const RESTARTS: &str = r#"{"resourceName":"memory","restartPolicy":"RestartContainer"}"#;

impl World {
    /// The Pod asks for other resources; the node says nothing yet.
    fn ask(&mut self, resources: &str) {
        let spec = self.pod.spec.as_mut().unwrap();
        spec.containers[0].resources = serde_json::from_str(resources).unwrap();
        self.pod.metadata.generation = self.pod.metadata.generation.map(|one| one + 1);
        self.observed.sizing = self.observed.sizing.take().filter(granted);
    }

    /// The node gives what the Pod asks for.
    fn grant(&mut self) {
        self.observed.sizing = Some(Sizing::Granted {
            allocation: Allocation::of(&self.pod),
            generation: self.pod.metadata.generation,
        });
    }

    fn defer(&mut self, message: &str) {
        self.observed.sizing = Some(Sizing::Deferred {
            reason: "OutOfcpu".to_owned(),
            message: message.to_owned(),
            generation: self.pod.metadata.generation,
        });
    }

    fn resize(&self, name: &str) -> Option<PodCondition> {
        let mut all = self.last.status.conditions.iter().flatten();
        all.find(|one| one.type_ == name).cloned()
    }

    /// What the status says that the container has: CPU limit and what was given of memory.
    fn told_of(&self) -> (String, String) {
        let status = self.container("a");
        let limits = status.resources.clone().unwrap().limits.unwrap();
        let allocated = status.allocated_resources.clone().unwrap();
        (limits["cpu"].0.clone(), allocated["memory"].0.clone())
    }
}

fn granted(sizing: &Sizing) -> bool {
    matches!(sizing, Sizing::Granted { .. })
}

fn resize_key(attempt: u32) -> Key {
    key(Some("a"), attempt, Kind::Resize)
}

#[test]
fn the_node_gives_the_guest_gets_and_the_status_says_what_is_so() {
    let mut world = world(SMALL, "");
    world.ask(LARGE);
    assert_eq!(world.step(), []);
    // Asked for, and not given: nothing has changed.
    assert_eq!(world.told_of(), ("1".into(), "64Mi".into()));
    world.grant();
    let asked = world.step();
    assert_eq!(
        asked,
        [Action {
            key: resize_key(0),
            what: What::Resize {
                run: 0,
                cpu_milli: Some(2000),
                memory_bytes: Some(128 << 20),
                shrinks: false,
            },
        }]
    );
    // Given, and not in effect.
    assert_eq!(world.told_of(), ("1".into(), "128Mi".into()));
    let progress = world.resize("PodResizeInProgress").unwrap();
    assert_eq!(
        (progress.reason, progress.observed_generation),
        (None, Some(4))
    );
    world.settle();
    assert_eq!(world.told_of(), ("2".into(), "128Mi".into()));
    assert_eq!(world.resize("PodResizeInProgress"), None);
    let told = world.told();
    assert_eq!(told[told.len() - 2..], ["ResizeStarted", "ResizeCompleted"]);
    assert_eq!(world.container("a").restart_count, 0);
    let message = &world.events.last().unwrap().message;
    assert!(
        message.starts_with(
            r#"Pod resize completed: {"containers":[{"name":"a","resources":{"limits":{"cpu":"2""#
        ) && message.ends_with(r#"}}],"generation":4}"#),
        "{message}"
    );
}

#[test]
fn a_pod_that_begins_is_not_being_resized() {
    let mut world = World::new(&spec(SMALL, ""));
    for held in [Kind::Address, Kind::Pull, Kind::Mount, Kind::Start] {
        world.settle_but(|kind| kind == held);
        assert_eq!(world.resize("PodResizeInProgress"), None, "{held:?}");
    }
    world.settle();
    assert!(!world.told().contains(&"ResizeCompleted"));
}

#[test]
fn one_that_an_agent_before_this_one_asked_for_is_asked_for_again_under_its_key() {
    let mut world = world(SMALL, "");
    world.ask(LARGE);
    world.grant();
    let asked = world.step();
    assert_eq!(asked[0].key, resize_key(0));
    world.observed.actions.remove(&resize_key(0));
    assert_eq!(world.step(), asked);
    // Another is none of that agent's.
    world.observed.actions.remove(&resize_key(0));
    world.ask(&LARGE.replace("128Mi", "96Mi"));
    world.grant();
    assert_eq!(world.step()[0].key, resize_key(1));
}

#[test]
fn requests_alone_are_the_nodes_affair() {
    let mut world = world(SMALL, "");
    world.ask(&SMALL.replace("100m", "300m"));
    world.grant();
    assert_eq!(world.step(), []);
    assert_eq!(world.resize("PodResizeInProgress"), None);
    let requests = world
        .container("a")
        .resources
        .clone()
        .unwrap()
        .requests
        .unwrap();
    assert_eq!(requests["cpu"].0, "300m");
}

#[test]
fn what_the_node_does_not_give_is_pending_and_told_once() {
    let mut world = world(SMALL, "");
    world.ask(LARGE);
    world.defer("no room");
    world.settle();
    let pending = world.resize("PodResizePending").unwrap();
    assert_eq!(pending.reason.as_deref(), Some("Deferred"));
    assert_eq!(pending.message.as_deref(), Some("no room"));
    assert_eq!(pending.observed_generation, Some(4));
    let since = |pending: PodCondition| pending.last_transition_time.unwrap().0;
    assert_eq!(since(pending), at(1_000));
    // Another message is no other event.
    world.pass(7);
    world.defer("still no room");
    world.settle();
    let pending = world.resize("PodResizePending").unwrap();
    assert_eq!(pending.message.as_deref(), Some("still no room"));
    assert_eq!(since(pending), at(1_000));
    world.observed.sizing = Some(Sizing::Infeasible {
        message: "never".to_owned(),
        generation: Some(4),
    });
    world.settle();
    let pending = world.resize("PodResizePending").unwrap();
    assert_eq!(pending.reason.as_deref(), Some("Infeasible"));
    assert_eq!(since(pending), at(1_007));
    let told = world.told();
    assert_eq!(
        told[told.len() - 2..],
        ["ResizeDeferred", "ResizeInfeasible"]
    );
    // Taken back: nothing is pending any more.
    world.ask(SMALL);
    world.settle();
    assert_eq!(world.resize("PodResizePending"), None);
    assert_eq!(world.told_of(), ("1".into(), "64Mi".into()));
}

#[test]
fn a_container_that_wants_a_restart_is_restarted_whatever_its_policy() {
    let mut world = world(SMALL, RESTARTS);
    world.pod.spec.as_mut().unwrap().restart_policy = Some("Never".to_owned());
    // Its CPU may change as it runs.
    world.ask(&SMALL.replace(r#""cpu":"1""#, r#""cpu":"3""#));
    world.grant();
    world.settle();
    assert_eq!(world.container("a").restart_count, 0);
    world.ask(LARGE);
    world.grant();
    let asked = world.step();
    assert!(matches!(
        asked[0].what,
        What::Stop {
            cause: Cause::Resize,
            ..
        }
    ));
    world.settle();
    assert_eq!(world.container("a").restart_count, 1);
    assert_eq!(world.state("a"), "running");
    assert_eq!(world.told_of(), ("2".into(), "128Mi".into()));
    assert_eq!(world.resize("PodResizeInProgress"), None);
    let killing = world.events.iter().find(|event| event.reason == "Killing");
    assert_eq!(
        killing.unwrap().message,
        "Container a resize requires restart"
    );
}

#[test]
fn one_that_uses_more_keeps_what_it_has_and_is_asked_again() {
    let mut world = world(LARGE, "");
    world.ask(SMALL);
    world.grant();
    let asked = world.step();
    assert!(matches!(asked[0].what, What::Resize { shrinks: true, .. }));
    world.fail(resize_key(0), "ResizeError", Retry::Backoff);
    assert_eq!(world.step(), []);
    let progress = world.resize("PodResizeInProgress").unwrap();
    assert_eq!(progress.reason.as_deref(), Some("Error"));
    assert_eq!(progress.message.as_deref(), Some("it broke"));
    assert_eq!(world.told_of(), ("2".into(), "64Mi".into()));
    assert_eq!(world.last.wake_at, Some(at(1_010)));
    // The same again is not told again.
    world.pass(10);
    assert_eq!(world.step().len(), 1);
    world.fail(resize_key(1), "ResizeError", Retry::Backoff);
    world.step();
    let errors = world
        .told()
        .iter()
        .filter(|one| **one == "ResizeError")
        .count();
    assert_eq!(errors, 1);
    // Another failure is told, and it is the same condition since then.
    let since = |world: &World| {
        let progress = world.resize("PodResizeInProgress").unwrap();
        progress.last_transition_time.unwrap().0
    };
    assert_eq!(since(&world), at(1_000));
    world.pass(10);
    world.step();
    let failure = Failure {
        reason: "ResizeError".to_owned(),
        message: "it broke again".to_owned(),
        retry: Retry::Backoff,
    };
    let failed = Progress::Failed {
        at: world.now,
        failure,
    };
    world.observed.actions.insert(resize_key(2), failed);
    world.step();
    let progress = world.resize("PodResizeInProgress").unwrap();
    assert_eq!(progress.message.as_deref(), Some("it broke again"));
    assert_eq!(since(&world), at(1_000));
    assert_eq!(world.told().last(), Some(&"ResizeError"));
    // Something else is asked for at once.
    world.ask(&SMALL.replace("64Mi", "96Mi"));
    world.grant();
    assert_eq!(world.step()[0].key, resize_key(3));
    world.settle();
    assert_eq!(world.resize("PodResizeInProgress"), None);
    assert_eq!(world.told_of(), ("1".into(), "96Mi".into()));
}

#[test]
fn a_run_that_ends_meanwhile_is_followed_by_one_that_has_it() {
    let mut world = world(SMALL, "");
    world.ask(LARGE);
    world.grant();
    world.step();
    world.exit("a", 0, 1);
    let held = world.settle_but(|kind| kind == Kind::Resize);
    assert_eq!(held, [resize_key(0)]);
    assert_eq!(world.container("a").restart_count, 1);
    assert_eq!(world.told_of(), ("2".into(), "128Mi".into()));
    // The answer comes late, and nobody waits for it. The next one has a key of its own.
    world.succeed(resize_key(0));
    world.settle();
    world.ask(SMALL);
    world.grant();
    assert_eq!(world.step()[0].key, resize_key(1));
}

#[test]
fn a_container_that_never_ran_holds_no_resize_of_another_up() {
    let mut world = World::new(&format!(
        r#"{{"containers":[{{"name":"b","image":"i","resources":{SMALL}}},{{"name":"a","image":"i"}}]}}"#
    ));
    let pulls = |kind| kind == Kind::Pull;
    world.settle_but(pulls);
    world.succeed(key(Some("b"), 0, Kind::Pull));
    assert_eq!(world.settle_but(pulls), [key(Some("a"), 0, Kind::Pull)]);
    assert_eq!(world.state("b"), "running");
    world.ask(LARGE);
    world.grant();
    world.step();
    assert!(world.resize("PodResizeInProgress").is_some());
    world.settle_but(pulls);
    assert_eq!(world.resize("PodResizeInProgress"), None);
    assert_eq!(world.told().last(), Some(&"ResizeCompleted"));
}

#[test]
fn one_that_is_restarted_for_it_is_in_progress_until_it_runs() {
    let mut world = world(SMALL, RESTARTS);
    world.ask(LARGE);
    world.grant();
    for held in [Kind::Stop, Kind::Pull, Kind::Mount, Kind::Start] {
        world.settle_but(|kind| kind == held);
        assert!(world.resize("PodResizeInProgress").is_some(), "{held:?}");
    }
    world.settle();
    assert_eq!(world.resize("PodResizeInProgress"), None);
    assert_eq!(world.state("a"), "running");
}

#[test]
fn a_pod_that_ends_is_not_resized() {
    let mut world = world(SMALL, "");
    world.observed.gone = true;
    world.step();
    world.ask(LARGE);
    world.grant();
    world.settle();
    assert!(world.last.released);
    assert!(!world.told().contains(&"ResizeStarted"));
}
