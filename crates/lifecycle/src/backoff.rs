//! Exponential backoff as client-go's `util/flowcontrol.Backoff` keeps it, with the kubelet's
//! numbers (`pkg/kubelet/kubelet.go`): 10 s, doubled to 300 s, begun anew when what failed had been
//! well for more than 10 min since the last raise.

use jiff::Timestamp;

use crate::memory::Backoff;
use crate::time::{after, longer};

/// The first delay, seconds.
const BASE: u32 = 10;
/// The longest delay, seconds.
const MAX: u32 = 300;
/// A failure this long after the last raise starts anew, seconds.
const EXPIRY: i64 = 600;

/// When the wait for what failed at `failed` ends; `None` if it has, or there is none.
pub(crate) fn pending(
    backoff: Option<&Backoff>,
    failed: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let backoff = backoff?;
    if longer(backoff.updated, failed, EXPIRY) {
        return None;
    }
    let end = after(failed, i64::from(backoff.seconds));
    (end > now).then_some(end)
}

/// The backoff after another failure at `failed`, raised now.
pub(crate) fn raise(backoff: Option<&Backoff>, failed: Timestamp, now: Timestamp) -> Backoff {
    let seconds = match backoff {
        Some(backoff) if !longer(backoff.updated, failed, EXPIRY) => {
            backoff.seconds.saturating_mul(2).min(MAX)
        }
        _ => BASE,
    };
    Backoff {
        seconds,
        updated: now,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn doubles_to_five_minutes_and_no_further() {
        let mut backoff = None;
        let mut delays = Vec::new();
        for n in 0..8 {
            let next = raise(backoff.as_ref(), at(n), at(n));
            delays.push(next.seconds);
            backoff = Some(next);
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn begins_anew_after_ten_good_minutes() {
        let long = Backoff {
            seconds: 300,
            updated: at(1000),
        };
        assert_eq!(raise(Some(&long), at(1600), at(1600)).seconds, 300);
        assert_eq!(raise(Some(&long), at(1601), at(1601)).seconds, 10);
        assert_eq!(pending(Some(&long), at(1600), at(1601)), Some(at(1900)));
        assert_eq!(pending(Some(&long), at(1601), at(1602)), None);
    }

    #[test]
    fn counts_from_the_failure_and_not_from_the_raise() {
        let backoff = Backoff {
            seconds: 10,
            updated: at(0),
        };
        assert_eq!(pending(Some(&backoff), at(5), at(14)), Some(at(15)));
        assert_eq!(pending(Some(&backoff), at(5), at(15)), None);
        assert_eq!(pending(None, at(5), at(5)), None);
    }
}
