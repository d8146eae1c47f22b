//! Admission, as the kubelet decides it: `pkg/kubelet/lifecycle/predicate.go`, with the order of the
//! checks that `pkg/kubelet/kubelet.go` gives them.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::ports::Port;
use super::{NodeObject, NodeStep, NodeView, PodView, affinity, ports, preempt, pressure, rank};
use crate::allocation::Allocation;
use crate::observed::{Sizing, Verdict};
use crate::resources::Resources;

/// For so long a pod waits for labels of the Node that are as new as it is.
const LABELS_WITHIN: SignedDuration = SignedDuration::from_secs(15);

/// Reason and message of a refusal.
pub(super) type Refusal = (String, String);

/// A resource of which too little is free: `InsufficientResourceError`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lack {
    pub(super) name: &'static str,
    pub(super) requested: u64,
    pub(super) used: u64,
    pub(super) capacity: u64,
    help: &'static str,
}

/// UIDs of pods that run and get the resources that they ask for now.
pub(super) type Taking = BTreeSet<String>;

/// What admitted pods hold.
#[derive(Default)]
pub(super) struct Held<'a> {
    pub(super) pods: Vec<&'a PodView>,
    used: Resources,
    ports: Vec<Port>,
}

impl<'a> Held<'a> {
    /// By those pods.
    pub(super) fn by(pods: impl Iterator<Item = &'a PodView>) -> Held<'a> {
        let mut held = Held::default();
        pods.for_each(|pod| held.add(pod));
        held
    }

    /// By all pods of the view but for one; those that take what they want have that as well.
    pub(super) fn but(uid: Option<&str>, view: &'a NodeView, taking: &Taking) -> Held<'a> {
        let mut held = Held::default();
        let others = view.pods().filter(|pod| pod.is_active());
        for pod in others.filter(|pod| uid != Some(pod.uid.as_str())) {
            held.add(pod);
            if let Some(wants) = pod.wants.as_ref().filter(|_| taking.contains(&pod.uid)) {
                held.used = held.used.grown(pod.requests, wants.requests);
            }
        }
        held
    }

    fn add(&mut self, pod: &'a PodView) {
        self.used = self.used.plus(pod.requests);
        self.ports.extend(ports::of(&pod.pod));
        self.pods.push(pod);
    }
}

/// What becomes of a new pod.
enum Answer {
    Admitted,
    Refused(Refusal),
    /// It is asked again by then.
    Later(Timestamp),
    /// Others are to go first, or already are; nobody who came later is looked at before.
    Room(Vec<String>),
}

/// Judges the pods that were never judged.
pub(super) fn judge(view: &NodeView, now: Timestamp, taking: &Taking, step: &mut NodeStep) {
    let mut new: Vec<&PodView> = view.pods().filter(|pod| pod.is_new()).collect();
    if new.is_empty() {
        return;
    }
    new.sort_by(|one, other| (one.created, &one.uid).cmp(&(other.created, &other.uid)));
    let mut held = Held::but(None, view, taking);
    for pod in new {
        let verdict = match answer(view, pod, &held, (now, step)) {
            Answer::Admitted => {
                held.add(pod);
                let sizing = Sizing::Granted {
                    allocation: Allocation::of(&pod.pod),
                    generation: pod.pod.metadata.generation,
                };
                step.sizings.insert(pod.uid.clone(), sizing);
                Verdict::Admitted
            }
            Answer::Refused((reason, message)) => Verdict::Refused { reason, message },
            Answer::Later(at) => {
                step.wake(at);
                continue;
            }
            Answer::Room(victims) => return preempt::sentence(&victims, view, step),
        };
        step.memory.unfit_since.remove(&pod.uid);
        step.verdicts.insert(pod.uid.clone(), verdict);
    }
}

fn answer(
    view: &NodeView,
    pod: &PodView,
    held: &Held<'_>,
    (now, step): (Timestamp, &mut NodeStep),
) -> Answer {
    let short = pressure::refusal(&step.memory.passes.conditions, &pod.pod);
    if let Some(refusal) = short.or_else(|| hopeless(view, pod)) {
        return Answer::Refused(refusal);
    }
    let lacks = lacks(&pod.requests, &held.used, &view.allocatable);
    let others = others(view, pod, held);
    if let [(only, _)] = others.as_slice()
        && only == AFFINITY
        && lacks.is_empty()
        && let Some(until) = newer_labels(view.object.as_ref(), pod, (now, step))
    {
        return Answer::Later(until);
    }
    if rank::is_critical(&pod.pod) {
        // Room can be made; for all else it is as with any other pod.
        return match (others.into_iter().next(), lacks.is_empty()) {
            (Some(refusal), _) => Answer::Refused(refusal),
            (None, true) => admitted(view),
            (None, false) => match room(view, (pod, &pod.requests), held, step) {
                Ok(victims) => Answer::Room(victims),
                Err(refusal) => Answer::Refused(refusal),
            },
        };
    }
    let lack = lacks.first().map(Lack::refusal);
    match lack.or_else(|| others.into_iter().next()) {
        Some(refusal) => Answer::Refused(refusal),
        None => admitted(view),
    }
}

/// The last look is the shutdown manager's (`pkg/kubelet/nodeshutdown/nodeshutdown_manager.go`).
fn admitted(view: &NodeView) -> Answer {
    match view.shutdown {
        None => Answer::Admitted,
        Some(_) => Answer::Refused((
            "NodeShutdown".to_owned(),
            "Pod was rejected as the node is shutting down.".to_owned(),
        )),
    }
}

/// The UIDs of those that have to go for what a pod asks; none if they are going already.
fn room(
    view: &NodeView,
    (pod, asked): (&PodView, &Resources),
    held: &Held<'_>,
    step: &NodeStep,
) -> Result<Vec<String>, Refusal> {
    let leaving = |one: &&PodView| preempt::is_leaving(one, &step.memory);
    let staying = Held::by(held.pods.iter().copied().filter(|one| !leaving(one)));
    let lacks = lacks(asked, &staying.used, &view.allocatable);
    preempt::victims(pod, &staying.pods, &lacks)
        .map_err(|message| ("UnexpectedAdmissionError".to_owned(), message))
}

/// What no other pod's end would change.
fn hopeless(view: &NodeView, pod: &PodView) -> Option<Refusal> {
    if let Some(unfit) = &pod.unfit {
        return Some(unfit.as_ref().clone());
    }
    let node = view.object.as_ref()?;
    let wants = pod.pod.metadata.labels.as_ref()?.get(OS_LABEL)?;
    (node.labels.get(OS_LABEL) != Some(wants)).then(|| {
        (
            "PodOSSelectorNodeLabelDoesNotMatch".to_owned(),
            format!("Failed to admit pod as the `{OS_LABEL}` label doesn't match node label"),
        )
    })
}

const OS_LABEL: &str = "kubernetes.io/os";
const AFFINITY: &str = "NodeAffinity";

/// What speaks against giving a pod that runs other resources, in the kubelet's words, and who has
/// to go so that nothing does: as with a new pod (`canAdmitPod` in `pkg/kubelet/allocation`).
pub(super) struct Against {
    pub(super) refusal: Refusal,
    /// UIDs; `None` where nobody's end helps, or nobody has to go for it.
    pub(super) room: Option<Vec<String>>,
}

/// `None` if nothing does.
pub(super) fn against(
    view: &NodeView,
    (pod, asked): (&PodView, &Resources),
    taking: &Taking,
    step: &NodeStep,
) -> Option<Against> {
    let held = Held::but(Some(&pod.uid), view, taking);
    let short = pressure::refusal(&step.memory.passes.conditions, &pod.pod);
    let lacks = lacks(asked, &held.used, &view.allocatable);
    let lack = lacks.first().map(Lack::refusal);
    let other = others(view, pod, &held).into_iter().next();
    let ends = match admitted(view) {
        Answer::Refused(refusal) => Some(refusal),
        _ => None,
    };
    let alone = |refusal| Against {
        refusal,
        room: None,
    };
    if !rank::is_critical(&pod.pod) {
        return short.or(lack).or(other).or(ends).map(alone);
    }
    if let Some(refusal) = short.or(other).or(ends) {
        return Some(alone(refusal));
    }
    let refusal = lack?;
    Some(match room(view, (pod, asked), &held, step) {
        Ok(victims) => Against {
            refusal,
            room: Some(victims),
        },
        Err(refusal) => alone(refusal),
    })
}

/// The first resource of which the node has less than that, whatever is free.
pub(super) fn never(asked: &Resources, all: &Resources) -> Option<(&'static str, u64, u64)> {
    let lacks = lacks(asked, &Resources::default(), all);
    let first = lacks.first()?;
    Some((first.name, first.requested, first.capacity))
}

/// Everything but resources that speaks against the pod, in the kubelet's order and words.
fn others(view: &NodeView, pod: &PodView, held: &Held<'_>) -> Vec<Refusal> {
    let mut found = Vec::new();
    let mut add = |name: &str, why: &str| {
        found.push((
            name.to_owned(),
            format!("Predicate {name} failed: node(s) {why}"),
        ));
    };
    let node = view.object.as_ref();
    if node.is_some_and(|node| !affinity::fits(&pod.pod, node)) {
        add(AFFINITY, "didn't match Pod's node affinity/selector");
    }
    if ports::collide(&ports::of(&pod.pod), &held.ports) {
        add(
            "NodePorts",
            "didn't have free ports for the requested pod ports",
        );
    }
    let away = |node: &NodeObject| {
        !rank::is_static(&pod.pod) && affinity::is_kept_away(&pod.pod, &node.taints)
    };
    if node.is_some_and(away) {
        add("TaintToleration", "had taints that the pod didn't tolerate");
    }
    found
}

/// A label may be newer than the Node that is known, and the pod be bound here for it: then the
/// kubelet asks for the Node at once (`generalFilter`). `None` if what is known is new enough.
fn newer_labels(
    node: Option<&NodeObject>,
    pod: &PodView,
    (now, step): (Timestamp, &mut NodeStep),
) -> Option<Timestamp> {
    let since = step.memory.unfit_since.get(&pod.uid).copied();
    let since = since.unwrap_or(now);
    step.memory.unfit_since.insert(pod.uid.clone(), since);
    let until = since.saturating_add(LABELS_WITHIN).unwrap_or(since);
    let known = node.is_none_or(|node| node.seen > since);
    (!known && now < until).then_some(until)
}

impl Lack {
    /// How much more would have to be free: `GetInsufficientAmount`.
    pub(super) fn missing(&self) -> u64 {
        let free = self.capacity.saturating_sub(self.used);
        self.requested.saturating_sub(free)
    }

    fn refusal(&self) -> Refusal {
        let Lack {
            name,
            requested,
            used,
            capacity,
            help,
        } = self;
        let message = format!(
            "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, \
             capacity: {capacity}{help}"
        );
        (format!("OutOf{name}"), message)
    }
}

/// The resources that are short, in the kubelet's order (`noderesources.Fits` of `pkg/scheduler`),
/// then what the guest host alone bounds.
fn lacks(asked: &Resources, used: &Resources, all: &Resources) -> Vec<Lack> {
    const MAPPINGS: &str = "; each container takes memory mappings of the guest host, which \
        vm.max_map_count bounds: raise it with sysctl, or run fewer containers on this node";
    const DESCRIPTORS: &str = "; each container takes descriptors of the guest host, which \
        RLIMIT_NOFILE bounds: raise it for this service, or run fewer containers on this node";
    let amounts = |all: &Resources| {
        [
            all.pods,
            all.cpu_milli,
            all.memory,
            all.ephemeral_storage,
            all.mappings,
            all.descriptors,
        ]
    };
    let names = [
        ("pods", ""),
        ("cpu", ""),
        ("memory", ""),
        ("ephemeral-storage", ""),
        ("mappings", MAPPINGS),
        ("descriptors", DESCRIPTORS),
    ];
    let each = amounts(asked)
        .into_iter()
        .zip(amounts(used))
        .zip(amounts(all));
    let short = names
        .into_iter()
        .zip(each)
        .filter_map(|((name, help), it)| {
            let ((requested, used), capacity) = it;
            (requested > capacity.saturating_sub(used)).then_some(Lack {
                name,
                requested,
                used,
                capacity,
                help,
            })
        });
    short.collect()
}

/// What a pod asks for of a resource.
pub(super) fn request(pod: &PodView, name: &str) -> u64 {
    let asked = &pod.requests;
    match name {
        "pods" => asked.pods,
        "cpu" => asked.cpu_milli,
        "memory" => asked.memory,
        "ephemeral-storage" => asked.ephemeral_storage,
        "mappings" => asked.mappings,
        _ => asked.descriptors,
    }
}

/// The pod's grace, seconds, at least 1.
pub(super) fn grace(pod: &Pod) -> u32 {
    u32::try_from(crate::spec::grace(pod)).unwrap_or(u32::MAX)
}
