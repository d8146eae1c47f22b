//! A container's image: what is asked for, and what is told of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;

/// A pod of one container of that image and policy, whose pull was asked for.
fn pulling(image: &str, policy: Option<&str>) -> World {
    let policy = policy.map_or(String::new(), |policy| {
        format!(r#","imagePullPolicy":"{policy}""#)
    });
    let mut world = World::new(&format!(
        r#"{{"containers":[{{"name":"a","image":"{image}"{policy}}}],"restartPolicy":"Never"}}"#
    ));
    world.step();
    world
}

fn pull(attempt: u32) -> Key {
    key(Some("a"), attempt, Kind::Pull)
}

/// The policy that the pull was asked for with.
fn policy(world: &World) -> PullPolicy {
    let asked = world.last.actions.iter().find_map(|one| match &one.what {
        What::Pull { policy, .. } => Some(*policy),
        _ => None,
    });
    asked.unwrap()
}

/// The image came, after so many milliseconds.
fn came(world: &mut World, present: bool, took_ms: u64) {
    let image = Image {
        id: "sha256:aa".to_owned(),
        size: 7,
        present,
        took_ms,
    };
    let at = world.now;
    let output = Output::Pulled(image);
    let done = Progress::Done { at, output };
    world.observed.actions.insert(pull(0), done);
    world.step();
}

/// Every event: its type, reason and message.
fn said(world: &World) -> Vec<(EventKind, &str, &str)> {
    let all = world.events.iter();
    all.map(|one| (one.kind, one.reason.as_str(), one.message.as_str()))
        .collect()
}

#[test]
fn the_policy_is_the_pods_or_goes_by_the_tag() {
    for (image, given, wanted) in [
        ("i:1", None, PullPolicy::IfNotPresent),
        ("i:1", Some("Always"), PullPolicy::Always),
        ("i:1", Some("Never"), PullPolicy::Never),
        ("i", None, PullPolicy::Always),
        ("i:latest", None, PullPolicy::Always),
        ("i:latest", Some("IfNotPresent"), PullPolicy::IfNotPresent),
    ] {
        let world = pulling(image, given);
        assert_eq!(policy(&world), wanted, "{image} {given:?}");
    }
}

#[test]
fn what_was_there_is_told_in_other_words_than_what_came() {
    const HERE: &str =
        "Container image \"i:1\" already present on machine and can be accessed by the pod";
    const CAME: &str = "Successfully pulled image \"i:1\" in 1.5s (1.5s including waiting). \
        Image size: 7 bytes.";
    let pulling_it = (EventKind::Normal, "Pulling", "Pulling image \"i:1\"");
    let pulled = |text| (EventKind::Normal, "Pulled", text);
    let mut world = pulling("i:1", None);
    came(&mut world, true, 0);
    assert_eq!(said(&world), [pulled(HERE)]);
    let mut world = pulling("i:1", None);
    came(&mut world, false, 1_500);
    assert_eq!(said(&world), [pulling_it, pulled(CAME)]);
    // A registry is asked in any case, so it is told in any case, and at once.
    let mut world = pulling("i:1", Some("Always"));
    assert_eq!(said(&world), [pulling_it]);
    came(&mut world, true, 1_500);
    assert_eq!(said(&world), [pulling_it, pulled(CAME)]);
}

#[test]
fn a_pull_that_takes_a_second_is_told_before_its_end() {
    let mut world = pulling("i:1", None);
    world.step();
    assert_eq!(world.last.wake_at, Some(at(1_001)));
    assert!(world.events.is_empty(), "it may be here already");
    world.pass(1);
    world.step();
    world.pass(1);
    world.step();
    assert_eq!(world.told(), ["Pulling"]);
    came(&mut world, false, 2_000);
    assert_eq!(world.told(), ["Pulling", "Pulled"]);
    // Nobody asks a registry.
    let mut world = pulling("i:1", Some("Never"));
    world.pass(60);
    world.step();
    assert!(world.events.is_empty());
}

#[test]
fn each_failure_is_told_in_the_kubelets_words() {
    for (reason, first, message) in [
        (
            "ErrImagePull",
            "Failed",
            "Failed to pull image \"i:1\": it broke",
        ),
        (
            "InvalidImageName",
            "InspectFailed",
            "Failed to apply default image tag \"i:1\": it broke",
        ),
        (
            "ImageInspectError",
            "InspectFailed",
            "Failed to inspect image \"i:1\": it broke",
        ),
        (
            "ErrImageNeverPull",
            "ErrImageNeverPull",
            "Container image \"i:1\" is not present with pull policy of Never",
        ),
    ] {
        let mut world = pulling("i:1", None);
        world.fail(pull(0), reason, Retry::Backoff);
        world.step();
        let error = format!("Error: {reason}");
        let mut wanted = vec![
            (EventKind::Warning, first, message),
            (EventKind::Warning, "Failed", error.as_str()),
        ];
        if first == "Failed" {
            wanted.insert(0, (EventKind::Normal, "Pulling", "Pulling image \"i:1\""));
        }
        assert_eq!(said(&world), wanted);
        assert_eq!(world.state("a"), format!("waiting {reason}"));
    }
}

#[test]
fn a_pull_that_was_told_is_not_told_again_when_it_fails() {
    let mut world = pulling("i:1", Some("Always"));
    world.fail(pull(0), "ErrImagePull", Retry::Backoff);
    world.step();
    assert_eq!(world.told(), ["Pulling", "Failed", "Failed"]);
}

#[test]
fn a_backoff_is_told_once_and_what_is_no_pull_has_none() {
    let mut world = pulling("i:1", None);
    world.fail(pull(0), "ErrImagePull", Retry::Backoff);
    world.step();
    assert_eq!(world.last.wake_at, Some(at(1_005)), "its failure is shown");
    let before = world.events.len();
    for _ in 0..3 {
        world.pass(2);
        world.step();
    }
    let backoff = "Back-off pulling image \"i:1\"";
    assert_eq!(
        said(&world)[before..],
        [
            (EventKind::Normal, "BackOff", backoff),
            (EventKind::Warning, "Failed", "Error: ImagePullBackOff"),
        ]
    );
    assert_eq!(world.last.wake_at, Some(at(1_010)));
    for reason in ["ErrImageNeverPull", "ImageInspectError"] {
        let mut world = pulling("i:1", Some("Never"));
        world.fail(pull(0), reason, Retry::Backoff);
        world.step();
        world.pass(9);
        assert!(world.step().is_empty());
        assert_eq!(world.state("a"), format!("waiting {reason}"));
        world.pass(1);
        world.step();
        assert!(world.observed.actions.contains_key(&pull(1)), "each sync");
        world.fail(pull(1), reason, Retry::Backoff);
        world.step();
        world.pass(10);
        world.step();
        assert!(world.observed.actions.contains_key(&pull(2)), "no longer");
    }
    // Nothing but another image helps, so there is no wait to tell of.
    let mut world = pulling("i:1", None);
    world.fail(pull(0), "ErrImagePull", Retry::Never);
    world.step();
    world.pass(3_600);
    assert!(world.step().is_empty());
    assert_eq!(world.state("a"), "waiting ErrImagePull");
    assert_eq!(world.last.wake_at, None);
}

#[test]
fn another_image_is_pulled_at_once_and_without_the_backoff_of_the_first() {
    let mut world = pulling("i:1", None);
    let change = |world: &mut World, image: &str| {
        world.pod.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
        world.step();
    };
    change(&mut world, "j:1");
    assert!(world.observed.actions.contains_key(&pull(1)));
    assert_eq!(world.remembered("a").pull.reference, "j:1");
    // The first one's answer is nobody's any more.
    world.fail(pull(0), "ErrImagePull", Retry::Backoff);
    world.step();
    assert!(world.events.is_empty() && !world.observed.actions.contains_key(&pull(0)));
    for (attempt, wait) in [(1, 10), (2, 20)] {
        world.fail(pull(attempt), "ErrImagePull", Retry::Backoff);
        world.step();
        world.pass(wait);
        world.step();
    }
    assert_eq!(world.remembered("a").pull.backoff.unwrap().seconds, 20);
    change(&mut world, "k:1");
    assert!(world.observed.actions.contains_key(&pull(4)));
    assert_eq!(world.remembered("a").pull.backoff, None);
    assert_eq!(world.state("a"), "waiting ContainerCreating");
}

#[test]
fn an_answer_that_names_no_image_is_asked_for_again() {
    let mut world = pulling("i:1", None);
    let at = world.now;
    let output = Output::Nothing;
    let done = Progress::Done { at, output };
    world.observed.actions.insert(pull(0), done);
    world.step();
    assert_eq!(world.state("a"), "waiting ImageInspectError");
    world.pass(10);
    world.step();
    assert!(world.observed.actions.contains_key(&pull(1)));
}

#[test]
fn another_image_waits_for_no_backoff_of_a_root_that_could_not_be_made() {
    let mut world = pulling("i:1", None);
    world.settle_but(|kind| kind == Kind::Mount);
    world.succeed(key(None, 0, Kind::Mount));
    world.settle_but(|kind| kind == Kind::Mount);
    world.pod.spec.as_mut().unwrap().containers[0].image = Some("j:1".to_owned());
    let mount = key(Some("a"), 0, Kind::Mount);
    world.fail(mount, "CreateContainerError", Retry::Backoff);
    world.step();
    assert_eq!(world.last.wake_at, Some(world.now));
    world.step();
    assert!(world.observed.actions.contains_key(&pull(1)));
}
