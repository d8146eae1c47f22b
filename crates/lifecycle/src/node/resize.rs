//! Pods that run and ask for other resources than they were given: `handlePodResourcesResize` in
//! `pkg/kubelet/allocation/allocation_manager.go`. They are looked at each time that anything has
//! changed, before new pods are.

use std::cmp::Reverse;

use super::admit::Taking;
use super::{NodeStep, NodeView, PodView, Wanted, admit, preempt};
use crate::observed::Sizing;
use crate::status::qos;

/// Answers each pod that waits; gives those that take what they ask for, or `None` if one of them
/// needs room that others have yet to make: until it has it nobody new is let in.
pub(super) fn judge(view: &NodeView, step: &mut NodeStep) -> Option<Taking> {
    let waits = |pod: &&PodView| pod.is_active() && pod.ending.is_none();
    let mut waiting: Vec<(&PodView, &Wanted)> = view
        .pods()
        .filter(waits)
        .filter_map(|pod| Some((pod, pod.wants.as_deref()?)))
        .collect();
    waiting.sort_by_key(|(pod, wants)| order(pod, wants));
    let mut taking = Taking::new();
    let mut all_have_room = true;
    for (pod, wants) in waiting {
        let (sizing, room) = answer(view, (pod, wants), &taking, step);
        if matches!(sizing, Sizing::Granted { .. }) || room.is_some() {
            taking.insert(pod.uid.clone());
        }
        if let Some(victims) = room {
            preempt::sentence(&victims, view, step);
            all_have_room = false;
        }
        step.sizings.insert(pod.uid.clone(), sizing);
    }
    all_have_room.then_some(taking)
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

/// What becomes of it; with who has to go first, if somebody has to.
fn answer(
    view: &NodeView,
    (pod, wants): (&PodView, &Wanted),
    taking: &Taking,
    step: &NodeStep,
) -> (Sizing, Option<Vec<String>>) {
    let generation = wants.generation;
    // The API server refuses what never fits (admission plugin PodResize); nobody does of a file.
    let never = || {
        let (name, requested, capacity) = admit::never(&wants.requests, &view.allocatable)?;
        Some(format!(
            "Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"
        ))
    };
    if let Some(message) = wants.unfit.clone().or_else(never) {
        let infeasible = Sizing::Infeasible {
            message,
            generation,
        };
        return (infeasible, None);
    }
    let Some(against) = admit::against(view, (pod, &wants.requests), taking, step) else {
        let granted = Sizing::Granted {
            allocation: wants.allocation.clone(),
            generation,
        };
        return (granted, None);
    };
    let (reason, message) = against.refusal;
    let deferred = Sizing::Deferred {
        reason,
        message,
        generation,
    };
    (deferred, against.room)
}
