//! Pods whose containers all begin anew for a rule.

use super::*;

const POD: &str = r#"{"restartPolicy":"Never",
    "initContainers":[{"name":"i","image":"i"},{"name":"s","image":"s","restartPolicy":"Always"}],
    "containers":[{"name":"a","image":"a","restartPolicy":"Never","restartPolicyRules":[
        {"action":"RestartAllContainers","exitCodes":{"operator":"In","values":[42]}}]},
        {"name":"b","image":"b","lifecycle":{"preStop":{"exec":{"command":["x"]}}}}]}"#;

#[test]
fn every_container_begins_anew_in_its_order() {
    let mut world = World::running(POD);
    assert_eq!(world.condition("AllContainersRestarting").0, "False");
    let made = world.memory.ips.clone();
    world.exit("a", 0, 42);
    let asked = world.step();
    let stops: Vec<&str> = asked
        .iter()
        .filter(|one| {
            matches!(
                one.what,
                What::Stop {
                    cause: Cause::RestartAll,
                    ..
                }
            )
        })
        .map(|one| one.key.container.as_deref().unwrap())
        .collect();
    // At once, and without preStop.
    assert_eq!(stops, ["s", "b"]);
    assert!(
        asked
            .iter()
            .all(|one| !matches!(one.what, What::Exec { .. }))
    );
    let killing = world.events.iter().filter(|one| one.reason == "Killing");
    let words: Vec<&str> = killing.map(|one| one.message.as_str()).collect();
    assert_eq!(words, ["killing"; 2], "the kubelet's word");
    assert_eq!(
        world.condition("AllContainersRestarting"),
        (
            "True".to_owned(),
            Some("RestartAllContainersStarted".to_owned())
        )
    );
    world.settle();
    // The init container runs again, and the others wait for it.
    assert_eq!(world.state("i"), "running");
    for name in ["s", "a", "b"] {
        assert_eq!(
            world.state(name),
            "waiting RestartingAllContainers",
            "{name}"
        );
    }
    assert_eq!(world.condition("AllContainersRestarting").0, "False");
    assert_eq!(world.condition("Initialized").0, "True");
    let run = world.remembered("i").attempt;
    world.exit("i", run, 0);
    world.settle();
    for name in ["s", "a", "b"] {
        assert_eq!(world.state(name), "running", "{name}");
        assert_eq!(world.container(name).restart_count, 1, "{name}");
    }
    assert_eq!(world.memory.ips, made);
    assert_eq!(world.condition("Ready").0, "True");
}

#[test]
fn another_code_is_of_no_rule() {
    let mut world = World::running(POD);
    world.exit("a", 0, 41);
    world.settle();
    assert_eq!(world.state("a"), "terminated 41 Error");
    assert_eq!(world.state("b"), "running");
}

#[test]
fn an_init_container_that_fails_anew_fails_the_pod_whatever_the_others_had_done() {
    let mut world = World::running(
        r#"{"restartPolicy":"Never","initContainers":[{"name":"i","image":"i"}],
            "containers":[{"name":"a","image":"a","restartPolicy":"Never","restartPolicyRules":[
                {"action":"RestartAllContainers","exitCodes":{"operator":"In","values":[0]}}]}]}"#,
    );
    world.exit("a", 0, 0);
    world.settle();
    assert_eq!(world.state("i"), "running");
    world.exit("i", 1, 1);
    world.settle();
    assert_eq!(world.state("a"), "terminated 0 Completed");
    assert_eq!(world.phase(), "Failed");
}

#[test]
fn a_pod_that_ends_meanwhile_ends() {
    let mut world = World::running(POD);
    world.exit("a", 0, 42);
    world.step();
    world.observed.gone = true;
    world.settle();
    assert_eq!((world.phase(), world.last.released), ("Failed", true));
    assert_eq!(world.condition("AllContainersRestarting").0, "False");
}

#[test]
fn the_last_container_to_end_may_restart_all() {
    let mut world = World::running(POD);
    world.exit("b", 0, 0);
    world.settle();
    world.exit("a", 0, 42);
    world.settle();
    let run = world.remembered("i").attempt;
    world.exit("i", run, 0);
    world.settle();
    assert_eq!(
        (world.state("a"), world.state("b")),
        ("running".into(), "running".into())
    );
}

#[test]
fn what_comes_after_a_sidecar_waits_for_it_again() {
    let mut world = World::running(
        r#"{"restartPolicy":"Never",
        "initContainers":[{"name":"s","image":"s","restartPolicy":"Always"},{"name":"i","image":"i"}],
        "containers":[{"name":"a","image":"a","restartPolicy":"Never","restartPolicyRules":[
            {"action":"RestartAllContainers","exitCodes":{"operator":"In","values":[42]}}]}]}"#,
    );
    world.exit("a", 0, 42);
    let held = world.settle_but(|kind| kind == Kind::Start);
    let starts: Vec<Option<&str>> = held.iter().map(|one| one.container.as_deref()).collect();
    assert_eq!(starts, [Some("s")]);
    world.settle();
    assert_eq!(world.state("i"), "running");
}

/// One that runs already holds nobody up when it is restarted alone.
#[test]
fn a_sidecar_that_is_restarted_alone_is_not_waited_for() {
    let mut world = World::new(
        r#"{"initContainers":[{"name":"s","image":"s","restartPolicy":"Always"},
            {"name":"i","image":"i"}],"containers":[{"name":"a","image":"a"}]}"#,
    );
    world.settle();
    assert_eq!(world.state("i"), "running");
    world.exit("s", 0, 1);
    world.settle_but(|kind| kind == Kind::Pull);
    world.exit("i", 0, 1);
    let held = world.settle_but(|kind| kind == Kind::Pull);
    let pulls: Vec<Option<&str>> = held.iter().map(|one| one.container.as_deref()).collect();
    assert_eq!(pulls, [Some("i"), Some("s")]);
}
