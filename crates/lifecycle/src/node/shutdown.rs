//! The node's shutdown: pods end by priority, the lowest first, each group within its time
//! (`pkg/kubelet/nodeshutdown/nodeshutdown_manager.go`).

use jiff::{SignedDuration, Timestamp};

use super::{NodeStep, NodeView, Period, PodView, rank};
use crate::observed::Verdict;

/// How far a shutdown is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The group that ends now, by its place from the lowest priority on.
    pub(super) place: usize,
    /// Since when.
    since: Timestamp,
}

/// Goes on to the next group that has pods, once the one before it is over or out of time.
pub(super) fn advance(view: &NodeView, now: Timestamp, step: &mut NodeStep) {
    let Some(periods) = sorted(view) else { return };
    let alive = |place: usize| {
        let mut active = view.pods().filter(|pod| pod.is_active());
        active.any(|pod| group(pod, &periods) == place)
    };
    let after = |since: Timestamp, place: usize| {
        let seconds = periods.get(place).map_or(0, |period| period.seconds);
        since
            .saturating_add(SignedDuration::from_secs(seconds.into()))
            .unwrap_or(since)
    };
    let (mut place, mut since) = match &step.memory.stage {
        Some(stage) => (stage.place, stage.since),
        None => (0, now),
    };
    let last = periods.len().saturating_sub(1);
    while place < last && (!alive(place) || after(since, place) <= now) {
        place += 1;
        since = now;
    }
    if place < last {
        step.wake(after(since, place));
    }
    step.memory.stage = Some(Stage { place, since });
}

/// The verdict of a pod that lives, if its turn has come.
pub(super) fn verdict(view: &NodeView, pod: &PodView, stage: Option<&Stage>) -> Option<Verdict> {
    let periods = sorted(view)?;
    let place = group(pod, &periods);
    let seconds = periods.get(place).map_or(0, |period| period.seconds);
    let turn = stage.is_some_and(|stage| place <= stage.place);
    turn.then(|| Verdict::Shutdown {
        grace_seconds: seconds.min(super::admit::grace(&pod.pod)),
    })
}

fn sorted(view: &NodeView) -> Option<Vec<Period>> {
    let mut periods = view.shutdown.clone()?;
    periods.sort_by_key(|period| period.priority);
    Some(periods)
}

/// `groupByPriority`: the last group whose priority is not above the pod's, else the first.
fn group(pod: &PodView, periods: &[Period]) -> usize {
    let own = rank::priority(&pod.pod);
    let place = periods.iter().rposition(|period| period.priority <= own);
    place.unwrap_or_default()
}
