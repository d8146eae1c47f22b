//! The guest host in this process: its guests by their ids, the runtime that they take turns on,
//! and the ends that were not forgotten yet.
//!
//! The runtime is its own, apart from the caller's. It looks for I/O after every turn
//! (`event_interval(1)`) and for what other threads have woken before every one
//! (`global_queue_interval(1)`), so neither an answer nor a start waits behind more than one turn.
//!
//! It must not know how a guest's code is run or limited; the protocol's server calls it like anyone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::mpsc;

use crate::engine::{self, Calls};
use crate::engines::Engines;
use crate::events::Events;
use crate::exec;
use crate::guest::{Guest, Run};
use crate::prepare::{self, Prepared};
use crate::room::Room;
use crate::spec::{
    ExecEnd, ExecError, ExecFds, ExecSpec, Exited, GuestFds, GuestId, GuestSpec, GuestState,
    HostBudget, HostError, Limits, StartError, Started, Stats,
};
use crate::ticker::Ticker;

/// The most threads for what blocks; each container has a bound of its own within them.
const BLOCKING_THREADS: usize = 256;

/// How to set a guest host up.
#[derive(Clone, Debug, Default)]
pub struct LocalConfig {
    /// Threads that guests run on; `None` is one a core.
    pub workers: Option<usize>,
    /// How many mappings and descriptors guests may have together; `None` is what the machine
    /// allows this process, less a reserve.
    pub room: Option<(u64, u64)>,
}

/// Why a guest host did not come up.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The engine does not run on this machine.
    #[error("this machine can't run guests: {0}")]
    Engine(String),
    /// A thread can't be had.
    #[error("a thread of the guest host can't be started")]
    Thread(#[source] std::io::Error),
}

/// The guest host in this process. Its guests end with it.
pub struct Local {
    inner: Arc<Inner>,
    runtime: Option<Runtime>,
    /// Where the guests have fewer threads than there are cores, servers have a runtime of their
    /// own, made for the first of them: their connections go on beside each other.
    servers: Option<OnceLock<Option<Runtime>>>,
}

struct Inner {
    engines: Engines,
    closing: AtomicBool,
    registry: Mutex<Registry>,
    /// One at a time for each id: a second start waits for the first, and so does a stop.
    starts: Mutex<HashMap<GuestId, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Default)]
struct Registry {
    guests: HashMap<GuestId, Arc<Guest>>,
    subscribers: Vec<mpsc::UnboundedSender<Exited>>,
}

impl Local {
    /// A guest host without guests.
    ///
    /// # Errors
    /// [`LocalError`]
    pub fn new(config: LocalConfig) -> Result<Local, LocalError> {
        let engine = engine::guests(Calls::Sequential)
            .map_err(|error| LocalError::Engine(format!("{error:#}")))?;
        let ticker = Ticker::start(engine.clone()).map_err(LocalError::Thread)?;
        let runtime = runtime(config.workers).map_err(LocalError::Thread)?;
        let room = match config.room {
            Some((mappings, descriptors)) => Room::new(mappings, descriptors),
            None => Room::of_this_process(),
        };
        let engines = Engines::new(engine, ticker, room)
            .map_err(|error| LocalError::Engine(format!("{error:#}")))?;
        let inner = Arc::new(Inner {
            engines,
            closing: AtomicBool::new(false),
            registry: Mutex::default(),
            starts: Mutex::default(),
        });
        Ok(Local {
            inner,
            runtime: Some(runtime),
            servers: match config.workers {
                Some(workers) if workers < cores() => Some(OnceLock::new()),
                _ => None,
            },
        })
    }

    /// The runtime that a guest is to run on.
    fn runtime_for(&self, spec: &GuestSpec) -> Result<Handle, StartError> {
        let main = self.runtime.as_ref().ok_or(StartError::Closing)?;
        let Some(servers) = self.servers.as_ref().filter(|_| spec.http.is_some()) else {
            return Ok(main.handle().clone());
        };
        let made = servers.get_or_init(|| {
            runtime(None)
                .inspect_err(|error| tracing::warn!(%error, "servers share the guests' threads"))
                .ok()
        });
        Ok(made.as_ref().unwrap_or(main).handle().clone())
    }

    /// Starts a guest. It runs from then on, whether or not anybody listens. A second start under
    /// the same id changes nothing and is answered as the first. Dropping the future leaves the
    /// guest either started or not.
    ///
    /// # Errors
    /// [`StartError`]: then there is no such guest.
    pub async fn start(&self, spec: GuestSpec, fds: GuestFds) -> Result<Started, StartError> {
        let id = spec.id.clone();
        let turn = self.inner.turn_of(&id);
        let _turn = turn.lock().await;
        if let Some(guest) = self.inner.guest(&id) {
            return Ok(Started {
                at: guest.started_at(),
            });
        }
        let handle = self.runtime_for(&spec)?;
        let inner = Arc::clone(&self.inner);
        let preparing = handle.spawn_blocking(move || prepare::prepare(&inner.engines, spec, fds));
        let prepared = preparing.await.map_err(|error| StartError::System {
            what: "prepare the guest".to_owned(),
            message: error.to_string(),
        })??;
        let Prepared { guest, run } = prepared;
        let at = guest.started_at();
        self.inner.admit(&guest)?;
        handle.spawn(run_to_end(
            Arc::downgrade(&self.inner),
            guest,
            run,
            Arc::clone(&self.inner.engines.ticker),
        ));
        Ok(Started { at })
    }

    /// Runs a module in a running container, to its end. Dropping the future ends it.
    ///
    /// # Errors
    /// [`ExecError`]: then it did not run.
    pub async fn exec(&self, spec: ExecSpec, fds: ExecFds) -> Result<ExecEnd, ExecError> {
        let turn = self.inner.turn_of(&spec.id);
        drop(turn.lock().await);
        let guest = self
            .inner
            .guest(&spec.id)
            .ok_or_else(|| ExecError::Unknown(spec.id.clone()))?;
        let place = exec::enter(&guest)?;
        let handle = self
            .runtime
            .as_ref()
            .map(|runtime| runtime.handle().clone())
            .ok_or(StartError::Closing)?;
        let inner = Arc::clone(&self.inner);
        let preparing =
            handle.spawn_blocking(move || exec::prepare(&inner.engines, &guest, place, spec, fds));
        let failed = |error: tokio::task::JoinError| StartError::System {
            what: "run the exec".to_owned(),
            message: error.to_string(),
        };
        let exec = preparing.await.map_err(failed)??;
        let running = handle.spawn(exec.run(Arc::clone(&self.inner.engines.ticker)));
        let _end = AbortOnDrop(running.abort_handle());
        Ok(running.await.map_err(failed)?)
    }

    /// Stops a guest and resolves when it has ended. One that drains has the grace; a later stop
    /// with a shorter one overtakes. One that has ended already is stopped.
    ///
    /// # Errors
    /// [`HostError::Unknown`]: it does not run.
    pub async fn stop(&self, id: &GuestId, grace: Duration) -> Result<(), HostError> {
        let turn = self.inner.turn_of(id);
        drop(turn.lock().await);
        let guest = self
            .inner
            .guest(id)
            .ok_or_else(|| HostError::Unknown(id.clone()))?;
        guest.stop(grace).await;
        Ok(())
    }

    /// All guests that were not forgotten.
    pub fn list(&self) -> Vec<GuestState> {
        self.inner
            .guests()
            .iter()
            .map(|guest| guest.state())
            .collect()
    }

    /// How guests end, from those that were not forgotten on.
    pub fn events(&self) -> Events {
        let (sender, events) = Events::channel();
        let mut registry = self.inner.registry();
        for exited in registry.guests.values().filter_map(|guest| guest.exited()) {
            let _ = sender.send(exited);
        }
        registry.subscribers.push(sender);
        events
    }

    /// What a guest uses, or used if it has ended.
    ///
    /// # Errors
    /// [`HostError::Unknown`]
    pub fn stats(&self, id: &GuestId) -> Result<Stats, HostError> {
        self.inner
            .guest(id)
            .map(|guest| guest.stats())
            .ok_or_else(|| HostError::Unknown(id.clone()))
    }

    /// What all guests use that run.
    pub fn all_stats(&self) -> Vec<Stats> {
        self.inner
            .guests()
            .iter()
            .filter(|guest| guest.exited().is_none())
            .map(|guest| guest.stats())
            .collect()
    }

    /// Changes the limits of a guest as it runs. What it holds above a new memory limit stays, but
    /// it may not grow; blocking operations above a new bound end first.
    ///
    /// # Errors
    /// [`HostError::Unknown`]
    pub fn set_limits(&self, id: &GuestId, limits: &Limits) -> Result<(), HostError> {
        let guest = self
            .inner
            .guest(id)
            .ok_or_else(|| HostError::Unknown(id.clone()))?;
        guest.container.set_limits(limits);
        Ok(())
    }

    /// Forgets how a guest ended. One that is not known is forgotten.
    ///
    /// # Errors
    /// [`HostError::Running`]
    pub fn forget(&self, id: &GuestId) -> Result<(), HostError> {
        let mut registry = self.inner.registry();
        match registry
            .guests
            .get(id)
            .map(|guest| guest.exited().is_some())
        {
            Some(false) => Err(HostError::Running(id.clone())),
            Some(true) => {
                registry.guests.remove(id);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// How much of the process's room is taken.
    pub fn budget(&self) -> HostBudget {
        let guests = self
            .inner
            .guests()
            .iter()
            .filter(|guest| guest.exited().is_none())
            .count();
        self.inner.engines.room.budget(guests as u64)
    }

    /// Stops all guests with no grace, takes no more, and resolves when the last has ended.
    pub async fn shutdown(&self) {
        self.inner.closing.store(true, Ordering::SeqCst);
        let guests = self.inner.guests();
        futures::future::join_all(guests.iter().map(|guest| guest.stop(Duration::ZERO))).await;
    }
}

/// A runtime for guests, on so many threads; `None` is one a core.
fn runtime(workers: Option<usize>) -> std::io::Result<Runtime> {
    let mut builder = runtime::Builder::new_multi_thread();
    builder
        .thread_name("guests")
        .event_interval(1)
        .global_queue_interval(1)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all();
    if let Some(workers) = workers {
        builder.worker_threads(workers.max(1));
    }
    builder.build()
}

/// How many processors this process may use, as it was at first: to find out reads a handful of files each time.
pub fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

impl Drop for Local {
    fn drop(&mut self) {
        let servers = self.servers.take().and_then(OnceLock::into_inner).flatten();
        // Dropping a runtime within another's task would panic.
        for runtime in [self.runtime.take(), servers].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    fn registry(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn guest(&self, id: &GuestId) -> Option<Arc<Guest>> {
        self.registry().guests.get(id).cloned()
    }

    fn guests(&self) -> Vec<Arc<Guest>> {
        self.registry().guests.values().cloned().collect()
    }

    /// The lock of an id, for as long as somebody holds it.
    fn turn_of(&self, id: &GuestId) -> Arc<tokio::sync::Mutex<()>> {
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        starts.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(starts.entry(id.clone()).or_default())
    }

    /// Enters a guest, unless the host is closing: a shutdown that began sees it, or it is refused.
    fn admit(&self, guest: &Arc<Guest>) -> Result<(), StartError> {
        let mut registry = self.registry();
        if self.closing.load(Ordering::SeqCst) {
            return Err(StartError::Closing);
        }
        registry.guests.insert(guest.id.clone(), Arc::clone(guest));
        Ok(())
    }

    /// Tells of an end, to who waits for it and who listens, none twice.
    fn ended(&self, guest: &Guest, exited: Exited) {
        let mut registry = self.registry();
        registry
            .subscribers
            .retain(|subscriber| subscriber.send(exited.clone()).is_ok());
        guest.end(exited);
    }
}

/// Ends a task that nobody waits for any more.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run_to_end(
    inner: std::sync::Weak<Inner>,
    guest: Arc<Guest>,
    run: Box<Run>,
    ticker: Arc<Ticker>,
) {
    let exited = guest.run(run, ticker).await;
    if let Some(inner) = inner.upgrade() {
        inner.ended(&guest, exited);
    }
}
