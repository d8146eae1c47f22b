//! Descriptors of this process that guests open as they run: bounded for each guest, and counted for
//! whoever shares out what the process may have.
//!
//! This module must not know how many there may be in all, nor what one is of.

use crate::fs::Errno;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shares out what the process may have open.
pub trait Descriptors: Send + Sync + 'static {
    /// Takes one. False if the process has none to spare: then nothing was taken.
    fn take(&self) -> bool;

    /// Gives one back.
    fn give(&self);
}

/// Where a guest's descriptors are taken from, if they are counted at all.
#[derive(Clone, Default)]
pub struct Share {
    all: Option<Arc<dyn Descriptors>>,
    own: Option<Arc<Own>>,
}

/// What one guest has open, and may have.
struct Own {
    open: AtomicUsize,
    bound: usize,
}

/// One descriptor, given back when this is dropped.
pub struct OpenOne(Share);

impl Share {
    /// A share of what `descriptors` has.
    pub fn of(descriptors: Arc<dyn Descriptors>) -> Share {
        Share {
            all: Some(descriptors),
            own: None,
        }
    }

    /// The same, for one guest that may have so many open at once.
    pub(crate) fn bounded(&self, bound: usize) -> Share {
        let open = AtomicUsize::new(0);
        Share {
            all: self.all.clone(),
            own: Some(Arc::new(Own { open, bound })),
        }
    }

    /// Takes one, before it is opened.
    ///
    /// # Errors
    /// `EMFILE`: the guest has as many as it may. `ENFILE`: the process has none to spare.
    pub fn take(&self) -> Result<OpenOne, Errno> {
        if let Some(own) = &self.own
            && own.open.fetch_add(1, Ordering::Relaxed) >= own.bound
        {
            own.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::MFILE);
        }
        if self.all.as_ref().is_some_and(|all| !all.take()) {
            self.give_own();
            return Err(Errno::NFILE);
        }
        Ok(OpenOne(self.clone()))
    }

    fn give_own(&self) {
        if let Some(own) = &self.own {
            own.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for OpenOne {
    fn drop(&mut self) {
        self.0.give_own();
        if let Some(all) = &self.0.all {
            all.give();
        }
    }
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Share(bounded: {})", self.own.is_some())
    }
}

impl std::fmt::Debug for OpenOne {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenOne({:?})", self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Some3(AtomicUsize);

    impl Descriptors for Some3 {
        fn take(&self) -> bool {
            self.0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
        }

        fn give(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_guest_has_its_bound_and_all_have_what_there_is() {
        let all = Arc::new(Some3(AtomicUsize::new(3)));
        let share = Share::of(Arc::clone(&all) as Arc<dyn Descriptors>);
        let (one, other) = (share.bounded(2), share.bounded(2));
        let first = [one.take().unwrap(), one.take().unwrap()];
        assert_eq!(one.take().unwrap_err(), Errno::MFILE);
        let second = other.take().unwrap();
        assert_eq!(other.take().unwrap_err(), Errno::NFILE);
        drop(first);
        let third = other.take().unwrap();
        assert_eq!(other.take().unwrap_err(), Errno::MFILE);
        drop((second, third));
        assert_eq!(all.0.load(Ordering::Relaxed), 3);
        Share::default().take().unwrap();
    }
}
