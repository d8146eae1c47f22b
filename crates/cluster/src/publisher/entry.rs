//! What is known of one pod's writes, and which comes next. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::Value;

use crate::status;

/// The next call for a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op {
    /// Nothing: the API server knows all there is, or the pod is gone.
    Idle,
    /// A strategic merge patch of pods/status.
    Patch(Value),
    /// The deletion that ends a graceful one.
    Delete,
}

pub(super) struct Entry {
    /// The newest object that the API server gave us, by the watch or as an answer.
    object: Arc<Pod>,
    wanted: Option<Arc<PodStatus>>,
    released: bool,
    gone: bool,
    /// The deletion was accepted; finalizers of others may still hold the object.
    deletion_accepted: bool,
    /// A patch that isn't worth sending again.
    refused: Option<Value>,
}

impl Entry {
    pub(super) fn new(object: Arc<Pod>) -> Entry {
        Entry {
            object,
            wanted: None,
            released: false,
            gone: false,
            deletion_accepted: false,
            refused: None,
        }
    }

    pub(super) fn object(&self) -> Arc<Pod> {
        self.object.clone()
    }

    pub(super) fn wanted(&self) -> Option<Arc<PodStatus>> {
        self.wanted.clone()
    }

    pub(super) fn next(&self) -> Op {
        let Some(wanted) = self.wanted.as_ref().filter(|_| !self.gone) else {
            return Op::Idle;
        };
        match status::patch(&self.object, wanted) {
            Some(patch) if self.refused.as_ref() != Some(&patch) => Op::Patch(patch),
            _ if self.may_be_deleted() => Op::Delete,
            _ => Op::Idle,
        }
    }

    /// The next call says nothing that anybody waits for: the pod is still being made, it is deleted and lets go of what
    /// it held, or nothing but the generation that was seen is new.
    pub(super) fn is_passing(&self) -> bool {
        let wanted = self.wanted.as_ref().filter(|_| !self.may_be_deleted());
        wanted.is_some_and(|wanted| {
            let lets_go = !self.released && status::is_all_but_over(&self.object, wanted);
            lets_go || status::is_passing(&self.object, wanted)
        })
    }

    /// The kubelet's rule: under deletion, nothing held, and the terminal phase seen *at the API server*.
    fn may_be_deleted(&self) -> bool {
        let deleting = self.object.metadata.deletion_timestamp.is_some();
        deleting
            && self.released
            && !self.deletion_accepted
            && status::is_terminal(self.object.status.as_ref())
    }

    /// Takes the object if it is newer than the one at hand: the watch and our own answers overtake each other.
    pub(super) fn observe(&mut self, object: &Arc<Pod>) {
        if version(object) >= version(&self.object) && !Arc::ptr_eq(object, &self.object) {
            self.object = object.clone();
        }
    }

    /// Takes a newer status. `false`, and nothing is taken, if it would undo a terminal one.
    pub(super) fn want(&mut self, mut wanted: PodStatus, released: bool, now: Timestamp) -> bool {
        let previous = self.wanted.as_deref();
        let undone = status::is_terminal(previous) && !status::is_terminal(Some(&wanted));
        self.released |= released;
        if undone {
            return false;
        }
        status::stamp(previous, &mut wanted, now);
        self.wanted = Some(Arc::new(wanted));
        true
    }

    /// Notes that the server took `sent`. Returns what it took but did not keep: a field it drops, or that another
    /// writer insists on. That isn't sent again by itself, or the two would write for ever.
    pub(super) fn patched(&mut self, answer: Arc<Pod>, sent: &PodStatus) -> Option<Value> {
        self.refused = status::patch(&answer, sent);
        self.observe(&answer);
        self.refused.clone()
    }

    pub(super) fn refuse(&mut self, patch: Value) {
        self.refused = Some(patch);
    }

    pub(super) fn vanished(&mut self) {
        self.gone = true;
    }

    pub(super) fn deletion_accepted(&mut self) {
        self.deletion_accepted = true;
    }
}

/// Resource versions of one resource are comparable numbers (KEP-5504). One that isn't a number is the oldest.
fn version(pod: &Pod) -> u64 {
    pod.metadata
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}
