//! What `step` is told: the facts, none of which it remembers by itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use crate::action::Key;
use crate::allocation::Allocation;

/// Everything that is known of a pod's actions and guests, at one instant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Each action that was ever asked for and not forgotten since; one that is not here is absent.
    pub actions: LiteMap<Key, Progress>,
    /// How the containers' runs ended, by name and attempt.
    pub exits: BTreeMap<(String, u32), Exit>,
    /// The guest host that has told what it runs; each has a number of its own. `None` from the
    /// agent's start until one did: until then an absent Start proves nothing. Afterwards a run that
    /// memory knows as started and that is neither here nor in `exits` is lost
    /// (ContainerStatusUnknown, 137), and so is one that was asked of another guest host.
    pub guest_host: Option<u64>,
    /// What `node_step` says of the pod; `None` while it has not said anything.
    pub verdict: Option<Verdict>,
    /// What `node_step` says of the resources that it asks for; `None` while it has not said
    /// anything of them as they are now. What was granted stays until something else is said.
    pub sizing: Option<Sizing>,
    /// The pod left its source: the API object is gone, or the static Pod's file.
    pub gone: bool,
    /// The node's addresses, for `hostIP` and `hostIPs`.
    pub host_ips: Vec<IpAddr>,
}

/// How far an action is. Absent is to stand in no map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Progress {
    /// Asked for, unanswered.
    InFlight {
        /// When it was handed to the executor.
        since: Timestamp,
    },
    /// It succeeded.
    Done {
        /// When.
        at: Timestamp,
        /// With what result.
        output: Output,
    },
    /// It failed.
    Failed {
        /// When.
        at: Timestamp,
        /// How.
        failure: Failure,
    },
}

/// What a successful action has to tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// Nothing more.
    Nothing,
    /// Pull: the image.
    Pulled(Image),
    /// Address: the pod's addresses, the primary one first.
    Addresses(Vec<IpAddr>),
    /// Probe: its outcome. A probe that could not be made at all is a [`Failure`], and its result
    /// is thrown away (`doProbe` in `pkg/kubelet/prober/worker.go`).
    Probed {
        /// How it went.
        outcome: Outcome,
        /// What the probe said, for the event; empty if nothing.
        message: String,
    },
    /// Exec: a hook that asked by TLS was answered in the clear, and asked again so (`runHTTPHandler`
    /// in `pkg/kubelet/lifecycle/handlers.go`).
    FellBack {
        /// Whom it asked, `host:port`.
        host: String,
    },
    /// Start: the guest runs.
    Started {
        /// Since when.
        at: Timestamp,
        /// `coracle://<id>`, for `containerID`.
        container_id: String,
    },
}

/// How a probe went: `Result` in `pkg/probe/probe.go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It succeeded.
    Success,
    /// It succeeded, and there is something to warn of (event `ProbeWarning`).
    Warning,
    /// It failed.
    Failure,
}

/// An image that is in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The reference or digest that names it for good, for `imageID`: `<repository>@sha256:…`, or
    /// `sha256:…` for one that came from a file.
    pub id: String,
    /// Its size in the store, bytes.
    pub size: u64,
    /// True if nothing had to be fetched.
    pub present: bool,
    /// How long the pull took, milliseconds.
    pub took_ms: u64,
}

/// Why an action failed, in Kubernetes' words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A waiting or pod reason of the API: `ErrImagePull`, `InvalidImageName`,
    /// `CreateContainerError`, `CreateContainerConfigError`, `RunContainerError`, …
    pub reason: String,
    /// A sentence: what happened, to what, and what helps.
    pub message: String,
    /// Whether a retry can help.
    pub retry: Retry,
}

/// Whether an action that failed may succeed later with nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retry {
    /// It may.
    Backoff,
    /// It can't: the input is wrong.
    Never,
}

/// How a container's run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0 to 255.
    pub code: i32,
    /// How.
    pub kind: ExitKind,
    /// What the guest or the host said of it; empty if nothing.
    pub message: String,
    /// When the guest's first instruction ran.
    pub started_at: Timestamp,
    /// When it had ended, with its blocking work.
    pub finished_at: Timestamp,
}

/// The ways in which a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitKind {
    /// It returned or called exit.
    Exited,
    /// It trapped (134); the message says how.
    Trapped,
    /// It passed its memory budget (137).
    OomKilled,
    /// It was stopped (143 at once, 137 at the end of its grace).
    Stopped,
    /// The guest host died with it (137).
    Lost,
}

/// For whose sake a pod has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Eviction {
    /// The node runs short of something.
    Pressure,
    /// The pod uses more local storage than its limits allow.
    StorageLimit,
    /// A critical pod needs the room.
    Preemption,
}

/// What the node decides of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It may run.
    Admitted,
    /// It may not: phase Failed with this reason and message.
    Refused {
        /// `OutOfcpu`, `OutOfmemory`, `OutOfpods`, `NodeAffinity`, …
        reason: String,
        /// Without the prefix `Pod was rejected: `.
        message: String,
    },
    /// It has to go.
    Evicted {
        /// For whose sake.
        eviction: Eviction,
        /// Why, for the status.
        message: String,
        /// Seconds it may take.
        grace_seconds: u32,
    },
    /// The node shuts down.
    Shutdown {
        /// Seconds it may take.
        grace_seconds: u32,
    },
}

/// What the node says of the resources that a pod asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Sizing {
    /// It has them.
    Granted {
        /// Which.
        allocation: Arc<Allocation>,
        /// `metadata.generation` of the Pod that asked for them.
        generation: Option<i64>,
    },
    /// It can't have them now.
    Deferred {
        /// `OutOfcpu`, `OutOfmemory`, …
        reason: String,
        /// Why.
        message: String,
        /// See [`Sizing::Granted`].
        generation: Option<i64>,
    },
    /// It can't ever have them here.
    Infeasible {
        /// Why.
        message: String,
        /// See [`Sizing::Granted`].
        generation: Option<i64>,
    },
}
