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
