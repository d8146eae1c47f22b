//! A pod whose resources change while it runs: what the node gives it, and what of that its guests
//! have (`pkg/kubelet/allocation`, `computePodResizeAction` in
//! `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).
//!
//! ```text
//!  the Pod asks ──► the node gives (allocated) ──► each container's guest has it (applied)
//!        │                                             │
//!        └─► Deferred, Infeasible (PodResizePending)   └─► until then: PodResizeInProgress
//! ```
//!
//! A step goes by the Pod as if it asked for what it was given. Must not know: how a limit is set.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use serde::Serialize;

use crate::action::{Kind, What};
use crate::allocation::{self, Allocation, Amounts};
use crate::events::EventKind;
use crate::memory::{Container, Memory, ResizeCondition, Resizing, Run};
use crate::observed::{Observed, Progress, Sizing, Verdict};
use crate::plan::{Plan, key};
use crate::setup::RETRY;
use crate::spec::{self, Member, Role};
use crate::time::after;

/// `reason` of PodResizeInProgress, once a container could not be resized.
const ERROR: &str = "Error";

/// An event of the pod: kind, reason, message.
pub(crate) type Told = (EventKind, &'static str, String);

/// Takes the node's word; gives what is to be told of it.
pub(crate) fn allocate(
    memory: &mut Memory,
    pod: &Pod,
    observed: &Observed,
    now: Timestamp,
) -> Vec<Told> {
    let judged = memory.verdict.as_ref().or(observed.verdict.as_ref());
    let refused = matches!(judged, None | Some(Verdict::Refused { .. }));
    if refused || memory.terminating.is_some() || memory.inherited {
        return Vec::new();
    }
    let mut told = Vec::new();
    let granted = match &observed.sizing {
        Some(Sizing::Granted { allocation, .. }) => Some(allocation),
        _ => None,
    };
    let Some(known) = &memory.resize.allocated else {
        memory.resize.allocated = Some(granted.cloned().unwrap_or_else(|| Allocation::of(pod)));
        return told;
    };
    if let Some(Sizing::Granted {
        allocation,
        generation,
    }) = &observed.sizing
        && allocation != known
    {
        memory.resize.allocated = Some(allocation.clone());
        memory.resize.pending = None;
        memory.resize.progress = Some(condition("", String::new(), *generation, now));
        let message = summary("Pod resize started", pod, *generation, "");
        told.push((EventKind::Normal, "ResizeStarted", message));
    }
    told.extend(pending(memory, pod, observed, now));
    told
}

/// Keeps PodResizePending: `SetPodResizePendingCondition` in `pkg/kubelet/status`.
fn pending(memory: &mut Memory, pod: &Pod, observed: &Observed, now: Timestamp) -> Option<Told> {
    let allocated = memory.resize.allocated.as_ref()?;
    if allocated.is_of(pod) {
        memory.resize.pending = None;
        return None;
    }
    let (kind, event, why, message, generation) = match observed.sizing.as_ref()? {
        Sizing::Granted { .. } => return None,
        Sizing::Deferred {
            reason,
            message,
            generation,
        } => (
            "Deferred",
            "ResizeDeferred",
            reason.as_str(),
            message,
            *generation,
        ),
        Sizing::Infeasible {
            message,
            generation,
        } => (
            "Infeasible",
            "ResizeInfeasible",
            "Infeasible",
            message,
            *generation,
        ),
    };
    let before = memory.resize.pending.take();
    let mut new = condition(kind, message.clone(), generation, now);
    let same = |old: &ResizeCondition| (old.reason.as_str(), old.generation) == (kind, generation);
    let known = before.as_deref().is_some_and(same);
    if let Some(old) = before.filter(|old| old.reason == kind) {
        new.since = old.since;
    }
    memory.resize.pending = Some(new);
    let message = summary(&format!("Pod resize {why}"), pod, generation, message);
    (!known).then_some((EventKind::Warning, event, message))
}

fn condition(
    reason: &str,
    message: String,
    generation: Option<i64>,
    since: Timestamp,
) -> Box<ResizeCondition> {
    Box::new(ResizeCondition {
        reason: reason.to_owned(),
        message,
        generation,
        since,
    })
}

/// The Pod as if it asked for what it was given.
pub(crate) fn allocated<'a>(pod: &'a Pod, memory: &Memory) -> Cow<'a, Pod> {
    match &memory.resize.allocated {
        Some(allocated) => allocated.apply(pod),
        None => Cow::Borrowed(pod),
    }
}

/// Brings what guests have on to what their containers were given. `ending`: the pod is, so that
/// nothing new is asked for.
pub(crate) fn bring(plan: &mut Plan<'_>, memory: &mut Memory, ending: bool) {
    let mut failed = None;
    let mut differs = false;
    let begun = memory.resize.progress.is_some();
    for member in spec::members(plan.pod) {
        let Some(container) = memory.containers.get_mut(member.name()) else {
            continue;
        };
        absorb(plan, &member, container, &mut failed);
        if !ending {
            advance(plan, &member, container);
        }
        differs |= match &container.run {
            Run::Running { .. } => !is_applied(&member, container),
            // One that is restarted for it has it once it runs.
            Run::Starting { .. } => begun && container.ended.is_some(),
            Run::Pulling | Run::Pulled | Run::Mounting => {
                begun && container.ended.is_some() && !is_applied(&member, container)
            }
            Run::Waiting | Run::Failed { .. } | Run::Over => false,
        };
    }
    if !ending {
        progress(plan, memory, failed, differs);
    }
}

/// Keeps PodResizeInProgress: `SyncPod` in `pkg/kubelet/kubelet.go`.
fn progress(plan: &mut Plan<'_>, memory: &mut Memory, failed: Option<String>, differs: bool) {
    let generation = plan.pod.metadata.generation;
    if !differs {
        if let Some(over) = memory.resize.progress.take() {
            let message = summary("Pod resize completed", plan.pod, over.generation, "");
            plan.tell(EventKind::Normal, "ResizeCompleted", message);
        }
        return;
    }
    let now = plan.now;
    let under_way = memory.resize.progress.get_or_insert_with(|| {
        // The generation is that of the Pod that is asked for, as the kubelet has it.
        condition("", String::new(), generation, now)
    });
    let Some(message) = failed else { return };
    if (under_way.reason.as_str(), &under_way.message) == (ERROR, &message) {
        return;
    }
    if under_way.reason != ERROR {
        under_way.since = now;
    }
    under_way.reason = ERROR.to_owned();
    under_way.message.clone_from(&message);
    let generation = under_way.generation;
    let told = summary("Pod resize error", plan.pod, generation, &message);
    plan.tell(EventKind::Warning, "ResizeError", told);
}

fn is_applied(member: &Member<'_>, container: &Container) -> bool {
    allocation::same(container.applied.as_deref(), member.spec.resources.as_ref())
}

/// Takes in the answer to a resize that was asked for.
fn absorb(
    plan: &mut Plan<'_>,
    member: &Member<'_>,
    container: &mut Container,
    failed: &mut Option<String>,
) {
    let Resizing {
        attempt,
        target: Some(target),
        retry_at: None,
    } = &container.resizing
    else {
        return;
    };
    if !matches!(container.run, Run::Running { .. }) {
        container.resizing = Resizing::after(*attempt);
        return;
    }
    match plan.fact(&key(member, *attempt, Kind::Resize)) {
        None | Some(Progress::InFlight { .. }) => {}
        Some(Progress::Done { .. }) => {
            container.applied = Some(target.clone());
            container.resizing = Resizing::after(*attempt);
        }
        Some(Progress::Failed { at, failure }) => {
            *failed = Some(failure.message.clone());
            let again = after(*at, RETRY);
            plan.wake(again);
            container.resizing = Resizing {
                attempt: attempt.saturating_add(1),
                target: Some(target.clone()),
                retry_at: Some(again),
            };
        }
    }
}

/// Asks for what is still to be set.
fn advance(plan: &mut Plan<'_>, member: &Member<'_>, container: &mut Container) {
    let Run::Running { stop: None, .. } = container.run else {
        return;
    };
    let wanted = member.spec.resources.as_ref();
    if let Some(target) = container.resizing.target.as_deref() {
        let same = allocation::same(Some(target), wanted);
        let key = key(member, container.resizing.attempt, Kind::Resize);
        match (container.resizing.retry_at, plan.fact(&key)) {
            (None, Some(_)) => return,
            // An agent before this one has asked.
            (None, None) if same => return plan.ask(key, what(container, target)),
            (None, None) => {
                container.resizing = Resizing::after(container.resizing.attempt);
            }
            (Some(at), _) if same && !plan.due(at) => return,
            (Some(_), _) => {}
        }
    }
    container.resizing.target = None;
    container.resizing.retry_at = None;
    if is_applied(member, container) || needs_restart(member, container) {
        return;
    }
    let target = Box::new(wanted.map(Amounts::of).unwrap_or_default());
    if allocation::same_limits(container.applied.as_deref(), wanted) {
        // Requests are the node's affair alone: a guest does not have them.
        container.applied = Some(target);
        return;
    }
    let what = what(container, &target);
    plan.ask(key(member, container.resizing.attempt, Kind::Resize), what);
    container.resizing.target = Some(target);
}

fn what(container: &Container, target: &Amounts) -> What {
    let narrow = |amount: u128| u64::try_from(amount).unwrap_or(u64::MAX);
    let before = allocation::limit("memory", container.applied.as_deref());
    let memory = allocation::limit("memory", Some(target));
    What::Resize {
        run: container.attempt,
        cpu_milli: allocation::limit("cpu", Some(target)).map(narrow),
        memory_bytes: memory.map(|milli| narrow(milli.div_ceil(1000))),
        // A limit that was not there before is a smaller one too (`validateMemoryResizeAction`).
        shrinks: memory.is_some_and(|new| before.is_none_or(|old| new < old)),
    }
}

/// The container has to be restarted to have what it was given: `resizePolicy`.
pub(crate) fn needs_restart(member: &Member<'_>, container: &Container) -> bool {
    let (applied, wanted) = (container.applied.as_deref(), member.spec.resources.as_ref());
    let policies = member.spec.resize_policy.iter().flatten();
    let mut restarts = policies.filter(|policy| policy.restart_policy == "RestartContainer");
    // An init container that runs to its end can't be restarted for it; nor may it ask to be.
    member.role != Role::Init
        && restarts.any(|policy| allocation::differs(&policy.resource_name, applied, wanted))
}

/// What an event says of a resize: `makeResourceSummaryFromSpec` in `pkg/kubelet/events/resize.go`.
fn summary(prefix: &str, pod: &Pod, generation: Option<i64>, error: &str) -> String {
    #[derive(Serialize)]
    struct One<'a> {
        name: &'a str,
        resources: ResourceRequirements,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Summary<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        init_containers: Vec<One<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        containers: Vec<One<'a>>,
        generation: i64,
        #[serde(skip_serializing_if = "str::is_empty")]
        error: &'a str,
    }
    fn one(member: Member<'_>) -> One<'_> {
        One {
            name: member.spec.name.as_str(),
            resources: member.spec.resources.clone().unwrap_or_default(),
        }
    }
    let all = Summary {
        init_containers: spec::inits(pod).map(one).collect(),
        containers: spec::mains(pod).map(one).collect(),
        generation: generation.unwrap_or_default(),
        error,
    };
    match serde_json::to_string(&all) {
        Ok(json) => format!("{prefix}: {json}"),
        Err(_) => prefix.to_owned(),
    }
}
