//! What may hold a thread: bounded per pod, and counted until it has returned.
//!
//! This module must not know what the work is.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Is told the CPU time of what blocks, so that it counts as the guest's own.
pub trait CpuMeter: Send + Sync + 'static {
    /// An operation has taken so many nanoseconds.
    fn spent(&self, nanos: u64);
}

/// A pod's share of the threads that block.
///
/// A guest that is killed is dropped between two of its instructions, but an operation that has
/// begun goes on: the pod has stopped when [`Blocking::idle`] returns.
pub struct Blocking {
    permits: Arc<Semaphore>,
    bound: Mutex<Bound>,
    in_flight: AtomicUsize,
    idle: Notify,
    cpu_nanos: AtomicU64,
    meter: Option<Arc<dyn CpuMeter>>,
}

/// How many permits there are to be, and how many are still out that are not to come back.
#[derive(Debug)]
struct Bound {
    wanted: usize,
    excess: usize,
}

impl std::fmt::Debug for Blocking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blocking({} in flight)", self.in_flight())
    }
}

/// The work panicked, or the runtime is going down: there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the blocking operation did not finish")]
pub struct Unfinished;

/// Counts from before the work is queued until it has returned, or is dropped undone.
struct InFlight(Arc<Blocking>);

impl InFlight {
    fn new(blocking: &Arc<Blocking>) -> Self {
        blocking.in_flight.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(blocking))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl Blocking {
    /// At most `bound` operations at once (at least one); more wait their turn.
    pub fn new(bound: usize) -> Arc<Self> {
        Self::build(bound, None)
    }

    /// As [`Blocking::new`], with somebody who is told the CPU time of each operation.
    pub fn metered(bound: usize, meter: Arc<dyn CpuMeter>) -> Arc<Self> {
        Self::build(bound, Some(meter))
    }

    fn build(bound: usize, meter: Option<Arc<dyn CpuMeter>>) -> Arc<Self> {
        let wanted = clamped(bound);
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(wanted)),
            bound: Mutex::new(Bound { wanted, excess: 0 }),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
            cpu_nanos: AtomicU64::new(0),
            meter,
        })
    }

    /// Changes how many operations there may be at once. Those that have begun go on, so that a
    /// lower bound is reached as they return.
    pub fn set_bound(&self, bound: usize) {
        let wanted = clamped(bound);
        let mut at = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted >= at.wanted {
            let more = wanted - at.wanted;
            let kept = more.min(at.excess);
            at.excess -= kept;
            self.permits.add_permits(more - kept);
        } else {
            let fewer = at.wanted - wanted;
            at.excess += fewer - self.permits.forget_permits(fewer);
        }
        at.wanted = wanted;
    }

    /// Gives a permit back, unless there are too many.
    fn done(&self, permit: OwnedSemaphorePermit) {
        let mut at = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if at.excess > 0 {
            at.excess -= 1;
            permit.forget();
        }
    }

    /// Runs `work` on a thread that may block. Dropping the future gives up the result, not the
    /// work: once begun it is counted until it returns.
    ///
    /// # Errors
    /// [`Unfinished`]
    pub async fn run<R, F>(self: &Arc<Self>, work: F) -> Result<R, Unfinished>
    where
        R: Send + 'static,
        F: FnOnce() -> R + Send + 'static,
    {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| Unfinished)?;
        let counted = InFlight::new(self);
        let permit = Permit(Arc::clone(self), Some(permit));
        let task = tokio::task::spawn_blocking(move || {
            let timed = Timed {
                blocking: &counted.0,
                before: thread_cpu_nanos(),
            };
            let result = work();
            drop(timed);
            drop(permit);
            drop(counted);
            result
        });
        task.await.map_err(|_| Unfinished)
    }

    /// How many operations have begun and not returned.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Returns once no operation is in flight.
    pub async fn idle(&self) {
        loop {
            let mut notified = std::pin::pin!(self.idle.notified());
            notified.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// The CPU time that all its operations took so far, whether or not somebody meters it.
    pub fn cpu_time(&self) -> Duration {
        Duration::from_nanos(self.cpu_nanos.load(Ordering::Relaxed))
    }
}

/// A permit, given back when this is dropped, by a panic too.
struct Permit(Arc<Blocking>, Option<OwnedSemaphorePermit>);

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(permit) = self.1.take() {
            self.0.done(permit);
        }
    }
}

/// Counts the CPU time of this thread until it is dropped, by a panic too.
struct Timed<'a> {
    blocking: &'a Blocking,
    before: u64,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let spent = thread_cpu_nanos().saturating_sub(self.before);
        self.blocking.cpu_nanos.fetch_add(spent, Ordering::Relaxed);
        if let Some(meter) = &self.blocking.meter {
            meter.spent(spent);
        }
    }
}

fn clamped(bound: usize) -> usize {
    bound.clamp(1, Semaphore::MAX_PERMITS)
}

fn thread_cpu_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanos = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    u64::try_from(nanos).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Sum(AtomicU64);

    impl CpuMeter for Sum {
        fn spent(&self, nanos: u64) {
            self.0.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    fn spin() {
        let begin = thread_cpu_nanos();
        while thread_cpu_nanos() < begin + 2_000_000 {}
    }

    #[tokio::test]
    async fn what_blocks_is_metered_a_panic_too() {
        let sum = Arc::new(Sum(AtomicU64::new(0)));
        let blocking = Blocking::metered(1, Arc::clone(&sum) as Arc<dyn CpuMeter>);
        blocking.run(spin).await.unwrap();
        let panicked = blocking.run(|| {
            spin();
            std::panic::resume_unwind(Box::new(()))
        });
        let result: Result<(), Unfinished> = panicked.await;
        assert_eq!(result, Err(Unfinished));
        blocking.idle().await;
        let spent = sum.0.load(Ordering::Relaxed);
        assert!(spent >= 4_000_000, "{spent} ns");
        assert_eq!(blocking.cpu_time(), Duration::from_nanos(spent));
    }

    /// As many operations as the bound lets begin, held until `go` is dropped.
    async fn begun(blocking: &Arc<Blocking>, asked: usize) -> (usize, std::sync::mpsc::Sender<()>) {
        let (go, hold) = std::sync::mpsc::channel::<()>();
        let hold = Arc::new(Mutex::new(hold));
        for _ in 0..asked {
            let (blocking, hold) = (Arc::clone(blocking), Arc::clone(&hold));
            tokio::spawn(async move {
                let work = move || hold.lock().unwrap().recv().is_err();
                blocking.run(work).await
            });
        }
        // All tasks get as far as they can: this runtime has one thread.
        for _ in 0..asked * 4 {
            tokio::task::yield_now().await;
        }
        (blocking.in_flight(), go)
    }

    #[tokio::test]
    async fn the_bound_can_be_changed_while_operations_are_in_flight() {
        let blocking = Blocking::new(2);
        let (in_flight, go) = begun(&blocking, 5).await;
        assert_eq!(in_flight, 2);
        blocking.set_bound(4);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(blocking.in_flight(), 4);
        // Below what has begun: reached as they return.
        blocking.set_bound(1);
        drop(go);
        // The fifth waits for a permit, and then is the only one there may be.
        while blocking.permits.available_permits() != 1 || blocking.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(begun(&blocking, 3).await.0, 1);
        blocking.set_bound(0);
        assert_eq!(blocking.bound.lock().unwrap().wanted, 1);
    }
}
