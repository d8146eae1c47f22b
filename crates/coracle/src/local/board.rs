//! What is known of a session's pods: the agent's outlet writes it, whoever waits or asks reads it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent::Outlet;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use lifecycle::Event;
use tokio::sync::watch;

use super::end::{self, End};
use super::events::{Events, Teller};

/// What is known of one pod.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// As it was last applied.
    pub(crate) pod: Arc<Pod>,
    /// As last published.
    pub(crate) status: PodStatus,
    /// Nothing of it runs and nothing is held.
    pub(crate) released: bool,
    /// Why it can't begin, by an event.
    pub(crate) stuck: Option<String>,
    /// What was told of it.
    pub(crate) events: Events,
    /// It is to be forgotten once it has ended.
    pub(crate) deleted: bool,
    /// Counts changes, so that who writes them down knows what is new.
    pub(crate) revision: u64,
    /// How many came before it.
    pub(crate) order: u64,
}

impl Known {
    /// The pod's UID.
    pub(crate) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The pod with its status.
    pub(crate) fn pod(&self) -> Pod {
        let mut pod = (*self.pod).clone();
        if self.released && !self.deleted {
            // It was stopped: what it is now is what its status says.
            pod.metadata.deletion_timestamp = None;
            pod.metadata.deletion_grace_period_seconds = None;
        }
        pod.status = Some(self.status.clone());
        pod
    }

    /// Why it can't begin, if none of its containers ever did.
    pub(crate) fn hopeless(&self) -> Option<String> {
        if end::has_begun(&self.status) {
            return None;
        }
        match end::end_of(&self.status) {
            Some(End::Never(message)) => Some(message),
            Some(End::Exited { .. }) => None,
            None => end::hopeless(&self.status).or_else(|| self.stuck.clone()),
        }
    }
}

/// The pods of a session, by UID.
#[derive(Debug)]
pub(crate) struct Board {
    pods: Mutex<BTreeMap<String, Known>>,
    teller: Mutex<Teller>,
    came: AtomicU64,
    changed: watch::Sender<()>,
}

impl Default for Board {
    fn default() -> Board {
        Board {
            pods: Mutex::default(),
            teller: Mutex::default(),
            came: AtomicU64::new(0),
            changed: watch::Sender::new(()),
        }
    }
}

impl Board {
    /// Whatever panicked while it held the lock has changed one value at most.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells when anything has changed; what changed before counts as seen.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// All pods.
    pub(crate) fn all(&self) -> Vec<Known> {
        self.lock().values().cloned().collect()
    }

    /// One pod.
    pub(crate) fn get(&self, uid: &str) -> Option<Known> {
        self.lock().get(uid).cloned()
    }

    /// Looks at all pods without copying them.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&BTreeMap<String, Known>) -> T) -> T {
        at(&self.lock())
    }

    /// A pod, new or changed.
    pub(crate) fn put(&self, uid: &str, pod: Pod) {
        let mut pods = self.lock();
        match pods.get_mut(uid) {
            Some(known) => {
                known.pod = Arc::new(pod);
                known.revision += 1;
            }
            None => {
                let known = Known {
                    pod: Arc::new(pod),
                    status: PodStatus::default(),
                    released: false,
                    stuck: None,
                    events: Events::default(),
                    deleted: false,
                    revision: 1,
                    order: self.came.fetch_add(1, Ordering::Relaxed),
                };
                pods.insert(uid.to_owned(), known);
            }
        }
        drop(pods);
        self.changed.send_replace(());
    }

    /// A pod that never was applied, or is forgotten.
    pub(crate) fn drop_pod(&self, uid: &str) {
        self.lock().remove(uid);
        self.changed.send_replace(());
    }

    /// Something to tell of a pod, unless too much was.
    fn tell(&self, uid: &str, event: Event) {
        let mut teller = self.teller.lock().unwrap_or_else(PoisonError::into_inner);
        let stuck = end::is_hopeless_event(&event).then(|| event.message.clone());
        let told = teller.tell(uid, event);
        drop(teller);
        if stuck.is_none() && told.is_none() {
            return;
        }
        self.change(uid, |known| {
            known.stuck = known.stuck.take().or(stuck);
            told.into_iter().for_each(|told| known.events.add(told));
        });
    }

    /// Changes what is known of a pod; false if there is no such pod.
    pub(crate) fn change(&self, uid: &str, change: impl FnOnce(&mut Known)) -> bool {
        let mut pods = self.lock();
        let Some(known) = pods.get_mut(uid) else {
            return false;
        };
        change(known);
        known.revision += 1;
        drop(pods);
        self.changed.send_replace(());
        true
    }
}

/// The agent's outlet to a board.
pub(crate) struct ToBoard(pub(crate) Arc<Board>);

impl Outlet for ToBoard {
    fn publish(&self, uid: &str, _pod: &Arc<Pod>, status: Arc<PodStatus>, released: bool) {
        self.0.change(uid, |known| {
            known.status = Arc::unwrap_or_clone(status);
            known.released = released;
        });
    }

    fn event(&self, pod: &Arc<Pod>, event: Event) {
        tracing::debug!(reason = event.reason, message = event.message, "event");
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.0.tell(uid, event);
    }

    fn forgotten(&self, uid: &str) {
        self.0.drop_pod(uid);
    }
}
