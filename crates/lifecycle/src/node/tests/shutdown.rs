//! In which order pods end with the node.

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn of_priority(uid: &str, priority: i32, grace: i64) -> PodView {
    let json =
        format!(r#"{{"spec":{{"priority":{priority},"terminationGracePeriodSeconds":{grace}}}}}"#);
    admitted(with(uid, 1, &json))
}

fn ends(step: &NodeStep) -> Vec<(&str, u32)> {
    let all = step
        .verdicts
        .iter()
        .filter_map(|(uid, verdict)| match verdict {
            Verdict::Shutdown { grace_seconds } => Some((uid.as_str(), *grace_seconds)),
            _ => None,
        });
    all.collect()
}

#[test]
fn the_lowest_priority_ends_first_and_each_group_has_its_time() {
    let periods = [(2_000_000_000, 10), (0, 20), (1000, 5)];
    let mut view = NodeView {
        pods: shared(vec![
            of_priority("below", -5, 3),
            of_priority("plain", 7, 60),
            of_priority("high", 1000, 60),
            of_priority("system", 2_000_001_000, 60),
        ]),
        shutdown: Some(
            periods
                .map(|(priority, seconds)| Period { priority, seconds })
                .to_vec(),
        ),
        ..NodeView::default()
    };
    let go = |view: &mut NodeView, seconds: i64| {
        let step = step(view, at(seconds));
        view.memory = step.memory.clone();
        step
    };
    let first = go(&mut view, 0);
    assert_eq!(ends(&first), [("below", 3), ("plain", 20)]);
    assert_eq!(first.wake_at, Some(at(20)));
    Arc::make_mut(&mut view.pods[0]).terminal = true;
    assert_eq!(ends(&go(&mut view, 5)), [("plain", 20)]);
    let second = go(&mut view, 20);
    assert_eq!(
        ends(&second),
        [("high", 5), ("plain", 20)],
        "its time is over"
    );
    assert_eq!(second.wake_at, Some(at(25)));
    Arc::make_mut(&mut view.pods[2]).terminal = true;
    let third = go(&mut view, 22);
    assert_eq!(
        ends(&third),
        [("plain", 20), ("system", 10)],
        "those before are over"
    );
    assert_eq!(third.wake_at, None);
}

#[test]
fn groups_without_pods_take_no_time() {
    let period = |priority, seconds| Period { priority, seconds };
    let view = NodeView {
        pods: shared(vec![
            of_priority("system", 2_000_000_000, 60),
            with("new", 2, "{}"),
        ]),
        allocatable: node(),
        shutdown: Some(vec![period(0, 20), period(2_000_000_000, 10)]),
        ..NodeView::default()
    };
    let step = step(&view, at(0));
    assert_eq!(ends(&step), [("system", 10)]);
    assert_eq!(refusal(&step.verdicts["new"]).0, "NodeShutdown");
}
