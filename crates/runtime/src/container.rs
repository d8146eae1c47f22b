//! A container, as far as limits go: they belong to it and not to a store, so whatever runs in it
//! shares one of these.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasi_host::{Blocking, CpuClock, CpuMeter};

use crate::budget::Memory;
use crate::quota::Quota;
use crate::spec::Limits;

/// The limits of a container, and what it has used of them.
pub(crate) struct Container {
    pub(crate) memory: Arc<Memory>,
    /// Its CPU time, that of its blocking operations included.
    pub(crate) quota: Arc<Quota>,
    /// Where whatever blocks is done, for all that runs in the container.
    pub(crate) blocking: Arc<Blocking>,
}

impl Container {
    pub(crate) fn new(limits: &Limits) -> Container {
        let quota = Arc::new(Quota::new(limits.cpu_milli, Instant::now()));
        let meter = Arc::clone(&quota) as Arc<dyn CpuMeter>;
        Container {
            memory: Arc::new(Memory::new(limits.memory_bytes)),
            quota,
            blocking: Blocking::metered(operations(limits), meter),
        }
    }

    /// Changes the limits of what runs.
    pub(crate) fn set_limits(&self, limits: &Limits) {
        self.memory.set_limit(limits.memory_bytes);
        self.quota.set(limits.cpu_milli, Instant::now());
        self.blocking.set_bound(operations(limits));
    }

    /// A clock of the container's CPU time from now on.
    pub(crate) fn cpu_clock(&self) -> CpuClock {
        let quota = Arc::clone(&self.quota);
        let before = quota.used();
        Arc::new(move || Duration::from_nanos(quota.used().saturating_sub(before)))
    }
}

fn operations(limits: &Limits) -> usize {
    usize::try_from(limits.blocking_ops).unwrap_or(usize::MAX)
}
