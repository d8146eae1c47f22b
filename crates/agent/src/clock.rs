//! Time as the agent sees it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Tells the time and waits for it.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Now. Never goes back.
    fn now(&self) -> Timestamp;

    /// Returns once [`Clock::now`] has reached `at`.
    async fn sleep_until(&self, at: Timestamp);
}

/// The system's clock, made fit to count backoffs and graces with.
///
/// It flows with the monotonic clock. Where the system's clock differs, it follows by being an
/// eighth faster or slower, so that a clock that is put back neither goes back here nor stretches
/// a wait by more than that. It jumps only forwards, and only if it is a minute or more behind:
/// statuses and leases are compared with other machines' clocks.
pub struct TokioClock {
    system: Box<dyn Fn() -> Timestamp + Send + Sync>,
    anchor: Mutex<(Instant, Timestamp)>,
}

const JUMP: SignedDuration = SignedDuration::from_mins(1);
const SLEW: i32 = 8;
/// One sleep; a later time is slept for in several.
const LONGEST: Duration = Duration::from_hours(24);

impl Default for TokioClock {
    fn default() -> TokioClock {
        TokioClock::of(Timestamp::now)
    }
}

impl TokioClock {
    /// A clock that follows another one than the system's.
    pub fn of(system: impl Fn() -> Timestamp + Send + Sync + 'static) -> TokioClock {
        let anchor = Mutex::new((Instant::now(), system()));
        TokioClock {
            system: Box::new(system),
            anchor,
        }
    }
}

#[async_trait]
impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let instant = Instant::now();
        let elapsed = SignedDuration::try_from(instant.duration_since(anchor.0))
            .unwrap_or(SignedDuration::ZERO);
        let flowed = anchor.1.saturating_add(elapsed).unwrap_or(anchor.1);
        let behind = flowed.duration_until((self.system)());
        let most = elapsed / SLEW;
        let step = if behind >= JUMP {
            behind
        } else {
            behind.clamp(-most, most)
        };
        *anchor = (instant, flowed.saturating_add(step).unwrap_or(flowed));
        anchor.1
    }

    async fn sleep_until(&self, at: Timestamp) {
        loop {
            let left = self.now().duration_until(at);
            match Duration::try_from(left) {
                Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(LONGEST)).await,
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    /// A system clock that is `offset` seconds off the monotonic one.
    fn clock() -> (Arc<AtomicI64>, TokioClock) {
        let offset = Arc::new(AtomicI64::new(0));
        let (begin, shared) = (Instant::now(), Arc::clone(&offset));
        let system = move || {
            let elapsed = SignedDuration::try_from(begin.elapsed()).unwrap();
            Timestamp::from_second(1_000_000).unwrap()
                + elapsed
                + SignedDuration::from_secs(shared.load(Ordering::Relaxed))
        };
        (offset, TokioClock::of(system))
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_put_back_stretches_a_wait_by_an_eighth_at_most() {
        let (offset, clock) = clock();
        let begin = clock.now();
        let real = Instant::now();
        offset.store(-3600, Ordering::Relaxed);
        clock
            .sleep_until(begin + SignedDuration::from_secs(80))
            .await;
        assert!(
            (80..=92).contains(&real.elapsed().as_secs()),
            "{:?}",
            real.elapsed()
        );
        assert!(clock.now() >= begin + SignedDuration::from_secs(80));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_put_forward_is_followed_gently_or_at_once() {
        let (offset, clock) = clock();
        let begin = clock.now();
        offset.store(30, Ordering::Relaxed);
        assert_eq!(clock.now(), begin);
        tokio::time::advance(Duration::from_secs(8)).await;
        assert_eq!(clock.now(), begin + SignedDuration::from_secs(9));
        offset.store(7200, Ordering::Relaxed);
        assert_eq!(clock.now(), begin + SignedDuration::from_secs(7208));
    }

    #[tokio::test(start_paused = true)]
    async fn the_past_is_not_waited_for() {
        let (_, clock) = clock();
        clock.sleep_until(Timestamp::UNIX_EPOCH).await;
    }
}
