//! What `step` asks for: actions, each with a key that it keeps until it is answered.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Probe};
use serde::{Deserialize, Serialize};

/// Names one action of one pod. With the pod's UID, which the caller holds, it is unique for ever:
/// an attempt is never used twice, so an answer that comes late or twice harms nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The container that it is for; `None` for the pod's own.
    pub container: Option<String>,
    /// The container's run (0 for its first start, as `restartCount` counts) or, for a pull, the try.
    pub attempt: u32,
    /// What is done.
    pub kind: Kind,
}

/// What a key says. A map of keys is asked by it, so that a look-up makes no key; the order is that of [`Key`].
pub(crate) trait Says {
    /// The container, the attempt and the kind.
    fn said(&self) -> (Option<&str>, u32, Kind);
}

/// A key whose name is another's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRef<'a> {
    pub(crate) container: Option<&'a str>,
    pub(crate) attempt: u32,
    pub(crate) kind: Kind,
}

impl Says for Key {
    fn said(&self) -> (Option<&str>, u32, Kind) {
        (self.container.as_deref(), self.attempt, self.kind)
    }
}

impl Says for KeyRef<'_> {
    fn said(&self) -> (Option<&str>, u32, Kind) {
        (self.container, self.attempt, self.kind)
    }
}

impl From<KeyRef<'_>> for Key {
    fn from(key: KeyRef<'_>) -> Key {
        Key {
            container: key.container.map(str::to_owned),
            attempt: key.attempt,
            kind: key.kind,
        }
    }
}

impl<'a> Borrow<dyn Says + 'a> for Key {
    fn borrow(&self) -> &(dyn Says + 'a) {
        self
    }
}

impl PartialEq for dyn Says + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.said() == other.said()
    }
}

impl Eq for dyn Says + '_ {}

impl PartialOrd for dyn Says + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Says + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.said().cmp(&other.said())
    }
}

/// The kinds of action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Bring a container's image into the store and resolve its digest.
    Pull,
    /// Make the pod's folders (no container), or a container's root.
    Mount,
    /// Give the pod its addresses.
    Address,
    /// Start the container's guest; done once it runs.
    Start,
    /// Probe the container once.
    Probe(ProbeKind),
    /// Run a lifecycle hook in the container.
    Exec(Hook),
    /// Change the limits of the container's guest as it runs.
    Resize,
    /// Stop the container's guest; done once it has ended and its blocking work has returned.
    Stop,
    /// Unmake what Mount made.
    Unmount,
    /// Give the pod's addresses back.
    Release,
}

/// Which of a container's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProbeKind {
    /// startupProbe
    Startup,
    /// livenessProbe
    Liveness,
    /// readinessProbe
    Readiness,
}

/// Which of a container's lifecycle hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Hook {
    /// lifecycle.postStart
    PostStart,
    /// lifecycle.preStop
    PreStop,
}

impl ProbeKind {
    /// A container's probe of this kind.
    pub fn probe(self, container: &Container) -> Option<&Probe> {
        let probe = match self {
            ProbeKind::Startup => &container.startup_probe,
            ProbeKind::Liveness => &container.liveness_probe,
            ProbeKind::Readiness => &container.readiness_probe,
        };
        probe.as_ref()
    }
}

impl Hook {
    /// What a container has run at this hook.
    pub fn handler(self, container: &Container) -> Option<&LifecycleHandler> {
        let hooks = container.lifecycle.as_ref()?;
        let handler = match self {
            Hook::PostStart => &hooks.post_start,
            Hook::PreStop => &hooks.pre_stop,
        };
        handler.as_ref()
    }
}

/// `imagePullPolicy`, after its default (`Always` for `:latest` or no tag, else `IfNotPresent`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Ask the registry each time.
    Always,
    /// Ask the registry only for what the store lacks.
    IfNotPresent,
    /// Never ask the registry.
    Never,
}

/// An action to execute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Its key.
    pub key: Key,
    /// What to do, with everything that the executor can't read from the Pod.
    pub what: What,
}

/// What an action does, with what it needs beside the Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// See [`Kind::Pull`].
    Pull {
        /// The reference, as in the Pod.
        image: String,
        /// When to ask the registry.
        policy: PullPolicy,
    },
    /// See [`Kind::Mount`], for the pod.
    MountPod {
        /// The pod's addresses, for /etc/hosts.
        ips: Vec<IpAddr>,
    },
    /// See [`Kind::Mount`], for a container.
    Mount {
        /// The image, by digest, as the pull resolved it.
        image_id: String,
    },
    /// See [`Kind::Address`].
    Address,
    /// See [`Kind::Start`].
    Start {
        /// The image, by digest, as the pull resolved it.
        image_id: String,
        /// The pod's addresses.
        ips: Vec<IpAddr>,
    },
    /// See [`Kind::Probe`]. The key's attempt counts the probes of this kind; `run` is the
    /// container's run that is probed.
    Probe {
        /// The attempt of the run's Start.
        run: u32,
        /// The pod's addresses, the primary one first: where a probe without a host goes.
        ips: Vec<IpAddr>,
    },
    /// See [`Kind::Exec`]. The key's attempt is the container's run.
    Exec {
        /// The pod's addresses, the primary one first.
        ips: Vec<IpAddr>,
        /// Seconds that it may take (what is left of the grace, for preStop); `None`: no bound.
        grace_seconds: Option<u32>,
    },
    /// See [`Kind::Resize`]. The key's attempt counts the container's resizes.
    Resize {
        /// The attempt of the run's Start.
        run: u32,
        /// The new limit, thousandths of a core; `None`: no limit.
        cpu_milli: Option<u64>,
        /// The new limit, bytes; `None`: no limit.
        memory_bytes: Option<u64>,
        /// The memory limit is smaller than before: it must not be below what is in use
        /// (`validateMemoryResizeAction` in `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).
        shrinks: bool,
    },
    /// See [`Kind::Stop`].
    Stop {
        /// Seconds the guest may take; 0 ends it at once. A second Stop with a shorter grace may
        /// follow under the same key (the executor shortens what is in flight).
        grace_seconds: u32,
        /// Why, in the words of the Killing event.
        cause: Cause,
    },
    /// Unmake the container's root.
    Unmount,
    /// Unmake the pod's folders.
    UnmountPod,
    /// See [`Kind::Release`].
    Release,
}

/// Why a pod or a container is being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// The API object has a deletionTimestamp.
    Deletion,
    /// The pod left its source (a static Pod's file, or a forced deletion).
    Removal,
    /// The node needs what the pod uses.
    Eviction,
    /// The pod uses more local storage than its limits allow.
    StorageLimit,
    /// A critical pod needs its room.
    Preemption,
    /// activeDeadlineSeconds has passed.
    Deadline,
    /// The node shuts down.
    Shutdown,
    /// Its liveness or startup probe failed; the container alone.
    Probe(ProbeKind),
    /// Its postStart hook failed; the container alone.
    PostStart,
    /// The container's spec changed; the container alone.
    SpecChange,
    /// The container's resources changed, and its resizePolicy wants a restart; the container alone.
    Resize,
    /// A rule of a container restarts all of them.
    RestartAll,
    /// The pod's other containers are over, so its sidecars end.
    PodDone,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Or a map of keys would not find by a borrowed one what it holds.
    #[test]
    fn what_is_borrowed_of_keys_compares_as_they_do() {
        let mut keys = Vec::new();
        for container in [None, Some("a".to_owned()), Some("b".to_owned())] {
            for attempt in [0, 1] {
                for kind in [Kind::Pull, Kind::Exec(Hook::PreStop)] {
                    let container = container.clone();
                    keys.push(Key {
                        container,
                        attempt,
                        kind,
                    });
                }
            }
        }
        for one in &keys {
            for other in &keys {
                let (lent, other_lent): (&dyn Says, &dyn Says) = (one, other);
                assert_eq!(lent == other_lent, one == other);
                assert_eq!(lent.partial_cmp(other_lent), one.partial_cmp(other));
                assert_eq!(lent.cmp(other_lent), one.cmp(other));
            }
        }
    }
}
