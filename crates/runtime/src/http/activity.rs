//! What a connection is doing, so that one that does nothing for too long is closed: nothing,
//! beginning a request, or having one answered. One number, looked at by a timer of the
//! connection's own, so a request costs no timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::Version;
use tokio::time::Instant;

/// See the module.
pub(super) struct Activity {
    began: Instant,
    /// Requests that are being answered.
    busy: AtomicU32,
    /// Since when it is idle, or the head of a request arrives: milliseconds from its beginning,
    /// times two, and one for the latter.
    since: AtomicU64,
    /// It speaks HTTP/2, whose frames are not all of requests.
    is_h2: AtomicBool,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// No request came.
    Idle,
    /// A request began and did not go on.
    Head,
}

/// A request that is being answered.
pub(super) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.since.store(self.0.now() << 1, Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Activity {
    pub(super) fn new() -> Arc<Activity> {
        Arc::new(Activity {
            began: Instant::now(),
            busy: AtomicU32::new(0),
            since: AtomicU64::new(0),
            is_h2: AtomicBool::new(false),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX >> 1)
    }

    /// A request has begun, until the answer is dropped.
    pub(super) fn begin(self: &Arc<Activity>, version: Version) -> Busy {
        if version == Version::HTTP_2 {
            self.is_h2.store(true, Ordering::Relaxed);
        }
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// Bytes have come.
    pub(super) fn received(&self) {
        if self.is_busy() || self.is_h2.load(Ordering::Relaxed) {
            return;
        }
        let since = self.since.load(Ordering::Relaxed);
        if since & 1 == 0 {
            self.since.store(self.now() << 1 | 1, Ordering::Relaxed);
        }
    }

    /// Resolves when the connection has been idle, or beginning a request, for too long.
    pub(super) async fn expired(&self, idle: Duration, head: Duration) -> Expired {
        loop {
            if self.is_busy() {
                tokio::time::sleep(idle.min(head)).await;
                continue;
            }
            let since = self.since.load(Ordering::Relaxed);
            let (bound, why) = match since & 1 {
                0 => (idle, Expired::Idle),
                _ => (head, Expired::Head),
            };
            let at = self.began + Duration::from_millis(since >> 1) + bound;
            if at <= Instant::now() {
                return why;
            }
            // What is idle now may begin a request meanwhile, which has less time.
            tokio::time::sleep_until(at.min(Instant::now() + head)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);
    const HEAD: Duration = Duration::from_secs(10);

    async fn expires(activity: &Activity) -> (Expired, Duration) {
        let begin = Instant::now();
        let why = activity.expired(IDLE, HEAD).await;
        (why, begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_says_nothing_is_closed_later_than_one_that_begins() {
        let silent = Activity::new();
        let (why, after) = expires(&silent).await;
        assert_eq!(why, Expired::Idle);
        assert!(after >= IDLE && after < IDLE + HEAD, "{after:?}");

        let slow = Activity::new();
        slow.received();
        let (why, after) = expires(&slow).await;
        assert_eq!(why, Expired::Head);
        assert!(after >= HEAD && after < IDLE, "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn frames_between_requests_begin_none() {
        let activity = Activity::new();
        drop(activity.begin(Version::HTTP_2));
        activity.received();
        assert_eq!(expires(&activity).await.0, Expired::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_answered_may_take_its_time() {
        let activity = Activity::new();
        let busy = activity.begin(Version::HTTP_11);
        activity.received();
        let closed = tokio::spawn({
            let activity = Arc::clone(&activity);
            async move { expires(&activity).await }
        });
        tokio::time::sleep(IDLE * 10).await;
        assert!(!closed.is_finished());
        drop(busy);
        assert!(matches!(closed.await, Ok((Expired::Idle, _))));
    }
}
