//! `node_step` on its own: one question a test.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod admit;
mod collect;
mod limits;
mod place;
mod preempt;
mod pressure;
mod resize;
mod shutdown;

use super::*;

/// A Pod of that JSON: what `spec` has beside its container, and metadata if need be.
fn object(json: &str) -> Arc<Pod> {
    let mut pod: Pod = serde_json::from_str(json).unwrap();
    let spec = pod.spec.get_or_insert_default();
    if spec.containers.is_empty() {
        spec.containers.push(k8s_openapi::api::core::v1::Container {
            name: "c".to_owned(),
            ..Default::default()
        });
    }
    Arc::new(pod)
}

/// A new pod of that age with that object.
fn with(uid: &str, created: i64, json: &str) -> PodView {
    let mut view = PodView::of(&object(json), &Costs::default(), Standing::default());
    view.uid = uid.to_owned();
    view.created = Timestamp::from_second(created).unwrap();
    view
}

/// A new pod that asks for some CPU, and for what each pod takes.
fn pod(uid: &str, created: i64, cpu_milli: u64) -> PodView {
    PodView {
        requests: Resources {
            cpu_milli,
            pods: 1,
            mappings: 2,
            descriptors: 3,
            ..Resources::default()
        },
        ..with(uid, created, "{}")
    }
}

/// It was admitted before.
fn admitted(pod: PodView) -> PodView {
    PodView {
        verdict: Some(Verdict::Admitted),
        ..pod
    }
}

fn node() -> Resources {
    Resources {
        cpu_milli: 800,
        memory: 1 << 30,
        pods: 10,
        mappings: 100,
        descriptors: 100,
        ephemeral_storage: 0,
    }
}

fn shared(pods: Vec<PodView>) -> Vec<Arc<PodView>> {
    pods.into_iter().map(Arc::new).collect()
}

/// Decides, whatever the order in which the pods are given. The verdicts are those that hold from then on: of a pod that
/// is told none it is the one that it had.
fn step(view: &NodeView, now: Timestamp) -> NodeStep {
    let mut decided = node_step(view, now);
    let mut reversed = view.clone();
    reversed.pods.reverse();
    assert_eq!(node_step(&reversed, now), decided, "the order given counts");
    for pod in view.pods() {
        let told = decided.verdicts.get(&pod.uid);
        assert!(told.is_none() || told != pod.verdict.as_ref(), "told again");
        let held = told.or(pod.verdict.as_ref()).cloned();
        decided
            .verdicts
            .extend(held.map(|it| (pod.uid.clone(), it)));
    }
    decided
}

fn decide(allocatable: Resources, pods: Vec<PodView>) -> BTreeMap<String, Verdict> {
    let view = NodeView {
        allocatable,
        pods: shared(pods),
        ..NodeView::default()
    };
    step(&view, Timestamp::UNIX_EPOCH).verdicts
}

/// Reason and message of a refusal.
fn refusal(verdict: &Verdict) -> (&str, &str) {
    match verdict {
        Verdict::Refused { reason, message } => (reason, message),
        other => panic!("{other:?}"),
    }
}

/// The agent decides anew only if something differs that `node_step` reads.
#[test]
fn a_view_is_another_when_anything_differs_that_is_read() {
    const JSON: &str = r#"{"metadata":{"uid":"a","labels":{"l":"1"},"annotations":{"n":"1"}},
        "spec":{"priority":1},"status":{"phase":"Pending"}}"#;
    let of = |json: &str| PodView::of(&object(json), &Costs::default(), Standing::default());
    let one = of(JSON);
    assert_eq!(one, of(JSON), "another copy of the same");
    assert_eq!(one, of(&JSON.replace("Pending", "Running")), "its status");
    for (old, new) in [
        (r#""l":"1""#, r#""l":"2""#),
        (r#""n":"1""#, r#""n":"2""#),
        (r#""priority":1"#, r#""priority":2"#),
        (
            r#""uid":"a","#,
            r#""uid":"a","deletionTimestamp":"2026-01-01T00:00:00Z","#,
        ),
    ] {
        assert_ne!(one, of(&JSON.replace(old, new)), "{new}");
    }
    let changes: [fn(&mut PodView); 8] = [
        |it| it.uid = "b".to_owned(),
        |it| it.created = Timestamp::MAX,
        |it| it.requests.pods = 9,
        |it| it.verdict = Some(Verdict::Admitted),
        |it| it.terminal = true,
        |it| it.ending = Some(Cause::Deletion),
        |it| it.unfit = Some(Box::default()),
        |it| {
            it.wants = Some(Box::new(Wanted {
                allocation: Allocation::of(&it.pod),
                requests: it.requests,
                generation: None,
                unfit: None,
            }));
        },
    ];
    for (place, change) in changes.into_iter().enumerate() {
        let mut other = one.clone();
        change(&mut other);
        assert_ne!(one, other, "{place}");
    }
}
