//! The clock of guests' turns: a thread that advances the engine's epoch while some guest runs,
//! and sleeps while none does, so an idle host takes no CPU.
//!
//! It knows nothing of guests but how many are being polled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// Between two ticks. A turn lasts from one of it to two (see [`crate::turn`]).
pub(crate) const TICK: Duration = Duration::from_millis(2);

/// The thread, stopped when this is dropped.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    polled: AtomicUsize,
    parked: AtomicBool,
    closing: AtomicBool,
}

/// A guest is being polled, until this is dropped.
pub(crate) struct Polled<'a>(&'a Shared);

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be had.
    pub(crate) fn start(engine: Engine) -> std::io::Result<Ticker> {
        Ticker::every(TICK, move || engine.increment_epoch())
    }

    fn every(interval: Duration, tick: impl Fn() + Send + 'static) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let handle = thread::Builder::new().name("ticker".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(interval, tick)
        })?;
        Ok(Ticker {
            shared,
            thread: handle.thread().clone(),
            handle: Some(handle),
        })
    }

    /// Keeps the clock going while the answer lives.
    pub(crate) fn poll(&self) -> Polled<'_> {
        self.shared.polled.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst)
            && self.shared.parked.swap(false, Ordering::SeqCst)
        {
            self.thread.unpark();
        }
        Polled(&self.shared)
    }
}

impl Drop for Polled<'_> {
    fn drop(&mut self) {
        self.0.polled.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn run(&self, interval: Duration, tick: impl Fn()) {
        while !self.closing.load(Ordering::SeqCst) {
            if self.polled.load(Ordering::SeqCst) > 0 {
                // Not a sleep: who drops this waits for the thread, and would wait for the tick.
                thread::park_timeout(interval);
                tick();
                continue;
            }
            // Whoever counts up after this store sees it and wakes the thread; whoever counted up
            // before it is seen here.
            self.parked.store(true, Ordering::SeqCst);
            if self.polled.load(Ordering::SeqCst) == 0 && !self.closing.load(Ordering::SeqCst) {
                thread::park();
            }
            self.parked.store(false, Ordering::SeqCst);
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.thread.unpark();
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn it_ticks_while_a_guest_is_polled_and_rests_otherwise() {
        let (send, ticks) = mpsc::channel();
        let ticker = Ticker::every(Duration::from_micros(100), move || {
            send.send(()).unwrap_or(())
        })
        .unwrap();
        for _ in 0..100 {
            let polled = ticker.poll();
            ticks.recv().unwrap();
            drop(polled);
            // It comes to rest: then no tick is left but those that were sent before.
            while !ticker.shared.parked.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            while ticks.try_recv().is_ok() {}
            assert!(ticks.try_recv().is_err());
        }
    }
}
