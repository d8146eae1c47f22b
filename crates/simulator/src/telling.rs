//! The rules of what a pod's status tells: by the one before it, by itself, and by what is true of the
//! machine.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use crate::machine::Machine;
use crate::rules::{Broken, broken};

/// What is told of each container.
fn each(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let lists = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    lists.into_iter().flatten().flatten()
}

/// restartCount never decreases.
pub(crate) fn counts(old: Option<&PodStatus>, new: &PodStatus) -> Result<(), Broken> {
    let all = |status: &'_ PodStatus| -> Vec<(String, i32)> {
        each(status)
            .map(|one| (one.name.clone(), one.restart_count))
            .collect()
    };
    let old = old.map(all).unwrap_or_default();
    for (name, count) in all(new) {
        if let Some((_, before)) = old
            .iter()
            .find(|(other, before)| *other == name && *before > count)
        {
            let detail = format!("{name}: {before}, then {count}");
            return broken("restartCount never decreases", detail);
        }
    }
    Ok(())
}

/// Exactly one state each, with a reason where Kubernetes has one; Ready only while it may be.
pub(crate) fn told(status: &PodStatus) -> Result<(), Broken> {
    for one in each(status) {
        let ContainerStatus {
            name, state, ready, ..
        } = one;
        let state = state.clone().unwrap_or_default();
        let reason = match (&state.waiting, &state.running, &state.terminated) {
            (Some(waiting), None, None) => waiting.reason.clone(),
            (None, Some(running), None) => running.started_at.as_ref().map(|_| "-".to_owned()),
            (None, None, Some(over)) => over.reason.clone(),
            _ => None,
        };
        if reason.is_none_or(|reason| reason.is_empty()) {
            return broken(
                "each container has one state with its reason",
                format!("{one:?}"),
            );
        }
        if *ready && state.waiting.is_some() {
            return broken("what waits is not ready", name.clone());
        }
    }
    let phase = status.phase.as_deref().unwrap_or_default();
    let mut conditions = status.conditions.iter().flatten();
    let ready = conditions.any(|one| one.type_ == "Ready" && one.status == "True");
    if ready && phase != "Running" {
        return broken("what is Ready is Running", phase);
    }
    Ok(())
}

/// Each end is told with what was said of it, cut to the container's share of 12 KiB: whatever agent
/// took it in.
pub(crate) fn last_words(
    machine: &Machine,
    (id, pod): (u32, &Pod),
    status: &PodStatus,
) -> Result<(), Broken> {
    let (lasting, added) = pod.spec.as_ref().map_or((1, 0), |spec| {
        let inits = spec.init_containers.as_ref().map_or(0, Vec::len);
        let ephemerals = spec.ephemeral_containers.as_ref().map_or(0, Vec::len);
        (spec.containers.len() + inits, ephemerals)
    });
    // What was told before a container was added had a larger share.
    let shares = (lasting..=lasting + added).map(|count| 12 * 1024 / count.max(1));
    let shares: Vec<usize> = shares.collect();
    for one in each(status) {
        let truth = machine.truth.get(&(id, one.name.clone()));
        let said = |told: &str| {
            let mut all = truth.iter().flat_map(|truth| truth.said.values());
            let cut = |said: &String, share: usize| said.get(..share).unwrap_or(said) == told;
            all.any(|said| shares.iter().any(|share| cut(said, *share)))
        };
        let states = [&one.state, &one.last_state];
        for over in states
            .into_iter()
            .flatten()
            .flat_map(|state| &state.terminated)
        {
            let ran = matches!(
                over.reason.as_deref(),
                Some("Completed" | "Error" | "OOMKilled")
            );
            let told = over.message.as_deref().unwrap_or_default();
            if ran && !said(told) {
                let detail = format!("{}: {told:?}", one.name);
                return broken("the termination message is the guest's", detail);
            }
        }
    }
    Ok(())
}

/// Succeeded is told only of a pod whose containers all ended with 0 at last.
pub(crate) fn succeeded(machine: &Machine, id: u32, pod: &Pod) -> Result<(), Broken> {
    for one in pod.spec.iter().flat_map(|spec| &spec.containers) {
        let truth = machine.truth.get(&(id, one.name.clone()));
        let last = truth.and_then(|truth| truth.codes.values().next_back());
        if last != Some(&0) {
            let detail = format!("{} ended with {last:?}", one.name);
            return broken("Succeeded is true", detail);
        }
    }
    Ok(())
}
