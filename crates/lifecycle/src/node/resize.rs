//! Pods that run and ask for other resources than they were given: `handlePodResourcesResize` in
//! `pkg/kubelet/allocation/allocation_manager.go`. They are looked at each time that anything has
//! changed, before new pods are.

use std::cmp::Reverse;

use super::{NodeStep, NodeView, PodView, Wanted, admit};
use crate::observed::Sizing;
use crate::status::qos;

/// Answers each pod that waits.
pub(super) fn judge(view: &NodeView, step: &mut NodeStep) {
    let waits = |pod: &&PodView| pod.is_active() && pod.ending.is_none();
    let mut waiting: Vec<(&PodView, &Wanted)> = view
        .pods()
        .filter(waits)
        .filter_map(|pod| Some((pod, pod.wants.as_deref()?)))
        .collect();
    waiting.sort_by_key(|(pod, wants)| order(pod, wants));
    for (pod, wants) in waiting {
        let sizing = answer(view, pod, wants, step);
        step.sizings.insert(pod.uid.clone(), sizing);
    }
}

/// Who grows comes after who does not, then by priority and quality of service
/// (`sortPendingResizes`); then the older pod comes first.
fn order(pod: &PodView, wants: &Wanted) -> impl Ord + use<> {
    let (had, asked) = (&pod.requests, &wants.requests);
    let grows = asked.cpu_milli > had.cpu_milli || asked.memory > had.memory;
    let spec = pod.pod.spec.as_ref();
    let priority = spec.and_then(|spec| spec.priority).unwrap_or_default();
    let guaranteed = qos::class(&pod.pod) == "Guaranteed";
    let age = (pod.created, pod.uid.clone());
    (grows, Reverse(priority), !guaranteed, age)
}

fn answer(view: &NodeView, pod: &PodView, wants: &Wanted, step: &NodeStep) -> Sizing {
    let generation = wants.generation;
    if let Some(message) = &wants.unfit {
        return Sizing::Infeasible {
            message: message.clone(),
            generation,
        };
    }
    if let Some((name, requested, capacity)) = admit::never(&wants.requests, &view.allocatable) {
        // The API server refuses this (admission plugin PodResize); nobody does of a file.
        let message = format!(
            "Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"
        );
        return Sizing::Infeasible {
            message,
            generation,
        };
    }
    match admit::against(view, (pod, &wants.requests), step) {
        None => Sizing::Granted {
            allocation: wants.allocation.clone(),
            generation,
        },
        Some((reason, message)) => Sizing::Deferred {
            reason,
            message,
            generation,
        },
    }
}
