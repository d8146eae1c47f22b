//! What is known of one static pod's mirror, and which call comes next. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::{HASH, MIRROR, annotation};

/// The next call for a mirror.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op {
    /// It isn't there and has to be.
    Create(Arc<Pod>),
    /// It is another pod's, or nobody's, or somebody deletes it.
    Delete { uid: String },
    /// It is to say something else.
    Status {
        mirror: Arc<Pod>,
        status: Arc<PodStatus>,
    },
}

#[derive(Default)]
pub(super) struct Entry {
    /// The static pod, and what is to be said of it.
    wanted: Option<(Arc<Pod>, Arc<PodStatus>)>,
    /// The mirror, as last seen.
    mirror: Option<Arc<Pod>>,
    /// The mirror of this UID was asked to go; finalizers of others may still hold it.
    deleting: Option<String>,
    /// What was handed on last, and for the mirror of which UID.
    said: Option<(String, Arc<PodStatus>)>,
}

impl Entry {
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_none() && self.mirror.is_none()
    }

    pub(super) fn want(&mut self, pod: Arc<Pod>, status: PodStatus) {
        self.wanted = Some((pod, Arc::new(status)));
    }

    pub(super) fn forget(&mut self, uid: &str) {
        self.wanted
            .take_if(|(pod, _)| pod.metadata.uid.as_deref() == Some(uid));
    }

    pub(super) fn observe(&mut self, mirror: &Arc<Pod>) {
        self.mirror = Some(mirror.clone());
    }

    pub(super) fn vanished(&mut self, uid: &str) {
        self.mirror
            .take_if(|mirror| mirror.metadata.uid.as_deref() == Some(uid));
    }

    /// `orphaned`: no static pod has this name; `owned`: a mirror can be created.
    pub(super) fn next(&self, orphaned: bool, owned: bool) -> Option<Op> {
        let uid = self.mirror.as_ref().and_then(|m| m.metadata.uid.clone());
        let delete = || {
            let uid = uid
                .clone()
                .filter(|uid| self.deleting.as_ref() != Some(uid))?;
            Some(Op::Delete { uid })
        };
        match (&self.wanted, &self.mirror) {
            (Some((pod, _)), None) => owned.then(|| Op::Create(pod.clone())),
            (Some((pod, _)), Some(mirror)) if !images(mirror, pod) => delete(),
            (Some((_, status)), Some(mirror)) => {
                let uid = uid.clone()?;
                let said = self.said.as_ref();
                let new = !said.is_some_and(|(of, last)| *of == uid && last == status);
                new.then(|| Op::Status {
                    mirror: mirror.clone(),
                    status: status.clone(),
                })
            }
            (None, Some(_)) if orphaned => delete(),
            (None, _) => None,
        }
    }

    pub(super) fn done(&mut self, op: &Op, answer: Option<Arc<Pod>>) {
        match op {
            // The watch may have told something newer already.
            Op::Create(_) if self.mirror.is_none() => self.mirror = answer,
            Op::Create(_) => {}
            Op::Delete { uid } => self.deleting = Some(uid.clone()),
            Op::Status { mirror, status } => {
                let uid = mirror.metadata.uid.clone().unwrap_or_default();
                self.said = Some((uid, status.clone()));
            }
        }
    }
}

/// `IsMirrorPodOf`, and nobody deletes it.
fn images(mirror: &Pod, pod: &Pod) -> bool {
    mirror.metadata.deletion_timestamp.is_none()
        && annotation(mirror, MIRROR) == annotation(pod, HASH)
}
