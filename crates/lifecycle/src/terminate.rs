//! The pod's end: why and by when, then each container in its order.
//!
//! ```text
//!            deletion, removal, eviction, shutdown, deadline, or all is done
//!  living ──────────────────────────────────────────────────────────────────► ending
//!
//!  ending: containers and inits at once ─► sidecars, last first ─► roots ─► folders ─► addresses
//!          (each when those before it are over, or when the grace is)                  ─► released
//! ```
//!
//! The state is sticky: nothing leads back. Later causes may only shorten the grace, or give a
//! status to an end that has none.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::action::{Cause, Kind};
use crate::containers;
use crate::events::EventKind;
use crate::memory::{Container, Memory, Run, Terminating};
use crate::observed::{Eviction, Progress, Verdict};
use crate::plan::{Plan, key};
use crate::spec::{self, Member, Role};
use crate::stop;
use crate::time::after;

/// `pkg/kubelet/active_deadline.go`
const DEADLINE: (&str, &str) = (
    "DeadlineExceeded",
    "Pod was active on the node longer than the specified deadline",
);
/// `pkg/kubelet/nodeshutdown/nodeshutdown_manager.go`
const SHUTDOWN: (&str, &str) = (
    "Terminated",
    "Pod was terminated in response to imminent node shutdown.",
);

/// A reason to end the pod.
struct Call {
    cause: Cause,
    /// Seconds.
    grace: i64,
    failed: Option<(String, String)>,
    at_once: bool,
}

/// Looks whether the pod has to end by what others say: its object, its source, the node, the clock.
pub(crate) fn called(plan: &mut Plan<'_>, memory: &mut Memory) {
    let pod = plan.pod;
    if pod.metadata.deletion_timestamp.is_some() {
        let grace = pod
            .metadata
            .deletion_grace_period_seconds
            .unwrap_or_else(|| spec::grace(pod));
        enter(plan, memory, plain(Cause::Deletion, grace.max(1)));
    }
    if plan.observed.gone {
        enter(plan, memory, plain(Cause::Removal, removal_grace(pod)));
    }
    match &plan.observed.verdict {
        Some(Verdict::Evicted {
            eviction,
            message,
            grace_seconds,
        }) => {
            let (cause, reason) = match eviction {
                Eviction::Pressure => (Cause::Eviction, "Evicted"),
                Eviction::StorageLimit => (Cause::StorageLimit, "Evicted"),
                Eviction::Preemption => (Cause::Preemption, "Preempting"),
            };
            if memory.terminating.is_none() {
                plan.tell(EventKind::Warning, reason, message.clone());
            }
            let failed = Some((reason.to_owned(), message.clone()));
            let call = Call {
                failed,
                ..by_node(cause, *grace_seconds)
            };
            enter(plan, memory, call);
        }
        Some(Verdict::Shutdown { grace_seconds }) => {
            let failed = Some((SHUTDOWN.0.to_owned(), SHUTDOWN.1.to_owned()));
            let call = Call {
                failed,
                ..by_node(Cause::Shutdown, *grace_seconds)
            };
            enter(plan, memory, call);
        }
        _ => {}
    }
    if let (Some(seconds), Some(start), None) =
        (spec::deadline(pod), memory.start_time, &memory.terminating)
        && plan.due(after(start, seconds))
    {
        plan.tell(EventKind::Normal, DEADLINE.0, DEADLINE.1.to_owned());
        let failed = Some((DEADLINE.0.to_owned(), DEADLINE.1.to_owned()));
        let call = Call {
            failed,
            ..plain(Cause::Deadline, spec::grace(pod))
        };
        enter(plan, memory, call);
    }
}

/// Ends the pod if nothing in it will run again.
pub(crate) fn finished(plan: &mut Plan<'_>, memory: &mut Memory) {
    let over = |member: &Member<'_>| {
        memory
            .containers
            .get(member.name())
            .filter(|container| container.run == Run::Over)
    };
    let done = spec::mains(plan.pod).all(|member| over(&member).is_some());
    let failed = !memory.initialized
        && spec::inits(plan.pod).any(|member| {
            let ended = over(&member).and_then(|container| container.ended.as_ref());
            ended.is_some_and(|ended| ended.exit_code != 0)
        });
    if done || failed {
        let call = plain(Cause::PodDone, spec::grace(plan.pod));
        enter(plan, memory, call);
    }
}

fn plain(cause: Cause, grace: i64) -> Call {
    Call {
        cause,
        grace,
        failed: None,
        at_once: false,
    }
}

/// The node's own word is taken as it is, 0 too.
fn by_node(cause: Cause, grace: u32) -> Call {
    Call {
        cause,
        grace: i64::from(grace),
        failed: None,
        at_once: grace == 0,
    }
}

fn removal_grace(pod: &Pod) -> i64 {
    pod.metadata
        .deletion_grace_period_seconds
        .unwrap_or_else(|| spec::grace(pod))
        .max(1)
}

/// Begins the end, or shortens it: `calculateEffectiveGracePeriod` in `pkg/kubelet/pod_workers.go`.
fn enter(plan: &Plan<'_>, memory: &mut Memory, call: Call) {
    let until = after(plan.now, call.grace);
    let terminal = memory.phase.is_some_and(crate::memory::Phase::is_terminal);
    match &mut memory.terminating {
        None => {
            memory.terminating = Some(Box::new(Terminating {
                cause: call.cause,
                failed: call.failed.filter(|_| !terminal),
                since: plan.now,
                until,
                at_once: call.at_once,
            }));
        }
        Some(terminating) => {
            terminating.until = terminating.until.min(until);
            terminating.at_once |= call.at_once;
            if terminating.failed.is_none() && terminating.cause != Cause::PodDone && !terminal {
                terminating.failed = call.failed;
            }
        }
    }
}

/// Brings every container towards its end; true once none may run and no root is left.
pub(crate) fn wind_down(plan: &mut Plan<'_>, memory: &mut Memory) -> bool {
    let Some(terminating) = memory.terminating.clone() else {
        return false;
    };
    // From the last on, so that a sidecar sees whether those that go before it are over.
    let mut clear = true;
    let mut bare = true;
    let lasting = spec::mains(plan.pod).chain(spec::inits(plan.pod).rev());
    // No sidecar waits for what is ephemeral.
    for member in lasting.chain(spec::beside(plan.ephemerals)) {
        let Some(container) = memory.containers.get_mut(member.name()) else {
            continue;
        };
        let turn = member.role != Role::Sidecar || clear || plan.now >= terminating.until;
        if !turn {
            plan.wake(terminating.until);
        }
        conclude(plan, &member, container, (&terminating, turn));
        containers::sweep(plan, &member, container);
        clear &= container.run == Run::Over;
        bare &= container.leftovers.is_empty();
    }
    clear && bare
}

/// Brings one container towards its end. A sidecar whose `turn` has not come runs its preStop hook
/// already: `killContainer` in `pkg/kubelet/kuberuntime/kuberuntime_container.go` waits after it.
pub(crate) fn conclude(
    plan: &mut Plan<'_>,
    member: &Member<'_>,
    container: &mut Container,
    (terminating, turn): (&Terminating, bool),
) {
    let attempt = container.attempt;
    match &mut container.run {
        Run::Over => {}
        Run::Waiting | Run::Pulling | Run::Pulled | Run::Failed { .. } => {
            container.run = Run::Over;
        }
        Run::Mounting => match plan.fact(&key(member, attempt, Kind::Mount)) {
            Some(Progress::InFlight { .. }) => {}
            Some(Progress::Failed { .. }) => container.run = Run::Over,
            // Absent: an agent before this one may have made it.
            Some(Progress::Done { .. }) | None => leave(plan.now, container),
        },
        Run::Starting { stop } => match plan.fact(&key(member, attempt, Kind::Start)) {
            None if plan.observed.guest_host.is_some() => leave(plan.now, container),
            Some(Progress::InFlight { .. }) if turn => {
                let end = end(terminating, (false, turn));
                stop::ask(plan, member, attempt, stop, end);
            }
            _ => {}
        },
        Run::Running { stop, .. } => {
            let end = end(terminating, (true, turn));
            stop::ask(plan, member, attempt, stop, end);
        }
    }
    if container.run == Run::Over {
        container.waiting = None;
    }
}

fn end(terminating: &Terminating, (runs, turn): (bool, bool)) -> stop::End {
    stop::End {
        cause: terminating.cause,
        until: terminating.until,
        at_once: terminating.at_once,
        runs,
        turn,
    }
}

/// No guest runs in it, but a root may stand.
fn leave(now: Timestamp, container: &mut Container) {
    container.leftovers.insert(container.attempt, Some(now));
    container.run = Run::Over;
}
