//! Arithmetic with times that can't overflow: a time past the end of time is the end of time.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// `seconds` after `at`.
pub(crate) fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds.max(0)))
        .unwrap_or(Timestamp::MAX)
}

/// Seconds from `now` to `then`, rounded up; 0 if it has passed.
pub(crate) fn until(now: Timestamp, then: Timestamp) -> u32 {
    let left = then.duration_since(now);
    let whole = left.as_secs() + i64::from(left.subsec_nanos() > 0);
    u32::try_from(whole.max(0)).unwrap_or(u32::MAX)
}

/// True if more than `seconds` lie between `from` and `to`.
pub(crate) fn longer(from: Timestamp, to: Timestamp, seconds: i64) -> bool {
    to.duration_since(from) > SignedDuration::from_secs(seconds)
}

/// As the API has it: whole seconds.
pub(crate) fn whole(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}
