//! The phase: `getPhase` in `pkg/kubelet/kubelet_pods.go`, and what
//! `TerminatePod` in `pkg/kubelet/status` makes of a pod that is over.

use super::containers::{Shown, State};
use crate::memory::{Memory, Phase};
use crate::spec::Role;

/// The phase by the containers' states. A terminal one is withheld until `over`, and then stays.
pub(super) fn phase(shown: &[Shown<'_>], memory: &Memory, over: bool) -> Phase {
    let before = memory.phase.unwrap_or(Phase::Pending);
    if before.is_terminal() {
        return before;
    }
    let ending = memory.terminating.as_ref();
    let phase = by_states(shown, over);
    if !over {
        return if phase.is_terminal() { before } else { phase };
    }
    if ending.is_some_and(|ending| ending.failed.is_some()) || !phase.is_terminal() {
        return Phase::Failed;
    }
    phase
}

/// Counts of the containers that the phase is made of.
#[derive(Default)]
struct Count {
    pending_inits: usize,
    failed_for_good: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
}

impl Count {
    fn add(&mut self, shown: &Shown<'_>) {
        match shown.member.role {
            Role::Init => self.add_init(shown),
            Role::Sidecar => self.add_sidecar(shown),
            Role::Main => self.add_main(shown),
            // Nothing waits for them.
            Role::Ephemeral => {}
        }
    }

    fn add_init(&mut self, shown: &Shown<'_>) {
        match shown.exit() {
            None => self.pending_inits += 1,
            Some(code) => self.failed_for_good += usize::from(code != 0 && !shown.restarts),
        }
    }

    fn add_sidecar(&mut self, shown: &Shown<'_>) {
        // One that runs changes nothing: the others say whether the pod does.
        let waits = matches!(shown.state, State::Waiting { .. }) && shown.exit().is_none();
        self.waiting += usize::from(waits);
    }

    fn add_main(&mut self, shown: &Shown<'_>) {
        match (&shown.state, shown.exit()) {
            (State::Running { .. }, _) => self.running += 1,
            (State::Waiting { .. }, None) => self.waiting += 1,
            (state, code) => {
                self.stopped += 1;
                let done = matches!(state, State::Terminated { .. }) && code == Some(0);
                self.succeeded += usize::from(done);
            }
        }
    }
}

fn by_states(shown: &[Shown<'_>], over: bool) -> Phase {
    let mut count = Count::default();
    shown.iter().for_each(|one| count.add(one));
    let ended = if count.stopped == count.succeeded {
        Phase::Succeeded
    } else {
        Phase::Failed
    };
    if count.failed_for_good > 0 {
        return Phase::Failed;
    }
    if count.pending_inits > 0 || count.waiting > 0 {
        Phase::Pending
    } else if count.running > 0 {
        Phase::Running
    } else if count.stopped == 0 {
        Phase::Pending
    } else if over {
        ended
    } else {
        Phase::Running
    }
}
