//! What the node is short of, and since when: the bookkeeping of `synchronize` in
//! `pkg/kubelet/eviction/eviction_manager.go`. One pass looks at one measurement.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::usage::{Signal, Usage};
use super::{Call, NodeStep, NodeView, collect, evict, limits};
use crate::events::EventKind;

/// Between two measurements (`evictionMonitoringPeriod` of `pkg/kubelet/kubelet.go`).
pub(super) const EVERY: SignedDuration = SignedDuration::from_secs(10);
/// For so long the next pass waits for a pod that was evicted (`podCleanupTimeout`).
const CLEANUP: SignedDuration = SignedDuration::from_secs(30);
/// For so long a pass waits for what was to be collected.
const RECLAIM: SignedDuration = SignedDuration::from_mins(2);

/// A condition of the Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// DiskPressure
    Disk,
    /// MemoryPressure
    Memory,
    /// PIDPressure
    Pid,
}

/// What passes remember.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Passes {
    /// The measurement that the last one looked at.
    pub(super) looked: Option<Timestamp>,
    /// Thresholds that are met, by place, since when.
    first_met: BTreeMap<usize, Timestamp>,
    /// Those whose grace is over.
    met: BTreeSet<usize>,
    /// When the cause of each condition was last there.
    last_seen: BTreeMap<Pressure, Timestamp>,
    /// The Node's conditions now.
    pub(super) conditions: BTreeSet<Pressure>,
    /// What pods need not go for was asked to be collected, then.
    reclaim: Option<Timestamp>,
    /// Pods whose end is waited for, and until when.
    pub(super) leaving: Option<(BTreeSet<String>, Timestamp)>,
    /// A disk is short: whose pods' are to be looked at.
    pub(super) disk_short: bool,
    /// The next measurement is wanted at once.
    pub(super) hurry: bool,
    /// It is to tell of the images, too.
    pub(super) list_images: bool,
}

impl Pressure {
    /// `signalToNodeCondition`
    fn of(signal: Signal) -> Pressure {
        match signal {
            Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable => Pressure::Memory,
            Signal::PidAvailable => Pressure::Pid,
            Signal::NodeFsAvailable
            | Signal::NodeFsInodesFree
            | Signal::ImageFsAvailable
            | Signal::ImageFsInodesFree => Pressure::Disk,
        }
    }

    /// `type` of the condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Pressure::Disk => "DiskPressure",
            Pressure::Memory => "MemoryPressure",
            Pressure::Pid => "PIDPressure",
        }
    }
}

/// `signalToResource`
pub(super) fn resource(signal: Signal) -> &'static str {
    match signal {
        Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable => "memory",
        Signal::NodeFsAvailable | Signal::ImageFsAvailable => "ephemeral-storage",
        Signal::NodeFsInodesFree | Signal::ImageFsInodesFree => "inodes",
        Signal::PidAvailable => "pids",
    }
}

/// Looks at a measurement that no pass has looked at. At most one pod goes for what the node is
/// short of, and each that passes its own limits.
pub(super) fn pass(view: &NodeView, now: Timestamp, step: &mut NodeStep) {
    let Some(usage) = &view.usage else { return };
    let passes = &mut step.memory.passes;
    let waits = waits(view, now, passes);
    if waits || passes.looked.is_some_and(|looked| looked >= usage.at) {
        return;
    }
    passes.looked = Some(usage.at);
    passes.hurry = false;
    let due = account(view, usage, now, passes);
    passes.disk_short = due
        .iter()
        .filter_map(|place| view.policy.thresholds.get(*place))
        .any(|threshold| Pressure::of(threshold.signal) == Pressure::Disk);
    let over = limits::evict(view, usage, step);
    if !over.is_empty() {
        leave(over, now, step);
        return;
    }
    relieve(view, usage, (now, step), &due);
}

/// The pods that were evicted last are not over, and may yet be in time.
fn waits(view: &NodeView, now: Timestamp, passes: &mut Passes) -> bool {
    let Some((leaving, until)) = &passes.leaving else {
        return false;
    };
    let alive = view.pods().filter(|pod| !pod.terminal);
    let waits = now < *until && alive.map(|pod| &pod.uid).any(|uid| leaving.contains(uid));
    if !waits {
        passes.leaving = None;
        passes.hurry = true;
    }
    waits
}

fn leave(uids: BTreeSet<String>, now: Timestamp, step: &mut NodeStep) {
    let until = now.saturating_add(CLEANUP).unwrap_or(now);
    step.wake(until);
    step.memory.passes.leaving = Some((uids, until));
}

/// Keeps account of thresholds and conditions; gives the thresholds whose grace is over, by place.
fn account(view: &NodeView, usage: &Usage, now: Timestamp, passes: &mut Passes) -> Vec<usize> {
    let policy = &view.policy;
    let mut met = BTreeSet::new();
    for (place, threshold) in policy.thresholds.iter().enumerate() {
        let Some(level) = usage.levels.get(&threshold.signal) else {
            continue;
        };
        if threshold.is_met(level, passes.met.contains(&place)) {
            met.insert(place);
        }
    }
    passes.first_met.retain(|place, _| met.contains(place));
    for place in &met {
        passes.first_met.entry(*place).or_insert(now);
        if let Some(threshold) = policy.thresholds.get(*place) {
            passes.last_seen.insert(Pressure::of(threshold.signal), now);
        }
    }
    let recent = |at: &Timestamp| now.duration_since(*at) < policy.pressure_transition;
    let last_seen = passes.last_seen.iter();
    passes.conditions = last_seen
        .filter(|(_, at)| **at == now || recent(at))
        .map(|(pressure, _)| *pressure)
        .collect();
    let over = passes.first_met.iter().filter(|(place, since)| {
        let threshold = policy.thresholds.get(**place);
        threshold.is_some_and(|threshold| now.duration_since(**since) >= threshold.grace)
    });
    passes.met = over.map(|(place, _)| *place).collect();
    // Memory before all else (`byEvictionPriority`).
    let mut due: Vec<usize> = passes.met.iter().copied().collect();
    due.sort_by_key(|place| {
        let threshold = policy.thresholds.get(*place);
        threshold.is_none_or(|threshold| Pressure::of(threshold.signal) != Pressure::Memory)
    });
    due
}

/// First what nobody uses goes, then a pod.
fn relieve(view: &NodeView, usage: &Usage, (now, step): (Timestamp, &mut NodeStep), due: &[usize]) {
    let thresholds: Vec<_> = due
        .iter()
        .filter_map(|place| view.policy.thresholds.get(*place))
        .collect();
    let Some(first) = thresholds.first() else {
        step.memory.passes.reclaim = None;
        return;
    };
    let what = resource(first.signal);
    let (containers, images) = reclaims(first.signal, usage.images_apart);
    if containers || images {
        match step.memory.passes.reclaim {
            None => return ask(view, usage, (now, step), (what, containers, images)),
            Some(asked) if !reclaimed(view, usage, asked, now) => return,
            Some(_) => step.memory.passes.reclaim = None,
        }
        let met = |threshold: &super::Threshold| {
            let level = usage.levels.get(&threshold.signal);
            level.is_some_and(|level| threshold.is_met(level, true))
        };
        if !view.policy.thresholds.iter().any(met) {
            return;
        }
    } else {
        attempt(step, what);
    }
    if let Some(uid) = evict::one(view, usage, &thresholds, step) {
        leave(BTreeSet::from([uid]), now, step);
    }
}

fn attempt(step: &mut NodeStep, what: &str) {
    let said = format!("Attempting to reclaim {what}");
    step.tell(EventKind::Warning, "EvictionThresholdMet", said);
}

/// Asks for what nobody uses to be collected. Which images that is, the next measurement tells.
fn ask(
    view: &NodeView,
    usage: &Usage,
    (now, step): (Timestamp, &mut NodeStep),
    (what, containers, images): (&str, bool, bool),
) {
    if images {
        let Some(listed) = &usage.images else {
            step.memory.passes.hurry = true;
            step.memory.passes.list_images = true;
            return;
        };
        let ids = collect::unused(view, listed, now, &mut step.memory.images);
        if !ids.is_empty() {
            step.calls.push(Call::RemoveImages(ids));
        }
    }
    if containers {
        step.calls.push(Call::CollectContainers);
    }
    attempt(step, what);
    step.memory.passes.list_images = false;
    step.memory.passes.reclaim = Some(now);
}

/// What was asked for is done and measured, or it takes too long.
fn reclaimed(view: &NodeView, usage: &Usage, asked: Timestamp, now: Timestamp) -> bool {
    let done = |at: Timestamp| at >= asked && usage.at >= at;
    view.collected.is_some_and(done) || now.duration_since(asked) >= RECLAIM
}

/// `buildSignalToNodeReclaimFuncs`: whether containers that are over, and images, are on the disk
/// that is short. Containers are on that of the root folder.
fn reclaims(signal: Signal, apart: bool) -> (bool, bool) {
    let node = matches!(signal, Signal::NodeFsAvailable | Signal::NodeFsInodesFree);
    let image = matches!(signal, Signal::ImageFsAvailable | Signal::ImageFsInodesFree);
    let both = (node || image) && !apart;
    (node || both, image || both)
}

/// When the next measurement is due; `None` if nothing would come of it.
pub(super) fn due(
    view: &NodeView,
    now: Timestamp,
    memory: &super::NodeMemory,
) -> Option<Timestamp> {
    let limited = || {
        view.pods()
            .any(|pod| pod.is_active() && limits::has(&pod.pod))
    };
    if view.policy.thresholds.is_empty() && !limited() {
        return None;
    }
    let passes = &memory.passes;
    let next = |at: Timestamp| at.saturating_add(EVERY).unwrap_or(at);
    match view.usage.as_ref().filter(|_| !passes.hurry) {
        None => Some(now),
        Some(usage) => Some(next(usage.at)),
    }
}

/// Why a pod is not taken in while the node is short of something: `Admit`.
pub(super) fn refusal(
    conditions: &BTreeSet<Pressure>,
    pod: &k8s_openapi::api::core::v1::Pod,
) -> Option<(String, String)> {
    if conditions.is_empty() || super::rank::is_critical(pod) {
        return None;
    }
    if conditions.iter().eq([&Pressure::Memory]) {
        let taint = k8s_openapi::api::core::v1::Taint {
            key: "node.kubernetes.io/memory-pressure".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Default::default()
        };
        let best_effort = crate::status::qos::class(pod) == "BestEffort";
        if !best_effort || super::affinity::tolerates(pod, &taint) {
            return None;
        }
    }
    let names: Vec<&str> = conditions.iter().map(|one| one.as_str()).collect();
    let message = format!("The node had condition: [{}]. ", names.join(" "));
    Some(("Evicted".to_owned(), message))
}
