//! Which moves and states histories have reached, so that a rule that nothing ever puts to the
//! test shows.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use lifecycle::Memory;
use lifecycle::memory::{EffortState, Run};

use crate::chance::hash;
use crate::diagram::{Chart, Transition};
use crate::rules::{Broken, broken};

/// What was reached, over any number of histories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Transitions, and how often.
    pub transitions: BTreeMap<(Chart, &'static str, &'static str), u64>,
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
    /// Notes a step, which makes no transition that the diagrams do not have.
    pub(crate) fn note(&mut self, before: &Memory, after: &Memory) -> Result<(), Broken> {
        self.steps += 1;
        let ending = after.terminating.is_some();
        for (name, container) in &after.containers {
            let from = before.containers.get(name);
            let anew = container.anew || from.is_some_and(|one| one.anew);
            let chart = match ending {
                true => Chart::Ending,
                false if anew || before.restarting || after.restarting => Chart::Anew,
                false => Chart::Living,
            };
            let from = from.map_or("-", |one| word(&one.run));
            self.transition(chart, (from, word(&container.run)))?;
        }
        let phase = |memory: &Memory| memory.phase.map_or("-", |phase| phase.as_str());
        self.transition(Chart::Phase, (phase(before), phase(after)))?;
        for (from, to) in [
            (&before.address, &after.address),
            (&before.folders, &after.folders),
        ] {
            let transition = (effort(&from.state), effort(&to.state));
            self.transition(Chart::Holding, transition)?;
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
        Ok(())
    }

    fn transition(&mut self, chart: Chart, (from, to): Transition) -> Result<(), Broken> {
        if from == to {
            return Ok(());
        }
        match self.transitions.entry((chart, from, to)) {
            Entry::Occupied(mut known) => *known.get_mut() += 1,
            Entry::Vacant(new) => {
                if !chart.transitions().contains(&(from, to)) {
                    let detail = format!("{chart}: {from} -> {to}");
                    return broken("docs/lifecycle.md has each transition", detail);
                }
                new.insert(1);
            }
        }
        Ok(())
    }

    /// Adds what other histories have reached.
    pub fn merge(&mut self, other: Coverage) {
        for (transition, times) in other.transitions {
            *self.transitions.entry(transition).or_default() += times;
        }
        self.states.extend(other.states);
        self.steps += other.steps;
        self.happenings += other.happenings;
        self.pods += other.pods;
    }

    /// What the diagrams have and was not reached.
    pub fn unreached(&self) -> Vec<(Chart, &'static str, &'static str)> {
        let all = Chart::ALL.into_iter().flat_map(|chart| {
            let transitions = chart.transitions().iter();
            transitions.map(move |(from, to)| (chart, *from, *to))
        });
        all.filter(|one| !self.transitions.contains_key(one))
            .collect()
    }
}

fn effort(state: &EffortState) -> &'static str {
    match state {
        EffortState::Idle => "Idle",
        EffortState::Asked => "Asked",
        EffortState::Failed { .. } => "Failed",
        EffortState::Done => "Done",
        EffortState::Undoing { .. } => "Undoing",
        EffortState::Undone => "Undone",
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
