//! Containers that are added to a pod that runs.

use super::*;

const POD: &str =
    r#"{"initContainers":[{"name":"i","image":"i"}],"containers":[{"name":"a","image":"a"}]}"#;

impl World {
    /// `kubectl debug`.
    fn debug(&mut self, container: &str) {
        let spec = self.pod.spec.as_mut().unwrap();
        let all = spec.ephemeral_containers.get_or_insert_default();
        all.push(serde_json::from_str(container).unwrap());
    }
}

const DEBUGGER: &str = r#"{"name":"d","image":"d:1","targetContainerName":"a","resources":{}}"#;

#[test]
fn one_that_is_added_runs_once_and_changes_nothing_else() {
    let mut world = World::running(POD);
    let before = world.last.status.clone();
    world.debug(DEBUGGER);
    world.step();
    assert_eq!(world.state("d"), "waiting PodInitializing");
    world.settle();
    assert_eq!(world.state("d"), "running");
    let status = world.container("d");
    assert_eq!((status.ready, status.started), (false, None));
    let started = world.events.iter().rfind(|event| event.reason == "Started");
    let place = started.unwrap().container.as_deref();
    assert_eq!(place, Some("spec.ephemeralContainers{d}"));
    world.exit("d", 0, 3);
    world.settle();
    // It stays ended, whatever the pod's policy says.
    assert_eq!(world.state("d"), "terminated 3 Error");
    assert_eq!(world.container("d").restart_count, 0);
    let mut after = world.last.status.clone();
    after.ephemeral_container_statuses = None;
    assert_eq!(after, before);
}

#[test]
fn one_starts_while_an_init_container_does_not_end() {
    let mut world = World::new(POD);
    world.settle();
    world.debug(DEBUGGER);
    world.settle();
    assert_eq!(
        (world.phase(), world.state("d")),
        ("Pending", "running".to_owned())
    );
    assert_eq!(world.state("a"), "waiting PodInitializing");
}

#[test]
fn one_that_runs_holds_no_pod_up_and_ends_with_it() {
    let mut world = World::running(POD);
    world.pod.spec.as_mut().unwrap().restart_policy = Some("Never".to_owned());
    world.debug(DEBUGGER);
    world.settle();
    world.exit("a", 0, 0);
    let asked = world.step();
    let stops: Vec<&Key> = asked.iter().map(|action| &action.key).collect();
    assert!(stops.contains(&&key(Some("d"), 0, Kind::Stop)), "{stops:?}");
    // No terminal phase while it may run.
    assert_eq!(world.phase(), "Running");
    world.settle();
    assert_eq!((world.phase(), world.last.released), ("Succeeded", true));
    assert_eq!(world.state("d"), "terminated 143 Error");
}

#[test]
fn one_that_could_not_be_had_is_tried_again_and_one_that_may_not_is_not() {
    let mut world = World::running(POD);
    world.debug(DEBUGGER);
    world.settle_but(|kind| kind == Kind::Pull);
    world.fail(
        key(Some("d"), 0, Kind::Pull),
        "ErrImagePull",
        Retry::Backoff,
    );
    world.step();
    assert_eq!(world.state("d"), "waiting ErrImagePull");
    world.pass(10);
    world.settle();
    assert_eq!(world.state("d"), "running");
    world.debug(r#"{"name":"e","image":"d:1","securityContext":{"procMount":"Unmasked"}}"#);
    world.settle();
    assert_eq!(world.state("e"), "waiting CreateContainerConfigError");
    let waiting = world.container("e").state.clone().unwrap().waiting.unwrap();
    let message = waiting.message.unwrap();
    assert!(message.contains("spec.ephemeralContainers[e].securityContext.procMount"));
}

#[test]
fn a_node_that_lost_its_memory_takes_up_what_runs() {
    let mut world = World::running(POD);
    world.debug(DEBUGGER);
    world.settle();
    world.pod.status = Some(world.last.status.clone());
    world.memory = Memory::default();
    let mut known = Observed {
        guest_host: Some(2),
        verdict: Some(Verdict::Admitted),
        ..Observed::default()
    };
    // The guest host runs the main container alone.
    let start = key(Some("a"), 0, Kind::Start);
    let fact = world.observed.actions.remove(&start).unwrap();
    known.actions.insert(start, fact);
    world.observed = known;
    world.settle();
    assert_eq!(world.state("a"), "running");
    assert_eq!(world.state("d"), "terminated 137 ContainerStatusUnknown");
}

/// An agent dies before its Start is answered; of the next one's guest host this is the number.
fn died_while_starting(world: &mut World, name: &str, guest_host: u64) {
    world.settle_but(|kind| kind == Kind::Start);
    world
        .observed
        .actions
        .remove(&key(Some(name), 0, Kind::Start));
    world.observed.guest_host = Some(guest_host);
}

#[test]
fn one_that_may_have_run_in_a_guest_host_that_died_does_not_run_again() {
    let mut world = World::running(POD);
    world.debug(DEBUGGER);
    died_while_starting(&mut world, "d", 2);
    world.settle();
    assert_eq!(world.state("d"), "terminated 137 ContainerStatusUnknown");
    assert_eq!(world.container("d").restart_count, 0);
}

#[test]
fn one_of_which_its_guest_host_knows_nothing_is_asked_for_again() {
    let mut world = World::running(POD);
    world.debug(DEBUGGER);
    died_while_starting(&mut world, "d", 1);
    world.settle();
    assert_eq!(world.state("d"), "running");
}

#[test]
fn one_whose_start_waits_for_a_guest_host_is_asked_of_whichever_comes() {
    let mut world = World::running(POD);
    world.debug(DEBUGGER);
    world.settle_but(|kind| kind == Kind::Mount);
    world.observed.guest_host = None;
    world.settle();
    assert_eq!(world.state("d"), "waiting PodInitializing");
    world.observed.guest_host = Some(2);
    world.settle();
    assert_eq!(world.state("d"), "running");
}

#[test]
fn a_run_that_may_have_been_counts_by_the_policy() {
    let start = |policy: &str| {
        let mut world = World::new(r#"{"containers":[{"name":"a","image":"a"}]}"#);
        world.pod.spec.as_mut().unwrap().restart_policy = Some(policy.to_owned());
        died_while_starting(&mut world, "a", 2);
        world.settle();
        let count = world.container("a").restart_count;
        (world.phase().to_owned(), world.state("a"), count)
    };
    let lost = "terminated 137 ContainerStatusUnknown".to_owned();
    assert_eq!(start("Never"), ("Failed".to_owned(), lost, 0));
    assert_eq!(
        start("Always"),
        ("Running".to_owned(), "running".to_owned(), 1)
    );
}
