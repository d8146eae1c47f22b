//! The probes of a running container: when the next one is due, and what their results change.
//!
//! As `pkg/kubelet/prober/worker.go` decides, with the period counted from the first probe, so that
//! nothing drifts; a probe that takes longer than its period is followed by one at once, and no
//! more are made up for. What only counts lives in [`crate::memory::Probes`], which no checkpoint
//! has; what was decided (`started`, `ready`) is the container's, and survives. Must not know: how
//! a probe is made.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Probe};

use crate::action::{Kind, ProbeKind, What};
use crate::events::EventKind;
use crate::memory::{Container, Probing, Run};
use crate::observed::{Outcome, Output, Progress};
use crate::plan::{Plan, key};
use crate::spec::{self, Member, Role};
use crate::time::after;

/// In the order in which one may lead to the next in one step.
const KINDS: [ProbeKind; 3] = [
    ProbeKind::Startup,
    ProbeKind::Liveness,
    ProbeKind::Readiness,
];

/// The API's defaults, where there was no API server to set them
/// (`SetDefaults_Probe` in `pkg/apis/core/v1/defaults.go`).
const PERIOD: i32 = 10;
const FAILURES: i32 = 3;
const SUCCESSES: i32 = 1;

/// A container's probe of a kind, if it has one. Init containers that run to their end have none.
pub(crate) fn spec_of<'a>(member: &Member<'a>, kind: ProbeKind) -> Option<&'a Probe> {
    kind.probe(member.spec)
        .filter(|_| member.role != Role::Init)
}

/// `started`: it runs, its postStart hook is done, and its startup probe, if any, has succeeded.
pub(crate) fn started(member: &Member<'_>, memory: &Container) -> bool {
    matches!(memory.run, Run::Running { .. })
        && memory.post_start.is_over()
        && (memory.started || spec_of(member, ProbeKind::Startup).is_none())
}

/// `ready` of a container that is no init container that runs to its end.
pub(crate) fn ready(member: &Member<'_>, memory: &Container) -> bool {
    started(member, memory) && (memory.ready || spec_of(member, ProbeKind::Readiness).is_none())
}

/// A new run: what was found of the one before counts no more.
pub(crate) fn reset(memory: &mut Container) {
    memory.started = false;
    memory.ready = false;
    for probing in memory.probes.all_mut() {
        *probing = Probing {
            next: probing.next,
            ..Probing::default()
        };
    }
}

/// Takes in results.
pub(crate) fn absorb(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container) {
    for kind in KINDS {
        if let Some(probe) = spec_of(member, kind) {
            take(plan, member, memory, (kind, probe));
        }
    }
}

/// Asks for what is due, once it is decided what is to end. `ending`: the pod is; readiness alone
/// goes on then.
pub(crate) fn ask(plan: &mut Plan<'_>, member: &Member<'_>, memory: &mut Container, ending: bool) {
    for kind in KINDS {
        if let Some(probe) = spec_of(member, kind)
            && wanted(member, memory, kind, ending)
        {
            ask_one(plan, member, memory, (kind, probe));
        }
    }
}

/// Whether this kind is to be probed at all now.
fn wanted(member: &Member<'_>, memory: &Container, kind: ProbeKind, ending: bool) -> bool {
    let Run::Running { stop, .. } = &memory.run else {
        return false;
    };
    let probing = memory.probes.of(kind);
    let in_turn = match kind {
        ProbeKind::Startup => !memory.started && memory.post_start.is_over(),
        ProbeKind::Liveness | ProbeKind::Readiness => started(member, memory),
    };
    // One that is being ended for a failed probe is not probed again before it has a successor.
    let left_alone = kind != ProbeKind::Readiness && (ending || stop.is_some());
    in_turn && !left_alone && !probing.failed && probing.asked.is_none()
}

fn ask_one(
    plan: &mut Plan<'_>,
    member: &Member<'_>,
    memory: &mut Container,
    (kind, probe): (ProbeKind, &Probe),
) {
    let Run::Running { started_at, .. } = memory.run else {
        return;
    };
    let run = memory.attempt;
    let probing = memory.probes.of_mut(kind);
    let begin = match probing.due {
        Some(due) => due,
        None => first(plan, member, (kind, probe), started_at),
    };
    probing.due = Some(begin);
    if !plan.due(begin) {
        return;
    }
    // After a fault of the worker it may not be known which numbers were used.
    let taken = |number| plan.fact(&key(member, number, Kind::Probe(kind))).is_some();
    while taken(probing.next) {
        probing.next = probing.next.wrapping_add(1);
    }
    let key = key(member, probing.next, Kind::Probe(kind));
    probing.asked = Some(probing.next);
    probing.next = probing.next.wrapping_add(1);
    probing.due = Some(next(begin, period(probe), plan.now));
    let ips = plan.ips.to_vec();
    plan.ask(key, What::Probe { run, ips });
}

/// When the first probe is due. Guests that an agent adopts would all be probed at once: they are
/// spread over the period, by their names (`worker.run` draws that).
fn first(
    plan: &Plan<'_>,
    member: &Member<'_>,
    (kind, probe): (ProbeKind, &Probe),
    started_at: Timestamp,
) -> Timestamp {
    let delay = i64::from(probe.initial_delay_seconds.unwrap_or_default());
    let begin = after(started_at, delay);
    let period = period(probe);
    let old = plan.adopted && after(begin, period.as_secs()) < plan.now;
    if !old || kind == ProbeKind::Startup {
        return begin.max(plan.now);
    }
    let uid = plan.pod.metadata.uid.as_deref().unwrap_or_default();
    let names = [uid, member.name(), label(kind)];
    let share = names.iter().flat_map(|name| name.bytes()).fold(
        // FNV-1a: any spread will do, as long as it is the same each time.
        0xcbf2_9ce4_8422_2325_u64,
        |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3),
    ) % 1000;
    let share = i64::try_from(share).unwrap_or_default();
    let shift = SignedDuration::from_millis(period.as_secs().saturating_mul(share));
    plan.now.checked_add(shift).unwrap_or(plan.now)
}

/// The first time after `now` that is whole periods after `begin`.
fn next(begin: Timestamp, period: SignedDuration, now: Timestamp) -> Timestamp {
    let passed = begin.duration_until(now).as_millis();
    let periods = passed / period.as_millis().max(1) + 1;
    let millis = i64::try_from(periods * period.as_millis()).unwrap_or(i64::MAX);
    begin
        .checked_add(SignedDuration::from_millis(millis))
        .unwrap_or(Timestamp::MAX)
}

fn period(probe: &Probe) -> SignedDuration {
    let seconds = probe.period_seconds.filter(|seconds| *seconds > 0);
    SignedDuration::from_secs(seconds.unwrap_or(PERIOD).into())
}

fn take(
    plan: &mut Plan<'_>,
    member: &Member<'_>,
    memory: &mut Container,
    (kind, probe): (ProbeKind, &Probe),
) {
    let Some(number) = memory.probes.of(kind).asked else {
        return;
    };
    match plan.fact(&key(member, number, Kind::Probe(kind))) {
        Some(Progress::InFlight { .. }) => {}
        // Lost with a worker that had a fault.
        None => memory.probes.of_mut(kind).asked = None,
        Some(Progress::Failed { failure, .. }) => {
            memory.probes.of_mut(kind).asked = None;
            let (kind, message) = (label(kind), &failure.message);
            let message = format!("{kind} probe errored and resulted in failure state: {message}");
            plan.tell_of(member, EventKind::Warning, "Unhealthy", message);
        }
        Some(Progress::Done { output, .. }) => {
            memory.probes.of_mut(kind).asked = None;
            let Output::Probed { outcome, message } = output else {
                return;
            };
            tell(plan, member, kind, (*outcome, message));
            count(memory, (kind, probe), *outcome != Outcome::Failure);
        }
    }
}

fn tell(
    plan: &mut Plan<'_>,
    member: &Member<'_>,
    kind: ProbeKind,
    (outcome, message): (Outcome, &str),
) {
    let label = label(kind);
    let (reason, message) = match outcome {
        Outcome::Success => return,
        Outcome::Warning => ("ProbeWarning", format!("{label} probe warning: {message}")),
        Outcome::Failure => ("Unhealthy", format!("{label} probe failed: {message}")),
    };
    plan.tell_of(member, EventKind::Warning, reason, message);
}

/// A result changes something once it has come so often in a row.
fn count(memory: &mut Container, (kind, probe): (ProbeKind, &Probe), success: bool) {
    let probing = memory.probes.of_mut(kind);
    if probing.last == Some(success) {
        probing.row = probing.row.saturating_add(1);
    } else {
        probing.last = Some(success);
        probing.row = 1;
    }
    let threshold = match success {
        true => probe.success_threshold.unwrap_or(SUCCESSES),
        false => probe.failure_threshold.unwrap_or(FAILURES),
    };
    if i64::from(probing.row) < i64::from(threshold) {
        return;
    }
    match kind {
        ProbeKind::Readiness => memory.ready = success,
        ProbeKind::Startup if success => memory.started = true,
        ProbeKind::Liveness if success => {}
        ProbeKind::Startup | ProbeKind::Liveness => probing.failed = true,
    }
}

/// The probe that has failed for good, and the seconds of grace that the run's end gets for it.
pub(crate) fn failing(
    pod: &Pod,
    member: &Member<'_>,
    memory: &Container,
) -> Option<(ProbeKind, i64)> {
    let kind = KINDS
        .into_iter()
        .find(|kind| memory.probes.of(*kind).failed)?;
    let own = spec_of(member, kind).and_then(|probe| probe.termination_grace_period_seconds);
    Some((kind, own.unwrap_or_else(|| spec::grace(pod)).max(0)))
}

/// As the kubelet's events have it.
fn label(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Startup => "Startup",
        ProbeKind::Liveness => "Liveness",
        ProbeKind::Readiness => "Readiness",
    }
}
