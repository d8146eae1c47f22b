//! The lifecycle hooks of a container: postStart before anybody counts on it, preStop before its
//! guest is told to end (`startContainer`, `killContainer` in
//! `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
//!
//! A hook whose answer was lost with an agent is over if it is a postStart, and is run again if it
//! is a preStop, as the kubelet does. Must not know: how a hook is run.

use crate::action::{Hook, Kind, What};
use crate::events::EventKind;
use crate::memory::{Container, HookState, Stopping, Waiting};
use crate::observed::{Output, Progress};
use crate::plan::{Plan, key};
use crate::spec::Member;
use crate::time::until;

/// True if the container has a hook of this kind.
pub(crate) fn has(member: &Member<'_>, hook: Hook) -> bool {
    hook.handler(member.spec).is_some()
}

/// Takes in what became of a run's postStart hook. One that fails ends the run.
pub(crate) fn absorb(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container) {
    if memory.post_start.is_over() {
        return;
    }
    let key = key(member, memory.attempt, Kind::Exec(Hook::PostStart));
    match (memory.post_start, plan.fact(&key)) {
        (HookState::Due, None) | (_, Some(Progress::InFlight { .. })) => {}
        (_, Some(Progress::Failed { failure, .. })) => {
            memory.post_start = HookState::Over;
            let told = "PostStartHook failed".to_owned();
            plan.tell_of(member, EventKind::Warning, "FailedPostStartHook", told);
            memory.hook_failed = Some(Box::new(Waiting {
                reason: "PostStartHookError".to_owned(),
                message: failure.message.clone(),
            }));
        }
        (_, Some(Progress::Done { output, .. })) => {
            memory.post_start = HookState::Over;
            tell_fallback(plan, output);
        }
        // Lost with an agent.
        (_, None) => memory.post_start = HookState::Over,
    }
}

/// Asks for the postStart hook of a run that has begun, once it is decided what is to end.
/// `ending`: the pod's guests are, so that it has none.
pub(crate) fn ask(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container, ending: bool) {
    if memory.post_start != HookState::Due {
        return;
    }
    let key = key(member, memory.attempt, Kind::Exec(Hook::PostStart));
    if plan.fact(&key).is_some() {
        return;
    }
    if ending {
        memory.post_start = HookState::Over;
        return;
    }
    memory.post_start = HookState::Asked;
    let ips = plan.ips.to_vec();
    let grace_seconds = None;
    plan.ask(key, What::Exec { ips, grace_seconds });
}

/// The kubelet tells it of the pod.
fn tell_fallback(plan: &mut Plan<'_>, output: &Output) {
    if let Output::FellBack { host } = output {
        let told = format!(
            "request to HTTPS lifecycle hook {host} got HTTP response, retry with HTTP succeeded"
        );
        plan.tell(EventKind::Warning, "LifecycleHTTPFallback", told);
    }
}

/// Brings a preStop hook that is not over to its end, within the grace; true once the guest may be
/// told to end. `at_once`: there is no time for a hook.
pub(crate) fn pre_stop(
    plan: &mut Plan<'_>,
    member: &Member<'_>,
    attempt: u32,
    stop: &mut Stopping,
    at_once: bool,
) -> bool {
    let key = key(member, attempt, Kind::Exec(Hook::PreStop));
    let fact = plan.fact(&key);
    if at_once || stop.until <= plan.now {
        // What is under way dies with the guest.
        stop.pre_stop = HookState::Over;
        return true;
    }
    match fact {
        None => {
            stop.pre_stop = HookState::Asked;
            let grace_seconds = Some(until(plan.now, stop.until));
            let ips = plan.ips.to_vec();
            plan.wake(stop.until);
            plan.ask(key, What::Exec { ips, grace_seconds });
            return false;
        }
        Some(Progress::InFlight { .. }) => {
            plan.wake(stop.until);
            return false;
        }
        Some(Progress::Failed { .. }) => {
            let told = "PreStopHook failed".to_owned();
            plan.tell_of(member, EventKind::Warning, "FailedPreStopHook", told);
        }
        Some(Progress::Done { output, .. }) => tell_fallback(plan, output),
    }
    stop.pre_stop = HookState::Over;
    true
}
