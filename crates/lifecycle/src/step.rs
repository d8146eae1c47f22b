//! `step`: what a pod does next.
//!
//! It takes the facts in, decides whether the pod is to live or to end, brings each container on in
//! that direction, and tells the status. The order of the parts is all that is decided here.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::action::{Action, Hook, Key, Kind};
use crate::containers::{self, Turn};
use crate::events::{Event, EventKind};
use crate::memory::{Container, EffortState, HookState, Memory, Phase, Resizing, Run};
use crate::observed::{Observed, Progress, Verdict};
use crate::plan::Plan;
use crate::spec::{self, Member, Role};
use crate::{hook, probe, resize, restart, seed, setup, status, terminate, unsupported};

/// What a step decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// What to remember. Checkpoint it, if it changed, before any action is begun.
    pub memory: Memory,
    /// The pod's status, with only what the kubelet owns.
    pub status: PodStatus,
    /// To begin now. Each was absent, but a Stop that is in flight may come again to be shortened.
    pub actions: Vec<Action>,
    /// To be told, once.
    pub events: Vec<Event>,
    /// When to step again with no fact changed.
    pub wake_at: Option<Timestamp>,
    /// Nothing runs and nothing is held: the object may be deleted, and the worker forgotten once
    /// the pod has left its source.
    pub released: bool,
    /// Finished facts that memory has absorbed: drop them from [`Observed`]. A key of kind `Start`
    /// drops that run's exit too.
    pub forget: Vec<Key>,
}

/// Decides what a pod does next. Pure: the same arguments give the same answer.
///
/// Every action that it asks for has a key that `observed` does not have, but for a Stop whose
/// grace shrinks. Pull, Mount, Address and Start are tried again under a new attempt; Stop, Unmount
/// and Release, which end what has an attempt, under the same key once its failure was forgotten.
/// Each of them must be safe to execute again after an agent died with it in flight.
pub fn step(pod: &Pod, memory: &Memory, observed: &Observed, now: Timestamp) -> Step {
    let before = memory;
    let mut memory = before.clone();
    if memory.start_time.is_none() {
        seed::seed(&mut memory, pod, now);
    }
    let told = resize::allocate(&mut memory, pod, observed, now);
    let pod = resize::allocated(pod, &memory);
    let ephemerals = spec::ephemerals(&pod);
    let mut plan = Plan::new((&*pod, ephemerals.as_slice()), before, observed, now);
    for (kind, reason, message) in told {
        plan.tell(kind, reason, message);
    }
    admit(&mut plan, &mut memory);
    let held = !memory.inherited && !matches!(memory.verdict, Some(Verdict::Refused { .. }));
    let released = !held || run(&mut plan, &mut memory);
    let status = status::status(&plan, &mut memory);
    Step {
        status,
        forget: forget(&memory, observed),
        actions: plan.actions,
        events: plan.events,
        wake_at: plan.wake_at.filter(|at| *at < Timestamp::MAX),
        released,
        memory,
    }
}

/// Takes the node's first verdict, which stands.
fn admit(plan: &mut Plan<'_>, memory: &mut Memory) {
    if memory.verdict.is_some() || memory.terminating.is_some() || memory.inherited {
        return;
    }
    match &plan.observed.verdict {
        None => {}
        Some(Verdict::Refused { reason, message }) => {
            memory.verdict = plan.observed.verdict.clone();
            memory.phase = Some(Phase::Failed);
            plan.tell(EventKind::Warning, reason, message.clone());
        }
        Some(_) => {
            memory.verdict = Some(Verdict::Admitted);
            for message in unsupported::ineffective(plan.pod) {
                plan.tell(EventKind::Warning, "PrivilegeIgnored", message);
            }
        }
    }
}

/// Brings an admitted pod on; true once it holds nothing.
fn run(plan: &mut Plan<'_>, memory: &mut Memory) -> bool {
    terminate::called(plan, memory);
    let ending = memory.terminating.is_some();
    for member in plan.members() {
        if let Some(container) = memory.containers.get_mut(member.name()) {
            containers::absorb(plan, &member, container, ending);
        }
    }
    memory.restarting = !ending && (memory.restarting || plan.restart_all);
    if !ending && memory.verdict.is_some() && !memory.restarting {
        terminate::finished(plan, memory);
    }
    let mut released = false;
    if memory.terminating.is_some() {
        released = terminate::wind_down(plan, memory) && setup::unmake(plan, memory);
    } else if memory.verdict.is_some() && (!memory.restarting || restart::all(plan, memory)) {
        live(plan, memory);
    }
    resize::bring(plan, memory, memory.terminating.is_some());
    for member in spec::members(plan.pod) {
        if let Some(container) = memory.containers.get_mut(member.name()) {
            probe::ask(plan, &member, container, memory.terminating.is_some());
        }
    }
    released
}

/// Brings every container on whose turn it is.
fn live(plan: &mut Plan<'_>, memory: &mut Memory) {
    setup::make(plan, memory);
    let ready = setup::ready(memory);
    // Whatever the others do: they are there to find out why it is not what it should be.
    for member in spec::beside(plan.ephemerals) {
        entry(memory, &member);
        advance(plan, memory, &member, (true, ready));
    }
    let inits: Vec<Member<'_>> = spec::inits(plan.pod).collect();
    let last = inits.iter().rposition(|member| {
        memory
            .containers
            .get(member.name())
            .is_some_and(|container| {
                let ran = container.ended.is_some() && !container.anew;
                container.run != Run::Waiting || ran
            })
    });
    let mut passed = true;
    for (place, member) in inits.iter().enumerate() {
        let container = entry(memory, member);
        let done = match (member.role, &container.run) {
            (Role::Sidecar, Run::Running { .. }) if probe::started(member, container) => true,
            // One that ran before, and is being restarted, holds nobody up.
            (Role::Sidecar, _) => last.is_some_and(|last| place < last),
            (_, run) => *run == Run::Over,
        };
        let wanted = match member.role {
            Role::Sidecar => passed || memory.initialized,
            _ => passed && !memory.initialized,
        };
        passed &= done;
        advance(plan, memory, member, (wanted, ready));
    }
    memory.initialized |= passed;
    let mut held = false;
    for member in spec::mains(plan.pod) {
        let begun = entry(memory, &member).run != Run::Waiting;
        let turn = (memory.initialized && (begun || !held), ready);
        advance(plan, memory, &member, turn);
        held |= memory
            .containers
            .get(member.name())
            .is_some_and(|container| holds_up(&member, container));
    }
}

/// The kubelet starts one container after the other, and waits for each postStart hook: others may
/// rely on that order. One that can't be started holds nobody up.
fn holds_up(member: &Member<'_>, container: &Container) -> bool {
    let beginning = match &container.run {
        Run::Waiting | Run::Failed { .. } | Run::Over => false,
        Run::Running { .. } => !container.post_start.is_over(),
        _ => true,
    };
    beginning && container.ended.is_none() && hook::has(member, Hook::PostStart)
}

fn entry<'a>(memory: &'a mut Memory, member: &Member<'_>) -> &'a mut Container {
    memory
        .containers
        .entry(member.name().to_owned())
        .or_default()
}

fn advance(
    plan: &mut Plan<'_>,
    memory: &mut Memory,
    member: &Member<'_>,
    (wanted, ready): (bool, bool),
) {
    let turn = Turn {
        wanted,
        ready,
        ips: &memory.ips,
    };
    if let Some(container) = memory.containers.get_mut(member.name()) {
        containers::advance(plan, member, container, turn);
    }
}

/// The finished facts that no later step will look at.
fn forget(memory: &Memory, observed: &Observed) -> Vec<Key> {
    let finished = observed.actions.iter().filter(|(key, progress)| {
        !matches!(progress, Progress::InFlight { .. }) && !awaited(memory, key)
    });
    let mut keys: Vec<Key> = finished.map(|(key, _)| key.clone()).collect();
    for (name, attempt) in observed.exits.keys() {
        let key = Key {
            container: Some(name.clone()),
            attempt: *attempt,
            kind: Kind::Start,
        };
        if !awaited(memory, &key) && !observed.actions.contains_key(&key) {
            keys.push(key);
        }
    }
    keys
}

/// True of a finished action whose fact is still to be read.
fn awaited(memory: &Memory, key: &Key) -> bool {
    let Some(name) = &key.container else {
        let effort = match key.kind {
            Kind::Address => &memory.address,
            Kind::Mount => &memory.folders,
            _ => return false,
        };
        return effort.state == EffortState::Asked && effort.attempt == key.attempt;
    };
    let Some(container) = memory.containers.get(name) else {
        return false;
    };
    match (key.kind, &container.run) {
        (Kind::Pull, Run::Pulling) => container.pull.attempt == key.attempt,
        (Kind::Mount, Run::Mounting) => container.attempt == key.attempt,
        (Kind::Start, Run::Starting { .. } | Run::Running { .. }) => {
            container.attempt == key.attempt
        }
        (Kind::Probe(kind), Run::Running { .. }) => {
            container.probes.of(kind).asked == Some(key.attempt)
        }
        (Kind::Resize, Run::Running { .. }) => {
            let Resizing {
                attempt,
                target,
                retry_at,
            } = &container.resizing;
            *attempt == key.attempt && target.is_some() && retry_at.is_none()
        }
        (Kind::Exec(Hook::PostStart), Run::Running { .. }) => {
            container.attempt == key.attempt && container.post_start == HookState::Asked
        }
        (
            Kind::Exec(Hook::PreStop),
            Run::Running {
                stop: Some(stop), ..
            },
        ) => container.attempt == key.attempt && stop.pre_stop == HookState::Asked,
        _ => false,
    }
}
