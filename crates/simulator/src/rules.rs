//! The rules that each step is held to, by what the witness of a pod has seen and by what is true
//! of the machine; nothing here is read from what the code under test says of itself alone.
//!
//! Must not know: how the agent came to its steps.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use agent::Ticket;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus};
use lifecycle::memory::{Ended, Terminating};
use lifecycle::{Action, Cause, Hook, Kind, Memory, ProbeKind, Verdict, What};

use crate::machine::Machine;
use crate::{debugging, probing, resizing, validation};

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) rule: &'static str,
    pub(crate) detail: String,
}

/// Says so.
pub(crate) fn broken<T>(rule: &'static str, detail: impl Into<String>) -> Result<T, Broken> {
    let detail = detail.into();
    Err(Broken { rule, detail })
}

/// A rule that did not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The seed of the history.
    pub seed: u64,
    /// The rule, in words.
    pub rule: &'static str,
    /// What was seen.
    pub detail: String,
    /// The pod's number, if it is one's.
    pub pod: Option<u32>,
    /// The history's time.
    pub at: Timestamp,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation {
            seed,
            rule,
            detail,
            pod,
            at,
        } = self;
        write!(f, "seed {seed}, {at}: the rule \"{rule}\" does not hold")?;
        if let Some(pod) = pod {
            write!(f, " of pod {pod}")?;
        }
        write!(f, ": {detail}")
    }
}

/// What one has seen who watches a pod all its life, over all agents.
#[derive(Default)]
pub(crate) struct Witness {
    containers: BTreeMap<String, Seen>,
    terminating: Option<Terminating>,
    verdict: Option<Verdict>,
    /// A failure was dealt to it that no retry helps.
    pub(crate) hopeless: bool,
    /// Every status that was published and differs from the one before it.
    pub(crate) statuses: Vec<Arc<PodStatus>>,
}

#[derive(Default)]
struct Seen {
    attempt: u32,
    ended: Option<Ended>,
    /// The end that `ended` tells was not yet followed by a new run.
    unpaid: bool,
    /// The attempt that was stopped for a changed spec.
    respecified: Option<u32>,
    /// The attempt that was stopped for its resources.
    resized: Option<u32>,
    /// The attempt that was stopped for a failed probe.
    unhealthy: Option<u32>,
    /// All containers of the pod begin anew since its last run.
    anew: bool,
    /// The attempt whose preStop hook was asked for.
    pre_stop: Option<u32>,
    /// Seconds, and when they were last raised.
    crash: Option<(i64, Timestamp)>,
}

/// A committed step, as the witness is shown it.
pub(crate) struct Shown<'a> {
    pub(crate) id: u32,
    pub(crate) pod: &'a Pod,
    pub(crate) gone: bool,
    pub(crate) memory: &'a Memory,
    pub(crate) actions: &'a [(Ticket, Action)],
    pub(crate) now: Timestamp,
}

impl Witness {
    /// Holds a step to the rules.
    pub(crate) fn step(&mut self, machine: &Machine, shown: &Shown<'_>) -> Result<(), Broken> {
        self.sticky(shown.memory)?;
        for (name, container) in &shown.memory.containers {
            let seen = self.containers.entry(name.clone()).or_default();
            if container.ended != seen.ended {
                seen.ended.clone_from(&container.ended);
                seen.over(machine, (shown.id, name))?;
            }
            seen.attempt = container.attempt;
        }
        self.begins_anew(shown)?;
        for (_, action) in shown.actions {
            self.action(machine, shown, action)?;
        }
        Ok(())
    }

    /// All containers begin anew only if one has ended with a code of such a rule.
    fn begins_anew(&mut self, shown: &Shown<'_>) -> Result<(), Broken> {
        let restarting = shown.memory.restarting;
        let anew = shown.memory.containers.values().any(|one| one.anew);
        if !restarting && !anew {
            return Ok(());
        }
        let spec = shown.pod.spec.as_ref();
        if !spec.is_some_and(validation::all_could_restart) {
            return broken("all begin anew for a rule alone", "the pod has none");
        }
        for (name, container) in &shown.memory.containers {
            let seen = self.containers.entry(name.clone()).or_default();
            seen.anew |= container.anew;
        }
        Ok(())
    }

    fn sticky(&mut self, memory: &Memory) -> Result<(), Broken> {
        if self.verdict.is_some() && self.verdict != memory.verdict {
            let detail = format!("{:?} became {:?}", self.verdict, memory.verdict);
            return broken("a verdict stands", detail);
        }
        self.verdict.clone_from(&memory.verdict);
        if let Some(old) = &self.terminating {
            match &memory.terminating {
                None => return broken("terminating is sticky", "it lives again"),
                Some(new) if new.until > old.until || new.cause != old.cause => {
                    return broken("the grace only shrinks", format!("{old:?} became {new:?}"));
                }
                Some(_) => {}
            }
        }
        self.terminating.clone_from(&memory.terminating);
        Ok(())
    }

    fn action(
        &mut self,
        machine: &Machine,
        shown: &Shown<'_>,
        action: &Action,
    ) -> Result<(), Broken> {
        let ends = matches!(action.key.kind, Kind::Stop | Kind::Unmount | Kind::Release);
        let must_end = shown.memory.terminating.is_some()
            || shown.pod.metadata.deletion_timestamp.is_some()
            || shown.gone
            || shown
                .memory
                .phase
                .is_some_and(lifecycle::Phase::is_terminal);
        // Readiness is told to the end, and preStop is a part of it.
        let accompanies = matches!(
            action.key.kind,
            Kind::Probe(ProbeKind::Readiness) | Kind::Exec(Hook::PreStop)
        );
        if must_end && !ends && !accompanies {
            return broken(
                "nothing starts after it must stop",
                format!("{:?}", action.key),
            );
        }
        let Some(name) = action.key.container.as_deref() else {
            return Ok(());
        };
        if debugging::is_ephemeral(shown.pod, name) {
            return debugging::asked(machine, shown, name, action);
        }
        match &action.what {
            What::Pull { .. } => {
                let seen = self.containers.entry(name.to_owned()).or_default();
                seen.restart(shown, name)
            }
            What::Start { .. } => start_order(machine, shown, name),
            What::Stop {
                cause,
                grace_seconds,
            } => {
                let seen = self.containers.entry(name.to_owned()).or_default();
                seen.ends(*cause, action.key.attempt);
                let hooked = seen.pre_stop == Some(action.key.attempt);
                if *cause != Cause::RestartAll {
                    probing::after_pre_stop(shown, name, hooked)?;
                }
                let why = (*cause, action.key.attempt);
                stop_order(machine, shown, name, (why, *grace_seconds))
            }
            What::Resize { .. } => resizing::asked(shown, name, &action.what),
            What::Probe { run, .. } => probing::probe(machine, shown, action, *run),
            What::Exec { grace_seconds, .. } => {
                if action.key.kind == Kind::Exec(Hook::PreStop) {
                    let seen = self.containers.entry(name.to_owned()).or_default();
                    seen.pre_stop = Some(action.key.attempt);
                    // The end begins with the hook, whether or not the guest lives to see a Stop.
                    let known = shown.memory.containers.get(name);
                    if let Some(cause) = known.and_then(|one| one.ends_for()) {
                        seen.ends(cause, action.key.attempt);
                    }
                }
                probing::hook(shown, action, *grace_seconds)
            }
            _ => Ok(()),
        }
    }

    /// Holds a status that is published to the rules.
    pub(crate) fn status(
        &mut self,
        machine: &Machine,
        (id, pod): (u32, &Pod),
        status: &Arc<PodStatus>,
        starting: bool,
    ) -> Result<(), Broken> {
        let phase = status.phase.as_deref().unwrap_or_default();
        let terminal = matches!(phase, "Succeeded" | "Failed");
        if terminal && (machine.has_guests(id) || starting) {
            return broken("no terminal phase while a container may run", phase);
        }
        let failed = self
            .terminating
            .as_ref()
            .and_then(|end| end.failed.as_ref());
        if terminal
            && let Some((reason, _)) = failed
            && (phase, status.reason.as_ref()) != ("Failed", Some(reason))
        {
            let detail = format!("{phase} {:?} of one that {reason}", status.reason);
            return broken("who is ended by the node is Failed for that", detail);
        }
        let last = self.statuses.last();
        if let Some(last) = last {
            let before = last.phase.as_deref().unwrap_or_default();
            if matches!(before, "Succeeded" | "Failed") && phase != before {
                return broken("terminal phases absorb", format!("{before} became {phase}"));
            }
            if last.start_time != status.start_time {
                return broken("startTime stays", format!("{:?}", status.start_time));
            }
            if let Err(refused) = validation::transition(pod.spec.as_ref(), last, status) {
                return broken("the API server's validation", refused.join("; "));
            }
        }
        counts(last.map(|last| &**last), status)?;
        told(status)?;
        last_words(machine, (id, pod), status)?;
        probing::ready(machine, (id, pod), status)?;
        resizing::told(machine, id, status)?;
        if phase == "Succeeded" {
            succeeded(machine, id, pod)?;
        }
        self.statuses.push(Arc::clone(status));
        Ok(())
    }
}

impl Seen {
    /// Its end begins, for a reason that may bring another run.
    fn ends(&mut self, cause: Cause, attempt: u32) {
        match cause {
            Cause::SpecChange => self.respecified = Some(attempt),
            Cause::Resize => self.resized = Some(attempt),
            Cause::Probe(_) => self.unhealthy = Some(attempt),
            _ => {}
        }
    }

    /// A run ended, as memory says: it has to be true.
    fn over(&mut self, machine: &Machine, (id, name): (u32, &str)) -> Result<(), Broken> {
        self.unpaid = true;
        if self.respecified == Some(self.attempt) {
            self.crash = None;
        }
        let Some(ended) = &self.ended else {
            return broken("ends stay known", format!("{name} forgot how it ended"));
        };
        let truth = machine.truth.get(&(id, name.to_owned()));
        let true_code = truth.and_then(|truth| truth.codes.get(&self.attempt).copied());
        let guessed = matches!(
            ended.reason.as_str(),
            "ContainerStatusUnknown" | "StartError"
        );
        if !guessed && true_code != Some(ended.exit_code) {
            let said = ended.exit_code;
            let detail = format!("{name} ended with {true_code:?}, and {said} is told");
            return broken("exit codes are true", detail);
        }
        Ok(())
    }

    /// A pull begins: the way to a new run, which policy and backoff have to allow.
    fn restart(&mut self, shown: &Shown<'_>, name: &str) -> Result<(), Broken> {
        let Some(ended) = self.ended.as_ref().filter(|_| self.unpaid) else {
            return Ok(());
        };
        self.unpaid = false;
        if std::mem::take(&mut self.anew) {
            return Ok(());
        }
        let (container, first) = member(shown.pod, name)?;
        let policy = shown
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref());
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        let done = first && !sidecar && ended.exit_code == 0;
        let respecified = self.respecified.take().is_some() | self.resized.take().is_some();
        let unhealthy = self.unhealthy.take().is_some()
            && container.restart_policy.as_deref().or(policy) != Some("Never");
        if !respecified
            && !unhealthy
            && (done || !validation::should_restart(container, policy, ended.exit_code))
        {
            let code = ended.exit_code;
            return broken("restarts obey the policy", format!("{name} after {code}"));
        }
        let expired = |updated: Timestamp| {
            ended.finished_at.duration_since(updated) > SignedDuration::from_mins(10)
        };
        let delay = match self.crash {
            Some((delay, updated)) if !expired(updated) => {
                let due = ended
                    .finished_at
                    .saturating_add(SignedDuration::from_secs(delay));
                if due.is_ok_and(|due| shown.now < due) {
                    let early = format!("{name} {delay} s after {} is due", ended.finished_at);
                    return broken("restarts obey the backoff", early);
                }
                (delay * 2).min(300)
            }
            _ => 10,
        };
        self.crash = Some((delay, shown.now));
        Ok(())
    }
}

pub(crate) fn member<'a>(pod: &'a Pod, name: &str) -> Result<(&'a Container, bool), Broken> {
    let spec = pod.spec.as_ref();
    let inits = spec
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default();
    let mains = spec
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default();
    let first = inits.iter().map(|one| (one, true));
    let mut all = first.chain(mains.iter().map(|one| (one, false)));
    match all.find(|(one, _)| one.name == name) {
        Some(found) => Ok(found),
        None => broken("vocabulary", format!("{name} is no container of the pod")),
    }
}

/// Init containers in order, each done before the next; sidecars started before what follows them;
/// no init container again once a main one has run.
fn start_order(machine: &Machine, shown: &Shown<'_>, name: &str) -> Result<(), Broken> {
    let spec = shown.pod.spec.as_ref();
    let inits = spec
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default();
    let truth = |name: &str| machine.truth.get(&(shown.id, name.to_owned()));
    for one in inits.iter().take_while(|one| one.name != name) {
        let sidecar = one.restart_policy.as_deref() == Some("Always");
        let passed = truth(&one.name).is_some_and(|truth| {
            if sidecar {
                truth.started
            } else {
                truth.succeeded
            }
        });
        if !passed {
            let detail = format!("{name} is started before {} is done", one.name);
            return broken("init containers go in order", detail);
        }
    }
    let (container, first) = member(shown.pod, name)?;
    let sidecar = container.restart_policy.as_deref() == Some("Always");
    let mut mains = spec
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default()
        .iter();
    let begun = mains.any(|one| truth(&one.name).is_some_and(|truth| truth.started));
    let anew = spec.is_some_and(validation::all_could_restart);
    if first && !sidecar && begun && !anew {
        return broken(
            "init containers run once",
            format!("{name} after a main container"),
        );
    }
    Ok(())
}

/// Sidecars end after the others and in reverse order, unless the grace is over; nobody gets more
/// than the grace, and nobody is stopped without a reason.
fn stop_order(
    machine: &Machine,
    shown: &Shown<'_>,
    name: &str,
    ((cause, attempt), grace): ((Cause, u32), u32),
) -> Result<(), Broken> {
    let Some(ending) = &shown.memory.terminating else {
        let why = (cause, attempt);
        return probing::alone(machine, shown, name, why);
    };
    // Rounded up, and a moment passed while the checkpoint was written.
    let left = ending.until.duration_since(shown.now).as_secs() + 2;
    if i64::from(grace) > left.max(2) {
        let detail = format!("{name} is given {grace} s, {left} s are left");
        return broken("nobody gets more than the grace", detail);
    }
    let (container, first) = member(shown.pod, name)?;
    let sidecar = first && container.restart_policy.as_deref() == Some("Always");
    if !sidecar || shown.now >= ending.until {
        return Ok(());
    }
    let spec = shown.pod.spec.as_ref();
    let inits = spec
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default();
    let later = inits.iter().skip_while(|one| one.name != name).skip(1);
    let others = inits
        .iter()
        .filter(|one| one.restart_policy.as_deref() != Some("Always"));
    let mains = spec
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default();
    let mut before = later.chain(others).chain(mains);
    match before.find(|one| machine.runs(shown.id, &one.name)) {
        None => Ok(()),
        Some(one) => {
            let detail = format!("{name} is stopped while {} runs", one.name);
            broken("sidecars end last, in reverse", detail)
        }
    }
}

/// restartCount never decreases.
pub(crate) fn counts(old: Option<&PodStatus>, new: &PodStatus) -> Result<(), Broken> {
    let all = |status: &'_ PodStatus| -> Vec<(String, i32)> {
        let lists = [
            &status.init_container_statuses,
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ];
        let each = lists.into_iter().flatten().flatten();
        each.map(|one| (one.name.clone(), one.restart_count))
            .collect()
    };
    let old = old.map(all).unwrap_or_default();
    for (name, count) in all(new) {
        if let Some((_, before)) = old
            .iter()
            .find(|(other, before)| *other == name && *before > count)
        {
            let detail = format!("{name}: {before}, then {count}");
            return broken("restartCount never decreases", detail);
        }
    }
    Ok(())
}

/// Exactly one state each, with a reason where Kubernetes has one; Ready only while it may be.
fn told(status: &PodStatus) -> Result<(), Broken> {
    let lists = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    for one in lists.into_iter().flatten().flatten() {
        let ContainerStatus {
            name, state, ready, ..
        } = one;
        let state = state.clone().unwrap_or_default();
        let reason = match (&state.waiting, &state.running, &state.terminated) {
            (Some(waiting), None, None) => waiting.reason.clone(),
            (None, Some(running), None) => running.started_at.as_ref().map(|_| "-".to_owned()),
            (None, None, Some(over)) => over.reason.clone(),
            _ => None,
        };
        if reason.is_none_or(|reason| reason.is_empty()) {
            return broken(
                "each container has one state with its reason",
                format!("{one:?}"),
            );
        }
        if *ready && state.waiting.is_some() {
            return broken("what waits is not ready", name.clone());
        }
    }
    let phase = status.phase.as_deref().unwrap_or_default();
    let mut conditions = status.conditions.iter().flatten();
    let ready = conditions.any(|one| one.type_ == "Ready" && one.status == "True");
    if ready && phase != "Running" {
        return broken("what is Ready is Running", phase);
    }
    Ok(())
}

/// Each end is told with what was said of it, cut to the container's share of 12 KiB: whatever agent
/// took it in.
fn last_words(machine: &Machine, (id, pod): (u32, &Pod), status: &PodStatus) -> Result<(), Broken> {
    let (lasting, added) = pod.spec.as_ref().map_or((1, 0), |spec| {
        let inits = spec.init_containers.as_ref().map_or(0, Vec::len);
        let ephemerals = spec.ephemeral_containers.as_ref().map_or(0, Vec::len);
        (spec.containers.len() + inits, ephemerals)
    });
    // What was told before a container was added had a larger share.
    let shares = (lasting..=lasting + added).map(|count| 12 * 1024 / count.max(1));
    let shares: Vec<usize> = shares.collect();
    let lists = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    for one in lists.into_iter().flatten().flatten() {
        let truth = machine.truth.get(&(id, one.name.clone()));
        let said = |told: &str| {
            let mut all = truth.iter().flat_map(|truth| truth.said.values());
            let cut = |said: &String, share: usize| said.get(..share).unwrap_or(said) == told;
            all.any(|said| shares.iter().any(|share| cut(said, *share)))
        };
        let states = [&one.state, &one.last_state];
        for over in states
            .into_iter()
            .flatten()
            .flat_map(|state| &state.terminated)
        {
            let ran = matches!(
                over.reason.as_deref(),
                Some("Completed" | "Error" | "OOMKilled")
            );
            let told = over.message.as_deref().unwrap_or_default();
            if ran && !said(told) {
                let detail = format!("{}: {told:?}", one.name);
                return broken("the termination message is the guest's", detail);
            }
        }
    }
    Ok(())
}

/// Succeeded is told only of a pod whose containers all ended with 0 at last.
fn succeeded(machine: &Machine, id: u32, pod: &Pod) -> Result<(), Broken> {
    for one in pod.spec.iter().flat_map(|spec| &spec.containers) {
        let truth = machine.truth.get(&(id, one.name.clone()));
        let last = truth.and_then(|truth| truth.codes.values().next_back());
        if last != Some(&0) {
            let detail = format!("{} ended with {last:?}", one.name);
            return broken("Succeeded is true", detail);
        }
    }
    Ok(())
}
