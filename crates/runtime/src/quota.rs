//! The CPU time of a container: counted, and bounded as the kernel's CFS does it: so much in each
//! period of 100 ms, for all that runs in the container, and who has had it waits for the next.
//!
//! A turn can't be cut to the microsecond, so a container may run into debt, which later periods
//! pay: over time it has what it was given.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Over which the quota is counted.
const PERIOD: Duration = Duration::from_millis(100);

/// Nanoseconds of a period that one thousandth of a core is.
const NANOS_PER_MILLI: u64 = 100_000;

/// A container's CPU time.
pub(crate) struct Quota {
    used: AtomicU64,
    /// Nanoseconds a period; 0 is without limit.
    per_period: AtomicU64,
    account: Mutex<Account>,
}

struct Account {
    /// Nanoseconds left of this period; negative is debt.
    balance: i64,
    ends: Instant,
}

impl Quota {
    /// A quota in thousandths of a core; `None` is without limit.
    pub(crate) fn new(cpu_milli: Option<u32>, now: Instant) -> Quota {
        let per_period = per_period(cpu_milli);
        let account = Account {
            balance: signed(per_period),
            ends: now + PERIOD,
        };
        Quota {
            used: AtomicU64::new(0),
            per_period: AtomicU64::new(per_period),
            account: Mutex::new(account),
        }
    }

    /// Changes the quota. Debt is forgiven, so that who waits goes on with the new one; what
    /// changes nothing forgives nothing, or who is told often would have more than its share.
    pub(crate) fn set(&self, cpu_milli: Option<u32>, now: Instant) {
        let per_period = per_period(cpu_milli);
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        if self.per_period.swap(per_period, Ordering::Relaxed) == per_period {
            return;
        }
        *account = Account {
            balance: signed(per_period),
            ends: now + PERIOD,
        };
    }

    /// CPU time since the container's start, nanoseconds.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Notes that so many nanoseconds were taken.
    pub(crate) fn charge(&self, nanos: u64) {
        self.used.fetch_add(nanos, Ordering::Relaxed);
        if self.per_period.load(Ordering::Relaxed) != 0 {
            let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
            account.balance = account.balance.saturating_sub(signed(nanos));
        }
    }

    /// Until when the container has to wait; `None` if it may run. Ask again then.
    pub(crate) fn wait(&self, now: Instant) -> Option<Instant> {
        let per_period = self.per_period.load(Ordering::Relaxed);
        if per_period == 0 {
            return None;
        }
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        account.refill(per_period, now);
        (account.balance <= 0).then_some(account.ends)
    }

    /// Whether this turn, which has taken so many nanoseconds uncharged, has used the quota up.
    pub(crate) fn exhausted(&self, nanos: u64) -> bool {
        self.per_period.load(Ordering::Relaxed) != 0
            && self
                .account
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .balance
                <= signed(nanos)
    }
}

impl wasi_host::CpuMeter for Quota {
    fn spent(&self, nanos: u64) {
        self.charge(nanos);
    }
}

impl Account {
    fn refill(&mut self, per_period: u64, now: Instant) {
        let Some(late) = now.checked_duration_since(self.ends) else {
            return;
        };
        let periods = late.as_nanos() / PERIOD.as_nanos() + 1;
        let periods = u64::try_from(periods).unwrap_or(u64::MAX);
        let gained = signed(per_period.saturating_mul(periods));
        self.balance = self.balance.saturating_add(gained).min(signed(per_period));
        let rest = late.as_nanos() % PERIOD.as_nanos();
        self.ends = now + PERIOD - Duration::from_nanos(u64::try_from(rest).unwrap_or(0));
    }
}

fn per_period(cpu_milli: Option<u32>) -> u64 {
    cpu_milli.map_or(0, |milli| u64::from(milli.max(1)) * NANOS_PER_MILLI)
}

fn signed(nanos: u64) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

/// The CPU time of the calling thread, nanoseconds.
pub(crate) fn thread_cpu() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn without_a_limit_it_only_counts() {
        let now = Instant::now();
        let quota = Quota::new(None, now);
        quota.charge(10_000 * MS);
        assert_eq!(
            (quota.wait(now), quota.used(), quota.exhausted(u64::MAX)),
            (None, 10_000 * MS, false)
        );
    }

    #[test]
    fn who_has_had_his_share_waits_for_the_next_period() {
        let now = Instant::now();
        let quota = Quota::new(Some(250), now);
        quota.charge(24 * MS);
        assert_eq!(quota.wait(now), None);
        assert!(!quota.exhausted(MS / 2) && quota.exhausted(MS));
        quota.charge(MS);
        assert_eq!(quota.wait(now), Some(now + PERIOD));
        assert_eq!(quota.wait(now + PERIOD), None);
    }

    #[test]
    fn debt_is_paid_and_idleness_is_not_saved_up() {
        let now = Instant::now();
        let quota = Quota::new(Some(100), now);
        quota.charge(35 * MS);
        assert_eq!(quota.wait(now + PERIOD), Some(now + PERIOD * 2));
        assert_eq!(quota.wait(now + PERIOD * 2), Some(now + PERIOD * 3));
        assert_eq!(quota.wait(now + PERIOD * 3), None);
        let later = now + PERIOD * 1000 + PERIOD / 4;
        assert_eq!(quota.wait(later), None);
        quota.charge(10 * MS);
        assert_eq!(
            quota.wait(later),
            Some(now + PERIOD * 1001),
            "periods keep their beat"
        );
    }

    #[test]
    fn a_change_frees_who_waits() {
        let now = Instant::now();
        let quota = Quota::new(Some(1), now);
        quota.charge(1000 * MS);
        assert!(quota.wait(now).is_some());
        quota.set(Some(500), now);
        assert_eq!(quota.wait(now), None);
        quota.set(None, now);
        quota.charge(1000 * MS);
        assert_eq!(quota.wait(now), None);
    }

    /// Cores of their own that spin in virtual time, each turn cut by a clock that ticks every 2 ms,
    /// each wait a little late, and for each turn some time of a blocking thread.
    struct Spinners {
        clocks: Vec<Instant>,
        blocking: u64,
        random: u64,
    }

    impl Spinners {
        fn random(&mut self, below: u64) -> u64 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.random % below
        }

        fn spin(&mut self, quota: &Quota, until: Instant) {
            loop {
                let (at, now) = self
                    .clocks
                    .iter()
                    .copied()
                    .enumerate()
                    .min_by_key(|(_, clock)| *clock)
                    .unwrap();
                if now >= until {
                    return;
                }
                let next = match quota.wait(now) {
                    Some(ends) => ends + Duration::from_nanos(self.random(MS)),
                    None => {
                        let first = self.random(2 * MS);
                        let took = if quota.exhausted(first) {
                            first
                        } else {
                            first + 2 * MS
                        };
                        quota.charge(took + self.random(self.blocking + 1));
                        now + Duration::from_nanos(took)
                    }
                };
                if let Some(clock) = self.clocks.get_mut(at) {
                    *clock = next;
                }
            }
        }
    }

    const SECONDS: u32 = 20;

    #[test]
    fn over_time_a_container_has_what_it_was_given() {
        for (milli, workers, blocking) in [
            (20, 1, 0),
            (50, 1, 0),
            (50, 4, MS),
            (250, 4, 0),
            (500, 2, 3 * MS),
            (1500, 2, 0),
            (3500, 5, MS),
        ] {
            let begin = Instant::now();
            let quota = Quota::new(Some(milli), begin);
            let mut spinners = Spinners {
                clocks: vec![begin; workers],
                blocking,
                random: 88172645463325252 + u64::from(milli),
            };
            spinners.spin(&quota, begin + Duration::from_secs(SECONDS.into()));
            let given = u64::from(milli) * u64::from(SECONDS) * MS;
            let part = quota.used() as f64 / given as f64;
            assert!((0.95..1.05).contains(&part), "{milli}m: {part}");
        }
    }

    #[test]
    fn a_quota_that_changes_holds_before_and_after_and_telling_it_again_gives_nothing() {
        let begin = Instant::now();
        let quota = Quota::new(Some(500), begin);
        let mut spinners = Spinners {
            clocks: vec![begin; 2],
            blocking: 0,
            random: 7,
        };
        let mut at = begin;
        for _ in 0..SECONDS * 100 {
            at += Duration::from_millis(10);
            spinners.spin(&quota, at);
            quota.set(Some(500), at);
        }
        let before = quota.used();
        let given = u64::from(SECONDS) * 500 * MS;
        let part = before as f64 / given as f64;
        assert!((0.95..1.05).contains(&part), "{part}");
        quota.set(Some(100), at);
        spinners.spin(&quota, at + Duration::from_secs(SECONDS.into()));
        let part = (quota.used() - before) as f64 / (given / 5) as f64;
        assert!((0.95..1.05).contains(&part), "{part}");
    }
}
