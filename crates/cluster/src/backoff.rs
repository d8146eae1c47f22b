//! Waiting between tries.

use std::time::Duration;

use rand::Rng;

/// Doubles from a first wait to a longest, each with up to half of it again at random, so that a thousand pods whose
/// server came back don't all call in the same millisecond.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// The kubelet's for its registration, and ours for every call: 100 ms to 7 s.
    pub(crate) fn calls() -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(7))
    }

    pub(crate) fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff {
            first,
            longest,
            next: first,
        }
    }

    /// The next wait; never shorter than what the server asked for.
    pub(crate) fn next(&mut self, at_least: Option<Duration>) -> Duration {
        let wait = self.next;
        self.next = self.next.saturating_mul(2).min(self.longest);
        let jitter = rand::rng().random_range(0.0..0.5);
        at_least.unwrap_or_default().max(wait).mul_f64(1.0 + jitter)
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Backoff::next(self, None))
    }
}

impl kube::runtime::utils::Backoff for Backoff {
    fn reset(&mut self) {
        Backoff::reset(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again() {
        let mut backoff = Backoff::calls();
        let waits: Vec<u128> = (0..9).map(|_| backoff.next(None).as_millis()).collect();
        for (wait, base) in waits
            .iter()
            .zip([100, 200, 400, 800, 1600, 3200, 6400, 7000, 7000])
        {
            assert!((base..base * 3 / 2 + 1).contains(wait), "{waits:?}");
        }
        backoff.reset();
        assert!(backoff.next(None) < Duration::from_millis(150));
    }

    #[test]
    fn the_server_s_wish_is_the_least() {
        assert!(Backoff::calls().next(Some(Duration::from_secs(5))) >= Duration::from_secs(5));
    }
}
