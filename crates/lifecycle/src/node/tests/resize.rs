//! Pods that run and ask for other resources.

use super::*;
use crate::observed::{Eviction, Sizing};

/// A pod that runs with some CPU and asks for other.
fn asks(uid: &str, created: i64, (has, wants): (u64, u64), more: &str) -> PodView {
    let cpu = |milli: u64| format!(r#""cpu":"{milli}m""#);
    let view = requests(uid, created, (&cpu(has), &cpu(wants)), more);
    assert_eq!(view.requests.cpu_milli, has);
    view
}

/// A pod that runs with some requests and asks for others.
fn requests(uid: &str, created: i64, (has, wants): (&str, &str), more: &str) -> PodView {
    let object = |requests: &str| {
        object(&format!(
            r#"{{"metadata":{{"uid":"{uid}","generation":2}},"spec":{{{more}"containers":[{{"name":"c","resources":{{"requests":{{{requests}}}}}}}]}}}}"#
        ))
    };
    let standing = Standing {
        verdict: Some(Verdict::Admitted),
        allocated: Some(Allocation::of(&object(has))),
        ..Standing::default()
    };
    let mut view = PodView::of(&object(wants), &Costs::default(), standing);
    view.created = Timestamp::from_second(created).unwrap();
    view
}

fn sizings(pods: Vec<PodView>) -> BTreeMap<String, Sizing> {
    let view = NodeView {
        allocatable: node(),
        pods: shared(pods),
        ..NodeView::default()
    };
    step(&view, Timestamp::UNIX_EPOCH).sizings
}

fn is_granted(sizing: &Sizing) -> bool {
    matches!(
        sizing,
        Sizing::Granted {
            generation: Some(2),
            ..
        }
    )
}

#[test]
fn fits_does_not_fit_now_and_never_fits() {
    let others = || admitted(pod("other", 1, 300));
    let of = |wants| sizings(vec![others(), asks("a", 2, (100, wants), "")])["a"].clone();
    assert!(is_granted(&of(500)));
    assert_eq!(
        of(501),
        Sizing::Deferred {
            reason: "OutOfcpu".to_owned(),
            message:
                "Node didn't have enough resource: cpu, requested: 501, used: 300, capacity: 800"
                    .to_owned(),
            generation: Some(2),
        }
    );
    assert_eq!(
        of(801),
        Sizing::Infeasible {
            message: "Node didn't have enough capacity: cpu, requested: 801, capacity: 800"
                .to_owned(),
            generation: Some(2),
        }
    );
}

#[test]
fn one_that_asks_for_what_it_has_is_not_answered() {
    assert_eq!(sizings(vec![asks("a", 1, (100, 100), "")]), BTreeMap::new());
}

#[test]
fn what_is_given_is_counted_at_once_and_what_is_given_back_too() {
    let all = sizings(vec![
        asks("first", 1, (100, 500), ""),
        asks("second", 2, (100, 400), ""),
    ]);
    assert!(is_granted(&all["first"]) && !is_granted(&all["second"]));
    // Who shrinks comes first, but what he has counts until he has taken it.
    let all = sizings(vec![
        asks("grows", 1, (100, 600), ""),
        asks("shrinks", 2, (400, 100), ""),
    ]);
    assert!(is_granted(&all["shrinks"]) && !is_granted(&all["grows"]));
}

#[test]
fn a_higher_priority_comes_first_and_a_pod_that_runs_before_a_new_one() {
    let all = sizings(vec![
        asks("low", 1, (100, 500), ""),
        asks("high", 2, (100, 500), r#""priority":7,"#),
    ]);
    assert!(is_granted(&all["high"]) && !is_granted(&all["low"]));
    let view = NodeView {
        allocatable: node(),
        pods: shared(vec![asks("old", 2, (100, 700), ""), pod("new", 1, 200)]),
        ..NodeView::default()
    };
    let step = step(&view, Timestamp::UNIX_EPOCH);
    assert!(is_granted(&step.sizings["old"]));
    assert_eq!(refusal(&step.verdicts["new"]).0, "OutOfcpu");
}

#[test]
fn of_the_same_priority_the_better_quality_of_service_comes_first() {
    // With limits as the requests are.
    let both = |cpu: u64| {
        let all = format!(r#""cpu":"{cpu}m","memory":"1Mi""#);
        format!(r#"{all}}},"limits":{{{all}"#)
    };
    let all = sizings(vec![
        asks("burstable", 1, (100, 500), ""),
        requests("guaranteed", 2, (&both(100), &both(500)), ""),
    ]);
    assert!(is_granted(&all["guaranteed"]) && !is_granted(&all["burstable"]));
}

#[test]
fn while_a_grant_is_under_way_either_counts_and_nothing_else_is_given() {
    let of = |cpu: u64| {
        object(&format!(
            r#"{{"spec":{{"containers":[{{"name":"c","resources":{{"requests":{{"cpu":"{cpu}m"}}}}}}]}}}}"#
        ))
    };
    let standing = |allocated: u64, granted: u64| Standing {
        verdict: Some(Verdict::Admitted),
        allocated: Some(Allocation::of(&of(allocated))),
        granted: Some(Allocation::of(&of(granted))),
        ..Standing::default()
    };
    for (allocated, granted) in [(100, 400), (400, 100)] {
        let view = PodView::of(&of(700), &Costs::default(), standing(allocated, granted));
        assert_eq!((view.requests.cpu_milli, view.wants), (400, None));
    }
}

#[test]
fn what_is_refused_at_the_start_is_infeasible_later() {
    let more = r#""resources":{"limits":{"cpu":"1"}},"#;
    let mut view = asks("a", 1, (100, 100), "");
    let changed = asks("a", 1, (100, 200), more);
    view.wants = changed.wants;
    let Sizing::Infeasible { message, .. } = &sizings(vec![view])["a"] else {
        panic!("given");
    };
    assert!(message.contains("spec.resources.limits"), "{message}");
}

#[test]
fn a_critical_pod_that_grows_has_room_made_and_nobody_takes_it_meanwhile() {
    let critical = || asks("critical", 2, (100, 500), r#""priority":2000000000,"#);
    let victim = admitted(pod("victim", 1, 600));
    let mut all = NodeView {
        allocatable: node(),
        pods: shared(vec![
            critical(),
            victim,
            asks("grows", 1, (50, 100), ""),
            pod("new", 9, 1),
        ]),
        ..NodeView::default()
    };
    let first = step(&all, Timestamp::UNIX_EPOCH);
    let goes = Verdict::Evicted {
        eviction: Eviction::Preemption,
        message: "Preempted in order to admit critical pod".to_owned(),
        grace_seconds: 30,
    };
    assert_eq!(first.verdicts["victim"], goes);
    let Sizing::Deferred { reason, .. } = &first.sizings["critical"] else {
        panic!("{:?}", first.sizings);
    };
    assert_eq!(reason, "OutOfcpu");
    assert!(
        !is_granted(&first.sizings["grows"]),
        "the room is another's"
    );
    assert!(!first.verdicts.contains_key("new"));
    all.memory = first.memory.clone();
    assert_eq!(step(&all, Timestamp::UNIX_EPOCH), first, "nobody else goes");
    let pods = &mut all.pods;
    Arc::make_mut(pods.iter_mut().find(|pod| pod.uid == "victim").unwrap()).terminal = true;
    let last = step(&all, Timestamp::UNIX_EPOCH);
    assert!(is_granted(&last.sizings["critical"]));
    assert!(is_granted(&last.sizings["grows"]));
    assert_eq!(last.verdicts["new"], Verdict::Admitted);
}

#[test]
fn who_gives_something_back_waits_for_nobodys_room() {
    let grows = [
        (r#""cpu":"100m""#, r#""cpu":"500m""#),
        (r#""memory":"100Mi""#, r#""memory":"700Mi""#),
    ];
    let less = [
        r#""cpu":"399m","memory":"499Mi""#,
        r#""cpu":"399m","memory":"500Mi""#,
        r#""cpu":"400m","memory":"499Mi""#,
    ];
    for ((has, wants), less) in grows
        .into_iter()
        .flat_map(|one| less.map(|less| (one, less)))
    {
        let critical = requests("critical", 2, (has, wants), r#""priority":2000000000,"#);
        let shrinks = (r#""cpu":"400m","memory":"500Mi""#, less);
        let victim = requests("victim", 1, (r#""cpu":"300m","memory":"424Mi""#, ""), "");
        let all = sizings(vec![
            critical,
            requests("shrinks", 1, shrinks, ""),
            PodView {
                wants: None,
                ..victim
            },
        ]);
        let Sizing::Deferred { .. } = &all["critical"] else {
            panic!("{all:?}");
        };
        assert!(is_granted(&all["shrinks"]), "{all:?}");
    }
}

#[test]
fn nobody_goes_for_a_critical_pod_that_could_not_have_it_then() {
    let of = |grown: u64, victim: &str, change: fn(&mut NodeView)| {
        let critical = asks("critical", 2, (100, grown), r#""priority":2000000000,"#);
        let other = PodView {
            requests: pod("other", 1, 600).requests,
            ..with("other", 1, victim)
        };
        let mut view = NodeView {
            allocatable: node(),
            pods: shared(vec![critical, admitted(other)]),
            ..NodeView::default()
        };
        change(&mut view);
        let step = step(&view, Timestamp::UNIX_EPOCH);
        assert!(step.memory.sentences.is_empty());
        step.sizings["critical"].clone()
    };
    let reason = |sizing: Sizing| match sizing {
        Sizing::Deferred { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    assert!(is_granted(&of(200, "{}", |_| ())), "it fits");
    let system = r#"{"spec":{"priority":2000000000}}"#;
    assert_eq!(reason(of(500, system, |_| ())), "UnexpectedAdmissionError");
    let ends = |view: &mut NodeView| view.shutdown = Some(Vec::new());
    assert_eq!(reason(of(500, "{}", ends)), "NodeShutdown");
    let never = of(801, "{}", |_| ());
    assert!(matches!(never, Sizing::Infeasible { .. }), "{never:?}");
}
