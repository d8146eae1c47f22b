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
    // Nothing below begins an end.
    let ending = memory.terminating.is_some();
    let mut released = false;
    if ending {
        released = terminate::wind_down(plan, memory) && setup::unmake(plan, memory);
    } else if memory.verdict.is_some() && (!memory.restarting || restart::all(plan, memory)) {
        live(plan, memory);
    }
    resize::bring(plan, memory, ending);
    for member in spec::members(plan.pod) {
        if let Some(container) = memory.containers.get_mut(member.name()) {
            hook::ask(plan, &member, container, ending || memory.restarting);
            probe::ask(plan, &member, container, ending);
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::action::{Cause, ProbeKind};
    use crate::memory::{Effort, Stopping};
    use crate::observed::{Exit, ExitKind, Output};

    const NONE: [u32; 0] = [];

    fn key(container: Option<&str>, attempt: u32, kind: Kind) -> Key {
        Key {
            container: container.map(str::to_owned),
            attempt,
            kind,
        }
    }

    fn running(stop: Option<Stopping>) -> Run {
        Run::Running {
            started_at: Timestamp::UNIX_EPOCH,
            container_id: String::new(),
            stop,
        }
    }

    fn stopping(pre_stop: HookState) -> Stopping {
        Stopping {
            cause: Cause::Deletion,
            until: Timestamp::UNIX_EPOCH,
            answered: None,
            retry_at: None,
            early: false,
            pre_stop,
        }
    }

    /// A container at its third attempt that is this far.
    fn at(run: Run) -> Container {
        Container {
            attempt: 2,
            run,
            ..Container::default()
        }
    }

    /// Which of these attempts of `kind` have a fact that is kept, if all have finished.
    fn kept(memory: &Memory, container: Option<&str>, kind: Kind) -> Vec<u32> {
        let attempts = [1, 2, 3];
        let mut observed = Observed::default();
        for attempt in attempts {
            let done = Progress::Done {
                at: Timestamp::UNIX_EPOCH,
                output: Output::Nothing,
            };
            let key = key(container, attempt, kind);
            observed.actions.insert(key, done);
        }
        let dropped = forget(memory, &observed);
        let stays = |attempt: &u32| !dropped.contains(&key(container, *attempt, kind));
        attempts.into_iter().filter(stays).collect()
    }

    fn kept_of(container: Container, kind: Kind) -> Vec<u32> {
        let mut memory = Memory::default();
        memory
            .containers
            .insert("a".to_owned(), Box::new(container));
        assert_eq!(kept(&memory, Some("another"), kind), NONE);
        kept(&memory, Some("a"), kind)
    }

    #[test]
    fn a_fact_of_the_pods_own_is_kept_while_it_is_asked_for() {
        let effort = |state| Effort { attempt: 2, state };
        for (state, wanted) in [
            (EffortState::Idle, vec![]),
            (EffortState::Asked, vec![2]),
            (EffortState::Done, vec![]),
        ] {
            let address = Memory {
                address: effort(state),
                ..Memory::default()
            };
            let folders = Memory {
                folders: effort(state),
                ..Memory::default()
            };
            assert_eq!(kept(&address, None, Kind::Address), wanted);
            assert_eq!(kept(&address, None, Kind::Mount), NONE);
            assert_eq!(kept(&folders, None, Kind::Mount), wanted);
            assert_eq!(kept(&folders, None, Kind::Address), NONE);
            assert_eq!(kept(&folders, None, Kind::Unmount), NONE);
        }
    }

    #[test]
    fn a_fact_of_a_run_is_kept_while_the_run_waits_for_it() {
        for (run, kind) in [
            (Run::Mounting, Kind::Mount),
            (Run::Starting { stop: None }, Kind::Start),
            (running(None), Kind::Start),
        ] {
            assert_eq!(kept_of(at(run), kind), [2], "{kind:?}");
            for over in [Run::Waiting, Run::Pulled, Run::Over] {
                assert_eq!(kept_of(at(over), kind), NONE, "{kind:?}");
            }
        }
        let mut pulling = at(Run::Pulling);
        pulling.pull.attempt = 3;
        assert_eq!(kept_of(pulling.clone(), Kind::Pull), [3]);
        pulling.run = Run::Pulled;
        assert_eq!(kept_of(pulling, Kind::Pull), NONE);
        assert_eq!(kept_of(at(running(None)), Kind::Stop), NONE);
    }

    #[test]
    fn a_fact_of_a_guest_that_runs_is_kept_while_it_was_asked_for() {
        let probe = Kind::Probe(ProbeKind::Liveness);
        let mut probed = at(running(None));
        assert_eq!(kept_of(probed.clone(), probe), NONE);
        probed.probes.of_mut(ProbeKind::Liveness).asked = Some(3);
        assert_eq!(kept_of(probed.clone(), probe), [3]);
        let other = Kind::Probe(ProbeKind::Readiness);
        assert_eq!(kept_of(probed, other), NONE);

        let mut resized = at(running(None));
        resized.resizing.attempt = 3;
        assert_eq!(kept_of(resized.clone(), Kind::Resize), NONE);
        resized.resizing.target = Some(Box::default());
        assert_eq!(kept_of(resized.clone(), Kind::Resize), [3]);
        resized.resizing.retry_at = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(kept_of(resized, Kind::Resize), NONE);

        for (state, wanted) in [
            (HookState::Due, vec![]),
            (HookState::Asked, vec![2]),
            (HookState::Over, vec![]),
        ] {
            let mut begun = at(running(None));
            begun.post_start = state;
            assert_eq!(kept_of(begun, Kind::Exec(Hook::PostStart)), wanted);
            let ending = at(running(Some(stopping(state))));
            assert_eq!(kept_of(ending, Kind::Exec(Hook::PreStop)), wanted);
        }
        assert_eq!(kept_of(at(running(None)), Kind::Exec(Hook::PreStop)), NONE);
    }

    #[test]
    fn an_exit_goes_with_its_run_and_what_is_in_flight_stays() {
        let mut memory = Memory::default();
        let starting = at(Run::Starting { stop: None });
        memory.containers.insert("a".to_owned(), Box::new(starting));
        let mut observed = Observed::default();
        for attempt in [1, 2] {
            let exit = Exit {
                code: 0,
                kind: ExitKind::Exited,
                message: String::new(),
                started_at: Timestamp::UNIX_EPOCH,
                finished_at: Timestamp::UNIX_EPOCH,
            };
            observed.exits.insert(("a".to_owned(), attempt), exit);
        }
        let start = |attempt| key(Some("a"), attempt, Kind::Start);
        assert_eq!(forget(&memory, &observed), [start(1)]);
        let since = Timestamp::UNIX_EPOCH;
        let flying = Progress::InFlight { since };
        observed.actions.insert(start(1), flying);
        assert_eq!(
            forget(&memory, &observed),
            [],
            "its answer takes the exit along"
        );
        let done = Progress::Done {
            at: since,
            output: Output::Nothing,
        };
        observed.actions.insert(start(1), done);
        assert_eq!(forget(&memory, &observed), [start(1)], "once");
    }
}
