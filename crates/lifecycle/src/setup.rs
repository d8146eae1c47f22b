//! What belongs to the pod and not to a container: its addresses, then its folders. Both are made
//! before the first root and unmade after the last.
//!
//! ```text
//!  Idle ─► Asked ─► Done ─► Undoing ─► Undone
//!            │ ▲               │ ▲
//!      fails ▼ │ new attempt   └─┘ fails: asked again under the same key, once it was forgotten
//!           Failed
//! ```

use crate::action::{Kind, What};
use crate::events::EventKind;
use crate::memory::{Effort, EffortState, Memory};
use crate::observed::{Failure, Output, Progress, Retry};
use crate::plan::{Plan, pod_key};
use crate::time::after;

/// Seconds from a failure to the next try: the kubelet's sync error backoff
/// (`backOffPeriod` in `pkg/kubelet/kubelet.go`).
pub(crate) const RETRY: i64 = 10;

/// True once the pod's containers may have roots.
pub(crate) fn ready(memory: &Memory) -> bool {
    memory.address.state == EffortState::Done && memory.folders.state == EffortState::Done
}

/// Makes what is not made yet.
pub(crate) fn make(plan: &mut Plan<'_>, memory: &mut Memory) {
    match pursue(plan, &mut memory.address, Kind::Address, || What::Address) {
        Some(Ok(Output::Addresses(ips))) => memory.ips.clone_from(ips),
        Some(Err(failure)) => {
            let message = format!("Failed to create pod sandbox: {}", failure.message);
            plan.tell(EventKind::Warning, "FailedCreatePodSandBox", message);
        }
        _ => {}
    }
    if memory.address.state != EffortState::Done {
        return;
    }
    let ips = &memory.ips;
    let what = || What::MountPod { ips: ips.clone() };
    if let Some(Err(failure)) = pursue(plan, &mut memory.folders, Kind::Mount, what) {
        plan.tell(EventKind::Warning, "FailedMount", failure.message.clone());
    }
}

/// Unmakes what was made; true once nothing is left.
pub(crate) fn unmake(plan: &mut Plan<'_>, memory: &mut Memory) -> bool {
    let folders = undo(
        plan,
        &mut memory.folders,
        (Kind::Mount, Kind::Unmount),
        || What::UnmountPod,
    );
    folders
        && undo(
            plan,
            &mut memory.address,
            (Kind::Address, Kind::Release),
            || What::Release,
        )
}

/// Tries until it stands. Gives an answer once: when it comes.
fn pursue<'a>(
    plan: &mut Plan<'a>,
    effort: &mut Effort,
    kind: Kind,
    what: impl Fn() -> What,
) -> Option<Result<&'a Output, &'a Failure>> {
    if let EffortState::Failed { retry_at: Some(at) } = effort.state
        && plan.due(at)
    {
        effort.attempt = effort.attempt.saturating_add(1);
        effort.state = EffortState::Idle;
    }
    if !matches!(effort.state, EffortState::Idle | EffortState::Asked) {
        return None;
    }
    let key = pod_key(effort.attempt, kind);
    match plan.fact(&key) {
        None => {
            effort.state = EffortState::Asked;
            plan.ask(key, what());
            None
        }
        Some(Progress::InFlight { .. }) => None,
        Some(Progress::Done { output, .. }) => {
            effort.state = EffortState::Done;
            Some(Ok(output))
        }
        Some(Progress::Failed { at, failure }) => {
            let retry_at = (failure.retry == Retry::Backoff).then(|| after(*at, RETRY));
            effort.state = EffortState::Failed { retry_at };
            retry_at.into_iter().for_each(|at| plan.wake(at));
            Some(Err(failure))
        }
    }
}

/// Tries until it is undone. What failed to be made left nothing.
fn undo(
    plan: &mut Plan<'_>,
    effort: &mut Effort,
    (made, unmade): (Kind, Kind),
    what: impl Fn() -> What,
) -> bool {
    match effort.state {
        EffortState::Undone => return true,
        EffortState::Idle | EffortState::Failed { .. } => {
            effort.state = EffortState::Undone;
            return true;
        }
        EffortState::Asked => match plan.fact(&pod_key(effort.attempt, made)) {
            Some(Progress::InFlight { .. }) => return false,
            Some(Progress::Failed { .. }) => {
                effort.state = EffortState::Undone;
                return true;
            }
            // Absent: an agent before this one may have made it.
            Some(Progress::Done { .. }) | None => {}
        },
        EffortState::Done | EffortState::Undoing { .. } => {}
    }
    let mut retry_at = match effort.state {
        EffortState::Undoing { retry_at } => retry_at,
        _ => Some(plan.now),
    };
    let key = pod_key(effort.attempt, unmade);
    let undone = retry(plan, &key, &mut retry_at, &what);
    effort.state = if undone {
        EffortState::Undone
    } else {
        EffortState::Undoing { retry_at }
    };
    undone
}

/// Drives an action that is asked for again under its own key after a failure, since it undoes
/// what has that attempt: `due` is when to ask, `None` while it is asked for. True once it is done.
pub(crate) fn retry(
    plan: &mut Plan<'_>,
    key: &crate::action::KeyRef<'_>,
    due: &mut Option<jiff::Timestamp>,
    what: &impl Fn() -> What,
) -> bool {
    match (plan.fact(key), *due) {
        (Some(Progress::Done { .. }), _) => return true,
        (Some(Progress::InFlight { .. }), _) => *due = None,
        (Some(Progress::Failed { at, failure }), None) => {
            let message = format!("{}: {}", failure.reason, failure.message);
            plan.tell(EventKind::Warning, "FailedKillPod", message);
            let again = after(*at, RETRY);
            *due = Some(again);
            plan.wake(again);
        }
        // The failure is remembered; it is asked for again once the fact is dropped.
        (Some(Progress::Failed { .. }), Some(at)) => plan.wake(at),
        (None, Some(at)) if !plan.due(at) => {}
        (None, _) => {
            *due = None;
            plan.ask(*key, what());
        }
    }
    false
}
