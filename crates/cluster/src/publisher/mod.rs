//! Writes the status of pods and finishes their deletion.
//!
//! One call at a time for a pod, always with what is newest by then; a terminal status is never given up. What the
//! server can't take now is tried again until it can; what it will never take is said once and waits for a newer status.
//! A status of passing interest waits a moment, for a better one may be at hand: most pods that start or end cost one
//! write so.

mod entry;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::{Call, CallError, Kind};
use crate::outage::Outage;
use crate::pods::trimmed;
use entry::{Entry, Op};

/// Calls under way at once, over all pods. Each needs a connection of its own.
const CALLS: usize = 32;

/// How long one call may take. A connection that was cut without a word is found out by this.
const LIMIT: Duration = Duration::from_secs(30);

/// How long a status of passing interest waits for a better one: a start of a cached image takes less, also where
/// hundreds start at once.
const PASSING: Duration = Duration::from_secs(1);

/// The name under which the API server remembers who wrote a field.
pub(crate) const FIELD_MANAGER: &str = "coracle";

/// What the publisher found out that the watch may not have told yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// There is no pod of this UID any more: it is to be ended and forgotten.
    Gone {
        /// The pod's UID.
        uid: String,
    },
}

/// A handle on the publisher; clones share it.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    runtime: Handle,
    slots: Mutex<HashMap<String, Slot>>,
    calls: Semaphore,
    reports: mpsc::UnboundedSender<Report>,
    outage: Outage,
}

struct Slot {
    entry: Entry,
    /// A worker has this pod.
    busy: bool,
    /// Since when the API server lacks something.
    lacking: Option<Instant>,
    /// Tells the worker that what it holds back is out of date.
    newer: Arc<Notify>,
}

impl Slot {
    fn new(pod: &Arc<Pod>) -> Slot {
        Slot {
            entry: Entry::new(pod.clone()),
            busy: false,
            lacking: None,
            newer: Arc::default(),
        }
    }

    /// Until when the next call may wait for a better one.
    fn held_until(&self) -> Option<Instant> {
        let since = self.lacking.filter(|_| self.entry.is_passing())?;
        Some(since + PASSING).filter(|until| *until > Instant::now())
    }
}

impl Publisher {
    /// A publisher on the current tokio runtime.
    pub fn new(client: Client) -> (Publisher, mpsc::UnboundedReceiver<Report>) {
        let (reports, receiver) = mpsc::unbounded_channel();
        let shared = Shared {
            client,
            runtime: Handle::current(),
            slots: Mutex::default(),
            calls: Semaphore::new(CALLS),
            reports,
            outage: Outage::of("pod status"),
        };
        (
            Publisher {
                shared: Arc::new(shared),
            },
            receiver,
        )
    }

    /// Makes `status` what the API server is to say of the pod `uid`; takes the place of what was published before it,
    /// except that nothing takes the place of a terminal status but another one. Never blocks.
    ///
    /// `pod` is an object of that UID as the API server gave it. `released` says that nothing runs and nothing is held
    /// any more: once the terminal phase has been seen back, a pod under deletion is then deleted for good.
    pub fn publish(&self, uid: &str, pod: &Arc<Pod>, status: PodStatus, released: bool) {
        let mut slots = self.shared.slots();
        let slot = slots
            .entry(uid.to_owned())
            .or_insert_with(|| Slot::new(pod));
        slot.entry.observe(pod);
        if !slot.entry.want(status, released, Timestamp::now()) {
            tracing::error!(pod = %name(pod), uid, "a status after the terminal one is not published");
        }
        self.shared.begin(uid, slot);
    }

    /// Tells what the watch has seen of a pod. One that was never published is not followed.
    pub fn observe(&self, pod: &Arc<Pod>) {
        let Some(uid) = &pod.metadata.uid else { return };
        if let Some(slot) = self.shared.slots().get_mut(uid) {
            slot.entry.observe(pod);
            self.shared.begin(uid, slot);
        }
    }

    /// Tells that the watch has seen the object of this UID vanish: nothing of it is written any more.
    pub fn deleted(&self, uid: &str) {
        if let Some(slot) = self.shared.slots().get_mut(uid) {
            slot.entry.vanished();
        }
    }

    /// Drops everything about a pod.
    pub fn forget(&self, uid: &str) {
        self.shared.slots().remove(uid);
    }

    /// How many pods have something that the API server doesn't know yet.
    pub fn behind(&self) -> usize {
        self.shared
            .slots()
            .values()
            .filter(|slot| slot.busy)
            .count()
    }
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the pod a worker if there is something to do and none has it.
    fn begin(self: &Arc<Self>, uid: &str, slot: &mut Slot) {
        slot.newer.notify_one();
        if !slot.busy && slot.entry.next() != Op::Idle {
            slot.busy = true;
            slot.lacking = Some(Instant::now());
            self.runtime.spawn(Arc::clone(self).work(uid.to_owned()));
        }
    }

    /// Works on one pod until there is nothing left to do for it.
    async fn work(self: Arc<Self>, uid: String) {
        let mut backoff = Backoff::calls();
        let mut said = None;
        loop {
            self.ripe(&uid).await;
            let Ok(permit) = self.calls.acquire().await else {
                return;
            };
            // Asked for only now: while this call waited for its turn, something newer may have come.
            let Some((op, pod, wanted)) = self.claim(&uid) else {
                return;
            };
            let outcome = self.call(&op, &uid, &pod).await;
            drop(permit);
            let wait = match outcome {
                Ok(answer) => {
                    self.outage.answered();
                    backoff.reset();
                    self.settle(&uid, &op, answer, wanted);
                    continue;
                }
                Err(error) => self
                    .refused(&uid, &op, &error, &mut said)
                    .then(|| backoff.next(error.retry_after())),
            };
            if let Some(wait) = wait {
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// Waits until the next call is worth making.
    async fn ripe(&self, uid: &str) {
        loop {
            let held = self.slots().get(uid).and_then(|slot| {
                let until = slot.held_until()?;
                Some((until, slot.newer.clone()))
            });
            let Some((until, newer)) = held else {
                return;
            };
            let _whichever_is_first = tokio::time::timeout_at(until, newer.notified()).await;
        }
    }

    /// What to do next for the pod; `None`, and the pod is free again, if nothing is.
    #[allow(clippy::type_complexity)]
    fn claim(&self, uid: &str) -> Option<(Op, Arc<Pod>, Option<Arc<PodStatus>>)> {
        let mut slots = self.slots();
        let slot = slots.get_mut(uid)?;
        match slot.entry.next() {
            Op::Idle => {
                slot.busy = false;
                None
            }
            op => Some((op, slot.entry.object(), slot.entry.wanted())),
        }
    }

    async fn call(&self, op: &Op, uid: &str, pod: &Pod) -> Result<Option<Pod>, CallError> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        match op {
            Op::Idle => Ok(None),
            Op::Patch(patch) => {
                let call = Call::of("patch", "pods/status", &namespace, &name);
                let params = PatchParams {
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..Default::default()
                };
                call.run(
                    LIMIT,
                    api.patch_status(&name, &params, &Patch::Strategic(patch)),
                )
                .await
                .map(Some)
            }
            Op::Delete => {
                let call = Call::of("delete", "pods", &namespace, &name);
                let only = Preconditions {
                    uid: Some(uid.to_owned()),
                    ..Default::default()
                };
                let params = DeleteParams {
                    grace_period_seconds: Some(0),
                    preconditions: Some(only),
                    ..Default::default()
                };
                call.run(LIMIT, api.delete(&name, &params))
                    .await
                    .map(|_| None)
            }
        }
    }

    fn settle(&self, uid: &str, op: &Op, answer: Option<Pod>, wanted: Option<Arc<PodStatus>>) {
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(uid) else {
            return;
        };
        match (op, answer, wanted) {
            (Op::Patch(_), Some(answer), Some(wanted)) => {
                slot.lacking = Some(Instant::now());
                if let Some(lost) = slot.entry.patched(Arc::new(trimmed(answer)), &wanted) {
                    tracing::debug!(uid, %lost, "the API server took the status but didn't keep this of it");
                }
            }
            _ => slot.entry.deletion_accepted(),
        }
    }

    /// Sorts a failure; whether the same call is to be tried again after a wait.
    fn refused(&self, uid: &str, op: &Op, error: &CallError, said: &mut Option<Kind>) -> bool {
        self.outage.failed(error);
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(uid) else {
            return false;
        };
        match (error.kind(), op) {
            (Kind::NotFound | Kind::OtherUid, _) => {
                tracing::info!(uid, "the pod is gone from the API server: {error}");
                slot.entry.vanished();
                let _nobody_listens = self.reports.send(Report::Gone {
                    uid: uid.to_owned(),
                });
                false
            }
            (Kind::Invalid, Op::Patch(patch)) => {
                tracing::error!(
                    uid,
                    "the API server refuses this status, and is asked again with the next one: {error}"
                );
                slot.entry.refuse(patch.clone());
                false
            }
            (kind, _) => {
                if !kind.is_outage() && *said != Some(kind) {
                    tracing::warn!(uid, "tried again until it succeeds: {error}");
                    *said = Some(kind);
                }
                true
            }
        }
    }
}

fn name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

#[cfg(test)]
mod tests;
