//! What a worker shares with the rest of the agent: its ledger and what is under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifecycle::Key;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::ledger::Ledger;

/// A pod's place in the agent.
pub(crate) struct Slot {
    pub(crate) uid: Arc<str>,
    state: Mutex<State>,
    /// A fact or a spec has come.
    pub(crate) wake: Notify,
}

/// Only ever touched for a moment, never across an await.
pub(crate) struct State {
    pub(crate) ledger: Ledger,
    /// The task that works it.
    pub(crate) worker: Option<AbortHandle>,
    pub(crate) running: Vec<(Key, AbortHandle)>,
    /// Guests of an earlier life of the pod, of which no checkpoint tells, are being ended: until
    /// then it has to wait, and what is told of its guests is told of those.
    pub(crate) held: bool,
}

impl Slot {
    pub(crate) fn new(uid: &str, ledger: Ledger, held: bool) -> Slot {
        Slot {
            uid: uid.into(),
            state: Mutex::new(State {
                ledger,
                worker: None,
                running: Vec::new(),
                held,
            }),
            wake: Notify::new(),
        }
    }

    /// The lock is as good after a panic as before: a ledger changes by plain assignments.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the ledger and wakes the worker if that told of something new.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Ledger) -> bool) -> bool {
        let new = change(&mut self.lock().ledger);
        if new {
            self.wake.notify_one();
        }
        new
    }
}

impl State {
    /// Takes out what is under way under a key. A worker at rest holds no memory for it.
    pub(crate) fn finished(&mut self, key: &Key) -> Option<AbortHandle> {
        let place = self.running.iter().position(|(other, _)| other == key)?;
        let (_, task) = self.running.swap_remove(place);
        if self.running.is_empty() {
            self.running = Vec::new();
        }
        Some(task)
    }
}
