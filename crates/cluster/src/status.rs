//! The status patch: what the kubelet owns of a pod's status, against what the API server has.
//!
//! A strategic merge patch, because a JSON merge patch replaces the list of conditions and would erase those that
//! controllers and the scheduler own. Pure: no client, no clock.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

/// Conditions that the kubelet takes back when they no longer hold; every other one it sets stays for the pod's life.
const RETRACTED: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// Fields of the status that others own (scheduler, API server, DRA), and the deprecated `resize`.
const OTHERS: [&str; 6] = [
    "extendedResourceClaimStatus",
    "nodeAllocatableResourceClaimStatuses",
    "nominatedNodeName",
    "qosClass",
    "resize",
    "resourceClaimStatuses",
];

/// Lists that a strategic merge would add to by `ip`: an address that is gone has to be replaced away.
const BY_IP: [&str; 2] = ["hostIPs", "podIPs"];

/// All termination messages of a pod share this many bytes (`MaxPodTerminationMessageLogLength` of the kubelet).
const MESSAGES: usize = 12 * 1024;

/// Whether a phase is one that no pod leaves.
pub(crate) fn is_terminal(status: Option<&PodStatus>) -> bool {
    let phase = status.and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// What a container that is being made waits for (`pkg/kubelet/kubelet_pods.go`).
const MAKING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Whether `wanted` tells nothing that will last of a pod that the API server has as `pod`: each of its containers is
/// still being made, or nothing but `observedGeneration` has changed.
pub(crate) fn is_passing(pod: &Pod, wanted: &PodStatus) -> bool {
    let told = Pod {
        status: pod.status.as_ref().map(without_generation),
        ..Pod::default()
    };
    is_being_made(wanted) || patch(&told, &without_generation(wanted)).is_none()
}

fn without_generation(status: &PodStatus) -> PodStatus {
    let mut status = status.clone();
    status.observed_generation = None;
    for condition in status.conditions.iter_mut().flatten() {
        condition.observed_generation = None;
    }
    status
}

/// Its init containers and its main ones.
fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let all = [&status.init_container_statuses, &status.container_statuses];
    all.into_iter().flatten().flatten()
}

/// Whether nothing runs any more of a pod under deletion: once it holds nothing either, that is told, and the pod deleted.
pub(crate) fn is_all_but_over(pod: &Pod, status: &PodStatus) -> bool {
    let mut containers = containers(status).peekable();
    let runs = |status: &ContainerStatus| {
        let state = status.state.as_ref();
        state.is_some_and(|state| state.running.is_some())
    };
    pod.metadata.deletion_timestamp.is_some()
        && containers.peek().is_some()
        && !containers.any(runs)
}

fn is_being_made(status: &PodStatus) -> bool {
    let mut containers = containers(status).peekable();
    let waits = |status: &ContainerStatus| {
        let state = status.state.as_ref();
        let waiting = state.and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
        reason.is_some_and(|reason| MAKING.contains(&reason)) && status.restart_count == 0
    };
    status.phase.as_deref() == Some("Pending")
        && containers.peek().is_some()
        && containers.all(waits)
}

/// Gives each condition of `wanted` that has no time of its own the time since when it has said so: that of
/// `previous`, the status wanted before it, or `now`.
pub(crate) fn stamp(previous: Option<&PodStatus>, wanted: &mut PodStatus, now: Timestamp) {
    let old: &[PodCondition] = previous
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    for condition in wanted
        .conditions
        .iter_mut()
        .flatten()
        .filter(|c| c.last_transition_time.is_none())
    {
        let before = old
            .iter()
            .find(|old| old.type_ == condition.type_ && old.status == condition.status);
        let since = before.and_then(|old| old.last_transition_time.clone());
        condition.last_transition_time = Some(since.unwrap_or(Time(now)));
    }
}

/// The patch that makes the status of `pod`, as the API server has it, say `wanted`; `None` if it does already.
///
/// Conditions keep their `lastTransitionTime` while their status stays; `startTime` is never moved; messages are cut to
/// the kubelet's limits. The same arguments give the same patch, so that one the server refused is known again.
pub(crate) fn patch(pod: &Pod, wanted: &PodStatus) -> Option<Value> {
    let empty = PodStatus::default();
    let current = pod.status.as_ref().unwrap_or(&empty);
    let wanted = normalised(current, wanted);
    let (Value::Object(old), Value::Object(new)) = (value(current), value(&wanted)) else {
        return None;
    };
    let mut status = Map::new();
    for (field, new) in &new {
        let old = old.get(field);
        if OTHERS.contains(&field.as_str()) || old == Some(new) {
            continue;
        }
        let change = match field.as_str() {
            "conditions" => continue,
            by_ip if BY_IP.contains(&by_ip) => replaced(new),
            "allocatedResources" | "resources" => merged(old, new),
            _ => new.clone(),
        };
        status.insert(field.clone(), change);
    }
    for field in old.keys().filter(|field| !new.contains_key(*field)) {
        if field != "conditions" && !OTHERS.contains(&field.as_str()) {
            status.insert(field.clone(), Value::Null);
        }
    }
    let conditions = conditions(current, &wanted);
    if !conditions.is_empty() {
        status.insert("conditions".to_owned(), Value::Array(conditions));
    }
    if status.is_empty() {
        return None;
    }
    Some(json!({ "metadata": { "uid": pod.metadata.uid }, "status": status }))
}

fn value(status: &PodStatus) -> Value {
    serde_json::to_value(status).unwrap_or_default()
}

fn replaced(list: &Value) -> Value {
    let mut elements = vec![json!({ "$patch": "replace" })];
    elements.extend(list.as_array().into_iter().flatten().cloned());
    Value::Array(elements)
}

/// Maps merge key by key, so what is no longer there has to be said.
fn merged(old: Option<&Value>, new: &Value) -> Value {
    let (Some(Value::Object(old)), Value::Object(new)) = (old, new) else {
        return new.clone();
    };
    let mut out = Map::new();
    for (key, value) in new {
        if old.get(key) != Some(value) {
            out.insert(key.clone(), merged(old.get(key), value));
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        out.insert(key.clone(), Value::Null);
    }
    Value::Object(out)
}

/// Those of `wanted` that differ, whole, and a deletion for each that the kubelet takes back.
fn conditions(current: &PodStatus, wanted: &PodStatus) -> Vec<Value> {
    let old: &[PodCondition] = current.conditions.as_deref().unwrap_or_default();
    let new: &[PodCondition] = wanted.conditions.as_deref().unwrap_or_default();
    let changed = new
        .iter()
        .filter(|condition| !old.contains(condition))
        .map(|condition| whole(old, condition));
    let gone = old.iter().filter(|condition| {
        RETRACTED.contains(&condition.type_.as_str())
            && !new.iter().any(|new| new.type_ == condition.type_)
    });
    let gone = gone.map(|condition| json!({ "$patch": "delete", "type": condition.type_ }));
    changed.chain(gone).collect()
}

/// A merged element keeps the fields that the patch doesn't name: those that must go are named as null.
fn whole(old: &[PodCondition], new: &PodCondition) -> Value {
    let mut out = serde_json::to_value(new).unwrap_or_default();
    let before = old
        .iter()
        .find(|old| old.type_ == new.type_)
        .and_then(|old| serde_json::to_value(old).ok());
    if let (Some(out), Some(Value::Object(before))) = (out.as_object_mut(), before) {
        for field in before.keys() {
            out.entry(field.clone()).or_insert(Value::Null);
        }
    }
    out
}

fn normalised(current: &PodStatus, wanted: &PodStatus) -> PodStatus {
    let mut out = wanted.clone();
    if current.start_time.is_some() {
        out.start_time.clone_from(&current.start_time);
    }
    out.start_time = out.start_time.map(seconds);
    let old: &[PodCondition] = current.conditions.as_deref().unwrap_or_default();
    for condition in out.conditions.iter_mut().flatten() {
        let before = old
            .iter()
            .find(|old| old.type_ == condition.type_ && old.status == condition.status);
        let since = before.and_then(|old| old.last_transition_time.clone());
        condition.last_transition_time =
            since.or(condition.last_transition_time.take()).map(seconds);
        condition.last_probe_time = condition.last_probe_time.take().map(seconds);
    }
    let lists = [
        &mut out.container_statuses,
        &mut out.init_container_statuses,
        &mut out.ephemeral_container_statuses,
    ];
    let count: usize = lists
        .iter()
        .map(|list| list.as_ref().map_or(0, Vec::len))
        .sum();
    for container in lists.into_iter().flatten().flatten() {
        cut_messages(container, MESSAGES / count.max(1));
    }
    out
}

/// The API keeps whole seconds; a finer time would differ from its own echo for ever.
fn seconds(time: Time) -> Time {
    Time(Timestamp::from_second(time.0.as_second()).unwrap_or(time.0))
}

fn cut_messages(container: &mut ContainerStatus, limit: usize) {
    for state in [&mut container.state, &mut container.last_state]
        .into_iter()
        .flatten()
    {
        if let Some(running) = &mut state.running {
            running.started_at = running.started_at.take().map(seconds);
        }
        let Some(terminated) = &mut state.terminated else {
            continue;
        };
        terminated.started_at = terminated.started_at.take().map(seconds);
        terminated.finished_at = terminated.finished_at.take().map(seconds);
        if let Some(message) = &mut terminated.message {
            let end = (0..=limit.min(message.len()))
                .rev()
                .find(|at| message.is_char_boundary(*at));
            message.truncate(end.unwrap_or(0));
        }
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
