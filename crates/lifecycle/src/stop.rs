//! The end of one guest: asked for once, shortened when the grace shrinks, asked for again when the
//! executor failed.

use jiff::Timestamp;

use crate::action::{Cause, Kind, What};
use crate::events::EventKind;
use crate::memory::Stopping;
use crate::observed::Progress;
use crate::plan::{Plan, key};
use crate::spec::Member;
use crate::time::{after, until};

/// The least grace of a container, seconds (`minimumGracePeriodInSeconds` in
/// `pkg/kubelet/kuberuntime`).
const LEAST: i64 = 2;
/// Seconds until a Stop that failed is asked for again.
const RETRY: i64 = 2;

/// Asks for the guest's end: why, when the grace ends, and whether even the least grace is denied.
pub(crate) fn ask(
    plan: &mut Plan<'_>,
    member: &Member<'_>,
    attempt: u32,
    stop: &mut Option<Stopping>,
    (cause, end, at_once): (Cause, Timestamp, bool),
) {
    let key = key(member, attempt, Kind::Stop);
    let least = if at_once {
        plan.now
    } else {
        after(plan.now, LEAST)
    };
    let wanted = end.max(least);
    let fact = plan.fact(&key);
    match stop {
        None if fact.is_some() => {
            // The answer to an earlier one is to be dropped first: ask as soon as it is.
            plan.wake(plan.now);
            return;
        }
        None => {
            plan.tell_of(member, EventKind::Normal, "Killing", message(member, cause));
            *stop = Some(Stopping {
                cause,
                until: wanted,
                answered: None,
                retry_at: None,
                early: false,
            });
        }
        Some(stop) => {
            let due = match (fact, stop.retry_at, stop.answered) {
                (_, _, Some(_)) => false,
                (None, None, None) => true,
                (None, Some(at), None) => plan.due(at),
                (Some(Progress::InFlight { .. }), _, None) => wanted < stop.until,
                (Some(_), _, None) => false,
            };
            if wanted < stop.until {
                stop.until = wanted;
            }
            if !due {
                return;
            }
            stop.retry_at = None;
            stop.early = false;
        }
    }
    let end = stop.as_ref().map_or(wanted, |stop| stop.until);
    let grace_seconds = until(plan.now, end);
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
fn message(member: &Member<'_>, cause: Cause) -> String {
    let name = member.name();
    match cause {
        Cause::SpecChange => format!("Container {name} definition changed, will be restarted"),
        Cause::Probe => format!("Container {name} failed liveness probe, will be restarted"),
        _ => format!("Stopping container {name}"),
    }
}
