//! What the host buffers for a guest, charged to whoever limits the guest's memory.
//!
//! This module must not know what the limit is, nor what happens to a guest that passes it.

use crate::fs::Errno;
use std::sync::Arc;

/// A memory budget that buffers are charged to.
pub trait Budget: Send + Sync + 'static {
    /// Takes `bytes`, for what a message calls `what`. False if the guest is over its limit: then
    /// nothing was taken, and the guest is about to be ended.
    fn take(&self, bytes: u64, what: &'static str) -> bool;

    /// Gives back what was taken.
    fn give(&self, bytes: u64);
}

/// A budget, or none.
#[derive(Clone, Default)]
pub struct Charge(Option<Arc<dyn Budget>>);

/// Charged as long as it lives.
pub(crate) struct Held {
    budget: Option<Arc<dyn Budget>>,
    bytes: u64,
}

impl Charge {
    /// Charges to `budget`.
    pub fn to(budget: Arc<dyn Budget>) -> Charge {
        Charge(Some(budget))
    }

    /// Charges so many bytes until the result is dropped.
    ///
    /// # Errors
    /// `ENOMEM` past the limit.
    pub(crate) fn hold(&self, bytes: usize, what: &'static str) -> Result<Held, Errno> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        match &self.0 {
            Some(budget) if !budget.take(bytes, what) => Err(Errno::NOMEM),
            budget => Ok(Held {
                budget: budget.clone(),
                bytes,
            }),
        }
    }
}

impl std::fmt::Debug for Charge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Charge({})",
            if self.0.is_some() {
                "to a budget"
            } else {
                "to nobody"
            }
        )
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({} bytes)", self.bytes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give(self.bytes);
        }
    }
}
