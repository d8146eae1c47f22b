//! Clocks.

use super::types::{Clockid, Errno, Timestamp};
use super::{Ctx, Result};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The nanoseconds of `duration`: a u64 holds 584 years of them.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds since the Unix epoch.
pub(super) fn realtime() -> u64 {
    nanos(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

impl Ctx {
    /// The resolution is Linux' for high-resolution timers. What the clock of CPU time counts in is
    /// its supplier's own.
    pub(super) fn clock_resolution(&self, id: Clockid) -> Result<Timestamp> {
        self.clock_time(id).map(|_| 1)
    }

    pub(super) fn clock_time(&self, id: Clockid) -> Result<Timestamp> {
        match id {
            Clockid::Realtime => Ok(realtime()),
            Clockid::Monotonic => Ok(nanos(self.started.elapsed())),
            // A guest has one thread.
            Clockid::ProcessCputimeId | Clockid::ThreadCputimeId => {
                let clock = self.cpu_clock.as_ref().ok_or(Errno::Notsup)?;
                Ok(nanos(clock()))
            }
        }
    }
}
