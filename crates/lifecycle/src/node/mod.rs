//! What no pod can decide alone: who is admitted, who has to go, which images go, and the node's
//! shutdown.
//!
//! ```text
//!   usage ──► pressure ──► conditions of the Node ──► admission ──► verdicts of new pods
//!                │  └────► limits, evict ──► sentences ──► verdicts of pods that live
//!                └──► collect ──► calls: what nobody uses goes before a pod does
//! ```
//!
//! A verdict that was given stands. Pods that were never judged are judged in the order of their
//! creation (then of their UIDs), each against what those admitted before it hold. Must not know:
//! anything of a pod that is not in its [`PodView`], nor how a fact was found out.

mod admit;
mod affinity;
mod amount;
mod collect;
mod evict;
mod limits;
mod policy;
mod ports;
mod preempt;
mod pressure;
mod rank;
mod resize;
mod shutdown;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Taint};

use crate::action::Cause;
use crate::allocation::Allocation;
use crate::events::EventKind;
use crate::observed::{Sizing, Verdict};
use crate::resources::{Costs, Resources};
use crate::unsupported;
pub use policy::{Amount, ImagePolicy, Period, Policy, Threshold};
pub use pressure::Pressure;
pub use usage::{ContainerUsage, Disk, ImageView, Level, Measure, PodUsage, Signal, Usage};

/// The node and its pods, at one instant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeView {
    /// What pods may use together.
    pub allocatable: Resources,
    /// The Node's object as last seen; `None` where there is none, and nothing is asked of it.
    pub object: Option<NodeObject>,
    /// Every pod that is here, in any order. Shared with who keeps them: each decision is shown all.
    pub pods: Vec<Arc<PodView>>,
    /// The node shuts down, and gives its pods so long.
    pub shutdown: Option<Vec<Period>>,
    /// What it holds to.
    pub policy: Policy,
    /// The latest measurement. Shared: it has an entry a pod, and each decision is shown it.
    pub usage: Option<Arc<Usage>>,
    /// When the latest [`Call`]s were done, whether or not they helped.
    pub collected: Option<Timestamp>,
    /// What the step before this one has remembered.
    pub memory: NodeMemory,
}

/// What admission reads of the Node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeObject {
    /// `metadata.name`
    pub name: String,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// `spec.taints`
    pub taints: Vec<Taint>,
    /// When it was so.
    pub seen: Timestamp,
}

/// What has to be remembered between steps. It need not survive the agent: what was decided of a
/// pod is in the pod's own checkpoint as soon as it has an effect.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeMemory {
    /// Verdicts that end a pod, by UID, until the pod is over.
    pub sentences: BTreeMap<String, Verdict>,
    /// Pods that the Node's labels don't fit, by UID, since when: they wait for labels that are as new.
    pub unfit_since: BTreeMap<String, Timestamp>,
    /// What the node is short of.
    pub passes: pressure::Passes,
    /// When images were used.
    pub images: collect::Images,
    /// How far a shutdown is.
    pub stage: Option<shutdown::Stage>,
}

/// A pod, as `node_step` needs it.
#[derive(Clone, Debug)]
pub struct PodView {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// The object, as last given.
    pub pod: Arc<Pod>,
    /// What it was given or, if it waits for its verdict, what it asks for.
    pub requests: Resources,
    /// What it asks for by now, of one that was given something else.
    pub wants: Option<Box<Wanted>>,
    /// What was decided of it before, from [`crate::Memory::verdict`]: it stands.
    pub verdict: Option<Verdict>,
    /// It is over: nothing of it runs or will. It holds nothing of the node.
    pub terminal: bool,
    /// It is being ended, for this cause.
    pub ending: Option<Cause>,
    /// It asks for what can't be had here, whatever is free: reason and message.
    pub unfit: Option<Box<(String, String)>>,
}

/// Other resources than those that a pod was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// All of them.
    pub allocation: Arc<Allocation>,
    /// Together.
    pub requests: Resources,
    /// `metadata.generation` of the Pod that asks for them.
    pub generation: Option<i64>,
    /// Why it can't ever have them here.
    pub unfit: Option<String>,
}

/// What the pod's own worker has decided so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// See [`PodView::verdict`].
    pub verdict: Option<Verdict>,
    /// See [`PodView::terminal`].
    pub terminal: bool,
    /// See [`PodView::ending`].
    pub ending: Option<Cause>,
    /// What it was given.
    pub allocated: Option<Arc<Allocation>>,
    /// What it is being given in the place of that.
    pub granted: Option<Arc<Allocation>>,
}

/// What is decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeStep {
    /// By UID, where it is another than the pod had. A pod that never had one waits.
    pub verdicts: BTreeMap<String, Verdict>,
    /// By UID: what pods are given that were admitted now, or that ask for other resources.
    pub sizings: BTreeMap<String, Sizing>,
    /// To be given to the next step.
    pub memory: NodeMemory,
    /// What the Node's conditions say is wrong.
    pub pressures: BTreeSet<Pressure>,
    /// To be done now.
    pub calls: Vec<Call>,
    /// To be told of the Node, once.
    pub events: Vec<NodeEvent>,
    /// What to measure next; `None`: nothing.
    pub measure: Option<Measure>,
    /// When to ask again with nothing changed.
    pub wake_at: Option<Timestamp>,
}

/// What the node itself is to do. Each is done once, and safe to do again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// What is left of containers that are over.
    CollectContainers,
    /// These images, but for those that somebody has in hand meanwhile.
    RemoveImages(Vec<String>),
}

/// Something to tell of the Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEvent {
    /// Normal or Warning.
    pub kind: EventKind,
    /// One of the kubelet's.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// All that `node_step` reads is the same; of the Pod that leaves its status out, which changes often.
impl PartialEq for PodView {
    fn eq(&self, other: &PodView) -> bool {
        let meta = |pod: &Pod| {
            let meta = &pod.metadata;
            (
                meta.labels.clone(),
                meta.annotations.clone(),
                meta.deletion_timestamp.clone(),
            )
        };
        let same_pod = || {
            Arc::ptr_eq(&self.pod, &other.pod)
                || (self.pod.spec == other.pod.spec && meta(&self.pod) == meta(&other.pod))
        };
        (&self.uid, self.created, self.requests) == (&other.uid, other.created, other.requests)
            && (&self.verdict, self.terminal, self.ending, &self.unfit)
                == (&other.verdict, other.terminal, other.ending, &other.unfit)
            && self.wants == other.wants
            && same_pod()
    }
}

impl PodView {
    /// Of a Pod, of which so much is decided.
    pub fn of(pod: &Arc<Pod>, costs: &Costs, standing: Standing) -> PodView {
        let meta = &pod.metadata;
        let created = meta
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let Standing {
            verdict,
            terminal,
            ending,
            allocated,
            granted,
        } = standing;
        let requests = |given: &Allocation| Resources::requested(&given.apply(pod), costs);
        let held = match (&allocated, &granted) {
            // Until it has taken what it is given, it may hold either.
            (Some(one), Some(other)) => requests(one).larger(requests(other)),
            (Some(one), None) | (None, Some(one)) => requests(one),
            (None, None) => Resources::requested(pod, costs),
        };
        let differs = allocated.filter(|given| granted.is_none() && !given.is_of(pod));
        PodView {
            uid: meta.uid.clone().unwrap_or_default(),
            created,
            requests: held,
            wants: differs.map(|_| {
                Box::new(Wanted {
                    allocation: Allocation::of(pod),
                    requests: Resources::requested(pod, costs),
                    generation: meta.generation,
                    unfit: unsupported::refusal(pod).map(|(_, message)| message),
                })
            }),
            unfit: match verdict {
                None => unsupported::refusal(pod).map(Box::new),
                Some(_) => None,
            },
            pod: Arc::clone(pod),
            verdict,
            terminal,
            ending,
        }
    }

    /// It comes from a file of this node, not from an API server.
    pub fn is_static(&self) -> bool {
        rank::is_static(&self.pod)
    }

    /// It was admitted and is not over.
    fn is_active(&self) -> bool {
        let refused = matches!(self.verdict, None | Some(Verdict::Refused { .. }));
        !refused && !self.terminal
    }

    /// It waits for its first verdict, and is not to end in any case.
    fn is_new(&self) -> bool {
        let deleted = self.pod.metadata.deletion_timestamp.is_some();
        self.verdict.is_none() && !self.terminal && self.ending.is_none() && !deleted
    }
}

impl NodeView {
    /// Each pod.
    pub fn pods(&self) -> impl Iterator<Item = &PodView> {
        self.pods.iter().map(Arc::as_ref)
    }
}

/// Decides for each pod of the view. Pure: the same arguments give the same answer.
pub fn node_step(view: &NodeView, now: Timestamp) -> NodeStep {
    let mut step = NodeStep {
        memory: view.memory.clone(),
        ..NodeStep::default()
    };
    forget(view, &mut step.memory);
    shutdown::advance(view, now, &mut step);
    pressure::pass(view, now, &mut step);
    collect::collect(view, now, &mut step);
    if let Some(taking) = resize::judge(view, &mut step) {
        admit::judge(view, now, &taking, &mut step);
    }
    for pod in view.pods().filter(|pod| pod.verdict.is_some()) {
        let verdict = standing(view, pod, &step.memory);
        let other = verdict.filter(|it| pod.verdict.as_ref() != Some(it));
        step.verdicts.extend(other.map(|it| (pod.uid.clone(), it)));
    }
    step.pressures = step.memory.passes.conditions.clone();
    step.measure = measure(view, now, &step.memory);
    step
}

impl NodeStep {
    /// Ask again then, at the latest.
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    fn tell(&mut self, kind: EventKind, reason: &'static str, message: String) {
        self.events.push(NodeEvent {
            kind,
            reason,
            message,
        });
    }
}

/// Disks are walked of pods that have limits, and of all while a disk is short.
fn measure(view: &NodeView, now: Timestamp, memory: &NodeMemory) -> Option<Measure> {
    let images = collect::due(view, now, memory);
    let at = match (pressure::due(view, now, memory), images) {
        (Some(one), Some(other)) => one.min(other),
        (one, other) => one.or(other)?,
    };
    let short = memory.passes.disk_short;
    let looked = view
        .pods()
        .filter(|pod| pod.is_active() && (short || limits::has(&pod.pod)));
    Some(Measure {
        at,
        disk: looked.map(|pod| pod.uid.clone()).collect(),
        images: memory.passes.list_images || images.is_some_and(|due| due <= at),
    })
}

/// Drops what is remembered of pods that are over or gone.
fn forget(view: &NodeView, memory: &mut NodeMemory) {
    if memory.sentences.is_empty() && memory.unfit_since.is_empty() {
        return;
    }
    let alive: BTreeSet<&str> = view
        .pods()
        .filter(|pod| !pod.terminal)
        .map(|pod| pod.uid.as_str())
        .collect();
    memory
        .sentences
        .retain(|uid, _| alive.contains(uid.as_str()));
    memory
        .unfit_since
        .retain(|uid, _| alive.contains(uid.as_str()));
}

/// A verdict that was given, or what ends a pod that lives.
fn standing(view: &NodeView, pod: &PodView, memory: &NodeMemory) -> Option<Verdict> {
    let lives = pod.verdict == Some(Verdict::Admitted) && !pod.terminal;
    if let Some(sentence) = memory.sentences.get(&pod.uid).filter(|_| lives) {
        return Some(sentence.clone());
    }
    let ends = shutdown::verdict(view, pod, memory.stage.as_ref()).filter(|_| lives);
    ends.or_else(|| pod.verdict.clone())
}
