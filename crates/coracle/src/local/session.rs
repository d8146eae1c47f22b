//! A session: the agent, the hands and the guest host in this process, for pods without a cluster.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent::{Agent, Clock, Config, Ports, TokioClock, Volatile};
use anyhow::{Context, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lifecycle::node::Policy;
use lifecycle::{Costs, Resources};
use runtime::{Host, Local, LocalConfig, Network};

use super::alive::{self, Alive};
use super::board::{Board, Known, ToBoard};
use super::control;
use super::keep::{self, Written};
use super::names::{self, Owner};
use crate::dirs::Dirs;
use crate::hands::{Hands, Place, PodNet, Streams};
use crate::machine::{Machine, ToLog};
use crate::objects::{NoObjects, Objects};
use crate::progress::Reporter;
use crate::publish::PortMapping;
use crate::{facts, program};

/// How a session is to be.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The root folder: images, code, logs, records.
    pub(crate) root: PathBuf,
    /// Names the session; with one pod its UID.
    pub(crate) id: String,
    /// What the guests get as standard streams.
    pub(crate) streams: Streams,
    /// Records and logs stay until `coracle rm`; else they go with the session.
    pub(crate) kept: bool,
    /// No progress of pulls and compiles on standard error.
    pub(crate) quiet: bool,
    /// What can't begin is tried again for ever, as on a node. Else it ends, and is the session's error.
    pub(crate) patient: bool,
    /// The session goes on when all its pods have ended, until a signal.
    pub(crate) lasting: bool,
    /// Threads that guests run on; `None` is one a core.
    pub(crate) workers: Option<usize>,
    /// The command line that began it, for those who ask.
    pub(crate) command: Vec<String>,
    /// Where ConfigMaps and Secrets come from.
    pub(crate) objects: Arc<dyn Objects>,
}

impl Options {
    /// A session whose guests have logs, which is kept, and goes on until its pods have ended.
    pub(crate) fn new(root: PathBuf) -> Options {
        Options {
            root,
            id: program::uid(),
            streams: Streams::Logs,
            kept: true,
            quiet: false,
            patient: true,
            lasting: false,
            workers: None,
            command: std::env::args().collect(),
            objects: Arc::new(NoObjects),
        }
    }
}

/// A running session. A copy is the same session.
#[derive(Clone)]
pub(crate) struct Session {
    pub(super) inner: Arc<Inner>,
}

/// What a session holds. The order is that in which it is let go of.
pub(super) struct Inner {
    pub(super) agent: Agent,
    pub(super) hands: Arc<Hands>,
    pub(super) board: Arc<Board>,
    pub(super) options: Options,
    pub(super) dirs: Dirs,
    pub(super) written: Written,
    /// Pods that were given up because they can't begin, and why.
    given_up: Mutex<BTreeMap<String, GivenUp>>,
    /// Names were taken.
    named: AtomicBool,
    /// All pods were stopped.
    pub(super) ending: AtomicBool,
    pub(super) alive: Alive,
}

/// A pod that could not begin.
#[derive(Clone, Debug)]
pub(super) struct GivenUp {
    pub(super) name: String,
    pub(super) why: String,
}

/// A pod's `namespace` and `name`.
pub(crate) fn name_of(pod: &Pod) -> (&str, &str) {
    let meta = &pod.metadata;
    (
        meta.namespace.as_deref().unwrap_or("default"),
        meta.name.as_deref().unwrap_or_default(),
    )
}

impl Session {
    /// A session without pods.
    ///
    /// # Errors
    /// When its folder, the store, the compiler or the guest host can't be had.
    pub(crate) async fn open(options: Options) -> anyhow::Result<Session> {
        let dirs = Dirs::open(&options.root)?;
        alive::sweep(&dirs);
        let alive = Alive::take(&dirs, &options.id)?;
        let config = LocalConfig {
            workers: options.workers,
            room: Some((u64::MAX, u64::MAX)),
        };
        let host = Arc::new(Host::Local(Local::new(config)?));
        let host_ips = vec![Network::GATEWAY];
        let place = Place {
            pod_net: PodNet::Local(Arc::default()),
            host_ips: host_ips.clone(),
            streams: options.streams,
            local_images: true,
            auth: image::Auth::of_environment(),
            objects: options.objects.clone(),
            allocatable: program::machine(dirs.root()),
            dns: crate::dns::Dns::of_machine(),
        };
        let hands = Arc::new(Hands::new(
            dirs.clone(),
            image::Store::open(&dirs.images())?,
            program::compiler(&dirs)?,
            host.clone(),
            place,
            Reporter::new(!options.quiet),
        ));
        let board = Arc::new(Board::default());
        let clock = Arc::new(TokioClock::default());
        let machine = Machine::new(hands.clone(), dirs.clone(), None, Box::new(ToLog));
        let ports = Ports {
            machine: Arc::new(machine),
            hands: hands.clone(),
            outlet: Arc::new(ToBoard(board.clone())),
            checkpoints: Arc::new(Volatile),
            clock: clock.clone(),
        };
        let config = Config {
            allocatable: whole_machine(),
            costs: Costs::default(),
            host_ips,
            // A laptop that runs short of something is its owner's to help; pods have their own limits.
            policy: Policy::default(),
        };
        let (agent, _) = Agent::start(config, ports).await?;
        agent.guests_known(host.instance(), Vec::new(), clock.now());
        agent.sources_ready();
        let session = Session {
            inner: Arc::new(Inner {
                agent,
                hands,
                board,
                options,
                dirs,
                written: Written::default(),
                given_up: Mutex::default(),
                named: AtomicBool::new(false),
                ending: AtomicBool::new(false),
                alive,
            }),
        };
        session.follow(&host);
        control::listen(&session.inner)?;
        if session.inner.options.kept {
            tokio::spawn(keep::keep(Arc::downgrade(&session.inner)));
        }
        Ok(session)
    }

    /// Tells the agent how guests end.
    fn follow(&self, host: &Host) {
        let mut exits = host.events();
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            while let Some(exited) = exits.next().await {
                let Some(inner) = inner.upgrade() else {
                    return;
                };
                facts::tell(&inner.agent, &inner.hands, &exited).await;
            }
        });
    }

    /// Takes ports of this machine for a pod that is yet to be applied, and notes them as its first
    /// container's. Those that are the system's choice are told on standard error.
    ///
    /// # Errors
    /// When one can't be had; then none is taken.
    pub(crate) fn publish(&self, pod: &mut Pod, wanted: &[PortMapping]) -> anyhow::Result<()> {
        let settled = self.inner.hands.take_ports(wanted)?;
        let chosen = wanted.iter().zip(&settled);
        for (_, port) in chosen.filter(|(wanted, _)| wanted.host_port == 0) {
            if !self.inner.options.quiet {
                eprintln!("coracle: {} leads to port {}", port.at(), port.port);
            }
        }
        let spec = pod.spec.get_or_insert_default();
        if let Some(container) = spec.containers.first_mut() {
            let ports = container.ports.get_or_insert_default();
            ports.extend(settled.iter().map(PortMapping::container_port));
        }
        Ok(())
    }

    /// A pod, new or changed (of the same UID).
    ///
    /// # Errors
    /// When it has no UID, its name is taken or none, it is being deleted, or what tells that it is of
    /// this session can't be written.
    pub(crate) fn apply(&self, mut pod: Pod) -> anyhow::Result<()> {
        let inner = &self.inner;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if uid.is_empty() {
            bail!("the pod {:?} has no metadata.uid", name_of(&pod).1);
        }
        if let Some(known) = inner.board.get(&uid) {
            if known.pod.metadata.deletion_timestamp.is_some() {
                bail!("the pod {:?} is being deleted", name_of(&pod).1);
            }
            pod.metadata.creation_timestamp = known.pod.metadata.creation_timestamp.clone();
            inner.board.put(&uid, pod.clone());
            return Ok(inner.agent.apply(pod)?);
        }
        if inner.ending.load(Ordering::Relaxed) {
            bail!("the session ends; {:?} is not begun", name_of(&pod).1);
        }
        inner.takes(&pod, &uid)?;
        pod.metadata.namespace = Some(name_of(&pod).0.to_owned());
        pod.metadata
            .creation_timestamp
            .get_or_insert_with(|| Time(Timestamp::now()));
        inner.board.put(&uid, pod.clone());
        // Before anything of it is made: a session that is killed leaves nothing that nobody knows.
        if let Err(error) = inner.save() {
            inner.board.drop_pod(&uid);
            return Err(error);
        }
        Ok(inner.agent.apply(pod)?)
    }

    /// Deletes a pod as the API server does: it ends within its grace, and then nothing is left of it.
    ///
    /// # Errors
    /// When there is no such pod.
    pub(crate) fn delete(&self, uid: &str) -> anyhow::Result<()> {
        self.inner.delete(uid, None)
    }

    /// Deletes a pod and waits until nothing is left of it; one that is gone is gone.
    ///
    /// # Errors
    /// When something of it can't be removed.
    pub(crate) async fn end_of(&self, uid: &str) -> anyhow::Result<()> {
        let mut changes = self.inner.board.changes();
        if self.inner.board.get(uid).is_none() {
            return Ok(());
        }
        self.delete(uid)?;
        while self.inner.board.get(uid).is_some() {
            changes.changed().await?;
        }
        let (inner, uid) = (self.inner.clone(), uid.to_owned());
        tokio::task::spawn_blocking(move || inner.finish(&uid)).await?
    }

    /// Writes anew what a pod's volumes hold of objects that have changed.
    ///
    /// # Errors
    /// What is missing, or can't be written; the files stay as they were.
    pub(crate) async fn refresh(&self, pod: &Pod) -> anyhow::Result<()> {
        let name = name_of(pod).1;
        let refreshed = self.inner.hands.refresh(pod).await;
        refreshed.map_err(|failure| anyhow::anyhow!("pod {name}: {}", failure.message))
    }

    /// What is known of each pod, the first that came first.
    pub(crate) fn known(&self) -> Vec<Known> {
        let mut all = self.inner.board.all();
        all.sort_by_key(|known| known.order);
        all
    }

    /// Tells when anything of the pods has changed.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<()> {
        self.inner.board.changes()
    }

    /// The folder of what is kept of the session.
    pub(crate) fn folder(&self) -> PathBuf {
        self.inner.alive.site().folder()
    }

    /// Ends all pods, each within its grace.
    /// None is added any more.
    pub(crate) fn stop_all(&self) {
        self.inner.ending.store(true, Ordering::Relaxed);
        for known in self.inner.board.all() {
            // One that is gone meanwhile is stopped.
            let _ = self.inner.stop(known.uid(), None);
        }
    }

    /// Resolves once a guest of each pod has begun, or can't. Gives why, of those that can't.
    pub(crate) async fn begun(&self) -> Vec<String> {
        let inner = &self.inner;
        let mut changes = inner.board.changes();
        loop {
            let begun = |known: &Known| {
                let status = &known.status;
                known.released
                    || super::end::has_begun(status)
                    || super::end::is_terminal(status)
                    || (inner.options.patient && known.hopeless().is_some())
            };
            if inner.board.look(|pods| pods.values().all(begun)) {
                let waiting = inner.board.all();
                let waiting = waiting.iter().filter_map(Known::hopeless);
                let given_up = inner.given_up();
                let given_up = given_up.values().map(|it| it.why.clone());
                return given_up.chain(waiting).collect();
            }
            if changes.changed().await.is_err() {
                return Vec::new();
            }
        }
    }
}

impl Inner {
    fn given_up(&self) -> MutexGuard<'_, BTreeMap<String, GivenUp>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was given up, by UID.
    pub(super) fn all_given_up(&self) -> BTreeMap<String, GivenUp> {
        self.given_up().clone()
    }

    /// Lets go of what is not kept, names and logs.
    pub(super) fn close(&self) {
        if self.options.kept && self.alive.site().holds_records() {
            return;
        }
        if self.named.load(Ordering::Relaxed) {
            names::free(&self.dirs, &self.options.id, None);
        }
        if matches!(self.options.streams, Streams::Logs) {
            for known in self.board.all() {
                if let Err(error) = volume::remove(&self.dirs.pod_logs(&known.pod)) {
                    tracing::warn!(%error, "a pod's logs stay");
                }
            }
        }
    }

    /// Notes that a pod is this session's, and takes its name.
    fn takes(&self, pod: &Pod, uid: &str) -> anyhow::Result<()> {
        let (namespace, name) = name_of(pod);
        // A name that holds the UID's beginning is nobody else's.
        let own = uid.get(..8).is_some_and(|begin| name.ends_with(begin));
        if !own {
            let owner = Owner {
                id: self.options.id.clone(),
                uid: uid.to_owned(),
            };
            self.named.store(true, Ordering::Relaxed);
            names::claim(&self.dirs, (namespace, name), &owner)?;
        }
        self.alive
            .adds(uid, self.options.kept)
            .with_context(|| format!("pod {namespace}/{name}"))
    }

    /// Ends a pod within `grace` seconds, its own by default; it stays known.
    pub(super) fn stop(&self, uid: &str, grace: Option<i64>) -> anyhow::Result<()> {
        let known = self.board.get(uid).context("there is no such pod")?;
        if known.released {
            return Ok(());
        }
        let mut pod = (*known.pod).clone();
        let own = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds);
        let before = pod.metadata.deletion_grace_period_seconds;
        // As with the API server, a later one only ever shortens it.
        let grace = match (grace.or(own), before) {
            (Some(grace), Some(before)) => Some(grace.min(before)),
            (grace, before) => grace.or(before),
        };
        pod.metadata
            .deletion_timestamp
            .get_or_insert_with(|| Time(Timestamp::now()));
        pod.metadata.deletion_grace_period_seconds = grace;
        self.board.put(uid, pod.clone());
        Ok(self.agent.apply(pod)?)
    }

    /// Ends a pod and forgets it.
    pub(super) fn delete(&self, uid: &str, grace: Option<i64>) -> anyhow::Result<()> {
        self.stop(uid, grace)?;
        self.board.change(uid, |known| known.deleted = true);
        Ok(())
    }

    /// Does what follows from what is known now.
    pub(super) fn tidy(&self) {
        let (gone, hopeless) = self.board.look(|pods| {
            let gone = pods.values().filter(|it| it.deleted && it.released);
            let gone: Vec<String> = gone.map(|it| it.uid().to_owned()).collect();
            let patient = self.options.patient;
            let waiting = pods.values().filter(|it| !patient && !it.deleted);
            let hopeless: Vec<(String, GivenUp)> = waiting
                .filter_map(|it| {
                    let name = name_of(&it.pod).1.to_owned();
                    let why = it.hopeless()?;
                    Some((it.uid().to_owned(), GivenUp { name, why }))
                })
                .collect();
            (gone, hopeless)
        });
        for (uid, why) in hopeless {
            if let Entry::Vacant(free) = self.given_up().entry(uid.clone()) {
                free.insert(why);
                // What failed to begin would be tried again for ever.
                self.agent.gone(&uid);
            }
        }
        for uid in gone {
            self.agent.gone(&uid);
        }
    }

    /// Whether nothing of any pod runs or is held.
    pub(super) fn is_over(&self) -> bool {
        self.board
            .look(|pods| pods.values().all(|known| known.released && !known.deleted))
    }
}

/// A laptop's pods are few: nothing is counted.
fn whole_machine() -> Resources {
    Resources {
        cpu_milli: u64::MAX,
        memory: u64::MAX,
        pods: u64::MAX,
        mappings: u64::MAX,
        descriptors: u64::MAX,
        ephemeral_storage: u64::MAX,
    }
}
