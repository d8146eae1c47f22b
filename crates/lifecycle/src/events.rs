//! Events in the kubelet's words (`pkg/kubelet/events/event.go`).
//!
//! Must not know: how they are aggregated, limited or sent.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Something to tell of a pod, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Normal or Warning.
    pub kind: EventKind,
    /// One of the kubelet's: `Pulling`, `Started`, `BackOff`, …
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// `involvedObject.fieldPath` (`spec.containers{web}`); `None` for the pod's own.
    pub container: Option<String>,
    /// When it happened.
    pub at: Timestamp,
}

/// `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// As it should be.
    Normal,
    /// Something to look at.
    Warning,
}

impl EventKind {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Normal => "Normal",
            EventKind::Warning => "Warning",
        }
    }
}
