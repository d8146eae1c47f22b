//! Who is admitted, by what is free.

use super::*;

#[test]
fn the_older_pod_wins_and_the_message_is_the_kubelets() {
    let verdicts = decide(node(), vec![pod("b", 2, 500), pod("a", 1, 400)]);
    assert_eq!(verdicts["a"], Verdict::Admitted);
    let Verdict::Refused { reason, message } = &verdicts["b"] else {
        panic!("{verdicts:?}")
    };
    assert_eq!(reason, "OutOfcpu");
    assert_eq!(
        message,
        "Node didn't have enough resource: cpu, requested: 500, used: 400, capacity: 800"
    );
}

#[test]
fn of_one_age_the_uid_decides() {
    let verdicts = decide(node(), vec![pod("b", 1, 500), pod("a", 1, 500)]);
    assert_eq!(verdicts["a"], Verdict::Admitted);
    assert!(matches!(verdicts["b"], Verdict::Refused { .. }));
}

#[test]
fn what_was_admitted_stays_whoever_is_older() {
    let held = PodView {
        verdict: Some(Verdict::Admitted),
        ..pod("b", 2, 500)
    };
    let verdicts = decide(node(), vec![held, pod("a", 1, 500)]);
    assert_eq!(verdicts["b"], Verdict::Admitted);
    assert!(matches!(verdicts["a"], Verdict::Refused { .. }));
}

#[test]
fn pods_that_are_over_or_refused_hold_nothing() {
    let over = PodView {
        verdict: Some(Verdict::Admitted),
        terminal: true,
        ..pod("a", 1, 800)
    };
    let refusal = Verdict::Refused {
        reason: "OutOfcpu".into(),
        message: "no".into(),
    };
    let refused = PodView {
        verdict: Some(refusal.clone()),
        ..pod("b", 2, 900)
    };
    let verdicts = decide(node(), vec![over, refused, pod("c", 3, 800)]);
    assert_eq!(verdicts["c"], Verdict::Admitted);
    assert_eq!(verdicts["b"], refusal);
}

#[test]
fn each_kind_has_its_reason() {
    for (allocatable, reason, help) in [
        (
            Resources { pods: 0, ..node() },
            "OutOfpods",
            "requested: 1, used: 0, capacity: 0",
        ),
        (
            Resources {
                mappings: 1,
                ..node()
            },
            "OutOfmappings",
            "vm.max_map_count",
        ),
        (
            Resources {
                descriptors: 2,
                ..node()
            },
            "OutOfdescriptors",
            "RLIMIT_NOFILE",
        ),
    ] {
        let verdicts = decide(allocatable, vec![pod("a", 1, 1)]);
        let Verdict::Refused {
            reason: given,
            message,
        } = &verdicts["a"]
        else {
            panic!()
        };
        assert_eq!(given, reason);
        assert!(message.contains(help), "{message}");
    }
}

#[test]
fn a_shutdown_ends_who_lives_and_lets_nobody_in() {
    let held = PodView {
        verdict: Some(Verdict::Admitted),
        ..pod("a", 1, 1)
    };
    let over = PodView {
        terminal: true,
        ..held.clone()
    };
    let over = PodView {
        uid: "o".to_owned(),
        ..over
    };
    let view = NodeView {
        allocatable: node(),
        pods: shared(vec![held, over, pod("n", 1, 1)]),
        shutdown: Some(vec![Period {
            priority: 0,
            seconds: 7,
        }]),
        ..NodeView::default()
    };
    let verdicts = step(&view, Timestamp::UNIX_EPOCH).verdicts;
    assert_eq!(verdicts["a"], Verdict::Shutdown { grace_seconds: 7 });
    assert_eq!(verdicts["o"], Verdict::Admitted);
    assert!(matches!(&verdicts["n"], Verdict::Refused { reason, .. } if reason == "NodeShutdown"));
}

#[test]
fn a_huge_request_does_not_wrap() {
    let verdicts = decide(node(), vec![pod("a", 1, 100), pod("b", 2, u64::MAX)]);
    assert_eq!(verdicts["a"], Verdict::Admitted);
    assert!(matches!(verdicts["b"], Verdict::Refused { .. }));
}
