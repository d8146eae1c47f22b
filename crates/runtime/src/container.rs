//! A container, as far as limits go: they belong to it and not to a store, so whatever runs in it
//! shares one of these.

use std::sync::Arc;
use std::time::Instant;

use crate::budget::Memory;
use crate::quota::Quota;
use crate::spec::Limits;

/// The limits of a container, and what it has used of them.
pub(crate) struct Container {
    pub(crate) memory: Arc<Memory>,
    pub(crate) quota: Quota,
}

impl Container {
    pub(crate) fn new(limits: &Limits) -> Container {
        Container {
            memory: Arc::new(Memory::new(limits.memory_bytes)),
            quota: Quota::new(limits.cpu_milli, Instant::now()),
        }
    }

    /// Changes the limits of what runs.
    pub(crate) fn set_limits(&self, limits: &Limits) {
        self.memory.set_limit(limits.memory_bytes);
        self.quota.set(limits.cpu_milli, Instant::now());
    }
}
