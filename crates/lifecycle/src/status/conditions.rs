//! The pod's conditions: `pkg/kubelet/status/generate.go`.

use k8s_openapi::api::core::v1::PodCondition;

use super::containers::{Shown, State};
use crate::action::Cause;
use crate::memory::{Condition, Memory, Phase, ResizeCondition};
use crate::plan::Plan;
use crate::restart;
use crate::setup;
use crate::spec::Role;
use crate::time::whole;

/// What a condition says: status, reason, message.
struct Says {
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Says {
    fn plain(status: bool) -> Says {
        Says {
            status,
            reason: None,
            message: None,
        }
    }

    fn no(reason: &'static str, message: String) -> Says {
        let message = (!message.is_empty()).then_some(message);
        Says {
            status: false,
            reason: Some(reason),
            message,
        }
    }
}

/// Every condition that the kubelet owns, with the time at which its status changed.
pub(super) fn conditions(
    plan: &Plan<'_>,
    memory: &mut Memory,
    shown: &[Shown<'_>],
    phase: Phase,
) -> Vec<PodCondition> {
    let containers = containers_ready(shown, phase);
    let ready = ready(plan, shown, phase);
    let mut all = Vec::with_capacity(6);
    if let Some(says) = disruption(memory) {
        all.push(("DisruptionTarget", says));
    }
    all.push((
        "PodReadyToStartContainers",
        Says::plain(setup::ready(memory)),
    ));
    all.push(("Initialized", initialized(plan, memory, shown, phase)));
    all.push(("Ready", ready));
    all.push(("ContainersReady", containers));
    all.push(("PodScheduled", Says::plain(true)));
    if restart::is_possible(plan.pod) {
        all.push(("AllContainersRestarting", restarting(memory, phase)));
    }
    let mut resizes = resizes(memory, phase);
    let others = all.into_iter();
    resizes.extend(others.map(|(name, says)| condition(plan, memory, name, says)));
    resizes
}

/// Those of a resize are there while they are true, of a pod that is not over
/// (`determinePodResizeStatus` in `pkg/kubelet/kubelet_pods.go`).
fn resizes(memory: &Memory, phase: Phase) -> Vec<PodCondition> {
    let known = [
        ("PodResizePending", &memory.resize.pending),
        ("PodResizeInProgress", &memory.resize.progress),
    ];
    let there = known.into_iter().filter(|_| !phase.is_terminal());
    let shown = there.filter_map(|(name, one)| {
        let ResizeCondition {
            reason,
            message,
            generation,
            since,
        } = one.as_deref()?;
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        Some(PodCondition {
            type_: name.to_owned(),
            status: "True".to_owned(),
            reason: text(reason),
            message: text(message),
            last_transition_time: Some(whole(*since)),
            last_probe_time: None,
            observed_generation: *generation,
        })
    });
    shown.collect()
}

fn condition(plan: &Plan<'_>, memory: &mut Memory, name: &'static str, says: Says) -> PodCondition {
    let since = match memory.conditions.get(name) {
        Some(known) if known.status == says.status => known.since,
        _ => {
            let new = Condition {
                status: says.status,
                since: plan.now,
            };
            memory.conditions.insert(name.into(), new);
            plan.now
        }
    };
    PodCondition {
        type_: name.to_owned(),
        status: if says.status { "True" } else { "False" }.to_owned(),
        reason: says.reason.map(str::to_owned),
        message: says.message,
        last_transition_time: Some(whole(since)),
        last_probe_time: None,
        observed_generation: plan.pod.metadata.generation,
    }
}

/// The node ends a pod that did nothing wrong: Jobs may count that apart.
fn disruption(memory: &Memory) -> Option<Says> {
    let ending = memory.terminating.as_ref()?;
    let (_, message) = ending.failed.as_ref()?;
    let message = match ending.cause {
        Cause::Eviction | Cause::Shutdown => message.clone(),
        Cause::Preemption => {
            "Pod was preempted by Kubelet to accommodate a critical pod.".to_owned()
        }
        // A pod that passes its own limits did something wrong (`localStorageEviction`).
        _ => return None,
    };
    Some(Says {
        status: true,
        reason: Some("TerminationByKubelet"),
        message: Some(message),
    })
}

fn containers_ready(shown: &[Shown<'_>], phase: Phase) -> Says {
    match phase {
        Phase::Succeeded => return Says::no("PodCompleted", String::new()),
        Phase::Failed => return Says::no("PodFailed", String::new()),
        Phase::Pending | Phase::Running => {}
    }
    let unready = shown
        .iter()
        .filter(|one| one.member.role != Role::Init && !one.ready());
    match list(unready) {
        None => Says::plain(true),
        Some(names) => Says::no(
            "ContainersNotReady",
            format!("containers with unready status: {names}"),
        ),
    }
}

fn ready(plan: &Plan<'_>, shown: &[Shown<'_>], phase: Phase) -> Says {
    let containers = containers_ready(shown, phase);
    if !containers.status {
        return containers;
    }
    let gates = plan
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.readiness_gates.as_deref());
    let closed: Vec<String> = gates
        .unwrap_or_default()
        .iter()
        .filter_map(|gate| closed(plan, &gate.condition_type))
        .collect();
    if closed.is_empty() {
        return containers;
    }
    Says::no("ReadinessGatesNotReady", closed.join(", "))
}

/// Why a readiness gate, which others open, is not open.
fn closed(plan: &Plan<'_>, gate: &str) -> Option<String> {
    let conditions = plan
        .pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    match conditions
        .unwrap_or_default()
        .iter()
        .find(|condition| condition.type_ == gate)
    {
        None => Some(format!(
            "corresponding condition of pod readiness gate \"{gate}\" does not exist."
        )),
        Some(condition) if condition.status != "True" => Some(format!(
            "the status of pod readiness gate \"{gate}\" is not \"True\", but {}",
            condition.status
        )),
        Some(_) => None,
    }
}

fn initialized(plan: &Plan<'_>, memory: &Memory, shown: &[Shown<'_>], phase: Phase) -> Says {
    if phase == Phase::Succeeded {
        return Says {
            status: true,
            reason: Some("PodCompleted"),
            message: None,
        };
    }
    let begun = shown
        .iter()
        .any(|one| one.member.role == Role::Main && !matches!(one.state, State::Waiting { .. }));
    if begun {
        return Says::plain(true);
    }
    let incomplete = shown.iter().filter(|one| match one.member.role {
        Role::Main | Role::Ephemeral => false,
        Role::Init => !one.ready(),
        Role::Sidecar => !one.started(),
    });
    match list(incomplete) {
        None => Says::plain(true),
        // A pod that was initialized stays so while its containers begin anew.
        Some(_) if restart::is_possible(plan.pod) && was(memory, "Initialized") => {
            Says::plain(true)
        }
        Some(names) => Says::no(
            "ContainersNotInitialized",
            format!("containers with incomplete status: {names}"),
        ),
    }
}

/// `GenerateAllContainersRestartingCondition`
fn restarting(memory: &Memory, phase: Phase) -> Says {
    match phase {
        Phase::Succeeded => Says::no("PodCompleted", String::new()),
        Phase::Failed => Says::no("PodFailed", String::new()),
        Phase::Pending | Phase::Running if !memory.restarting => Says::plain(false),
        Phase::Pending | Phase::Running => Says {
            status: true,
            reason: Some("RestartAllContainersStarted"),
            message: Some("container exited with restart policy rule".to_owned()),
        },
    }
}

fn was(memory: &Memory, condition: &str) -> bool {
    let known = memory.conditions.get(condition);
    known.is_some_and(|known| known.status)
}

/// Names as Go prints a list: `[a b]`; `None` for none.
fn list<'a, 'b: 'a>(shown: impl Iterator<Item = &'a Shown<'b>>) -> Option<String> {
    let names: Vec<&str> = shown.map(|one| one.member.spec.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("[{}]", names.join(" ")))
}
