//! Guests take turns: each poll of a guest's future is one.
//!
//! A turn is charged to its container, starts only while the container has CPU time left, and ends
//! when the guest waits, or at a tick that finds it a tick old. Who has just been woken is not sent
//! back by a tick that came while it slept, so an answer never waits behind the spinners.
//!
//! The yield wakes its own task and is pending once. `tokio::task::yield_now` would defer the wake
//! to the driver, and at an event interval of 1 was seen never to come back.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::time::Sleep;
use wasmtime::UpdateDeadline;

use crate::budget::{Memory, OverBudget};
use crate::container::Container;
use crate::quota::thread_cpu;
use crate::ticker::{TICK, Ticker};

thread_local! {
    /// When this thread's turn began, in its CPU time.
    static BEGAN: Cell<u64> = const { Cell::new(0) };
    /// The memory budget of the container whose turn it is.
    static MEMORY: RefCell<Option<Arc<Memory>>> = const { RefCell::new(None) };
}

/// The budget of the container whose turn it is on this thread.
pub(crate) fn memory() -> Option<Arc<Memory>> {
    MEMORY.with_borrow(Clone::clone)
}

/// What to do with a guest at a tick.
///
/// # Errors
/// Its stack has taken its container over the memory budget.
pub(crate) fn tick(container: &Container) -> Result<UpdateDeadline, OverBudget> {
    let took = thread_cpu().saturating_sub(BEGAN.get());
    if u128::from(took) < TICK.as_nanos() && !container.quota.exhausted(took) {
        return Ok(UpdateDeadline::Continue(1));
    }
    container.memory.check_stacks()?;
    Ok(UpdateDeadline::YieldCustom(1, Box::pin(Yield(false))))
}

/// Pending once.
struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A future that runs in a container's turns.
pub(crate) struct Turns<F> {
    throttle: Throttle,
    inner: Charged<F>,
}

/// Waits while a container has no CPU time left.
#[derive(Default)]
pub(crate) struct Throttle(Option<Pin<Box<Sleep>>>);

impl Throttle {
    /// Ready when the container may go on.
    pub(crate) fn poll_free(
        &mut self,
        container: &Container,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        while let Some(until) = container.quota.wait(Instant::now()) {
            let sleep = self
                .0
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until.into())));
            ready!(sleep.as_mut().poll(context));
            self.0 = None;
        }
        self.0 = None;
        Poll::Ready(())
    }
}

/// A future that runs in a container's turns, though it has no CPU time left: what there is of
/// guests in it has to wait for that by itself (see [`Throttle`]).
pub(crate) struct Charged<F> {
    container: Arc<Container>,
    ticker: Arc<Ticker>,
    inner: F,
}

impl<F> Charged<F> {
    pub(crate) fn new(container: Arc<Container>, ticker: Arc<Ticker>, inner: F) -> Charged<F> {
        Charged {
            container,
            ticker,
            inner,
        }
    }
}

impl<F: Future + Unpin> Future for Charged<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let charged = self.get_mut();
        let _polled = charged.ticker.poll();
        let turn = Turn::begin(&charged.container);
        let answer = Pin::new(&mut charged.inner).poll(context);
        drop(turn);
        answer
    }
}

impl<F> Turns<F> {
    pub(crate) fn new(container: Arc<Container>, ticker: Arc<Ticker>, inner: F) -> Turns<F> {
        Turns {
            throttle: Throttle::default(),
            inner: Charged::new(container, ticker, inner),
        }
    }
}

impl<F: Future + Unpin> Future for Turns<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let turns = self.get_mut();
        ready!(turns.throttle.poll_free(&turns.inner.container, context));
        Pin::new(&mut turns.inner).poll(context)
    }
}

/// A turn of a container on this thread, charged when it is dropped, by a panic too.
struct Turn<'a>(&'a Container);

impl<'a> Turn<'a> {
    fn begin(container: &'a Container) -> Turn<'a> {
        MEMORY.set(Some(Arc::clone(&container.memory)));
        BEGAN.set(thread_cpu());
        Turn(container)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0
            .quota
            .charge(thread_cpu().saturating_sub(BEGAN.get()));
        MEMORY.set(None);
    }
}
