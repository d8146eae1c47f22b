//! What may hold a thread: bounded per pod, and counted until it has returned.
//!
//! This module must not know what the work is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// A pod's share of the threads that block.
///
/// A guest that is killed is dropped between two of its instructions, but an operation that has
/// begun goes on: the pod has stopped when [`Blocking::idle`] returns.
#[derive(Debug)]
pub struct Blocking {
    permits: Arc<Semaphore>,
    in_flight: AtomicUsize,
    idle: Notify,
    cpu_nanos: AtomicU64,
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
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(bound.clamp(1, Semaphore::MAX_PERMITS))),
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
            cpu_nanos: AtomicU64::new(0),
        })
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
        let task = tokio::task::spawn_blocking(move || {
            let before = thread_cpu_nanos();
            let result = work();
            let spent = thread_cpu_nanos().saturating_sub(before);
            counted.0.cpu_nanos.fetch_add(spent, Ordering::Relaxed);
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

    /// The CPU time that all its operations took so far, which no account of the guest's own
    /// turns contains.
    pub fn cpu_time(&self) -> Duration {
        Duration::from_nanos(self.cpu_nanos.load(Ordering::Relaxed))
    }
}

fn thread_cpu_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanos = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    u64::try_from(nanos).unwrap_or(0)
}
