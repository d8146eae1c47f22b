//! The execs of one container: how many there are, and their common end. They die with it, and it
//! has ended only when they have.
//!
//! It must not know what an exec runs.

use std::sync::Arc;

use tokio::sync::watch;

/// The most execs that one container may have at once.
pub(crate) const MAX_EXECS: u32 = 32;

/// The execs of a container.
pub(crate) struct Execs(watch::Sender<State>);

#[derive(Clone, Copy, Default)]
struct State {
    over: bool,
    running: u32,
}

/// Why a container takes no other exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// It has ended, or is just ending.
    Over,
    /// It has as many as it may.
    Full,
}

/// One exec's place among them, until it is dropped.
pub(crate) struct Place(Arc<Execs>);

impl Execs {
    pub(crate) fn new() -> Arc<Execs> {
        Arc::new(Execs(watch::Sender::default()))
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`NoPlace`]
    pub(crate) fn enter(self: &Arc<Execs>) -> Result<Place, NoPlace> {
        let mut refused = None;
        self.0.send_if_modified(|state| {
            match state {
                State { over: true, .. } => refused = Some(NoPlace::Over),
                state if state.running >= MAX_EXECS => refused = Some(NoPlace::Full),
                state => state.running += 1,
            }
            // Nobody waits for more of them.
            false
        });
        match refused {
            Some(refused) => Err(refused),
            None => Ok(Place(Arc::clone(self))),
        }
    }

    /// Ends them all, takes no more, and resolves when the last has gone.
    pub(crate) async fn end(&self) {
        self.0.send_modify(|state| state.over = true);
        // The sender is our own, so the wait can't fail.
        let _ = self
            .0
            .subscribe()
            .wait_for(|state| state.running == 0)
            .await;
    }
}

impl Place {
    /// Resolves when the container ends.
    pub(crate) async fn over(&self) {
        // The sender is held by `self`, so the wait can't fail.
        let _ = self.0.0.subscribe().wait_for(|state| state.over).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0
            .0
            .send_modify(|state| state.running = state.running.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn there_is_a_bound_and_an_end() {
        let execs = Execs::new();
        let mut places: Vec<Place> = (0..MAX_EXECS).map(|_| execs.enter().unwrap()).collect();
        assert_eq!(execs.enter().err(), Some(NoPlace::Full));
        places.pop();
        let last = execs.enter().unwrap();
        drop(places);
        let mut end = Box::pin(execs.end());
        assert!(futures::poll!(&mut end).is_pending());
        assert_eq!(execs.enter().err(), Some(NoPlace::Over));
        last.over().await;
        assert!(futures::poll!(&mut end).is_pending());
        drop(last);
        end.await;
        execs.end().await;
    }
}
