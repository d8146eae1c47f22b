//! The worker without its clockwork: a pod, what is remembered and what is known of it.
//!
//! [`Ledger::turn`] decides and changes nothing; [`Ledger::commit`] makes it so, once the
//! checkpoint is safe. Between the two facts may come in: they count in the next turn. The
//! simulator drives exactly this. Must not know: tokio, time, disks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use lifecycle::memory::Run;
use lifecycle::{
    Action, Checkpoint, Costs, Event, Exit, ExitKind, Failure, Key, Kind, Memory, Observed, Output,
    PodView, Progress, Sizing, Standing, Step, Verdict,
};
use litemap::LiteMap;

use crate::ports::Guest;

/// Tells one execution of an action from another under the same key (a Stop that was shortened).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A pod and everything that is known of it here.
pub struct Ledger {
    pod: Arc<Pod>,
    memory: Memory,
    observed: Observed,
    /// The valid ticket of each action in flight.
    tickets: Vec<(Key, Ticket)>,
    last_ticket: u64,
    /// Counts changes of the pod that a checkpoint has to hold.
    revision: u64,
    saved: Option<u64>,
    published: Option<(Arc<PodStatus>, bool)>,
    view: Arc<PodView>,
    costs: Costs,
}

/// What a turn decided; nothing of it has happened.
pub struct Turn {
    step: Box<Step>,
    pod: Arc<Pod>,
    revision: u64,
    save: bool,
}

impl Turn {
    /// What has to be safe before the turn may be committed; `None` if that is so already.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.save
            .then(|| Checkpoint::new(Arc::clone(&self.pod), self.step.memory.clone()))
    }
}

/// What an object of the pod that came from its source tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Anything at all.
    pub any: bool,
    /// Something that the node has to know.
    pub view: bool,
}

/// What a committed turn brings about.
#[derive(Debug, Default)]
pub struct Effects {
    /// The pod that it is about.
    pub pod: Arc<Pod>,
    /// What was remembered of it before.
    pub before: Memory,
    /// The pod as if it asked for the resources that it was given: what actions go by.
    pub allocated: Arc<Pod>,
    /// To execute now. Each is in flight until it is answered with its ticket; one whose key is in
    /// flight already takes that one's place.
    pub actions: Vec<(Ticket, Action)>,
    /// To tell.
    pub events: Vec<Event>,
    /// The status, if it or `released` has changed.
    pub status: Option<Arc<PodStatus>>,
    /// Nothing runs and nothing is held.
    pub released: bool,
    /// When to take the next turn with no fact changed.
    pub wake_at: Option<Timestamp>,
    /// Runs, by container and attempt, whose exits need not be kept anywhere else any more.
    pub absorbed: Vec<(String, u32)>,
    /// What the node has to know of the pod has changed.
    pub view_changed: bool,
}

impl Ledger {
    /// Of a pod that is new here.
    pub fn new(pod: impl Into<Arc<Pod>>, costs: Costs) -> Ledger {
        Ledger::with(pod.into(), Memory::default(), None, costs)
    }

    /// Of a pod that was here before.
    pub fn restore(checkpoint: Checkpoint, costs: Costs) -> Ledger {
        Ledger::with(checkpoint.pod, adopted(checkpoint.memory), Some(0), costs)
    }

    fn with(pod: Arc<Pod>, memory: Memory, saved: Option<u64>, costs: Costs) -> Ledger {
        let pod = trimmed(pod);
        let standing = standing(&memory, None, memory.verdict.clone(), over(&memory));
        let view = Arc::new(PodView::of(&pod, &costs, standing));
        Ledger {
            pod,
            memory,
            observed: Observed::default(),
            tickets: Vec::new(),
            last_ticket: 0,
            revision: 0,
            saved,
            published: None,
            view,
            costs,
        }
    }

    /// The pod, as last given.
    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// What is remembered of it.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What is known of it.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// The status as last published, and whether the pod was released then.
    pub fn published(&self) -> Option<(&PodStatus, bool)> {
        self.published
            .as_ref()
            .map(|(status, released)| (status.as_ref(), *released))
    }

    /// What the node has to know of it.
    pub fn view(&self) -> &Arc<PodView> {
        &self.view
    }

    /// The pod has left its source and nothing is held of it: it can be forgotten.
    pub fn over(&self) -> bool {
        self.observed.gone
            && self
                .published
                .as_ref()
                .is_some_and(|(_, released)| *released)
    }

    /// The pod's object, from its source: changed, or as it was.
    pub fn replace(&mut self, pod: impl Into<Arc<Pod>>) -> News {
        let pod = trimmed(pod.into());
        let back = std::mem::take(&mut self.observed.gone);
        if self.pod == pod {
            return News {
                any: back,
                view: false,
            };
        }
        if same(&self.pod, &pod) {
            // Nothing that the node reads: what was worked out for it stands.
            Arc::make_mut(&mut self.view).pod = Arc::clone(&pod);
            self.pod = pod;
            return News {
                any: true,
                view: false,
            };
        }
        // What was said of other resources holds no more; what was granted does.
        let granted = |sizing: &Sizing| matches!(sizing, Sizing::Granted { .. });
        self.observed.sizing = self.observed.sizing.take().filter(granted);
        self.revision += 1;
        self.pod = pod;
        let before = Arc::clone(&self.view);
        self.refresh(self.view.terminal);
        News {
            any: true,
            view: self.view != before,
        }
    }

    /// The pod has left its source.
    pub fn gone(&mut self) {
        self.observed.gone = true;
    }

    /// What the node decided of it. True if that is new. The node counts with the first admission
    /// or refusal from here on: it may be in a checkpoint that is being written.
    pub fn judged(&mut self, verdict: Verdict) -> bool {
        let new = self.observed.verdict.as_ref() != Some(&verdict);
        let first = matches!(verdict, Verdict::Admitted | Verdict::Refused { .. });
        if first && self.view.verdict.is_none() {
            Arc::make_mut(&mut self.view).verdict = Some(verdict.clone());
        }
        self.observed.verdict = Some(verdict);
        new
    }

    /// What the node says of the resources that it asks for. True if that is new. The node counts
    /// with what it grants from here on.
    pub fn sized(&mut self, sizing: Sizing) -> bool {
        if self.observed.sizing.as_ref() == Some(&sizing) {
            return false;
        }
        self.observed.sizing = Some(sizing);
        self.refresh(self.view.terminal);
        true
    }

    /// The node's addresses. True if they are new.
    pub fn host_ips(&mut self, ips: Vec<IpAddr>) -> bool {
        let new = self.observed.host_ips != ips;
        self.observed.host_ips = ips;
        new
    }

    /// An execution has ended. One that is late, came before, or that nobody waits for changes
    /// nothing: false.
    pub fn answer(
        &mut self,
        key: &Key,
        ticket: Ticket,
        result: Result<Output, Failure>,
        at: Timestamp,
    ) -> bool {
        if !self
            .tickets
            .iter()
            .any(|(other, valid)| other == key && *valid == ticket)
        {
            return false;
        }
        self.void(key);
        let progress = match result {
            Ok(output) => Progress::Done { at, output },
            Err(failure) => Progress::Failed { at, failure },
        };
        self.observed.actions.insert(key.clone(), progress);
        true
    }

    /// A guest has ended. The first telling counts; false if it is not the first.
    pub fn exited(&mut self, container: &str, attempt: u32, exit: Exit) -> bool {
        let run = (container.to_owned(), attempt);
        let new = !self.observed.exits.contains_key(&run);
        self.observed.exits.entry(run).or_insert(exit);
        new
    }

    /// What the guest host of this number ran of this pod at `as_of`. A run that was started before, is not among
    /// them and has not been told to have ended is lost.
    pub fn guests(&mut self, guest_host: u64, running: &[Guest], as_of: Timestamp) {
        let runs = |key: &Key| {
            running.iter().any(|guest| {
                key.container.as_deref() == Some(&guest.container) && key.attempt == guest.attempt
            })
        };
        let (memory, exits) = (&self.memory, &mut self.observed.exits);
        self.observed
            .actions
            .retain(|key, progress| match progress {
                Progress::Done { at, output } if key.kind == Kind::Start => {
                    *at > as_of || runs(key) || lost_unseen(memory, key, output, as_of, exits)
                }
                _ => true,
            });
        for guest in running {
            let key = Key {
                container: Some(guest.container.clone()),
                attempt: guest.attempt,
                kind: Kind::Start,
            };
            if self.tickets.iter().any(|(other, _)| *other == key) {
                continue; // Its own answer comes.
            }
            let output = Output::Started {
                at: guest.started_at,
                container_id: guest.container_id.clone(),
            };
            self.observed.actions.entry(key).or_insert(Progress::Done {
                at: guest.started_at,
                output,
            });
        }
        self.observed.guest_host = Some(guest_host);
    }

    /// Goes back to what a checkpoint remembers, after a fault in between; facts stay facts.
    pub fn remember(&mut self, checkpoint: Checkpoint) {
        self.memory = adopted(checkpoint.memory);
        self.refresh(over(&self.memory));
    }

    /// The checkpoint is lost: the next turn makes one, whatever it decides.
    pub fn unsaved(&mut self) {
        self.saved = None;
    }

    /// Decides. Changes nothing.
    pub fn turn(&self, now: Timestamp) -> Turn {
        let step = lifecycle::step(&self.pod, &self.memory, &self.observed, now);
        let save = self.saved != Some(self.revision) || !step.memory.same_checkpoint(&self.memory);
        Turn {
            step: Box::new(step),
            pod: Arc::clone(&self.pod),
            revision: self.revision,
            save,
        }
    }

    /// Makes a turn so, whose checkpoint is safe.
    pub fn commit(&mut self, turn: Turn, now: Timestamp) -> Effects {
        let step = *turn.step;
        let terminal_before = self.view.terminal;
        let resized = self.memory.resize.allocated != step.memory.resize.allocated;
        let before = std::mem::replace(&mut self.memory, step.memory);
        self.saved = Some(turn.revision);
        let absorbed = step
            .forget
            .iter()
            .filter_map(|key| self.forget(key))
            .collect();
        let actions = step
            .actions
            .into_iter()
            .map(|action| (self.begin(&action.key, now), action))
            .collect();
        self.rest();
        let terminal = over(&self.memory);
        let ending = self.memory.terminating.as_ref().map(|end| end.cause);
        if self.memory.verdict != self.view.verdict
            || (terminal, ending) != (self.view.terminal, self.view.ending)
            || resized
        {
            self.refresh(terminal);
        }
        let same = self
            .published
            .as_ref()
            .is_some_and(|(old, released)| **old == step.status && *released == step.released);
        let status = (!same).then(|| Arc::new(step.status));
        if let Some(status) = &status {
            self.published = Some((Arc::clone(status), step.released));
        }
        let given = self.memory.resize.allocated.as_ref();
        let allocated = match given.map(|given| given.apply(&turn.pod)) {
            Some(Cow::Owned(pod)) => Arc::new(pod),
            _ => Arc::clone(&turn.pod),
        };
        Effects {
            pod: turn.pod,
            allocated,
            actions,
            events: step.events,
            status,
            released: step.released,
            wake_at: step.wake_at,
            absorbed,
            view_changed: resized
                || before.verdict != self.memory.verdict
                || terminal_before != self.view.terminal,
            before,
        }
    }

    fn begin(&mut self, key: &Key, now: Timestamp) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.void(key);
        self.tickets.push((key.clone(), ticket));
        self.observed
            .actions
            .insert(key.clone(), Progress::InFlight { since: now });
        ticket
    }

    /// With nothing under way, facts may stay as they are for days: they get no room to spare.
    fn rest(&mut self) {
        if self.tickets.is_empty() {
            let mut facts = std::mem::take(&mut self.observed.actions).into_tuple_vec();
            facts.shrink_to_fit();
            self.observed.actions = LiteMap::from_sorted_store_unchecked(facts);
        }
    }

    /// Drops a fact; of a Start, the run's exit too, which is told.
    fn forget(&mut self, key: &Key) -> Option<(String, u32)> {
        self.observed.actions.remove(key);
        self.void(key);
        let container = key.container.clone().filter(|_| key.kind == Kind::Start)?;
        let run = (container, key.attempt);
        self.observed.exits.remove(&run).map(|_| run)
    }

    fn void(&mut self, key: &Key) {
        self.tickets.retain(|(other, _)| other != key);
        if self.tickets.is_empty() {
            self.tickets = Vec::new(); // A pod at rest holds no memory for it.
        }
    }

    fn refresh(&mut self, terminal: bool) {
        let verdict = self.memory.verdict.as_ref();
        let verdict = verdict.or(self.view.verdict.as_ref()).cloned();
        let standing = standing(
            &self.memory,
            self.observed.sizing.as_ref(),
            verdict,
            terminal,
        );
        self.view = Arc::new(PodView::of(&self.pod, &self.costs, standing));
    }
}

fn standing(
    memory: &Memory,
    sizing: Option<&Sizing>,
    verdict: Option<Verdict>,
    terminal: bool,
) -> Standing {
    let allocated = memory.resize.allocated.clone();
    let granted = match sizing {
        Some(Sizing::Granted { allocation, .. }) => Some(allocation.clone()),
        _ => None,
    };
    Standing {
        verdict,
        terminal,
        ending: memory.terminating.as_ref().map(|end| end.cause),
        granted: granted.filter(|granted| allocated.as_ref() != Some(granted)),
        allocated,
    }
}

/// What no checkpoint has: that the pod was here before.
fn adopted(mut memory: Memory) -> Memory {
    memory.adopted = true;
    memory
}

/// Nothing of the pod runs or will: a terminal phase is withheld until then. It has to be plain from
/// memory alone, since the node may decide before a restored pod has taken its first turn.
fn over(memory: &Memory) -> bool {
    memory.phase.is_some_and(lifecycle::Phase::is_terminal)
}

/// A run that was answered for and lost before memory took it in: dropping the answer would start
/// it again, whatever the restart policy says. It stays, with an end. False of any other run.
fn lost_unseen(
    memory: &Memory,
    key: &Key,
    output: &Output,
    as_of: Timestamp,
    exits: &mut BTreeMap<(String, u32), Exit>,
) -> bool {
    let Some(name) = &key.container else {
        return false;
    };
    let unseen = memory.containers.get(name).is_some_and(|container| {
        matches!(container.run, Run::Starting { .. }) && container.attempt == key.attempt
    });
    let Output::Started { at, .. } = output else {
        return false;
    };
    if unseen {
        let exit = Exit {
            code: 137,
            kind: ExitKind::Lost,
            message: "The guest host died, and the container with it".to_owned(),
            started_at: *at,
            finished_at: as_of,
        };
        exits.entry((name.clone(), key.attempt)).or_insert(exit);
    }
    unseen
}

/// Without what nobody here reads and every watch event carries.
fn trimmed(mut pod: Arc<Pod>) -> Arc<Pod> {
    if pod.metadata.managed_fields.is_some() {
        Arc::make_mut(&mut pod).metadata.managed_fields = None;
    }
    pod
}

/// True if a checkpoint of the one does for the other: our own status patches come back as changes.
fn same(one: &Pod, other: &Pod) -> bool {
    let ObjectMeta {
        annotations,
        creation_timestamp,
        deletion_grace_period_seconds,
        deletion_timestamp,
        finalizers,
        generate_name,
        generation,
        labels,
        managed_fields: _,
        name,
        namespace,
        owner_references,
        resource_version: _,
        self_link,
        uid,
    } = &one.metadata;
    let rest = &other.metadata;
    *uid == rest.uid
        && *name == rest.name
        && *namespace == rest.namespace
        && *generation == rest.generation
        && *deletion_timestamp == rest.deletion_timestamp
        && *deletion_grace_period_seconds == rest.deletion_grace_period_seconds
        && *labels == rest.labels
        && *annotations == rest.annotations
        && *finalizers == rest.finalizers
        && *owner_references == rest.owner_references
        && *creation_timestamp == rest.creation_timestamp
        && *generate_name == rest.generate_name
        && *self_link == rest.self_link
        && one.spec == other.spec
}
