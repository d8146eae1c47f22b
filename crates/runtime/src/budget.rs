//! The memory of a container: one budget for all that runs in it.
//!
//! Charged are linear memories and tables at their size, stacks at what was touched of them, and
//! whatever else is asked for with [`Memory::charge`]. `memory.grow` answers −1 only at a module's
//! own maximum; a container that passes its budget is over, once and for all, and ends.
//!
//! It must not know stores, guests or how a container is ended: whoever is told [`OverBudget`] does that.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Notify;
use wasmtime::ResourceLimiter;

use crate::stack::{Extent, TooManyStacks, stacks_of};

/// No limit.
const UNLIMITED: u64 = u64::MAX;

/// Bytes of a table's element, of any type at most.
const ELEMENT: u64 = 16;

/// The most elements of a table, as the web's engines have it: growth beyond answers −1.
const TABLE_ELEMENTS: usize = 10_000_000;

/// The most instances, memories and tables of one store: a large component has some dozens.
const PER_STORE: usize = 1_000;

/// The container's memory is used up.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OverBudget(pub(crate) String);

/// A container's memory budget.
pub(crate) struct Memory {
    limit: AtomicU64,
    charged: AtomicU64,
    touched: AtomicU64,
    stacks: Mutex<Vec<Arc<Extent>>>,
    /// How many there may be.
    max_stacks: AtomicUsize,
    over: OnceLock<OverBudget>,
    ended: Notify,
}

impl Memory {
    /// A budget of so many bytes; `None` is without limit.
    pub(crate) fn new(limit: Option<u64>) -> Memory {
        Memory {
            limit: AtomicU64::new(limit.unwrap_or(UNLIMITED)),
            charged: AtomicU64::new(0),
            touched: AtomicU64::new(0),
            stacks: Mutex::new(Vec::new()),
            max_stacks: AtomicUsize::new(stacks_of(1)),
            over: OnceLock::new(),
            ended: Notify::new(),
        }
    }

    /// Changes the limit. A container that is above the new one ends when it next grows.
    pub(crate) fn set_limit(&self, limit: Option<u64>) {
        self.limit
            .store(limit.unwrap_or(UNLIMITED), Ordering::Relaxed);
    }

    /// The limit in bytes, if there is one.
    pub(crate) fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit != UNLIMITED)
    }

    /// What is charged, in bytes, with the stacks as they are now.
    pub(crate) fn used(&self) -> u64 {
        self.measure_stacks();
        self.sum()
    }

    fn sum(&self) -> u64 {
        self.charged
            .load(Ordering::Relaxed)
            .saturating_add(self.touched.load(Ordering::Relaxed))
    }

    /// Takes so many bytes, for what the message calls `what`.
    ///
    /// # Errors
    /// The limit would be passed: the container is over, and nothing is charged.
    pub(crate) fn charge(&self, bytes: u64, what: &str) -> Result<(), OverBudget> {
        if let Some(over) = self.over.get() {
            return Err(over.clone());
        }
        let limit = self.limit.load(Ordering::Relaxed);
        let touched = self.touched.load(Ordering::Relaxed);
        let fits = |charged: u64| {
            let sum = charged.checked_add(bytes)?;
            (sum.checked_add(touched)? <= limit).then_some(sum)
        };
        match self
            .charged
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
        {
            Ok(_) => Ok(()),
            Err(charged) => Err(self.fail(format!(
                "out of memory: the limit is {}, {} are in use, and {what} wants {} more",
                Bytes(limit),
                Bytes(charged.saturating_add(touched)),
                Bytes(bytes)
            ))),
        }
    }

    /// Gives back what [`Memory::charge`] took.
    pub(crate) fn release(&self, bytes: u64) {
        let _ = self
            .charged
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |charged| {
                Some(charged.saturating_sub(bytes))
            });
    }

    /// Takes so many bytes until the answer is dropped, if there is room: for what may as well not
    /// be had, so that nothing ends for want of it.
    pub(crate) fn hold(self: &Arc<Memory>, bytes: u64) -> Option<Hold> {
        let limit = self.limit.load(Ordering::Relaxed);
        let touched = self.touched.load(Ordering::Relaxed);
        let fits = |charged: u64| {
            let sum = charged.checked_add(bytes)?;
            (sum.checked_add(touched)? <= limit).then_some(sum)
        };
        self.charged
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .ok()?;
        Some(Hold {
            memory: Arc::clone(self),
            bytes,
        })
    }

    /// Counts the stacks' touched pages anew.
    ///
    /// # Errors
    /// They take the container over its limit.
    pub(crate) fn check_stacks(&self) -> Result<(), OverBudget> {
        let touched = self.measure_stacks();
        let (sum, limit) = (self.sum(), self.limit.load(Ordering::Relaxed));
        if sum <= limit {
            return Ok(());
        }
        Err(self.fail(format!(
            "out of memory: the limit is {}, and its stacks of {} bring it to {}",
            Bytes(limit),
            Bytes(touched),
            Bytes(sum)
        )))
    }

    fn measure_stacks(&self) -> u64 {
        let stacks = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
        let touched = stacks.iter().map(|stack| stack.touched()).sum();
        self.touched.store(touched, Ordering::Relaxed);
        touched
    }

    ///
    /// # Errors
    /// The container has as many as it was promised room for: concurrent calls can make more.
    pub(crate) fn add_stack(&self, stack: &Arc<Extent>) -> Result<(), TooManyStacks> {
        let most = self.max_stacks.load(Ordering::Relaxed);
        let mut stacks = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
        if stacks.len() >= most {
            return Err(TooManyStacks(most));
        }
        stacks.push(Arc::clone(stack));
        Ok(())
    }

    /// Lets so many instances run at once.
    pub(crate) fn expect_instances(&self, instances: u32) {
        self.max_stacks
            .store(stacks_of(instances), Ordering::Relaxed);
    }

    pub(crate) fn remove_stack(&self, stack: &Arc<Extent>) {
        self.stacks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|other| !Arc::ptr_eq(other, stack));
        self.measure_stacks();
    }

    /// Ends the container: the first message stays.
    fn fail(&self, message: String) -> OverBudget {
        let over = self.over.get_or_init(|| OverBudget(message)).clone();
        self.ended.notify_waiters();
        over
    }

    /// Why the container is over, if it is.
    pub(crate) fn over(&self) -> Option<&OverBudget> {
        self.over.get()
    }

    /// Resolves when the container is over.
    pub(crate) async fn until_over(&self) {
        let ended = self.ended.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        if self.over.get().is_none() {
            ended.await;
        }
    }
}

impl wasi_host::Budget for Memory {
    fn take(&self, bytes: u64, what: &'static str) -> bool {
        self.charge(bytes, what).is_ok()
    }

    fn give(&self, bytes: u64) {
        self.release(bytes);
    }
}

/// Bytes that are given back when this is dropped.
pub(crate) struct Hold {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.memory.release(self.bytes);
    }
}

/// What one store has charged; given back when it is dropped.
pub(crate) struct Limiter {
    memory: Arc<Memory>,
    charged: u64,
}

impl Limiter {
    pub(crate) fn new(memory: Arc<Memory>) -> Limiter {
        Limiter { memory, charged: 0 }
    }

    fn grow(&mut self, bytes: u64, what: &str) -> wasmtime::Result<bool> {
        self.memory.check_stacks()?;
        self.memory.charge(bytes, what)?;
        self.charged = self.charged.saturating_add(bytes);
        Ok(true)
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.memory.release(self.charged);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grow(desired.saturating_sub(current) as u64, "its linear memory")
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // The one failure before `memory_growing` is that the memory's type can't have the size:
        // its own maximum. After it, the machine has refused what the budget allows.
        if error.to_string().contains("type's limits") {
            return Ok(());
        }
        Err(self
            .memory
            .fail(format!(
                "out of memory: the machine refuses to grow a linear memory: {error:#}"
            ))
            .into())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > maximum.unwrap_or(TABLE_ELEMENTS).min(TABLE_ELEMENTS) {
            return Ok(false);
        }
        self.grow(
            (desired.saturating_sub(current) as u64).saturating_mul(ELEMENT),
            "a table",
        )
    }

    fn instances(&self) -> usize {
        PER_STORE
    }

    fn tables(&self) -> usize {
        PER_STORE
    }

    fn memories(&self) -> usize {
        PER_STORE
    }
}

/// Bytes as people read them: exactly, and in MiB or KiB.
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            UNLIMITED => write!(f, "none"),
            n if n >= 1 << 20 => write!(f, "{:.1} MiB", n as f64 / f64::from(1 << 20)),
            n => write!(f, "{:.1} KiB", n as f64 / 1024.0),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_sum_of_all_stores_counts_and_comes_back_when_one_is_dropped() {
        let memory = Arc::new(Memory::new(Some(1 << 20)));
        let mut a = Limiter::new(Arc::clone(&memory));
        let mut b = Limiter::new(Arc::clone(&memory));
        assert!(a.memory_growing(0, 512 << 10, None).unwrap());
        assert!(b.memory_growing(0, 512 << 10, None).unwrap());
        drop(a);
        assert_eq!(memory.used(), 512 << 10);
        assert!(b.memory_growing(512 << 10, 1 << 20, None).unwrap());
        assert!(memory.over().is_none());
    }

    #[test]
    fn passing_the_limit_ends_the_container_for_good_and_says_both_numbers() {
        let memory = Arc::new(Memory::new(Some(1 << 20)));
        let mut store = Limiter::new(Arc::clone(&memory));
        let error = store.memory_growing(0, 2 << 20, None).unwrap_err();
        assert!(error.is::<OverBudget>());
        assert_eq!(
            memory.over().unwrap().to_string(),
            "out of memory: the limit is 1.0 MiB, 0.0 KiB are in use, and its linear memory wants 2.0 MiB more"
        );
        assert!(memory.charge(1, "anything").is_err());
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn what_is_held_if_there_is_room_ends_nothing() {
        let memory = Arc::new(Memory::new(Some(100)));
        let held = memory.hold(60).unwrap();
        assert!(memory.hold(60).is_none());
        assert!(memory.over().is_none());
        drop(held);
        assert_eq!(memory.used(), 0);
        assert!(memory.hold(100).is_some());
    }

    #[test]
    fn a_maximum_of_its_own_is_no_fault() {
        let memory = Arc::new(Memory::new(Some(1 << 20)));
        let mut store = Limiter::new(Arc::clone(&memory));
        assert!(!store.memory_growing(0, 8 << 20, Some(1 << 20)).unwrap());
        assert!(!store.table_growing(0, TABLE_ELEMENTS + 1, None).unwrap());
        assert!(memory.over().is_none());
    }

    #[test]
    fn a_charge_that_would_overflow_is_over() {
        let memory = Memory::new(Some(u64::MAX - 1));
        memory.charge(1 << 40, "a buffer").unwrap();
        assert!(memory.charge(u64::MAX, "a buffer").is_err());
    }

    #[tokio::test]
    async fn whoever_waits_for_the_end_hears_of_it_early_or_late() {
        let memory = Arc::new(Memory::new(Some(0)));
        let waiting = tokio::spawn({
            let memory = Arc::clone(&memory);
            async move { memory.until_over().await }
        });
        tokio::task::yield_now().await;
        memory.charge(1, "a buffer").unwrap_err();
        waiting.await.unwrap();
        memory.until_over().await;
    }
}
