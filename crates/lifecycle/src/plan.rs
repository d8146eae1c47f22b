//! What a step collects while it decides: actions, events and the next waking.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::action::{Action, KeyRef, Kind, Says, What};
use crate::events::{Event, EventKind};
use crate::memory::Memory;
use crate::observed::{Observed, Progress};
use crate::spec::{self, Member};

/// The arguments of a step, and its answer as it grows.
pub(crate) struct Plan<'a> {
    pub(crate) pod: &'a Pod,
    /// Its ephemeral containers.
    pub(crate) ephemerals: &'a [Container],
    pub(crate) observed: &'a Observed,
    pub(crate) now: Timestamp,
    /// The pod's addresses, as they were before this step.
    pub(crate) ips: &'a [IpAddr],
    /// The agent was started after the pod was first seen.
    pub(crate) adopted: bool,
    pub(crate) actions: Vec<Action>,
    pub(crate) events: Vec<Event>,
    pub(crate) wake_at: Option<Timestamp>,
    /// A run ended of which a rule says that all containers begin anew.
    pub(crate) restart_all: bool,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(
        (pod, ephemerals): (&'a Pod, &'a [Container]),
        memory: &'a Memory,
        observed: &'a Observed,
        now: Timestamp,
    ) -> Plan<'a> {
        Plan {
            pod,
            ephemerals,
            observed,
            now,
            ips: &memory.ips,
            adopted: memory.adopted,
            actions: Vec::new(),
            events: Vec::new(),
            wake_at: None,
            restart_all: false,
        }
    }

    /// Every container of the pod, those that are ephemeral first.
    pub(crate) fn members(&self) -> impl Iterator<Item = Member<'a>> + use<'a> {
        spec::beside(self.ephemerals).chain(spec::members(self.pod))
    }

    /// What is known of an action; `None` if it is absent.
    pub(crate) fn fact(&self, key: &KeyRef<'_>) -> Option<&'a Progress> {
        self.observed.actions.get(key as &dyn Says)
    }

    /// Asks for an action.
    pub(crate) fn ask(&mut self, key: KeyRef<'_>, what: What) {
        let key = key.into();
        self.actions.push(Action { key, what });
    }

    /// Asks to be woken at `at` or earlier.
    pub(crate) fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    /// True if `at` has come; else asks to be woken then.
    pub(crate) fn due(&mut self, at: Timestamp) -> bool {
        if at <= self.now {
            return true;
        }
        self.wake(at);
        false
    }

    /// Tells of the pod.
    pub(crate) fn tell(&mut self, kind: EventKind, reason: &str, message: String) {
        self.push(kind, reason, message, None);
    }

    /// Tells of a container.
    pub(crate) fn tell_of(
        &mut self,
        member: &Member<'_>,
        kind: EventKind,
        reason: &str,
        message: String,
    ) {
        self.push(kind, reason, message, Some(member.field_path()));
    }

    fn push(&mut self, kind: EventKind, reason: &str, message: String, container: Option<String>) {
        let reason = reason.to_owned();
        self.events.push(Event {
            kind,
            reason,
            message,
            container,
            at: self.now,
        });
    }
}

/// A key of the pod's own.
pub(crate) fn pod_key(attempt: u32, kind: Kind) -> KeyRef<'static> {
    KeyRef {
        container: None,
        attempt,
        kind,
    }
}

/// A container's key.
pub(crate) fn key<'a>(member: &Member<'a>, attempt: u32, kind: Kind) -> KeyRef<'a> {
    KeyRef {
        container: Some(member.name()),
        attempt,
        kind,
    }
}
