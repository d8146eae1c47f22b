//! Which images go.

use std::sync::Arc;

use super::*;
use jiff::SignedDuration;

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(minutes * 60).unwrap()
}

fn image(id: &str, size: u64, used: bool) -> ImageView {
    ImageView {
        id: id.to_owned(),
        size,
        used,
    }
}

struct Store(NodeView);

impl Store {
    fn new() -> Store {
        Store(NodeView {
            policy: Policy {
                images: Some(ImagePolicy::default()),
                ..Policy::default()
            },
            ..NodeView::default()
        })
    }

    /// So much of 1000 is free at that minute, and those images are there.
    fn listed(&mut self, minutes: i64, available: u64, images: &[ImageView]) -> NodeStep {
        let level = Level {
            capacity: 1000,
            available,
        };
        self.0.usage = Some(Arc::new(Usage {
            at: at(minutes),
            levels: [(Signal::ImageFsAvailable, level)].into(),
            images: Some(images.to_vec()),
            ..Usage::default()
        }));
        let step = step(&self.0, at(minutes));
        self.0.memory = step.memory.clone();
        step
    }
}

fn removed(step: &NodeStep) -> Vec<&str> {
    let ids = step.calls.iter().flat_map(|call| match call {
        Call::RemoveImages(ids) => ids.iter().map(String::as_str).collect(),
        Call::CollectContainers => Vec::new(),
    });
    ids.collect()
}

#[test]
fn from_the_upper_threshold_on_the_longest_unused_go_down_to_the_lower() {
    let mut store = Store::new();
    let all = |recent| {
        [
            image("had", 400, true),
            image("recent", 30, recent),
            image("older", 30, false),
            image("oldest", 30, false),
        ]
    };
    let first = store.listed(0, 500, &all(true)[..3]);
    assert!(first.calls.is_empty());
    assert_eq!(first.measure.unwrap().at, at(5));
    assert!(
        removed(&store.listed(5, 160, &all(true))).is_empty(),
        "84 % are below"
    );
    assert!(
        removed(&store.listed(7, 0, &all(false))).is_empty(),
        "it is not time"
    );
    let step = store.listed(10, 150, &all(false));
    // 50 are to be freed: of what was never used the one that came first, then the next.
    assert_eq!(removed(&step), ["older", "oldest"]);
    assert!(step.events.is_empty());
    let step = store.listed(15, 0, &all(false));
    assert_eq!(removed(&step), ["older", "oldest", "recent"]);
    let said = "Insufficient free disk space on the node's image filesystem (100% of 1000 B used). \
        Failed to free sufficient space by deleting unused images (freed 90 bytes). Investigate \
        disk usage, as it could be used by active images, logs, volumes, or other data.";
    assert_eq!(
        (step.events[0].reason, step.events[0].message.as_str()),
        ("FreeDiskSpaceFailed", said)
    );
}

#[test]
fn what_is_just_enough_is_enough() {
    let mut store = Store::new();
    let one = [image("one", 50, false)];
    store.listed(0, 500, &one);
    let step = store.listed(5, 150, &one);
    assert_eq!(removed(&step), ["one"]);
    assert!(step.events.is_empty());
}

#[test]
fn what_came_just_now_stays() {
    let mut store = Store::new();
    store.listed(0, 500, &[]);
    assert!(removed(&store.listed(5, 0, &[image("new", 1, false)])).is_empty());
    assert_eq!(
        removed(&store.listed(10, 0, &[image("new", 1, false)])),
        ["new"]
    );
}

#[test]
fn what_nobody_used_for_too_long_goes_whatever_is_free() {
    let mut store = Store::new();
    store.0.policy.images = Some(ImagePolicy {
        max_age: SignedDuration::from_mins(30),
        ..ImagePolicy::default()
    });
    let all = |used| {
        [
            image("a", 1, used),
            image("had", 1, true),
            image("never", 1, false),
        ]
    };
    for minutes in [0, 5, 10, 15, 20, 25, 30] {
        let step = store.listed(minutes, 999, &all(minutes < 10));
        assert!(removed(&step).is_empty(), "{minutes}");
    }
    assert_eq!(removed(&store.listed(35, 999, &all(false))), ["never"]);
    assert_eq!(removed(&store.listed(40, 999, &all(false))), ["a", "never"]);
}

#[test]
fn images_are_listed_when_they_are_due_and_not_with_each_measurement() {
    let mut store = Store::new();
    let memory = Threshold::hard(Signal::MemoryAvailable, Amount::Quantity(1));
    store.0.policy.thresholds = vec![memory];
    let wants = |step: &NodeStep| {
        let next = step.measure.clone().unwrap();
        (next.at, next.images)
    };
    let after = |minutes| at(minutes) + SignedDuration::from_secs(10);
    assert_eq!(wants(&store.listed(0, 500, &[])), (after(0), false));
    assert_eq!(wants(&store.listed(4, 500, &[])), (after(4), false));
    // Measured as it was asked for, without them.
    let usage = Arc::make_mut(store.0.usage.as_mut().unwrap());
    (usage.at, usage.images) = (at(5), None);
    assert_eq!(wants(&step(&store.0, at(5))), (at(5), true), "now");
}

#[test]
fn a_disk_without_a_size_is_told_and_without_a_policy_nothing_goes() {
    let mut store = Store::new();
    store.listed(0, 0, &[]);
    Arc::make_mut(store.0.usage.as_mut().unwrap())
        .levels
        .values_mut()
        .for_each(|it| it.capacity = 0);
    store.0.memory = NodeMemory::default();
    let step = step(&store.0, at(5));
    assert_eq!(step.events[0].reason, "InvalidDiskCapacity");
    store.0.policy.images = None;
    assert_eq!(super::step(&store.0, at(5)).measure, None);
}
