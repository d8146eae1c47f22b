//! The rules that each step is held to, by what the witness of a pod has seen and by what is true
//! of the machine; nothing here is read from what the code under test says of itself alone.
//!
//! Must not know: how the agent came to its steps.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use agent::Ticket;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use lifecycle::memory::Terminating;
use lifecycle::{Action, Cause, Hook, Kind, Memory, ProbeKind, Verdict, What};

use crate::machine::Machine;
use crate::restarting::Seen;
use crate::{debugging, ordering, probing, resizing, telling, validation};

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
    terminating: Option<Box<Terminating>>,
    verdict: Option<Verdict>,
    /// A failure was dealt to it that no retry helps.
    pub(crate) hopeless: bool,
    /// Every status that was published and differs from the one before it.
    pub(crate) statuses: Vec<Arc<PodStatus>>,
}

/// A committed step, as the witness is shown it.
pub(crate) struct Shown<'a> {
    pub(crate) id: u32,
    pub(crate) pod: &'a Pod,
    pub(crate) gone: bool,
    pub(crate) memory: &'a Memory,
    pub(crate) actions: &'a [(Ticket, Action)],
    /// When it was decided: its checkpoint may have been long on its way.
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
            What::Start { .. } => ordering::start(machine, shown, name),
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
                ordering::stop(machine, shown, name, (why, *grace_seconds))
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
        telling::counts(last.map(|last| &**last), status)?;
        telling::told(status)?;
        telling::last_words(machine, (id, pod), status)?;
        probing::ready(machine, (id, pod), status)?;
        resizing::told(machine, id, status)?;
        if phase == "Succeeded" {
            telling::succeeded(machine, id, pod)?;
        }
        self.statuses.push(Arc::clone(status));
        Ok(())
    }
}

/// The init containers of a pod.
pub(crate) fn inits(pod: &Pod) -> &[Container] {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default()
}

/// Its other containers, but for those that are added while it runs.
pub(crate) fn mains(pod: &Pod) -> &[Container] {
    let spec = pod.spec.as_ref();
    spec.map(|spec| spec.containers.as_slice())
        .unwrap_or_default()
}

/// A container of either kind, and whether it is an init container.
pub(crate) fn member<'a>(pod: &'a Pod, name: &str) -> Result<(&'a Container, bool), Broken> {
    let first = inits(pod).iter().map(|one| (one, true));
    let mut all = first.chain(mains(pod).iter().map(|one| (one, false)));
    match all.find(|(one, _)| one.name == name) {
        Some(found) => Ok(found),
        None => broken("vocabulary", format!("{name} is no container of the pod")),
    }
}
