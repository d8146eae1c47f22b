//! Which images go: `pkg/kubelet/images/image_gc_manager.go`. Never one that a pod has, nor one that
//! came just now: a container may be about to need it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::usage::{ImageView, Signal, Usage};
use super::{Call, ImagePolicy, NodeMemory, NodeStep, NodeView, amount};
use crate::events::EventKind;

/// `ImageGCPeriod` of `pkg/kubelet/kubelet.go`.
const EVERY: SignedDuration = SignedDuration::from_mins(5);

/// What is remembered of images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Images {
    /// When this began.
    began: Option<Timestamp>,
    /// The next collection.
    next: Option<Timestamp>,
    /// The measurement that was looked at last.
    looked: Option<Timestamp>,
    /// By what names them.
    seen: BTreeMap<String, Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    first: Timestamp,
    used: Option<Timestamp>,
}

/// When the next collection is due; `None` if there is none.
pub(super) fn due(view: &NodeView, now: Timestamp, memory: &NodeMemory) -> Option<Timestamp> {
    view.policy.images?;
    Some(memory.images.next.unwrap_or(now))
}

/// Takes in which images there are, and collects if it is time.
pub(super) fn collect(view: &NodeView, now: Timestamp, step: &mut NodeStep) {
    let listed = view
        .usage
        .as_ref()
        .and_then(|usage| Some((usage, usage.images.as_ref()?)));
    let Some((usage, images)) = listed else {
        return;
    };
    let known = &mut step.memory.images;
    let began = *known.began.get_or_insert(now);
    if known.looked.is_some_and(|looked| looked >= usage.at) {
        return;
    }
    known.looked = Some(usage.at);
    known.detect(images, now);
    let Some(policy) = view.policy.images else {
        return;
    };
    if known.next.is_some_and(|next| now < next) {
        return;
    }
    known.next = Some(now.saturating_add(EVERY).unwrap_or(now));
    let old = known.old(images, &policy, (began, now));
    let rest: Vec<ImageView> = images
        .iter()
        .filter(|one| !old.contains(&one.id))
        .cloned()
        .collect();
    let mut ids = old;
    ids.extend(full(usage, &rest, &policy, (now, step)));
    if !ids.is_empty() {
        step.calls.push(Call::RemoveImages(ids));
    }
}

/// All that may go, for a disk that is short (`DeleteUnusedImages`).
pub(super) fn unused(
    view: &NodeView,
    images: &[ImageView],
    now: Timestamp,
    known: &mut Images,
) -> Vec<String> {
    known.detect(images, now);
    let min_age = view.policy.images.unwrap_or_default().min_age;
    known.free(images, u64::MAX, min_age, now).0
}

/// Enough for the lower threshold, if the upper one is reached (`GarbageCollect`).
fn full(
    usage: &Usage,
    images: &[ImageView],
    policy: &ImagePolicy,
    (now, step): (Timestamp, &mut NodeStep),
) -> Vec<String> {
    let Some(level) = usage.levels.get(&Signal::ImageFsAvailable) else {
        return Vec::new();
    };
    let (all, free) = (
        u128::from(level.capacity),
        u128::from(level.available).min(level.capacity.into()),
    );
    if all == 0 {
        step.tell(
            EventKind::Warning,
            "InvalidDiskCapacity",
            "invalid capacity 0 on image filesystem".to_owned(),
        );
        return Vec::new();
    }
    let percent = 100 - free * 100 / all;
    if percent < u128::from(policy.high) {
        return Vec::new();
    }
    let wanted = (all * u128::from(100 - policy.low.min(100)) / 100).saturating_sub(free);
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let (ids, freed) = step.memory.images.free(images, wanted, policy.min_age, now);
    if freed < wanted {
        let size = amount::human(level.capacity);
        step.tell(
            EventKind::Warning,
            "FreeDiskSpaceFailed",
            format!(
                "Insufficient free disk space on the node's image filesystem ({percent}% of {size} \
                 used). Failed to free sufficient space by deleting unused images (freed {freed} \
                 bytes). Investigate disk usage, as it could be used by active images, logs, \
                 volumes, or other data."
            ),
        );
    }
    ids
}

impl Images {
    /// `detectImages`
    fn detect(&mut self, images: &[ImageView], now: Timestamp) {
        self.seen
            .retain(|id, _| images.iter().any(|one| one.id == *id));
        for image in images {
            let fresh = Seen {
                first: now,
                used: None,
            };
            let seen = self.seen.entry(image.id.clone()).or_insert(fresh);
            if image.used {
                seen.used = Some(now);
            }
        }
    }

    /// Those that nobody has used for too long, once this has gone on for as long (`freeOldImages`).
    fn old(
        &self,
        images: &[ImageView],
        policy: &ImagePolicy,
        (began, now): (Timestamp, Timestamp),
    ) -> Vec<String> {
        let max_age = policy.max_age;
        if max_age.is_zero() || now.duration_since(began) <= max_age {
            return Vec::new();
        }
        let is_old = |id: &str| {
            let used = self.seen.get(id).and_then(|seen| seen.used);
            used.is_none_or(|used| now.duration_since(used) > max_age)
        };
        let unused = images.iter().filter(|one| !one.used && is_old(&one.id));
        unused.map(|one| one.id.clone()).collect()
    }

    /// So many bytes of images, or as many as there are, those first that were not used for longest
    /// (`freeSpace`); and how much that is.
    fn free(
        &self,
        images: &[ImageView],
        wanted: u64,
        min_age: SignedDuration,
        now: Timestamp,
    ) -> (Vec<String>, u64) {
        let mut all: Vec<(Option<Timestamp>, Timestamp, &ImageView)> = images
            .iter()
            .filter(|one| !one.used)
            .filter_map(|one| {
                let seen = self.seen.get(&one.id)?;
                let old = now.duration_since(seen.first) >= min_age;
                old.then_some((seen.used, seen.first, one))
            })
            .collect();
        all.sort_by(|one, other| (one.0, one.1, &one.2.id).cmp(&(other.0, other.1, &other.2.id)));
        let (mut ids, mut freed) = (Vec::new(), 0_u64);
        for (_, _, image) in all {
            if freed >= wanted {
                break;
            }
            freed = freed.saturating_add(image.size);
            ids.push(image.id.clone());
        }
        (ids, freed)
    }
}
