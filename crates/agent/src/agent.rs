//! The agent: takes in pods and facts, and keeps a worker for each pod.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use lifecycle::node::{Period, Policy};
use lifecycle::{Costs, Exit, NodeObject, Resources};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::ledger::{Ledger, News};
use crate::orphans::Orphans;
use crate::ports::{Guest, Ports};
use crate::slot::Slot;
use crate::store::{Checkpoints, Loaded, StoreError};
use crate::{node, orphans, worker};

/// What the agent is told of its node.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What pods may use together.
    pub allocatable: Resources,
    /// What one container costs, whatever it asks for.
    pub costs: Costs,
    /// The node's addresses, for `hostIP` and `hostIPs`.
    pub host_ips: Vec<IpAddr>,
    /// When pods and images have to go.
    pub policy: Policy,
}

/// Why a pod was not taken in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ApplyError {
    /// Nothing tells it from its namesakes.
    #[error("the pod {0:?} has no metadata.uid; give it one that no other pod ever had")]
    NoUid(String),
}

/// Runs pods. Dropping it is [`Agent::abandon`].
pub struct Agent {
    inner: Arc<Inner>,
}

/// What workers and the node's task share.
pub(crate) struct Inner {
    pub(crate) ports: Ports,
    pub(crate) config: Config,
    pub(crate) runtime: Handle,
    pub(crate) table: Mutex<Table>,
    /// Something that [`node`] looks at has changed.
    pub(crate) node: Notify,
    /// Wakes who waits for pods to be released.
    pub(crate) released: watch::Sender<()>,
    pub(crate) abandoned: AtomicBool,
}

/// The pods.
pub(crate) struct Table {
    /// By UID.
    pub(crate) slots: HashMap<Arc<str>, Arc<Slot>>,
    /// What decides for the node.
    task: Option<AbortHandle>,
    /// Restored pods that no source has named yet.
    unseen: std::collections::HashSet<String>,
    pub(crate) sources_ready: bool,
    guest_host: Option<u64>,
    pub(crate) orphans: Orphans,
    pub(crate) node: node::State,
}

impl Inner {
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn slot(&self, uid: &str) -> Option<Arc<Slot>> {
        self.table().slots.get(uid).cloned()
    }

    pub(crate) fn holds(&self, slot: &Arc<Slot>) -> bool {
        self.slot(&slot.uid)
            .is_some_and(|other| Arc::ptr_eq(slot, &other))
    }

    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        self.table().slots.values().cloned().collect()
    }

    /// Makes a pod's worker. `table` is the agent's own, locked.
    fn add(self: &Arc<Self>, table: &mut Table, uid: &str, mut ledger: Ledger) {
        ledger.host_ips(self.config.host_ips.clone());
        let held = table.orphans.of(uid);
        if let Some(guest_host) = table.guest_host {
            ledger.guests(guest_host, &[], Timestamp::MIN);
        }
        let slot = Arc::new(Slot::new(uid, ledger, held));
        table.slots.insert(Arc::clone(&slot.uid), Arc::clone(&slot));
        if held {
            orphans::reap(self, &mut table.orphans, uid);
        }
        let task = self
            .runtime
            .spawn(worker::supervise(Arc::clone(self), Arc::clone(&slot)));
        slot.lock().worker = Some(task.abort_handle());
        self.node.notify_one();
    }

    /// Takes a pod out of the table, if it still is over.
    pub(crate) fn remove(&self, slot: &Arc<Slot>) -> bool {
        let mut table = self.table();
        // Before a fault it may have been taken out already, and another have its place.
        let ours = table
            .slots
            .get(&slot.uid)
            .is_some_and(|other| Arc::ptr_eq(slot, other));
        let over = ours && slot.lock().ledger.over();
        if over {
            table.slots.remove(&slot.uid);
        }
        drop(table);
        if over {
            self.node.notify_one();
            self.released.send_replace(());
        }
        over
    }
}

impl Agent {
    /// Takes up the pods of all checkpoints. Call it within a tokio runtime; it returns once they
    /// are there, with what is wrong with the checkpoints that can't be used.
    ///
    /// Restored pods wait for [`Agent::guests_known`], and nothing is taken for gone before
    /// [`Agent::sources_ready`].
    ///
    /// # Errors
    /// The checkpoints can't be read at all.
    pub async fn start(
        config: Config,
        ports: Ports,
    ) -> Result<(Agent, Vec<StoreError>), StoreError> {
        let Loaded {
            checkpoints,
            damaged,
        } = load(&ports.checkpoints).await?;
        let table = Table {
            slots: HashMap::new(),
            task: None,
            unseen: checkpoints
                .iter()
                .filter_map(|checkpoint| checkpoint.pod.metadata.uid.clone())
                .collect(),
            sources_ready: false,
            guest_host: None,
            orphans: Orphans::default(),
            node: node::State::default(),
        };
        let inner = Arc::new(Inner {
            ports,
            config,
            runtime: Handle::current(),
            table: Mutex::new(table),
            node: Notify::new(),
            released: watch::Sender::new(()),
            abandoned: AtomicBool::new(false),
        });
        for error in &damaged {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "a checkpoint can't be used"
            );
        }
        for checkpoint in checkpoints {
            let uid = checkpoint.pod.metadata.uid.clone().unwrap_or_default();
            let ledger = Ledger::restore(checkpoint, inner.config.costs);
            inner.add(&mut inner.table(), &uid, ledger);
        }
        let task = inner.runtime.spawn(node::work(Arc::clone(&inner)));
        inner.table().task = Some(task.abort_handle());
        Ok((Agent { inner }, damaged))
    }

    /// A pod, new or changed, from its source. One that is as it was costs next to nothing.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub fn apply(&self, pod: impl Into<Arc<Pod>>) -> Result<(), ApplyError> {
        let pod: Arc<Pod> = pod.into();
        let uid = pod.metadata.uid.clone().filter(|uid| !uid.is_empty());
        let Some(uid) = uid else {
            return Err(ApplyError::NoUid(
                pod.metadata.name.clone().unwrap_or_default(),
            ));
        };
        let mut table = self.inner.table();
        table.unseen.remove(&uid);
        match table.slots.get(&*uid).map(Arc::clone) {
            Some(slot) => {
                // The table stays locked: else the pod could be forgotten in between.
                let mut news = News::default();
                slot.tell(|ledger| {
                    news = ledger.replace(pod);
                    news.any
                });
                if news.view {
                    self.inner.node.notify_one();
                }
            }
            None => self
                .inner
                .add(&mut table, &uid, Ledger::new(pod, self.inner.config.costs)),
        }
        Ok(())
    }

    /// The pod has left its source: it is ended, if need be, and then forgotten.
    pub fn gone(&self, uid: &str) {
        if let Some(slot) = self.inner.slot(uid) {
            slot.tell(|ledger| {
                ledger.gone();
                true
            });
        }
    }

    /// Every source has told all its pods once: restored pods that none of them named are gone,
    /// and the node's decisions begin.
    pub fn sources_ready(&self) {
        let unseen = {
            let mut table = self.inner.table();
            table.sources_ready = true;
            self.reap_orphans(&mut table);
            std::mem::take(&mut table.unseen)
        };
        for uid in unseen {
            self.gone(&uid);
        }
        self.inner.node.notify_one();
    }

    /// What the guest host of this number, which no other has, ran at `as_of`: to be told once at
    /// the start, after its exits that are still kept, and each time that a guest host has taken the
    /// place of another.
    pub fn guests_known(&self, guest_host: u64, running: Vec<Guest>, as_of: Timestamp) {
        let mut by_uid: HashMap<String, Vec<Guest>> = HashMap::new();
        for guest in running {
            by_uid.entry(guest.uid.clone()).or_default().push(guest);
        }
        let mut table = self.inner.table();
        table.guest_host = Some(guest_host);
        for slot in table.slots.values() {
            let guests = if slot.lock().held {
                None
            } else {
                by_uid.remove(&*slot.uid)
            };
            slot.tell(|ledger| {
                ledger.guests(guest_host, &guests.unwrap_or_default(), as_of);
                true
            });
        }
        table.orphans.found(by_uid);
        self.reap_orphans(&mut table);
    }

    /// A guest has ended. [`crate::Hands::absorbed`] tells when that need not be told again.
    pub fn guest_exited(&self, uid: &str, container: &str, attempt: u32, exit: Exit) {
        match self.inner.slot(uid) {
            None => self.inner.ports.hands.absorbed(uid, container, attempt),
            Some(slot) if slot.lock().held => {}
            Some(slot) => {
                slot.tell(|ledger| ledger.exited(container, attempt, exit));
            }
        }
    }

    /// The Node's object, as the API server has it now: admission goes by its labels and taints.
    pub fn node_seen(&self, object: NodeObject) {
        let mut table = self.inner.table();
        let same =
            |old: &NodeObject| (&old.labels, &old.taints) == (&object.labels, &object.taints);
        let waited_for = !table.node.memory.unfit_since.is_empty();
        let new = !table.node.object.as_ref().is_some_and(same) || waited_for;
        table.node.object = Some(object);
        if new {
            self.inner.node.notify_one();
        }
    }

    /// The node shuts down: pods end by their priority, the lowest first, each group within its time.
    pub fn shutdown(&self, periods: Vec<Period>) {
        self.inner.table().node.shutdown = Some(periods);
        self.inner.node.notify_one();
    }

    /// A pod by its UID, as last given; `None` if there is none here.
    pub fn pod(&self, uid: &str) -> Option<Arc<Pod>> {
        let slot = self.inner.slot(uid)?;
        let pod = Arc::clone(slot.lock().ledger.pod());
        Some(pod)
    }

    /// The pods, in no order. One that has left its source is among them until nothing is held of it.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        let pod = |slot: &Arc<Slot>| Arc::clone(slot.lock().ledger.pod());
        self.inner.slots().iter().map(pod).collect()
    }

    /// The pods with their statuses as last published, in no order.
    pub fn statuses(&self) -> Vec<(Arc<Pod>, PodStatus)> {
        let told = |slot: &Arc<Slot>| {
            let state = slot.lock();
            let status = state
                .ledger
                .published()
                .map(|(status, _)| status.clone())
                .unwrap_or_default();
            (Arc::clone(state.ledger.pod()), status)
        };
        self.inner.slots().iter().map(told).collect()
    }

    /// Returns once nothing runs and nothing is held, of any pod.
    pub async fn drained(&self) {
        let mut released = self.inner.released.subscribe();
        let all = || {
            self.inner
                .slots()
                .iter()
                .all(|slot| slot.lock().ledger.published().is_some_and(|(_, it)| it))
        };
        while !all() {
            if released.changed().await.is_err() {
                return;
            }
        }
    }

    /// Stops working, at once, and leaves the guests running for the next agent to adopt.
    pub fn abandon(&self) {
        self.inner.abandoned.store(true, Ordering::Release);
        let mut table = self.inner.table();
        table.task.take().iter().for_each(AbortHandle::abort);
        for slot in std::mem::take(&mut table.slots).values() {
            let mut state = slot.lock();
            state.worker.take().iter().for_each(AbortHandle::abort);
            for (_, running) in std::mem::take(&mut state.running) {
                running.abort();
            }
        }
    }

    /// Nothing is ended before both the guests and the pods that may own them are known.
    fn reap_orphans(&self, table: &mut Table) {
        if table.sources_ready && table.guest_host.is_some() {
            for uid in table.orphans.waiting() {
                orphans::reap(&self.inner, &mut table.orphans, &uid);
            }
        }
    }
}

/// Loads all checkpoints, where that may block if it does.
async fn load(checkpoints: &Arc<dyn Checkpoints>) -> Result<Loaded, StoreError> {
    if checkpoints.instant() {
        return checkpoints.load();
    }
    let checkpoints = Arc::clone(checkpoints);
    match tokio::task::spawn_blocking(move || checkpoints.load()).await {
        Ok(loaded) => loaded,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.abandon();
    }
}
