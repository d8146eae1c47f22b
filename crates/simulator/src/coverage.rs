//! Which moves and states histories have reached, so that a rule that nothing ever puts to the
//! test shows.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::Memory;
use lifecycle::memory::Run;

use crate::chance::hash;

/// What was reached, over any number of histories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Moves of containers from one state to another, and how often.
    pub moves: BTreeMap<(&'static str, &'static str, bool), u64>,
    /// Phases, and what came after them.
    pub phases: BTreeMap<(&'static str, &'static str), u64>,
    /// Hashes of a pod's state as a whole: phase, cause of the end, setup, each container's state.
    pub states: BTreeSet<u64>,
    /// Steps that were taken.
    pub steps: u64,
    /// Happenings.
    pub happenings: u64,
    /// Pods that lived.
    pub pods: u64,
}

impl Coverage {
    /// Notes a step.
    pub(crate) fn note(&mut self, before: &Memory, after: &Memory) {
        self.steps += 1;
        let ending = after.terminating.is_some();
        for (name, container) in &after.containers {
            let from = before
                .containers
                .get(name)
                .map_or("-", |one| word(&one.run));
            let to = word(&container.run);
            if from != to {
                *self.moves.entry((from, to, ending)).or_default() += 1;
            }
        }
        let phase = |memory: &Memory| memory.phase.map_or("-", |phase| phase.as_str());
        if phase(before) != phase(after) {
            *self
                .phases
                .entry((phase(before), phase(after)))
                .or_default() += 1;
        }
        let runs: Vec<(&str, &str)> = after
            .containers
            .iter()
            .map(|(name, one)| (name.get(..1).unwrap_or_default(), word(&one.run)))
            .collect();
        let cause = after.terminating.as_ref().map(|end| end.cause);
        let setup =
            [&after.address, &after.folders].map(|effort| std::mem::discriminant(&effort.state));
        self.states.insert(hash((phase(after), cause, setup, runs)));
    }

    /// Takes over what another has reached.
    pub fn add(&mut self, other: Coverage) {
        for (key, count) in other.moves {
            *self.moves.entry(key).or_default() += count;
        }
        for (key, count) in other.phases {
            *self.phases.entry(key).or_default() += count;
        }
        self.states.extend(other.states);
        self.steps += other.steps;
        self.happenings += other.happenings;
        self.pods += other.pods;
    }
}

fn word(run: &Run) -> &'static str {
    match run {
        Run::Waiting => "Waiting",
        Run::Pulling => "Pulling",
        Run::Pulled => "Pulled",
        Run::Mounting => "Mounting",
        Run::Failed { .. } => "Failed",
        Run::Starting { stop: None } => "Starting",
        Run::Starting { .. } => "Starting, to be stopped",
        Run::Running { stop: None, .. } => "Running",
        Run::Running { .. } => "Running, to be stopped",
        Run::Over => "Over",
    }
}
