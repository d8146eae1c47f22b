//! The agent as it runs on the node: what `agent::Agent` and its workers do around
//! `agent::Ledger`, with virtual time in the place of tasks. It may die between any two happenings.
//!
//! Must not know: what is true of the machine; it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent::{Effects, Guest, Ledger, Ticket, Turn};
use jiff::Timestamp;
use lifecycle::node::{Measure, Period, Usage};
use lifecycle::{
    Action, Checkpoint, Costs, ExitKind, Failure, Key, Kind, NodeMemory, NodeStep, NodeView,
    Output, Resources, Retry, Verdict, What, node_step,
};

use crate::chance::Chance;
use crate::machine::{Effect, Limits, RunId, failure, later};
use crate::rules::{Broken, Shown, broken};
use crate::world::{Happening, World};
use crate::{pressure, resizing};

/// What each container costs.
const COSTS: Costs = Costs {
    mappings: 2,
    descriptors: 3,
};
/// Milliseconds in which the agent learns of an exit while nothing goes wrong.
const SOON: i64 = 10;
/// The least time between two turns without a fact, as the agent's worker has it.
const LEAST: i64 = 10;
/// So many turns in a row with no fact and no time between them are a circle.
const CIRCLE: u32 = 200;

/// The agent, and its disk.
#[derive(Default)]
pub(crate) struct Node {
    /// Counts agents; what an earlier one had under way is of no account.
    pub(crate) life: u64,
    up: bool,
    sources_ready: bool,
    guest_host: Option<u64>,
    pub(crate) workers: BTreeMap<u32, Worker>,
    /// Restored pods that the source has not named yet.
    unseen: BTreeSet<u32>,
    /// What is written survives.
    pub(crate) disk: BTreeMap<u32, Checkpoint>,
    pub(crate) save_failures: u32,
    pub(crate) shutdown: Option<Vec<Period>>,
    /// What was measured of the machine last, and when its calls were done.
    usage: Option<Arc<Usage>>,
    collected: Option<Timestamp>,
    measuring: bool,
    /// What the node's decisions remember; it goes with the agent.
    pub(crate) memory: NodeMemory,
    /// Starts that are under way and won't fail, by pod and number.
    starting: BTreeSet<(u32, u64)>,
    /// How often each action was asked for, over all lives: chance goes by that.
    asked: BTreeMap<(u32, Key), u32>,
}

/// A pod's worker.
pub(crate) struct Worker {
    pub(crate) ledger: Ledger,
    /// A turn that is not committed yet.
    pending: Option<Pending>,
    /// A fact came meanwhile.
    dirty: bool,
    /// A turn will be taken soon.
    due: bool,
    /// Only the latest turn that was set is taken.
    stamp: u64,
    wake_at: Option<Timestamp>,
    /// What is in flight; of a Stop, when its grace ends.
    flying: BTreeMap<Key, Option<Timestamp>>,
    /// What this agent has asked for and was answered.
    answered: BTreeSet<Key>,
    /// Turns since the last fact that came without time passing.
    circle: u32,
}

/// A turn whose checkpoint is being written.
struct Pending {
    turn: Turn,
    /// When it was taken: its checkpoint may have been long on its way.
    taken: Timestamp,
    checkpoint: Option<Checkpoint>,
    /// It is on disk.
    written: bool,
    /// The pod had left its source when the turn was taken.
    gone: bool,
}

/// An action that is being executed.
pub(crate) struct Exec {
    life: u64,
    id: u32,
    action: Action,
    ticket: Ticket,
    /// What a guest that it starts is to have.
    limits: Limits,
    result: Option<Result<Output, Failure>>,
    /// It is to fail.
    fails: Option<Failure>,
    /// Milliseconds from its effect to its answer, and to a second one.
    answer: (i64, Option<i64>),
}

impl Worker {
    fn new(ledger: Ledger) -> Worker {
        Worker {
            ledger,
            pending: None,
            dirty: false,
            due: false,
            stamp: 0,
            wake_at: None,
            flying: BTreeMap::new(),
            answered: BTreeSet::new(),
            circle: 0,
        }
    }

    /// True if something is under way that may change what it does.
    pub(crate) fn is_busy(&self) -> bool {
        self.due || !self.flying.is_empty() || self.pending.is_some()
    }

    /// True if a time, an answer or a checkpoint is to come.
    pub(crate) fn waits(&self) -> bool {
        self.due || self.wake_at.is_some() || !self.flying.is_empty() || self.pending.is_some()
    }

    pub(crate) fn describe(&self) -> String {
        let memory = self.ledger.memory();
        let runs = memory
            .containers
            .iter()
            .map(|(name, one)| format!("{name} {:?}", one.run));
        format!(
            "{:?}, address {:?}, folders {:?}, terminating {:?}, in flight {:?}, wake {:?}",
            runs.collect::<Vec<_>>(),
            memory.address.state,
            memory.folders.state,
            memory.terminating,
            self.flying.keys().collect::<Vec<_>>(),
            self.wake_at,
        )
    }
}

impl Node {
    pub(crate) fn idle(&self) -> bool {
        self.workers.is_empty()
    }

    /// What is still here of a pod.
    pub(crate) fn describe(&self, id: u32) -> Option<String> {
        let stored = self.disk.get(&id).map(|_| "a checkpoint".to_owned());
        self.workers.get(&id).map(Worker::describe).or(stored)
    }
}

impl World<'_> {
    fn chance(&self, question: &'static str) -> Chance {
        Chance::of(self.scenario.seed, (question, self.seq))
    }

    fn host_ips() -> Vec<std::net::IpAddr> {
        vec![[192, 0, 2, 1].into()]
    }

    /// A fact came: a turn is due.
    fn tell(&mut self, id: u32, new: bool) {
        let soon = self.chance("turn").between(0, 4);
        let life = self.node.life;
        let Some(worker) = self.node.workers.get_mut(&id).filter(|_| new) else {
            return;
        };
        worker.circle = 0;
        if worker.pending.is_some() {
            worker.dirty = true;
            return;
        }
        worker.due = true;
        worker.stamp += 1;
        let stamp = worker.stamp;
        self.at(soon, Happening::Turn { life, id, stamp });
    }

    pub(crate) fn turn(&mut self, id: u32, stamp: u64) -> Result<(), Broken> {
        self.about = Some(id);
        let mut chance = self.chance("save");
        let (now, life) = (self.now, self.node.life);
        let Some(worker) = self
            .node
            .workers
            .get_mut(&id)
            .filter(|one| one.stamp == stamp)
        else {
            return Ok(());
        };
        worker.due = false;
        worker.circle += 1;
        if worker.circle > CIRCLE {
            return broken("nothing goes round in circles", worker.describe());
        }
        if chance.percent(6) {
            replays(&worker.ledger, now)?;
        }
        let turn = worker.ledger.turn(now);
        let checkpoint = turn.checkpoint();
        let saves = checkpoint.is_some();
        let gone = worker.ledger.observed().gone;
        worker.pending = Some(Pending {
            taken: now,
            turn,
            checkpoint,
            written: false,
            gone,
        });
        if !saves {
            return self.commit(id);
        }
        let slow = chance.pick([0, 0, 1, 30], 0);
        self.at(slow, Happening::Written { life, id });
        Ok(())
    }

    /// The checkpoint is on disk, or could not be written.
    pub(crate) fn written(&mut self, id: u32) -> Result<(), Broken> {
        let life = self.node.life;
        let Some(worker) = self.node.workers.get_mut(&id) else {
            return Ok(());
        };
        if self.node.save_failures > 0 {
            self.node.save_failures -= 1;
            worker.pending = None;
            worker.dirty = false;
            worker.due = true;
            worker.stamp += 1;
            let stamp = worker.stamp;
            self.at(1000, Happening::Turn { life, id, stamp });
            self.note(|| format!("agent: the checkpoint of pod {id} can't be written"));
            return Ok(());
        }
        if let Some(pending) = &mut worker.pending {
            if let Some(checkpoint) = pending.checkpoint.take() {
                self.node.disk.insert(id, checkpoint);
            }
            pending.written = true;
        }
        self.at(0, Happening::Commit { life, id });
        Ok(())
    }

    pub(crate) fn commit(&mut self, id: u32) -> Result<(), Broken> {
        self.about = Some(id);
        let now = self.now;
        let Some((effects, taken)) = self.decided(id)? else {
            return Ok(());
        };
        let Effects {
            allocated,
            actions,
            status,
            released,
            wake_at,
            absorbed,
            view_changed,
            ..
        } = effects;
        for (ticket, action) in actions {
            let name = action.key.container.clone().unwrap_or_default();
            let limits = resizing::limits(&allocated, &name);
            self.begin(id, (ticket, limits), (action, taken))?;
        }
        if view_changed {
            self.judge_soon();
        }
        for (container, attempt) in absorbed {
            self.machine.exits.remove(&(id, container, attempt));
        }
        if released {
            self.released(id)?;
        }
        if let Some(status) = status {
            let starting = self.starting(id);
            let Some(worker) = self.node.workers.get(&id) else {
                return Ok(());
            };
            let witness = self.witnesses.entry(id).or_default();
            witness.status(&self.machine, (id, worker.ledger.pod()), &status, starting)?;
            self.publish(id, status, released);
        }
        let life = self.node.life;
        let Some(worker) = self.node.workers.get_mut(&id) else {
            return Ok(());
        };
        if worker.ledger.over() {
            return self.forget(id);
        }
        worker.wake_at = wake_at;
        worker.stamp += 1;
        let stamp = worker.stamp;
        worker.due = worker.dirty;
        if std::mem::take(&mut worker.dirty) {
            self.at(0, Happening::Turn { life, id, stamp });
        } else if let Some(at) = wake_at {
            let least = later(now, LEAST);
            if at > later(now, 1000) {
                worker.circle = 0;
            }
            self.at_time(at.max(least), Happening::Turn { life, id, stamp });
        }
        Ok(())
    }

    /// Commits the turn at hand and holds it to the rules.
    fn decided(&mut self, id: u32) -> Result<Option<(Effects, Timestamp)>, Broken> {
        let now = self.now;
        let Some(worker) = self.node.workers.get_mut(&id) else {
            return Ok(None);
        };
        let Some(pending) = worker.pending.take() else {
            return Ok(None);
        };
        let taken = pending.taken;
        let effects = worker.ledger.commit(pending.turn, now);
        self.coverage
            .note(&effects.before, worker.ledger.memory())?;
        let shown = Shown {
            id,
            pod: &effects.allocated,
            gone: pending.gone,
            memory: worker.ledger.memory(),
            actions: &effects.actions,
            now: taken,
        };
        let witness = self.witnesses.entry(id).or_default();
        witness.step(&self.machine, &shown)?;
        Ok(Some((effects, taken)))
    }

    /// An action that was decided at `taken` is handed to the hands.
    fn begin(
        &mut self,
        id: u32,
        (ticket, limits): (Ticket, Limits),
        (action, taken): (Action, Timestamp),
    ) -> Result<(), Broken> {
        let (life, seed) = (self.node.life, self.scenario.seed);
        self.note(|| format!("pod {id}: asks {} {:?}", words(&action.key), action.what));
        let Some(worker) = self.node.workers.get_mut(&id) else {
            return Ok(());
        };
        let key = &action.key;
        // A guest that was given less time keeps to that, however late another is told.
        let end = match action.what {
            What::Stop { grace_seconds, .. } => Some(later(taken, i64::from(grace_seconds) * 1000)),
            _ => None,
        };
        let again = matches!(key.kind, Kind::Stop | Kind::Unmount | Kind::Release);
        match worker.flying.get(key) {
            Some(Some(known)) if end.is_some_and(|end| end < *known) => {}
            Some(_) => return broken("what is in flight is not asked again", words(key)),
            None if !again && worker.answered.contains(key) => {
                return broken("no attempt is used twice", words(key));
            }
            None => {}
        }
        worker.flying.insert(key.clone(), end);
        let times = self.node.asked.entry((id, key.clone())).or_default();
        *times += 1;
        let mut chance = Chance::of(seed, ("action", id, key, *times));
        let trouble = !self.troubled();
        let percent = if trouble { 0 } else { self.scenario.percent };
        let fails = chance.percent(percent).then(|| failure(key, &mut chance));
        let slow = if trouble { 500 } else { 20_000 };
        let most = chance.pick([1, 10, 10, 300, slow], 10);
        let effect = chance.between(0, most);
        let most = chance.pick([1, 10, 10, 300, slow / 4], 10);
        let answer = chance.between(0, most);
        let twice = chance.percent(percent).then(|| chance.between(0, 5000));
        self.seq += 1;
        if key.kind == Kind::Start && fails.is_none() {
            self.node.starting.insert((id, self.seq));
        }
        let exec = Exec {
            life,
            id,
            action,
            ticket,
            limits,
            result: None,
            fails,
            answer: (answer, twice),
        };
        let number = self.seq;
        self.execs.insert(number, exec);
        self.at(effect, Happening::Effect(number));
        Ok(())
    }

    /// The hands do it.
    pub(crate) fn effect(&mut self, number: u64) -> Result<(), Broken> {
        let (now, seed) = (self.now, self.scenario.seed);
        let Some(exec) = self
            .execs
            .get_mut(&number)
            .filter(|exec| exec.result.is_none())
        else {
            return Ok(());
        };
        let (id, answer) = (exec.id, exec.answer);
        self.node.starting.remove(&(id, number));
        self.about = Some(id);
        let fails = exec.fails.take();
        let effect = match fails.filter(|_| self.machine.fail(id, &exec.action.key)) {
            Some(failure) => {
                let witness = self.witnesses.entry(id).or_default();
                witness.hopeless |= failure.retry == Retry::Never;
                Effect::Now(Err(failure))
            }
            None => {
                let what = (&exec.action.key, &exec.action.what);
                let with = (exec.limits, now);
                self.machine.effect(seed, (id, number), what, with)?
            }
        };
        let container = exec.action.key.container.clone().unwrap_or_default();
        let run = (id, container, exec.action.key.attempt);
        let line = words(&exec.action.key);
        if let Effect::Now(result) = effect {
            let went = if result.is_ok() { "is done" } else { "fails" };
            exec.result = Some(result);
            self.at(answer.0, Happening::Answer(number));
            if let Some(more) = answer.1 {
                self.at(answer.0 + more, Happening::Answer(number));
            }
            self.note(|| format!("hands: pod {id} {line} {went}"));
        }
        self.end_due(&run);
        Ok(())
    }

    /// Sets the end of a guest that has one.
    fn end_due(&mut self, run: &RunId) {
        if let Some((at, ..)) = self.machine.guests.get(run).and_then(|guest| guest.end) {
            self.at_time(at, Happening::GuestEnds(run.clone()));
        }
    }

    pub(crate) fn answer(&mut self, number: u64) -> Result<(), Broken> {
        let Some(exec) = self
            .execs
            .get(&number)
            .filter(|one| one.life == self.node.life)
        else {
            return Ok(());
        };
        let (id, key, ticket) = (exec.id, exec.action.key.clone(), exec.ticket);
        let Some(result) = exec.result.clone() else {
            return Ok(());
        };
        self.about = Some(id);
        let now = self.now;
        let Some(worker) = self.node.workers.get_mut(&id) else {
            return Ok(());
        };
        let new = worker.ledger.answer(&key, ticket, result, now);
        if new {
            worker.flying.remove(&key);
            worker.answered.insert(key.clone());
            self.note(|| format!("pod {id}: {} is answered", words(&key)));
        }
        self.tell(id, new);
        Ok(())
    }

    pub(crate) fn guest_ends(&mut self, run: &RunId) -> Result<(), Broken> {
        let Some(waiters) = self.machine.end(run, self.now) else {
            return Ok(());
        };
        self.note(|| format!("host: pod {} {} {} has ended", run.0, run.1, run.2));
        let mut chance = self.chance("exit");
        let most = if self.troubled() {
            chance.pick([1, 1, 300, 8_000], 1)
        } else {
            SOON
        };
        let told = chance.between(0, most);
        let life = self.node.life;
        self.at(
            told,
            Happening::ExitTold {
                life,
                run: run.clone(),
            },
        );
        self.stops_done(waiters);
        Ok(())
    }

    fn stops_done(&mut self, waiters: Vec<u64>) {
        for number in waiters {
            if let Some(exec) = self.execs.get_mut(&number) {
                exec.result = Some(Ok(Output::Nothing));
                let delay = exec.answer.0;
                self.at(delay, Happening::Answer(number));
            }
        }
    }

    pub(crate) fn exit_told(&mut self, run: &RunId) -> Result<(), Broken> {
        let known = self.machine.exits.get(run).filter(|_| self.node.up);
        let Some(exit) = known.cloned() else {
            return Ok(());
        };
        let (id, container, attempt) = run;
        let Some(worker) = self.node.workers.get_mut(id) else {
            self.machine.exits.remove(run);
            return Ok(());
        };
        let new = worker.ledger.exited(container, *attempt, exit);
        self.tell(*id, new);
        Ok(())
    }

    /// A guest of the pod has ended, and the agent is about to be told.
    pub(crate) fn tells_soon(&self, id: u32) -> bool {
        let mut exits = self.machine.exits.iter();
        exits.any(|(run, exit)| run.0 == id && later(exit.finished_at, SOON) >= self.now)
    }

    /// Nothing may be held of a pod that is released.
    fn released(&mut self, id: u32) -> Result<(), Broken> {
        if let Some(left) = self.machine.left(id) {
            return broken("nothing leaks", format!("{left} of a pod that is released"));
        }
        let flying = self
            .node
            .workers
            .get(&id)
            .and_then(|one| one.flying.keys().next());
        match flying {
            Some(key) if matches!(key.kind, Kind::Mount | Kind::Address | Kind::Start) => broken(
                "nothing leaks",
                format!("{} is in flight at the release", words(key)),
            ),
            _ => Ok(()),
        }
    }

    /// True while a guest may come from a Start that is under way.
    fn starting(&self, id: u32) -> bool {
        let mut own = self.node.starting.range((id, 0)..=(id, u64::MAX));
        own.next().is_some()
    }

    fn forget(&mut self, id: u32) -> Result<(), Broken> {
        self.note(|| format!("agent: pod {id} is forgotten"));
        self.released(id)?;
        self.node.workers.remove(&id);
        self.node.disk.remove(&id);
        self.api.wanted.remove(&id);
        self.machine.exits.retain(|run, _| run.0 != id);
        self.judge_soon();
        Ok(())
    }

    /// The agent dies: what it was about to do is not done, what it asked of others may be.
    pub(crate) fn crash(&mut self, away: i64) -> Result<(), Broken> {
        if !self.node.up {
            return Ok(());
        }
        let mut chance = self.chance("crash");
        // A checkpoint that was written stands, though none of its effects came about.
        let written: Vec<u32> = self
            .node
            .workers
            .iter()
            .filter(|(_, worker)| worker.pending.as_ref().is_some_and(|one| one.written))
            .map(|(id, _)| *id)
            .collect();
        for id in written {
            self.decided(id)?;
        }
        let sent: Vec<u64> = self
            .execs
            .iter()
            .filter(|(_, exec)| exec.life == self.node.life && exec.result.is_none())
            .map(|(number, _)| *number)
            .collect();
        for number in sent {
            if chance.percent(50) {
                self.effect(number)?;
            }
        }
        let patches: Vec<u32> = self.api.wanted.keys().copied().collect();
        for id in patches {
            if chance.percent(50) {
                self.about = Some(id);
                self.apply(id)?;
            }
        }
        self.execs.clear();
        self.node.starting.clear();
        // A host may drop a Stop with the connection that asked for it.
        for guest in self.machine.guests.values_mut() {
            let draining = guest
                .end
                .is_some_and(|(_, _, kind)| kind == ExitKind::Stopped);
            if draining && chance.percent(50) {
                guest.end = None;
            }
        }
        self.api.wanted.clear();
        self.node.life += 1;
        self.node.up = false;
        self.node.sources_ready = false;
        self.node.guest_host = None;
        self.node.workers.clear();
        self.node.memory = NodeMemory::default();
        self.node.usage = None;
        self.node.collected = None;
        self.node.measuring = false;
        self.node.unseen.clear();
        self.at(away, Happening::AgentUp);
        Ok(())
    }

    pub(crate) fn agent_up(&mut self) -> Result<(), Broken> {
        self.note(|| "agent: begins".to_owned());
        self.node.up = true;
        for (id, checkpoint) in self.node.disk.clone() {
            self.about = Some(id);
            let bytes = checkpoint.encode().unwrap_or_default();
            let back = Checkpoint::decode(&bytes).ok();
            if back.as_ref() != Some(&checkpoint) {
                return broken("a checkpoint reads as it was written", format!("{back:?}"));
            }
            self.node.unseen.insert(id);
            self.add(id, Ledger::restore(checkpoint, COSTS));
        }
        let mut chance = self.chance("up");
        let life = self.node.life;
        self.at(chance.between(0, 500), Happening::HostListed { life });
        self.at(chance.between(0, 500), Happening::SourcesListed { life });
        Ok(())
    }

    fn add(&mut self, id: u32, mut ledger: Ledger) {
        ledger.host_ips(Self::host_ips());
        if let Some(guest_host) = self.node.guest_host {
            ledger.guests(guest_host, &[], Timestamp::MIN);
        }
        self.node.workers.insert(id, Worker::new(ledger));
        self.tell(id, true);
        self.judge_soon();
    }

    /// The guest host tells which exits it keeps, and then what it runs.
    pub(crate) fn host_listed(&mut self) -> Result<(), Broken> {
        let kept: Vec<RunId> = self.machine.exits.keys().cloned().collect();
        for run in kept {
            self.exit_told(&run)?;
        }
        let guests = self.machine.guests.iter();
        let list = guests.map(|((id, container, attempt), guest)| Guest {
            uid: format!("uid-{id}"),
            container: container.clone(),
            attempt: *attempt,
            started_at: guest.started_at,
            container_id: guest.container_id.clone(),
        });
        let list = list.collect();
        let delay = self.chance("list").between(0, 20);
        let told = Happening::GuestsTold {
            life: self.node.life,
            guest_host: self.machine.guest_host,
            list,
            as_of: self.now,
        };
        self.at(delay, told);
        Ok(())
    }

    pub(crate) fn guests_told(
        &mut self,
        guest_host: u64,
        list: &[Guest],
        as_of: Timestamp,
    ) -> Result<(), Broken> {
        self.note(|| format!("agent: knows {} guests", list.len()));
        self.node.guest_host = Some(guest_host);
        let ids: Vec<u32> = self.node.workers.keys().copied().collect();
        for id in &ids {
            let uid = format!("uid-{id}");
            let own: Vec<Guest> = list.iter().filter(|one| one.uid == uid).cloned().collect();
            if let Some(worker) = self.node.workers.get_mut(id) {
                worker.ledger.guests(guest_host, &own, as_of);
            }
            self.tell(*id, true);
        }
        let owned = |guest: &&Guest| ids.iter().any(|id| guest.uid == format!("uid-{id}"));
        match list.iter().find(|guest| !owned(guest)) {
            Some(guest) => broken("no guest is nobody's", format!("{guest:?}")),
            None => Ok(()),
        }
    }

    pub(crate) fn sources_listed(&mut self) -> Result<(), Broken> {
        if let Some(until) = self.api.down_until.filter(|until| *until > self.now) {
            let life = self.node.life;
            self.at_time(until, Happening::SourcesListed { life });
            return Ok(());
        }
        self.note(|| "agent: knows all pods".to_owned());
        self.node.sources_ready = true;
        let ids: Vec<u32> = self.api.objects.keys().copied().collect();
        for id in ids {
            self.watch(id)?;
        }
        for id in std::mem::take(&mut self.node.unseen) {
            self.gone(id);
        }
        self.judge_soon();
        Ok(())
    }

    /// The watch tells of a pod as it is now.
    pub(crate) fn watch(&mut self, id: u32) -> Result<(), Broken> {
        if !self.node.sources_ready {
            return Ok(()); // The list will tell.
        }
        if let Some(until) = self.api.down_until.filter(|until| *until > self.now) {
            let life = self.node.life;
            self.at_time(until, Happening::Watch { life, id });
            return Ok(());
        }
        self.node.unseen.remove(&id);
        let Some(pod) = self.api.objects.get(&id).map(Arc::clone) else {
            self.gone(id);
            return Ok(());
        };
        match self.node.workers.get_mut(&id) {
            None => self.add(id, Ledger::new(pod, COSTS)),
            Some(worker) => {
                let news = worker.ledger.replace(pod);
                self.tell(id, news.any);
                if news.view {
                    self.judge_soon();
                }
            }
        }
        self.push(id);
        Ok(())
    }

    fn gone(&mut self, id: u32) {
        if let Some(worker) = self.node.workers.get_mut(&id) {
            worker.ledger.gone();
            self.tell(id, true);
        }
    }

    pub(crate) fn judge_soon(&mut self) {
        let delay = self.chance("judge").between(0, 5);
        let life = self.node.life;
        self.at(delay, Happening::Judge { life });
    }

    /// The node's task decides over all pods.
    pub(crate) fn judge(&mut self) -> Result<(), Broken> {
        if !self.node.sources_ready {
            return Ok(());
        }
        let pods = self
            .node
            .workers
            .values()
            .map(|one| one.ledger.view().clone())
            .collect();
        let view = NodeView {
            allocatable: self.scenario.allocatable,
            pods,
            shutdown: self.node.shutdown.clone(),
            object: None,
            policy: self.scenario.policy.clone(),
            usage: self.node.usage.clone(),
            collected: self.node.collected,
            memory: self.node.memory.clone(),
        };
        let mut step = node_step(&view, self.now);
        self.decided_of_node(&view, &mut step)?;
        let ids: Vec<u32> = self.node.workers.keys().copied().collect();
        for id in ids {
            let uid = format!("uid-{id}");
            let (sizing, verdict) = (step.sizings.remove(&uid), step.verdicts.remove(&uid));
            let Some(worker) = self.node.workers.get_mut(&id) else {
                continue;
            };
            let sized = sizing.is_some_and(|sizing| worker.ledger.sized(sizing));
            let new = verdict.is_some_and(|verdict| worker.ledger.judged(verdict)) || sized;
            self.tell(id, new);
        }
        self.overcommitted()
    }

    /// What the node's step asks for beside its verdicts.
    fn decided_of_node(&mut self, view: &NodeView, step: &mut NodeStep) -> Result<(), Broken> {
        pressure::held(view, step, self.now)?;
        self.node.memory = std::mem::take(&mut step.memory);
        let life = self.node.life;
        if let Some(at) = step.wake_at {
            self.at_time(at, Happening::Judge { life });
        }
        for call in &step.calls {
            self.note(|| format!("node: {call:?}"));
            let done = self.chance("call").between(1, 3000);
            self.at(done, Happening::Collected { life });
        }
        if let Some(measure) = step.measure.take().filter(|_| !self.node.measuring) {
            self.node.measuring = true;
            self.at_time(measure.at, Happening::Measure { life, measure });
        }
        Ok(())
    }

    /// What was to be collected is.
    pub(crate) fn collected(&mut self) {
        self.machine.collected();
        self.node.collected = Some(self.now);
        self.judge_soon();
    }

    /// The machine is measured; the answer comes later.
    pub(crate) fn measure(&mut self, measure: &Measure) {
        let seed = self.scenario.seed;
        let ids: Vec<u32> = self.node.workers.keys().copied().collect();
        let usage = self.machine.usage(seed, &ids, measure, self.now);
        let life = self.node.life;
        let late = self.chance("measured").pick([1, 10, 2000], 1);
        self.at(late, Happening::Measured { life, usage });
    }

    pub(crate) fn measured(&mut self, usage: Usage) -> Result<(), Broken> {
        self.node.measuring = false;
        self.node.usage = Some(Arc::new(usage));
        self.judge()
    }

    /// What is admitted fits.
    fn overcommitted(&self) -> Result<(), Broken> {
        let mut used = Resources::default();
        let mut ports = BTreeSet::new();
        for worker in self.node.workers.values() {
            let view = worker.ledger.view();
            let admitted = worker.ledger.memory().verdict == Some(Verdict::Admitted);
            if !admitted || view.terminal {
                continue;
            }
            let given = worker.ledger.memory().resize.allocated.clone();
            let given = given.unwrap_or_default();
            let held = Resources::requested(&given.apply(&view.pod), &COSTS);
            used = used.plus(held);
            let spec = view.pod.spec.iter();
            let all = spec
                .flat_map(|spec| &spec.containers)
                .flat_map(|one| &one.ports);
            for port in all.flatten().filter_map(|port| port.host_port) {
                if !ports.insert(port) {
                    return broken("a port of the node is one pod's", port.to_string());
                }
            }
        }
        let all = &self.scenario.allocatable;
        if used.cpu_milli > all.cpu_milli || used.pods > all.pods {
            return broken("what is admitted fits", format!("{used:?} of {all:?}"));
        }
        Ok(())
    }

    pub(crate) fn evict(&mut self, id: u32, verdict: Verdict) {
        if let Some(worker) = self.node.workers.get_mut(&id) {
            let new = worker.ledger.judged(verdict);
            self.tell(id, new);
        }
    }

    /// The guest host dies. What it was asked comes back as an error; then another takes its place.
    pub(crate) fn host_death(&mut self) -> Result<(), Broken> {
        let mut chance = self.chance("host");
        let waiters = self.machine.die();
        self.stops_done(waiters);
        let told: Vec<u64> = self
            .execs
            .iter()
            .filter(|(_, one)| {
                one.action.key.kind == Kind::Start && matches!(one.result, Some(Ok(_)))
            })
            .map(|(number, _)| *number)
            .collect();
        for number in told {
            // The answer was on its way before the connection broke, or never was sent.
            if chance.percent(50)
                && let Some(exec) = self.execs.get_mut(&number)
            {
                exec.result = Some(Err(Failure {
                    reason: "RunContainerError".to_owned(),
                    message: "the guest host is gone".to_owned(),
                    retry: Retry::Backoff,
                }));
            }
            self.answer(number)?;
        }
        if self.node.up {
            let life = self.node.life;
            self.at(chance.between(1, 500), Happening::HostListed { life });
        }
        Ok(())
    }
}

/// A checkpoint and its replay give the same plan.
fn replays(ledger: &Ledger, now: Timestamp) -> Result<(), Broken> {
    let checkpoint = Checkpoint::new(Arc::clone(ledger.pod()), ledger.memory().clone());
    let bytes = checkpoint.encode().unwrap_or_default();
    let Ok(mut back) = Checkpoint::decode(&bytes) else {
        return broken("a checkpoint reads as it was written", "it does not read");
    };
    back.memory.take_counts(ledger.memory());
    let step = lifecycle::step(ledger.pod(), ledger.memory(), ledger.observed(), now);
    let again = lifecycle::step(&back.pod, &back.memory, ledger.observed(), now);
    if step != again {
        return broken(
            "checkpoint and replay give the same plan",
            format!("{again:?}"),
        );
    }
    Ok(())
}

fn words(key: &Key) -> String {
    let container = key.container.as_deref().unwrap_or("(pod)");
    format!("{:?} {container} {}", key.kind, key.attempt)
}
