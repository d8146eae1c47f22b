//! Room for a critical pod: `pkg/kubelet/preemption/preemption.go`. As few pods as possible go, of
//! the lowest quality of service, and the critical pod waits until they are over.

use super::admit::{Lack, grace, request};
use super::{NodeMemory, NodeStep, NodeView, PodView, rank};
use crate::action::Cause;
use crate::observed::{Eviction, Verdict};
use crate::status::qos;

/// `message` of the pod's status; `spec.priority` and requests decide whose.
const MESSAGE: &str = "Preempted in order to admit critical pod";

/// What has to become free: a resource, and how much.
type Wanted = Vec<(&'static str, u64)>;

/// They make room: each gets its own grace.
pub(super) fn sentence(victims: &[String], view: &NodeView, step: &mut NodeStep) {
    for pod in view.pods().filter(|pod| victims.contains(&pod.uid)) {
        let verdict = Verdict::Evicted {
            eviction: Eviction::Preemption,
            message: MESSAGE.to_owned(),
            grace_seconds: grace(&pod.pod),
        };
        step.memory.sentences.insert(pod.uid.clone(), verdict);
    }
}

/// It makes room already.
pub(super) fn is_leaving(pod: &PodView, memory: &NodeMemory) -> bool {
    let sentenced = memory.sentences.get(&pod.uid);
    pod.ending == Some(Cause::Preemption)
        || matches!(
            sentenced,
            Some(Verdict::Evicted {
                eviction: Eviction::Preemption,
                ..
            })
        )
}

/// The UIDs of those that have to go (`getPodsToPreempt`); none if nothing is lacking.
///
/// # Errors
/// The kubelet's message, if all together hold too little.
pub(super) fn victims(
    pod: &PodView,
    pods: &[&PodView],
    lacks: &[Lack],
) -> Result<Vec<String>, String> {
    let wanted: Wanted = lacks
        .iter()
        .map(|lack| (lack.name, lack.missing()))
        .collect();
    let of = |class: &str| -> Vec<&PodView> {
        let fit = pods.iter().copied();
        fit.filter(|one| rank::preempts(&pod.pod, &one.pod) && qos::class(&one.pod) == class)
            .collect()
    };
    let (best_effort, burstable, guaranteed) =
        (of("BestEffort"), of("Burstable"), of("Guaranteed"));
    let both =
        |one: &[&'_ PodView], other: &[&'_ PodView]| -> Wanted { left(&left(&wanted, one), other) };
    let guaranteed = nearest(guaranteed, both(&best_effort, &burstable))?;
    let burstable = nearest(burstable, both(&best_effort, &guaranteed))?;
    let best_effort = nearest(best_effort, both(&burstable, &guaranteed))?;
    let all = best_effort.iter().chain(&burstable).chain(&guaranteed);
    Ok(all.map(|one| one.uid.clone()).collect())
}

/// What is still wanted once those pods are gone.
fn left(wanted: &Wanted, pods: &[&PodView]) -> Wanted {
    let rest = wanted.iter().filter_map(|(name, amount)| {
        let freed = pods
            .iter()
            .fold(0_u64, |sum, pod| sum.saturating_add(request(pod, name)));
        let rest = amount.saturating_sub(freed);
        (rest > 0).then_some((*name, rest))
    });
    rest.collect()
}

/// One pod after another that covers most of what is wanted, the smaller of two that cover as much
/// (`getPodsToPreemptByDistance`).
fn nearest(mut pods: Vec<&PodView>, mut wanted: Wanted) -> Result<Vec<&PodView>, String> {
    let mut chosen = Vec::new();
    while !wanted.is_empty() {
        let best = (0..pods.len()).min_by(|one, other| {
            let of = |place: usize| pods.get(place).copied();
            match (of(*one), of(*other)) {
                (Some(one), Some(other)) => distance(&wanted, one)
                    .total_cmp(&distance(&wanted, other))
                    .then_with(|| size(one).cmp(&size(other)))
                    .then_with(|| one.uid.cmp(&other.uid)),
                _ => std::cmp::Ordering::Equal,
            }
        });
        let Some(place) = best else {
            return Err(nobody(&wanted));
        };
        let pod = pods.swap_remove(place);
        wanted = left(&wanted, &[pod]);
        chosen.push(pod);
    }
    Ok(chosen)
}

fn size(pod: &PodView) -> (u64, u64) {
    (pod.requests.memory, pod.requests.cpu_milli)
}

/// The sum of the squares of the parts that would still be wanted.
#[allow(clippy::cast_precision_loss)]
fn distance(wanted: &Wanted, pod: &PodView) -> f64 {
    let parts = wanted.iter().map(|(name, amount)| {
        let rest = amount.saturating_sub(request(pod, name));
        (rest as f64 / *amount as f64).powi(2)
    });
    parts.sum()
}

fn nobody(wanted: &Wanted) -> String {
    let each: String = wanted
        .iter()
        .map(|(name, amount)| format!("(res: {name}, q: {amount}), "))
        .collect();
    format!(
        "Unexpected error while attempting to recover from admission failure: preemption: error \
         finding a set of pods to preempt: no set of running pods found to reclaim resources: [{each}]"
    )
}
