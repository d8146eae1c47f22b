//! A container's runs while the pod is to live: root, start, exit, restart. The diagram is at
//! [`crate::memory::Container`].
//!
//! Must not know: the pod's phase, or which container's turn it is.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::action::{Cause, Hook, Kind, What};
use crate::allocation::Amounts;
use crate::backoff;
use crate::events::EventKind;
use crate::memory::{Container, Ended, HookState, Run, Waiting};
use crate::observed::{Exit, Failure, Output, Progress, Retry};
use crate::plan::{Plan, key};
use crate::pull;
use crate::setup::{self, RETRY};
use crate::spec::{self, Member, Role};
use crate::stop;
use crate::time::after;
use crate::words;
use crate::{hook, probe, resize, unsupported};

/// What containerd says of a guest that could not be started; the kubelet passes it on.
const START_ERROR: i32 = 128;
/// Seconds for which an exit may be missing after the executor said that the run has ended.
const EXIT_PATIENCE: i64 = 5;
/// The kubelet's words for a run that is gone (`convertToAPIContainerStatuses`).
const LOST: &str = "The container could not be located when the pod was deleted.  The container used to be Running";
/// What is said of a run that may have been, and is gone.
const NEVER_SEEN: &str = "The guest host died while the container was being started, so that nobody knows whether it ran";

/// Takes in what is known of the current run. `ending`: the pod is, so none will follow.
pub(crate) fn absorb(
    plan: &mut Plan<'_>,
    member: &Member<'_>,
    memory: &mut Container,
    ending: bool,
) {
    if matches!(memory.run, Run::Starting { .. }) {
        absorb_start(plan, member, memory, ending);
    }
    if let Run::Starting { stop: Some(stop) }
    | Run::Running {
        stop: Some(stop), ..
    } = &mut memory.run
    {
        stop::absorb(plan, member, memory.attempt, stop);
    }
    if matches!(memory.run, Run::Running { .. }) {
        absorb_end(plan, member, memory, ending);
    }
    if matches!(memory.run, Run::Running { .. }) {
        hook::absorb(plan, member, memory);
        probe::absorb(plan, member, memory);
    }
}

/// What the pod says to a container.
#[derive(Clone, Copy)]
pub(crate) struct Turn<'a> {
    /// It is its turn to run.
    pub(crate) wanted: bool,
    /// The pod's folders and addresses stand.
    pub(crate) ready: bool,
    /// The pod's addresses.
    pub(crate) ips: &'a [IpAddr],
}

/// Brings the run on.
pub(crate) fn advance(
    plan: &mut Plan<'_>,
    member: &Member<'_>,
    memory: &mut Container,
    turn: Turn<'_>,
) {
    sweep(plan, member, memory);
    if turn.wanted {
        begin(plan, member, memory);
    }
    if memory.run == Run::Pulling {
        pull::follow(plan, member, memory);
        // A failure's backoff is entered, and its waking asked for, in the step that learns of it.
        if memory.run == Run::Waiting && turn.wanted {
            begin(plan, member, memory);
            // Another image, if the Pod names one by now: it waits for no answer of the first.
            if memory.run == Run::Pulling {
                pull::follow(plan, member, memory);
            }
        }
    }
    if memory.run == Run::Pulled && turn.wanted && turn.ready {
        let late = unsupported::late(plan.pod, member);
        match late.or_else(|| member.breaks_non_root(plan.pod)) {
            None => memory.run = Run::Mounting,
            Some(message) => {
                let reason = "CreateContainerConfigError".to_owned();
                fail(
                    plan,
                    member,
                    memory,
                    &Failure {
                        reason,
                        message,
                        retry: Retry::Never,
                    },
                );
            }
        }
    }
    if memory.run == Run::Mounting {
        follow_mount(plan, member, memory);
    }
    if memory.run == (Run::Starting { stop: None }) && plan.observed.guest_host.is_some() {
        ask_start(plan, member, memory, turn.ips);
    }
    if matches!(memory.run, Run::Failed { .. }) && turn.wanted && names_another(member, memory) {
        // That one waits for no backoff of this one's.
        plan.wake(plan.now);
    }
    end_alone(plan, member, memory);
}

/// The Pod names another image than the one that was pulled last.
fn names_another(member: &Member<'_>, memory: &Container) -> bool {
    memory.pull.reference != member.image()
}

/// Ends a run for a reason of the container's own, while the pod is to live.
fn end_alone(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container) {
    let grace = spec::grace(plan.pod);
    let own = if let Some((kind, grace)) = probe::failing(plan.pod, member, memory) {
        Some((Cause::Probe(kind), grace))
    } else if memory.hook_failed.is_some() {
        Some((Cause::PostStart, grace))
    } else if changed(member, memory.image.as_ref().map(|i| i.reference.as_str())) {
        Some((Cause::SpecChange, grace))
    } else if resize::needs_restart(member, memory) {
        Some((Cause::Resize, grace))
    } else {
        None
    };
    let Run::Running { stop, .. } = &mut memory.run else {
        return;
    };
    let (cause, until) = match (&stop, own) {
        (Some(stop), _) => (stop.cause, stop.until),
        (None, Some((cause, grace))) => (cause, after(plan.now, grace)),
        (None, None) => return,
    };
    let end = stop::End {
        cause,
        until,
        at_once: false,
        runs: true,
        turn: true,
    };
    stop::ask(plan, member, memory.attempt, stop, end);
}

/// From a wait to a pull, if no backoff forbids it.
fn begin(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container) {
    if let Run::Failed { retry_at } = memory.run {
        if !names_another(member, memory) && !retry_at.is_some_and(|at| plan.due(at)) {
            return;
        }
        memory.attempt = memory.attempt.saturating_add(1);
        memory.run = Run::Waiting;
    }
    if memory.run == Run::Waiting
        && may_restart(plan, member, memory)
        && pull::may_begin(plan, member, memory)
    {
        pull::begin(plan, member, memory);
    }
}

/// True if the latest run that ended holds nothing up: `doBackOff` in
/// `pkg/kubelet/kuberuntime/kuberuntime_manager.go`, once for each.
fn may_restart(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container) -> bool {
    let Some(ended) = &memory.ended else {
        return true;
    };
    if memory.backed_off {
        return true;
    }
    let finished = ended.finished_at;
    if let Some(end) = backoff::pending(memory.crash.as_ref(), finished, plan.now) {
        plan.wake(end);
        let seconds = memory.crash.map_or(0, |backoff| backoff.seconds);
        show_crash_loop(plan, member, memory, seconds);
        return false;
    }
    memory.crash = Some(backoff::raise(memory.crash.as_ref(), finished, plan.now));
    memory.backed_off = true;
    true
}

fn show_crash_loop(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container, seconds: u32) {
    if memory
        .waiting
        .as_ref()
        .is_some_and(|waiting| waiting.reason == "CrashLoopBackOff")
    {
        return;
    }
    let pod = spec::display(plan.pod);
    let name = member.name();
    let message = format!("Back-off restarting failed container {name} in pod {pod}");
    plan.tell_of(member, EventKind::Warning, "BackOff", message);
    let delay = words::duration(u64::from(seconds) * 1000);
    memory.waiting = Some(Waiting {
        reason: "CrashLoopBackOff".to_owned(),
        message: format!("back-off {delay} restarting failed container={name} pod={pod}"),
    });
}

fn follow_mount(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container) {
    let image_id = memory
        .image
        .as_ref()
        .map(|image| image.id.clone())
        .unwrap_or_default();
    let key = key(member, memory.attempt, Kind::Mount);
    match plan.fact(&key) {
        None => plan.ask(key, What::Mount { image_id }),
        Some(Progress::InFlight { .. }) => {}
        Some(Progress::Done { .. }) => {
            plan.tell_of(
                member,
                EventKind::Normal,
                "Created",
                "Container created".to_owned(),
            );
            memory.guest_host = None;
            memory.run = Run::Starting { stop: None };
        }
        // What failed to be made left nothing, so there is no root to unmake.
        Some(Progress::Failed { failure, .. }) => fail(plan, member, memory, failure),
    }
}

fn ask_start(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container, ips: &[IpAddr]) {
    let key = key(member, memory.attempt, Kind::Start);
    if plan.fact(&key).is_none() {
        let image_id = memory
            .image
            .as_ref()
            .map(|image| image.id.clone())
            .unwrap_or_default();
        memory.guest_host = plan.observed.guest_host;
        memory.applied = member
            .spec
            .resources
            .as_ref()
            .map(Amounts::of)
            .map(Box::new);
        plan.ask(
            key,
            What::Start {
                image_id,
                ips: ips.to_vec(),
            },
        );
    }
}

/// A root or a guest could not be made: the kubelet tries again at its next sync, and counts no restart.
fn fail(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container, failure: &Failure) {
    let message = format!("Error: {}", failure.message);
    plan.tell_of(member, EventKind::Warning, "Failed", message);
    memory.waiting = Some(Waiting {
        reason: failure.reason.clone(),
        message: failure.message.clone(),
    });
    let retry_at = (failure.retry == Retry::Backoff).then(|| after(plan.now, RETRY));
    retry_at.into_iter().for_each(|at| plan.wake(at));
    memory.run = Run::Failed { retry_at };
}

fn absorb_start(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container, ending: bool) {
    let started = match plan.fact(&key(member, memory.attempt, Kind::Start)) {
        Some(Progress::InFlight { .. }) => return,
        Some(Progress::Failed { at, failure }) => {
            return start_failed(plan, member, memory, failure, (*at, ending));
        }
        Some(Progress::Done {
            output: Output::Started { at, container_id },
            ..
        }) => Some((*at, container_id.clone())),
        Some(Progress::Done { at, .. }) => Some((*at, String::new())),
        // The answer was lost with an agent, but not the exit.
        None => exit(plan, member, memory.attempt).map(|exit| (exit.started_at, String::new())),
    };
    if started.is_none() && asked_of_another(plan, memory) {
        return start_lost(plan, member, memory, ending);
    }
    let Some((started_at, container_id)) = started else {
        return;
    };
    plan.tell_of(
        member,
        EventKind::Normal,
        "Started",
        "Container started".to_owned(),
    );
    count(memory);
    memory.waiting = None;
    let Run::Starting { stop } = std::mem::take(&mut memory.run) else {
        return;
    };
    probe::reset(memory);
    memory.anew = false;
    memory.hook_failed = None;
    memory.post_start = match hook::has(member, Hook::PostStart) {
        true => HookState::Due,
        false => HookState::Over,
    };
    // A Stop that was answered before the guest ran did not end it: ask again.
    let mut stop = stop.filter(|stop| stop.answered.is_none());
    stop.iter_mut().for_each(|stop| stop.early = true);
    memory.run = Run::Running {
        started_at,
        container_id,
        stop,
    };
}

/// A run begins to count: as the restart that it was to be.
fn count(memory: &mut Container) {
    memory.restart_count = memory.next_count;
    memory.next_count = memory.next_count.saturating_add(1);
}

/// The end of a run of which nobody can tell how it ended.
fn lost_end(
    plan: &Plan<'_>,
    message: &str,
    started_at: Option<Timestamp>,
    container_id: String,
) -> Ended {
    Ended {
        exit_code: 137,
        reason: "ContainerStatusUnknown".to_owned(),
        message: message.to_owned(),
        started_at,
        finished_at: plan.now,
        container_id,
    }
}

/// The guest host that the guest was asked of is gone. One that is there still proves by its silence
/// that the guest never ran, and is asked again.
fn asked_of_another(plan: &Plan<'_>, memory: &Container) -> bool {
    let there = plan.observed.guest_host;
    memory.guest_host.is_some() && there.is_some() && there != memory.guest_host
}

/// A guest of which nobody knows whether it ran, since agent and guest host died before either could
/// tell: it counts as a run, or what may run once could run twice.
fn start_lost(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container, ending: bool) {
    count(memory);
    let ended = lost_end(plan, NEVER_SEEN, None, String::new());
    end(plan, member, memory, ended, ending);
}

/// A guest that could not be started is a run that ended if the container stood (RunContainerError,
/// as containerd reports it), and no run at all otherwise.
fn start_failed(
    plan: &mut Plan<'_>,
    member: &Member<'_>,
    memory: &mut Container,
    failure: &Failure,
    (at, ending): (Timestamp, bool),
) {
    if failure.reason != "RunContainerError" {
        memory.leftovers.insert(memory.attempt, Some(plan.now));
        if ending {
            memory.run = Run::Over;
        } else {
            fail(plan, member, memory, failure);
        }
        return;
    }
    plan.tell_of(
        member,
        EventKind::Warning,
        "Failed",
        format!("Error: {}", failure.message),
    );
    count(memory);
    let ended = Ended {
        exit_code: START_ERROR,
        reason: "StartError".to_owned(),
        message: failure.message.clone(),
        started_at: None,
        finished_at: at,
        container_id: String::new(),
    };
    end(plan, member, memory, ended, ending);
    if memory.run == Run::Waiting {
        memory.waiting = Some(Waiting {
            reason: failure.reason.clone(),
            message: failure.message.clone(),
        });
    }
}

fn absorb_end(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container, ending: bool) {
    let Run::Running {
        started_at,
        container_id,
        stop,
    } = &memory.run
    else {
        return;
    };
    if let Some(exit) = exit(plan, member, memory.attempt) {
        let ended = Ended::of(exit, container_id.clone());
        return end(plan, member, memory, ended, ending);
    }
    let answered = stop.as_ref().and_then(|stop| stop.answered);
    let unknown = answered.is_some_and(|at| plan.due(after(at, EXIT_PATIENCE)));
    let start = key(member, memory.attempt, Kind::Start);
    let lost = plan.observed.guest_host.is_some() && plan.fact(&start).is_none();
    if !lost && !unknown {
        return;
    }
    let ended = lost_end(plan, LOST, Some(*started_at), container_id.clone());
    end(plan, member, memory, ended, ending);
    if memory.run == Run::Waiting {
        // The kubelet counts the restart when it finds the container gone, and shows it waiting.
        memory.restart_count = memory.next_count;
        let inits = spec::inits(plan.pod).next().is_some();
        let reason = if inits {
            "PodInitializing"
        } else {
            "ContainerCreating"
        }
        .to_owned();
        memory.waiting = Some(Waiting {
            reason,
            message: String::new(),
        });
    }
}

/// The current run is over.
pub(crate) fn end(
    plan: &mut Plan<'_>,
    member: &Member<'_>,
    memory: &mut Container,
    ended: Ended,
    ending: bool,
) {
    let cause = memory.ends_for();
    let respecified = cause == Some(Cause::SpecChange);
    let resized = cause == Some(Cause::Resize);
    // Whatever the code that it ended with says: the kubelet decides that with the end itself.
    let unhealthy = matches!(cause, Some(Cause::Probe(_))) && member.may_restart(plan.pod);
    let again = !ending
        && (respecified || resized || unhealthy || member.restarts(plan.pod, ended.exit_code));
    plan.restart_all |= !ending && member.restarts_all(ended.exit_code);
    memory.last = memory.ended.replace(Box::new(ended));
    memory.leftovers.insert(memory.attempt, Some(plan.now));
    memory.waiting = memory.hook_failed.take().filter(|_| again).map(|it| *it);
    memory.post_start = HookState::Over;
    memory.backed_off = false;
    if respecified {
        // The backoff's key has the container's hash: a changed container has none.
        memory.crash = None;
    }
    memory.run = Run::Over;
    if again {
        memory.run = Run::Waiting;
        memory.attempt = memory.attempt.saturating_add(1);
    }
}

/// Unmakes the roots of runs that are over.
pub(crate) fn sweep(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container) {
    memory.leftovers.retain(|attempt, due| {
        let key = key(member, *attempt, Kind::Unmount);
        !setup::retry(plan, &key, due, &|| What::Unmount)
    });
}

fn exit<'a>(plan: &Plan<'a>, member: &Member<'_>, attempt: u32) -> Option<&'a Exit> {
    // Few are there at once: a look-up would have to make its key.
    let mut exits = plan.observed.exits.iter();
    let exit = exits.find(|((name, of), _)| *of == attempt && name == member.name());
    exit.map(|(_, exit)| exit)
}

/// The Pod names another image than the one that runs, of a container that can be restarted for it.
fn changed(member: &Member<'_>, running: Option<&str>) -> bool {
    matches!(member.role, Role::Main | Role::Sidecar)
        && running.is_some_and(|image| image != member.image())
}
