//! The end of one guest: asked for once, shortened when the grace shrinks, asked for again when the
//! executor failed.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::action::{Cause, Hook, Kind, ProbeKind, What};
use crate::events::EventKind;
use crate::hook;
use crate::memory::{HookState, Stopping};
use crate::observed::Progress;
use crate::plan::{Plan, key};
use crate::spec::Member;
use crate::time::{after, until};

/// The least grace of a container, seconds (`minimumGracePeriodInSeconds` in
/// `pkg/kubelet/kuberuntime`).
const LEAST: i64 = 2;
/// Seconds until a Stop that failed is asked for again.
const RETRY: i64 = 2;

/// How a guest is to end.
#[derive(Clone, Copy)]
pub(crate) struct End {
    /// Why.
    pub(crate) cause: Cause,
    /// When the grace ends.
    pub(crate) until: Timestamp,
    /// Even the least grace is denied.
    pub(crate) at_once: bool,
    /// It is known to run, so that a hook can be run in it.
    pub(crate) runs: bool,
    /// The guest may be told to end. A sidecar's hook does not wait for that.
    pub(crate) turn: bool,
}

/// Asks for the guest's end, after its preStop hook.
pub(crate) fn ask(
    plan: &mut Plan<'_>,
    member: &Member<'_>,
    attempt: u32,
    stop: &mut Option<Stopping>,
    end: End,
) {
    let End {
        cause,
        until: end,
        at_once,
        runs,
        turn,
    } = end;
    let key = key(member, attempt, Kind::Stop);
    let least = if at_once {
        plan.now
    } else {
        after(plan.now, LEAST)
    };
    let wanted = end.max(least);
    let fact = plan.fact(&key);
    let hooked = runs && hook::has(member, Hook::PreStop) && !at_once && end > plan.now;
    match stop {
        None if fact.is_some() => {
            // The answer to an earlier one is to be dropped first: ask as soon as it is.
            plan.wake(plan.now);
            return;
        }
        None => {
            plan.tell_of(
                member,
                EventKind::Normal,
                "Killing",
                message(member, cause, plan.pod),
            );
            *stop = Some(Stopping {
                cause,
                until: wanted,
                answered: None,
                retry_at: None,
                early: false,
                pre_stop: if hooked {
                    HookState::Due
                } else {
                    HookState::Over
                },
            });
        }
        Some(stop) if !stop.pre_stop.is_over() => stop.until = stop.until.min(wanted),
        Some(_) if !turn => return,
        Some(stop) => {
            let told = match fact {
                // Graces are whole seconds: what is no shorter in these is not asked for again.
                Some(Progress::InFlight { .. }) => {
                    after(plan.now, i64::from(until(plan.now, wanted)))
                }
                _ => wanted,
            };
            let shorter = told < stop.until;
            let due = match (fact, stop.retry_at, stop.answered) {
                (_, _, Some(_)) => false,
                (None, None, None) => true,
                (None, Some(at), None) => plan.due(at),
                (Some(Progress::InFlight { .. }), _, None) => shorter,
                (Some(_), _, None) => false,
            };
            if shorter {
                stop.until = wanted;
            }
            if !due {
                return;
            }
            // A hook and the wait for its turn may have taken all of the grace.
            if fact.is_none() && stop.retry_at.is_none() {
                stop.until = stop.until.max(least);
            }
            stop.retry_at = None;
            stop.early = false;
        }
    }
    let Some(stop) = stop else { return };
    if !stop.pre_stop.is_over() {
        if !hook::pre_stop(plan, member, attempt, stop, at_once) {
            return;
        }
        stop.until = stop.until.max(least);
    }
    if !turn {
        return;
    }
    let grace_seconds = until(plan.now, stop.until);
    plan.ask(
        key,
        What::Stop {
            grace_seconds,
            cause,
        },
    );
}

/// Takes in the executor's answer.
pub(crate) fn absorb(plan: &mut Plan<'_>, member: &Member<'_>, attempt: u32, stop: &mut Stopping) {
    if stop.answered.is_some() {
        return;
    }
    match plan.fact(&key(member, attempt, Kind::Stop)) {
        Some(Progress::Done { .. }) if stop.early => {
            stop.retry_at = Some(plan.now);
            plan.wake(plan.now);
        }
        Some(Progress::Done { at, .. }) => stop.answered = Some(*at),
        Some(Progress::Failed { at, failure }) if stop.retry_at.is_none() => {
            let message = format!("error killing pod: {}", failure.message);
            plan.tell_of(member, EventKind::Warning, "FailedKillPod", message);
            let again = after(*at, RETRY);
            stop.retry_at = Some(again);
            plan.wake(again);
        }
        Some(Progress::Failed { .. }) => stop.retry_at.into_iter().for_each(|at| plan.wake(at)),
        _ => {}
    }
}

/// The Killing event's words.
fn message(member: &Member<'_>, cause: Cause, pod: &Pod) -> String {
    let name = member.name();
    match cause {
        Cause::SpecChange => format!("Container {name} definition changed, will be restarted"),
        Cause::Probe(kind) => {
            let kind = match kind {
                ProbeKind::Startup => "startup",
                ProbeKind::Liveness | ProbeKind::Readiness => "liveness",
            };
            let again = match member.may_restart(pod) {
                true => ", will be restarted",
                false => "",
            };
            format!("Container {name} failed {kind} probe{again}")
        }
        Cause::Resize => format!("Container {name} resize requires restart"),
        Cause::RestartAll => "killing".to_owned(),
        Cause::PostStart => "FailedPostStartHook".to_owned(),
        _ => format!("Stopping container {name}"),
    }
}
