//! A container's image: pulls, their backoff, and what the status and the events say of them
//! (`pkg/kubelet/images/image_manager.go`).
//!
//! ```text
//!  Idle/Done ─► Asked ─► Done
//!                │ ▲
//!          fails ▼ │ the backoff is over, or the Pod names another image: a new attempt
//!               Failed (ErrImagePull, then ImagePullBackOff)
//! ```

use crate::action::{Kind, PullPolicy, What};
use crate::backoff;
use crate::events::EventKind;
use crate::memory::{Container, Pull, PullState, Resolved, Run, Waiting};
use crate::observed::{Failure, Image, Output, Progress, Retry};
use crate::plan::{Plan, key};
use crate::setup::RETRY;
use crate::spec::Member;
use crate::time::after;
use crate::words;

/// Seconds for which the failure itself is shown before the backoff is. The kubelet shows it until
/// its next sync of the pod, which comes within seconds.
const SHOWN: i64 = 5;
/// Seconds after which a pull that asks the registry only for what is missing must be asking it.
const LOOKUP: i64 = 1;

/// True if a pull may begin: no backoff is on, or the Pod names another image by now.
pub(crate) fn may_begin(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container) -> bool {
    if memory.pull.reference != member.image() {
        if memory.pull.state != PullState::Idle {
            memory.pull.state = PullState::Done;
            memory.waiting = None;
        }
        memory.pull.backoff = None;
        return true;
    }
    let PullState::Failed {
        failure,
        at,
        retry_at,
        backing_off,
    } = &mut memory.pull.state
    else {
        return true;
    };
    let due = retry_at.is_some_and(|at| plan.due(at));
    if due || *backing_off || !backs_off(failure) || retry_at.is_none() {
        return due;
    }
    if plan.due(after(*at, SHOWN)) {
        *backing_off = true;
        let message = format!("Back-off pulling image \"{}\"", member.image());
        plan.tell_of(member, EventKind::Normal, "BackOff", message.clone());
        let error = "Error: ImagePullBackOff".to_owned();
        plan.tell_of(member, EventKind::Warning, "Failed", error);
        memory.waiting = Some(Waiting {
            reason: "ImagePullBackOff".to_owned(),
            message: format!("{message}: {}: {}", failure.reason, failure.message),
        });
    }
    false
}

/// Makes the image due, under an attempt that was never used; [`follow`] asks for it.
pub(crate) fn begin(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container) {
    let pull = &mut memory.pull;
    if pull.state != PullState::Idle {
        pull.attempt = pull.attempt.saturating_add(1);
    }
    pull.reference = member.image().to_owned();
    let always = member.pull_policy() == PullPolicy::Always;
    if always {
        tell_pulling(plan, member);
    }
    pull.state = PullState::Asked { told: always };
    memory.run = Run::Pulling;
}

/// Follows a pull that was asked for.
pub(crate) fn follow(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container) {
    if memory.pull.reference != member.image() {
        memory.pull.state = PullState::Done;
        memory.run = Run::Waiting;
        return;
    }
    match plan.fact(&key(member, memory.pull.attempt, Kind::Pull)) {
        None => ask(plan, member, &memory.pull),
        Some(Progress::InFlight { since }) => {
            if let PullState::Asked { told: false } = memory.pull.state
                && member.pull_policy() == PullPolicy::IfNotPresent
                && plan.due(after(*since, LOOKUP))
            {
                tell_pulling(plan, member);
                memory.pull.state = PullState::Asked { told: true };
            }
        }
        Some(Progress::Done {
            output: Output::Pulled(image),
            ..
        }) => {
            tell_pulled(plan, member, &memory.pull, image);
            memory.pull.state = PullState::Done;
            memory.image = Some(Resolved::of(member.image(), image));
            memory.run = Run::Pulled;
        }
        Some(Progress::Done { at, .. }) => {
            let failure = Failure {
                reason: "ImageInspectError".to_owned(),
                message: "the pull succeeded and named no image; it is tried again".to_owned(),
                retry: Retry::Backoff,
            };
            failed(plan, member, memory, &failure, *at);
        }
        Some(Progress::Failed { at, failure }) => failed(plan, member, memory, failure, *at),
    }
}

fn ask(plan: &mut Plan<'_>, member: &Member<'_>, pull: &Pull) {
    let what = What::Pull {
        image: member.image().to_owned(),
        policy: member.pull_policy(),
    };
    plan.ask(key(member, pull.attempt, Kind::Pull), what);
}

fn failed(
    plan: &mut Plan<'_>,
    member: &Member<'_>,
    memory: &mut Container,
    failure: &Failure,
    at: jiff::Timestamp,
) {
    tell_failed(plan, member, &memory.pull, failure);
    let retry_at = match (failure.retry, backs_off(failure)) {
        (Retry::Never, _) => None,
        (Retry::Backoff, false) => Some(after(at, RETRY)),
        (Retry::Backoff, true) => {
            let raised = backoff::raise(memory.pull.backoff.as_ref(), at, at);
            memory.pull.backoff = Some(raised);
            Some(after(at, i64::from(raised.seconds)))
        }
    };
    memory.waiting = Some(Waiting {
        reason: failure.reason.clone(),
        message: failure.message.clone(),
    });
    memory.pull.state = PullState::Failed {
        failure: Box::new(failure.clone()),
        at,
        retry_at,
        backing_off: false,
    };
    memory.run = Run::Waiting;
}

/// True of failures of the pull itself, which the kubelet backs off from; the others are seen
/// before there is one, at each sync.
fn backs_off(failure: &Failure) -> bool {
    !matches!(
        failure.reason.as_str(),
        "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError"
    )
}

fn tell_pulling(plan: &mut Plan<'_>, member: &Member<'_>) {
    let message = format!("Pulling image \"{}\"", member.image());
    plan.tell_of(member, EventKind::Normal, "Pulling", message);
}

fn tell_pulled(plan: &mut Plan<'_>, member: &Member<'_>, pull: &Pull, image: &Image) {
    let reference = member.image();
    let told = matches!(pull.state, PullState::Asked { told: true });
    let message = if image.present && !told {
        format!(
            "Container image \"{reference}\" already present on machine and can be accessed by \
             the pod"
        )
    } else {
        if !told {
            tell_pulling(plan, member);
        }
        let took = words::duration(image.took_ms);
        format!(
            "Successfully pulled image \"{reference}\" in {took} ({took} including waiting). \
             Image size: {} bytes.",
            image.size
        )
    };
    plan.tell_of(member, EventKind::Normal, "Pulled", message);
}

fn tell_failed(plan: &mut Plan<'_>, member: &Member<'_>, pull: &Pull, failure: &Failure) {
    let reference = member.image();
    let (reason, message) = match failure.reason.as_str() {
        "InvalidImageName" => (
            "InspectFailed",
            format!(
                "Failed to apply default image tag \"{reference}\": {}",
                failure.message
            ),
        ),
        "ImageInspectError" => (
            "InspectFailed",
            format!(
                "Failed to inspect image \"{reference}\": {}",
                failure.message
            ),
        ),
        "ErrImageNeverPull" => (
            "ErrImageNeverPull",
            format!("Container image \"{reference}\" is not present with pull policy of Never"),
        ),
        _ => {
            if !matches!(pull.state, PullState::Asked { told: true }) {
                tell_pulling(plan, member);
            }
            (
                "Failed",
                format!("Failed to pull image \"{reference}\": {}", failure.message),
            )
        }
    };
    plan.tell_of(member, EventKind::Warning, reason, message);
    plan.tell_of(
        member,
        EventKind::Warning,
        "Failed",
        format!("Error: {}", failure.reason),
    );
}
