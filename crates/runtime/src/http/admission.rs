//! How many requests are handled at once, and how many may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The doors of a server.
pub(super) struct Admission {
    handled: Arc<Semaphore>,
    queued: AtomicU32,
    max_queued: u32,
}

/// One that waits.
struct Queued<'a>(&'a AtomicU32);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    pub(super) fn new(max_concurrent: u32, max_queued: u32) -> Admission {
        let most = usize::try_from(max_concurrent).unwrap_or(Semaphore::MAX_PERMITS);
        Admission {
            handled: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            queued: AtomicU32::new(0),
            max_queued,
        }
    }

    /// Lets a request in, at once or when its turn has come; `None` if there are too many before
    /// it, or it has waited until `deadline`.
    pub(super) async fn enter(&self, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        // Who is let go hands its place to who waits, so this overtakes nobody.
        if let Ok(permit) = Arc::clone(&self.handled).try_acquire_owned() {
            return Some(permit);
        }
        let queued = self.queued.fetch_add(1, Ordering::Relaxed);
        let _queued = Queued(&self.queued);
        if queued >= self.max_queued {
            return None;
        }
        let turn = Arc::clone(&self.handled).acquire_owned();
        tokio::time::timeout_at(deadline, turn).await.ok()?.ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn some_are_handled_some_wait_and_the_rest_are_turned_away() {
        let admission = Arc::new(Admission::new(1, 1));
        let later = || Instant::now() + Duration::from_secs(1);
        let first = admission.enter(later()).await.unwrap();
        let second = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move {
                admission
                    .enter(Instant::now() + Duration::from_secs(60))
                    .await
            }
        });
        while admission.queued.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(
            admission.enter(later()).await.is_none(),
            "the queue is full"
        );
        drop(first);
        let second = second.await.unwrap().unwrap();
        assert!(
            admission.enter(later()).await.is_none(),
            "it waited too long"
        );
        assert_eq!(admission.queued.load(Ordering::Relaxed), 0);
        drop(second);
        drop(admission.enter(later()).await.unwrap());
    }
}
