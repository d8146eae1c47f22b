//! Who has to go, and the words for it: the rankings and messages of `pkg/kubelet/eviction/helpers.go`.

use std::cmp::{Ordering, Reverse};

use super::amount;
use super::usage::{PodUsage, Signal, Usage};
use super::{NodeStep, NodeView, PodView, Threshold, pressure, rank};
use crate::action::Cause;
use crate::observed::{Eviction, Verdict};
use crate::resources::units;
use crate::spec;

/// `immediateEvictionGracePeriodSeconds`
pub(super) const IMMEDIATE: u32 = 1;

/// Ends the pod that comes first for the first of the thresholds; gives its UID.
pub(super) fn one(
    view: &NodeView,
    usage: &Usage,
    thresholds: &[&Threshold],
    step: &mut NodeStep,
) -> Option<String> {
    let first = thresholds.first()?;
    let mut pods: Vec<&PodView> = candidates(view, step).collect();
    let order = |one: &&PodView, other: &&PodView| {
        compare(one, other, usage, first.signal)
            .then_with(|| (one.created, &one.uid).cmp(&(other.created, &other.uid)))
    };
    let looks = !matches!(pressure::resource(first.signal), "memory" | "pids");
    let unlooked = |pod: &PodView| usage.pods.get(&pod.uid).is_some_and(|own| !own.looked);
    if looks && pods.iter().any(|pod| unlooked(pod)) {
        // The next measurement looks at their disks.
        step.memory.passes.hurry = true;
        return None;
    }
    pods.sort_by(order);
    let pod = pods.into_iter().find(|pod| !rank::is_critical(&pod.pod))?;
    let grace_seconds = if first.is_hard() {
        IMMEDIATE
    } else {
        view.policy.max_pod_grace.min(super::admit::grace(&pod.pod))
    };
    let verdict = Verdict::Evicted {
        eviction: Eviction::Pressure,
        message: message(pod, usage, thresholds),
        grace_seconds,
    };
    step.memory.sentences.insert(pod.uid.clone(), verdict);
    Some(pod.uid.clone())
}

/// The pods that may have to go: what is here and is not going for the node's sake already.
pub(super) fn candidates<'a>(
    view: &'a NodeView,
    step: &NodeStep,
) -> impl Iterator<Item = &'a PodView> + use<'a> {
    let sentenced: Vec<String> = step.memory.sentences.keys().cloned().collect();
    view.pods().filter(move |pod| {
        let going = matches!(
            pod.ending,
            Some(Cause::Eviction | Cause::StorageLimit | Cause::Preemption)
        );
        pod.is_active() && !going && !sentenced.contains(&pod.uid)
    })
}

/// Less is who goes first: `rankMemoryPressure`, `rankPIDPressure`, `rankDiskPressureFunc`.
fn compare(one: &PodView, other: &PodView, usage: &Usage, signal: Signal) -> Ordering {
    let priorities = || rank::priority(&one.pod).cmp(&rank::priority(&other.pod));
    if signal == Signal::PidAvailable {
        return priorities(); // Guests are no processes.
    }
    let known = |pod: &PodView| {
        usage
            .pods
            .get(&pod.uid)
            .map(|own| above(pod, own, usage, signal))
    };
    match (known(one), known(other)) {
        (Some(one), Some(other)) => Reverse(one > 0)
            .cmp(&Reverse(other > 0))
            .then_with(priorities)
            .then_with(|| other.cmp(&one)),
        // Of whom nothing is known goes first.
        (one, other) => one.is_some().cmp(&other.is_some()).then_with(priorities),
    }
}

/// How much more than its request the pod uses; below zero if it uses less. Nobody requests inodes.
fn above(pod: &PodView, own: &PodUsage, usage: &Usage, signal: Signal) -> i128 {
    let disk = || match signal {
        // Images apart hold nothing of the pods'.
        Signal::ImageFsAvailable | Signal::ImageFsInodesFree if usage.images_apart => {
            super::usage::Disk::default()
        }
        _ => own.disk(),
    };
    let (used, request) = match pressure::resource(signal) {
        "memory" => (own.memory(), pod.requests.memory),
        "inodes" => (disk().inodes, 0),
        _ => (disk().bytes, pod.requests.ephemeral_storage),
    };
    i128::from(used) - i128::from(request)
}

/// `evictionMessage`
fn message(pod: &PodView, usage: &Usage, thresholds: &[&Threshold]) -> String {
    let signal = |it: &&&Threshold| it.signal;
    let what = thresholds
        .first()
        .map(|it| pressure::resource(signal(&it)))
        .unwrap_or_default();
    let mut said = format!("The node was low on resource: {what}. ");
    let mut same = thresholds
        .iter()
        .filter(|it| pressure::resource(it.signal) == what);
    let known = same.find_map(|it| Some((it, usage.levels.get(&it.signal)?)));
    if let Some((threshold, level)) = known {
        let show = |amount| {
            if what == "inodes" || what == "pids" {
                amount::decimal(amount)
            } else {
                amount::binary(amount)
            }
        };
        said.push_str(&format!(
            "Threshold quantity: {}, available: {}. ",
            show(threshold.value.of(level.capacity)),
            show(level.available)
        ));
    }
    if let Some(own) = usage.pods.get(&pod.uid) {
        containers(&mut said, pod, own, what);
    }
    said
}

/// Those that use more than they request.
fn containers(said: &mut String, pod: &PodView, own: &PodUsage, what: &str) {
    let shared = pod
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref());
    let shared = shared.and_then(|own| own.requests.as_ref()?.get("memory"));
    if let Some(request) = shared.filter(|_| what == "memory") {
        let name = pod.pod.metadata.name.as_deref().unwrap_or_default();
        let used = amount::binary(own.memory());
        said.push_str(&format!(
            "Pod {name} was using {used}, request is {}, has larger consumption of {what}. ",
            request.0
        ));
    }
    for member in spec::mains(&pod.pod).chain(spec::inits(&pod.pod)) {
        let Some(uses) = own.containers.get(member.name()) else {
            continue;
        };
        let used = match what {
            "memory" => uses.memory,
            "ephemeral-storage" => uses.root.plus(uses.logs).bytes,
            _ => continue,
        };
        let resources = member.spec.resources.as_ref();
        let request = resources.and_then(|own| own.requests.as_ref()?.get(what));
        if used > request.map_or(0, units) {
            said.push_str(&format!(
                "Container {} was using {}, request is {}, has larger consumption of {what}. ",
                member.name(),
                amount::binary(used),
                request.map_or("0", |request| &request.0),
            ));
        }
    }
}
