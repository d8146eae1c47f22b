//! One guest: its run from the first instruction to its end, and the orders it is given meanwhile.
//!
//! A guest is a future that one task polls. It is stopped by dropping that future, between two of
//! its instructions or in the middle of a wait; what it has begun on a blocking thread goes on, and
//! the guest has ended only when that has returned.

use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::watch;
use wasi_host::stdio::OutSink;

use crate::container::Container;
use crate::execs::Execs;
use crate::http::Server;
use crate::instance::Code;
use crate::room::Promise;
use crate::spec::{Exited, GuestId, GuestState, Phase, Stats};
use crate::stdio::write_all;
use crate::ticker::Ticker;
use crate::trap::Ending;
use crate::turn::Turns;
use crate::world::ContainerWorld;

/// How long the report of a trap may wait for who reads the guest's standard error.
const REPORT: Duration = Duration::from_secs(2);

/// A guest, as its host knows it.
pub(crate) struct Guest {
    pub(crate) id: GuestId,
    name: String,
    drain: bool,
    pub(crate) container: Arc<Container>,
    /// What runs beside it in its container.
    pub(crate) execs: Arc<Execs>,
    /// Gone when it has ended, and with it what it holds of the root.
    world: Mutex<Option<Arc<ContainerWorld>>>,
    started_at: Timestamp,
    order: watch::Sender<Order>,
}

/// Where a guest is and where it is to go.
enum Order {
    /// It goes on.
    Run,
    /// It ends, at once or at the end of its grace.
    Stop(Instant),
    /// It has ended.
    Ended(Box<Exited>),
}

/// What a guest runs with, gone when it has ended.
pub(crate) struct Run {
    /// What there is to do.
    pub(crate) work: Work,
    /// Told of traps.
    pub(crate) stderr: Arc<dyn OutSink>,
    /// Closed by a drain.
    pub(crate) listeners: Vec<OwnedFd>,
    /// Turns true when the guest drains.
    pub(crate) drained: watch::Sender<bool>,
    /// Its part of the host's room.
    pub(crate) promise: Promise,
}

/// What a guest does.
pub(crate) enum Work {
    /// It runs to its end.
    Run(Code),
    /// It answers requests until it is stopped.
    Serve(Server),
}

impl Guest {
    pub(crate) fn new(id: GuestId, name: String, drain: bool, world: Arc<ContainerWorld>) -> Guest {
        let started_at = Timestamp::now();
        Guest {
            id,
            name,
            drain,
            container: Arc::clone(&world.container),
            execs: Execs::new(),
            world: Mutex::new(Some(world)),
            started_at,
            order: watch::Sender::new(Order::Run),
        }
    }

    pub(crate) fn started_at(&self) -> Timestamp {
        self.started_at
    }

    pub(crate) fn state(&self) -> GuestState {
        let phase = match &*self.order.borrow() {
            Order::Run => Phase::Running,
            Order::Stop(_) => Phase::Stopping,
            Order::Ended(exited) => Phase::Exited((**exited).clone()),
        };
        GuestState {
            id: self.id.clone(),
            name: self.name.clone(),
            started_at: self.started_at,
            phase,
        }
    }

    /// How it ended, if it has.
    pub(crate) fn exited(&self) -> Option<Exited> {
        match &*self.order.borrow() {
            Order::Ended(exited) => Some((**exited).clone()),
            _ => None,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let memory = self.container.memory.used();
        Stats {
            id: self.id.clone(),
            cpu_nanos: self.container.quota.used(),
            memory_bytes: memory,
            working_set_bytes: memory,
            memory_limit_bytes: self.container.memory.limit(),
            started_at: self.started_at,
            at: Timestamp::now(),
        }
    }

    /// Asks it to end within the grace, or sooner if it was asked so before. Resolves when it has.
    pub(crate) async fn stop(&self, grace: Duration) {
        let now = Instant::now();
        // A grace of centuries is one that never ends.
        let until = now
            .checked_add(grace)
            .unwrap_or(now + Duration::from_secs(u64::from(u32::MAX)));
        self.order.send_if_modified(|order| match order {
            Order::Stop(earlier) if *earlier <= until => false,
            Order::Ended(_) => false,
            order => {
                *order = Order::Stop(until);
                true
            }
        });
        self.ended().await;
    }

    /// Resolves when it has ended.
    pub(crate) async fn ended(&self) {
        // The sender is `self`'s own, so the wait can't fail.
        let _ = self
            .order
            .subscribe()
            .wait_for(|order| matches!(order, Order::Ended(_)))
            .await;
    }

    /// Runs it to its end, which the caller publishes with [`Guest::end`].
    pub(crate) async fn run(&self, run: Box<Run>, ticker: Arc<Ticker>) -> Exited {
        let Run {
            work,
            stderr,
            listeners,
            drained,
            promise,
        } = *run;
        let ending = match work {
            Work::Run(code) => {
                let turns = Turns::new(Arc::clone(&self.container), ticker, code);
                let done = self.until_done(turns, &drained, listeners);
                AssertUnwindSafe(done)
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|payload| Ending::panicked(&*payload))
            }
            Work::Serve(server) => self.serve(server).await,
        };
        drop(drained);
        report(&self.name, &ending, &*stderr).await;
        self.execs.end().await;
        self.leave_world();
        self.container.blocking.idle().await;
        drop((stderr, promise));
        Exited {
            id: self.id.clone(),
            code: ending.code,
            kind: ending.kind,
            message: ending.message,
            started_at: self.started_at,
            finished_at: Timestamp::now(),
        }
    }

    /// Makes its end known to those who wait for it.
    pub(crate) fn end(&self, exited: Exited) {
        self.order.send_replace(Order::Ended(Box::new(exited)));
    }

    /// The world that its container's processes live in, until it has ended.
    pub(crate) fn world(&self) -> Option<Arc<ContainerWorld>> {
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.clone()
    }

    fn leave_world(&self) {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let last = world.take();
        drop(world);
        drop(last);
    }

    async fn until_done(
        &self,
        turns: Turns<Code>,
        drained: &watch::Sender<bool>,
        listeners: Vec<OwnedFd>,
    ) -> Ending {
        let memory = &self.container.memory;
        tokio::select! {
            biased;
            ending = self.stopped(drained, listeners) => ending,
            () = memory.until_over() => memory.over().map_or_else(Ending::terminated, Ending::out_of_memory),
            result = turns => Ending::of(result, memory),
        }
    }

    /// Serves until it is stopped and drained, or its grace is over. A panic ends the request that
    /// it befell and no other.
    async fn serve(&self, server: Server) -> Ending {
        let memory = &self.container.memory;
        let stopper = server.stopper();
        let stopped = async {
            self.asked().await;
            stopper.drain();
            self.grace().await
        };
        let ending = tokio::select! {
            biased;
            ending = server.run() => ending,
            () = memory.until_over() => memory.over().map_or_else(Ending::terminated, Ending::out_of_memory),
            ending = stopped => ending,
        };
        stopper.kill().await;
        ending
    }

    /// Resolves when the guest has to be ended.
    async fn stopped(&self, drained: &watch::Sender<bool>, listeners: Vec<OwnedFd>) -> Ending {
        self.asked().await;
        if !self.drain {
            return Ending::terminated();
        }
        drained.send_replace(true);
        close(listeners);
        self.grace().await
    }

    /// Resolves when it is asked to stop.
    async fn asked(&self) {
        let mut orders = self.order.subscribe();
        let _ = orders.wait_for(|order| !matches!(order, Order::Run)).await;
    }

    /// Resolves when its grace is over.
    async fn grace(&self) -> Ending {
        let mut orders = self.order.subscribe();
        loop {
            let Order::Stop(until) = *orders.borrow_and_update() else {
                return Ending::grace_over();
            };
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => return Ending::grace_over(),
                _ = orders.changed() => {}
            }
        }
    }
}

/// Tells a guest's standard error of a trap. Who does not read it, or a disk that stays full,
/// can't hold up the guest's end for long; the reason stands in its status in any case.
pub(crate) async fn report(name: &str, ending: &Ending, stderr: &dyn OutSink) {
    if ending.report.is_empty() {
        return;
    }
    let text = format!("coracle: {name}: {}", ending.report);
    let wrote = tokio::time::timeout(REPORT, write_all(stderr, text.as_bytes())).await;
    if !matches!(wrote, Ok(Ok(()))) {
        tracing::warn!(guest = %name, reason = %ending.message, "the report of a trap could not be written");
    }
}

/// Ends the listening of sockets that the guest holds as well: connections that wait are refused,
/// new ones too, and an accept returns with an error.
fn close(listeners: Vec<OwnedFd>) {
    for listener in listeners {
        if let Err(error) = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both) {
            tracing::warn!(%error, "a draining guest's listener can't be closed");
        }
    }
}
