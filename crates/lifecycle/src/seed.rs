//! A pod's first step here: what its object already says of it is kept, so that a node that lost
//! its checkpoints neither runs a pod again that is over nor counts restarts from 0.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

use crate::allocation::Amounts;
use crate::memory::{Condition, Container, Ended, Memory, Phase, Run};
use crate::spec;

/// Takes over what the Pod's status says.
pub(crate) fn seed(memory: &mut Memory, pod: &Pod, now: Timestamp) {
    let Some(status) = &pod.status else {
        memory.start_time = Some(now);
        return;
    };
    memory.start_time = Some(status.start_time.as_ref().map_or(now, |time| time.0));
    for condition in status.conditions.iter().flatten() {
        if let Some(since) = &condition.last_transition_time {
            let kept = Condition {
                status: condition.status == "True",
                since: since.0,
            };
            memory
                .conditions
                .insert(condition.type_.clone().into(), kept);
        }
    }
    memory.phase = match status.phase.as_deref() {
        Some("Succeeded") => Some(Phase::Succeeded),
        Some("Failed") => Some(Phase::Failed),
        _ => None,
    };
    if memory.phase.is_some() {
        memory.inherited = true;
        return;
    }
    let ephemerals = spec::ephemerals(pod);
    let statuses = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    for known in statuses.into_iter().flatten().flatten() {
        let mut members = spec::members(pod).chain(spec::beside(&ephemerals));
        let Some(member) = members.find(|member| member.name() == known.name) else {
            continue;
        };
        let container = container(known, |code| member.restarts(pod, code));
        memory.initialized |= member.role == spec::Role::Main
            && (container.ended.is_some() || container.run != Run::Waiting);
        memory
            .containers
            .insert(known.name.clone(), Box::new(container));
    }
}

/// A container as its status has it. One that ran is taken for running: it is adopted if the guest
/// host has it, and lost if not.
fn container(known: &ContainerStatus, restarts: impl Fn(i32) -> bool) -> Container {
    let count = u32::try_from(known.restart_count).unwrap_or_default();
    let mut container = Container {
        restart_count: count,
        next_count: count,
        ..Container::default()
    };
    let state = known.state.clone().unwrap_or_default();
    let last = ended(known.last_state.as_ref());
    let seen = ended(Some(&state));
    container.attempt = count;
    if let Some(running) = state.running {
        container.next_count = count.saturating_add(1);
        container.ended = last;
        container.run = Run::Running {
            started_at: running
                .started_at
                .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            container_id: known.container_id.clone().unwrap_or_default(),
            stop: None,
        };
        container.applied = known.resources.as_ref().map(Amounts::of).map(Box::new);
        container.started = known.started == Some(true);
        container.ready = known.ready;
        return container;
    }
    (container.ended, container.last) = if seen.is_some() {
        (seen, last)
    } else {
        (last, None)
    };
    if let Some(ended) = &container.ended {
        container.next_count = count.saturating_add(1);
        container.attempt = container.next_count;
        container.run = if restarts(ended.exit_code) {
            Run::Waiting
        } else {
            Run::Over
        };
    }
    container
}

fn ended(state: Option<&ContainerState>) -> Option<Box<Ended>> {
    let over = state?.terminated.as_ref()?;
    Some(Box::new(Ended {
        exit_code: over.exit_code,
        reason: over.reason.clone().unwrap_or_default(),
        message: over.message.clone().unwrap_or_default(),
        started_at: over.started_at.as_ref().map(|time| time.0),
        finished_at: over
            .finished_at
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        container_id: over.container_id.clone().unwrap_or_default(),
    }))
}
