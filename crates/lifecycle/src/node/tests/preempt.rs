//! Room for critical pods.

use super::*;
use crate::observed::Eviction;

const CRITICAL: &str = r#"{"spec":{"priority":2000000000}}"#;
const BURSTABLE: &str =
    r#"{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"1m"}}}]}}"#;
const GUARANTEED: &str = r#"{"spec":{"containers":[{"name":"c","resources":{"limits":
    {"cpu":"1m","memory":"1"},"requests":{"cpu":"1m","memory":"1"}}}]}}"#;

fn asks(uid: &str, created: i64, cpu_milli: u64, json: &str) -> PodView {
    PodView {
        requests: pod(uid, created, cpu_milli).requests,
        ..with(uid, created, json)
    }
}

fn view(pods: Vec<PodView>) -> NodeView {
    NodeView {
        allocatable: node(),
        pods: shared(pods),
        ..NodeView::default()
    }
}

fn goes(grace_seconds: u32) -> Verdict {
    Verdict::Evicted {
        eviction: Eviction::Preemption,
        message: "Preempted in order to admit critical pod".to_owned(),
        grace_seconds,
    }
}

#[test]
fn a_critical_pod_waits_until_there_is_room_and_so_do_those_after_it() {
    let graceful = r#"{"spec":{"terminationGracePeriodSeconds":7}}"#;
    let small = admitted(asks("small", 1, 300, graceful));
    let large = admitted(asks("large", 1, 400, "{}"));
    let critical = asks("critical", 5, 300, CRITICAL);
    let mut all = view(vec![small, large, critical, pod("later", 6, 1)]);
    let first = step(&all, Timestamp::UNIX_EPOCH);
    assert_eq!(
        first.verdicts["small"],
        goes(7),
        "200 are missing: the smaller does"
    );
    assert_eq!(first.verdicts["large"], Verdict::Admitted);
    assert!(!first.verdicts.contains_key("critical"));
    assert!(!first.verdicts.contains_key("later"));
    all.memory = first.memory.clone();
    let again = step(&all, Timestamp::UNIX_EPOCH);
    assert_eq!(again, first, "nobody else has to go while it ends");
    all.memory = NodeMemory::default();
    Arc::make_mut(&mut all.pods[0]).ending = Some(Cause::Preemption);
    let restarted = step(&all, Timestamp::UNIX_EPOCH);
    assert_eq!(
        restarted.verdicts["large"],
        Verdict::Admitted,
        "nor after a restart"
    );
    assert_eq!(restarted.memory.sentences.len(), 0);
    Arc::make_mut(&mut all.pods[0]).terminal = true;
    let last = step(&all, Timestamp::UNIX_EPOCH);
    assert_eq!(last.verdicts["critical"], Verdict::Admitted);
    assert_eq!(last.verdicts["later"], Verdict::Admitted);
    assert!(last.memory.sentences.is_empty());
}

#[test]
fn the_lower_quality_of_service_goes_first_and_no_critical_pod() {
    let pods = vec![
        admitted(asks("guaranteed", 1, 200, GUARANTEED)),
        admitted(asks("burstable", 1, 200, BURSTABLE)),
        admitted(asks("best-effort", 1, 200, "{}")),
        admitted(asks("system", 1, 200, CRITICAL)),
        asks("critical", 2, 400, CRITICAL),
    ];
    let step = step(&view(pods), Timestamp::UNIX_EPOCH);
    let gone: Vec<&str> = step.memory.sentences.keys().map(String::as_str).collect();
    assert_eq!(gone, ["best-effort", "burstable"]);
}

#[test]
fn a_critical_pod_that_no_room_helps_is_refused() {
    let pods = vec![
        admitted(asks("a", 1, 500, "{}")),
        asks("critical", 2, 900, CRITICAL),
    ];
    let verdicts = step(&view(pods), Timestamp::UNIX_EPOCH).verdicts;
    let (reason, message) = refusal(&verdicts["critical"]);
    assert_eq!(reason, "UnexpectedAdmissionError");
    assert!(
        message.ends_with("reclaim resources: [(res: cpu, q: 100), ]"),
        "{message}"
    );
    assert_eq!(verdicts["a"], Verdict::Admitted);
}

#[test]
fn room_is_not_made_for_a_pod_that_is_refused_in_any_case() {
    let port = r#""containers":[{"name":"c","ports":[{"containerPort":1,"hostPort":9}]}]"#;
    let taken = format!(r#"{{"spec":{{{port}}}}}"#);
    let critical = format!(r#"{{"spec":{{"priority":2000001000,{port}}}}}"#);
    let pods = vec![
        admitted(asks("a", 1, 800, &taken)),
        asks("critical", 2, 100, &critical),
    ];
    let step = step(&view(pods), Timestamp::UNIX_EPOCH);
    assert_eq!(refusal(&step.verdicts["critical"]).0, "NodePorts");
    assert_eq!(step.verdicts["a"], Verdict::Admitted);
}

#[test]
fn between_critical_pods_the_priority_decides() {
    let higher = r#"{"spec":{"priority":2000001000}}"#;
    let fill = |json| {
        vec![
            admitted(asks("a", 1, 800, CRITICAL)),
            asks("b", 2, 100, json),
        ]
    };
    let step_of = |json| step(&view(fill(json)), Timestamp::UNIX_EPOCH);
    assert_eq!(step_of(higher).verdicts["a"], goes(30));
    let same = step_of(CRITICAL).verdicts;
    assert_eq!(refusal(&same["b"]).0, "UnexpectedAdmissionError");
}

/// A pod that runs and requests so much of everything that can be short.
fn holds(uid: &str, requests: Resources) -> PodView {
    PodView {
        requests,
        ..admitted(with(uid, 1, "{}"))
    }
}

/// Who makes room for a critical pod on a node of a hundred of everything.
fn gone(pods: Vec<PodView>, asks: Resources) -> Vec<String> {
    let critical = PodView {
        requests: asks,
        ..with("critical", 5, CRITICAL)
    };
    let hundred = Resources {
        cpu_milli: 100,
        memory: 100,
        ephemeral_storage: 100,
        pods: 100,
        mappings: 100,
        descriptors: 100,
    };
    let view = NodeView {
        allocatable: hundred,
        pods: shared([pods, vec![critical]].concat()),
        ..NodeView::default()
    };
    let step = step(&view, Timestamp::UNIX_EPOCH);
    step.memory.sentences.keys().cloned().collect()
}

#[test]
fn room_is_made_of_whatever_is_short_by_who_holds_it() {
    let none = Resources::default();
    for of in [
        |amount| Resources {
            cpu_milli: amount,
            ..Resources::default()
        },
        |amount| Resources {
            memory: amount,
            ..Resources::default()
        },
        |amount| Resources {
            ephemeral_storage: amount,
            ..Resources::default()
        },
        |amount| Resources {
            pods: amount,
            ..Resources::default()
        },
        |amount| Resources {
            mappings: amount,
            ..Resources::default()
        },
        |amount| Resources {
            descriptors: amount,
            ..Resources::default()
        },
    ] {
        let pods = vec![holds("idle", none), holds("has", of(60))];
        assert_eq!(gone(pods.clone(), of(41)), ["has"], "{:?}", of(41));
        assert_eq!(gone(pods, of(40)), [""; 0], "it fits");
    }
}

#[test]
fn few_go_who_cover_most_of_what_is_missing() {
    let both = |cpu_milli, memory| Resources {
        cpu_milli,
        memory,
        ..Resources::default()
    };
    let pods = vec![
        holds("cpu", both(50, 0)),
        holds("memory", both(0, 50)),
        holds("half", both(20, 20)),
        holds("more", both(30, 30)),
    ];
    // All is held. 20 of each are missing: the smaller of the two that have them both.
    assert_eq!(gone(pods.clone(), both(20, 20)), ["half"]);
    assert_eq!(
        gone(pods.clone(), both(25, 25)),
        ["more"],
        "it alone is enough"
    );
    // 25 of one: the one that has them, with the least of the other.
    assert_eq!(gone(pods.clone(), both(40, 0)), ["cpu"]);
    assert_eq!(gone(pods, both(0, 40)), ["memory"]);
    // Half of one weighs more than a tenth of the other, however they are counted.
    let pods = vec![
        holds("half-of-cpu", both(10, 50)),
        holds("most-of-both", both(20, 45)),
        holds("rest", both(0, 5)),
    ];
    assert_eq!(gone(pods, both(90, 50)), ["most-of-both", "rest"]);
}
