//! A pod's worker: takes turns, checkpoints them, executes what they bring about.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use lifecycle::{Action, Event, EventKind, Failure, Kind, Retry};

use crate::agent::Inner;
use crate::ledger::{Effects, Ticket, Turn};
use crate::slot::Slot;
use crate::store::{Checkpoints, StoreError};

/// No two turns without a fact in between come closer than this.
pub(crate) const LEAST: SignedDuration = SignedDuration::from_millis(10);
const FIRST: SignedDuration = SignedDuration::from_secs(1);
const MOST: SignedDuration = SignedDuration::from_mins(1);
/// A worker that has gone on for so long after a panic begins anew with its delays.
const CALM: SignedDuration = SignedDuration::from_mins(10);

/// Runs a pod's worker until the pod is forgotten. One that panics goes on from its checkpoint,
/// after a delay; no other notices.
pub(crate) async fn supervise(inner: Arc<Inner>, slot: Arc<Slot>) {
    let mut delay = FIRST;
    loop {
        let begun = inner.ports.clock.now();
        let Err(panic) = AssertUnwindSafe(work(&inner, &slot)).catch_unwind().await else {
            return;
        };
        let said = said(&*panic);
        tracing::error!(
            uid = &*slot.uid,
            panic = said,
            "a pod's worker has panicked and goes on from its checkpoint"
        );
        if begun.duration_until(inner.ports.clock.now()) > CALM {
            delay = FIRST;
        }
        pause(&inner, &mut delay).await;
        if !inner.holds(&slot) {
            return;
        }
        // Boxed, as all that is rare: a worker at rest is to be small.
        Box::pin(recover(&inner, &slot)).await;
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("(no message)")
}

async fn pause(inner: &Inner, delay: &mut SignedDuration) {
    let now = inner.ports.clock.now();
    inner
        .ports
        .clock
        .sleep_until(now.saturating_add(*delay).unwrap_or(now))
        .await;
    *delay = (*delay * 2).min(MOST);
}

/// Goes back to the checkpoint. What is under way stays so, and its answers count.
async fn recover(inner: &Inner, slot: &Slot) {
    let uid = slot.uid.clone();
    match stored(inner, move |store| store.read(&uid)).await {
        Ok(Some(checkpoint)) => slot.lock().ledger.remember(checkpoint),
        Ok(None) => slot.lock().ledger.unsaved(),
        Err(error) => {
            tracing::error!(
                uid = &*slot.uid,
                error = &error as &dyn std::error::Error,
                "the worker goes on from its memory"
            );
            slot.lock().ledger.unsaved();
        }
    }
}

async fn work(inner: &Arc<Inner>, slot: &Arc<Slot>) {
    loop {
        let held = slot.lock().held;
        // Boxed, for a worker is at rest most of its life, and keeps room for the largest of what it awaits.
        let wake_at = match held {
            true => None,
            false => Box::pin(turn(inner, slot)).await,
        };
        let over = slot.lock().ledger.over();
        if over {
            match Box::pin(forget(inner, slot)).await {
                true => return,
                false => continue,
            }
        }
        let Some(at) = wake_at else {
            slot.wake.notified().await;
            continue;
        };
        let least = inner.ports.clock.now().saturating_add(LEAST).unwrap_or(at);
        tokio::select! {
            () = slot.wake.notified() => {}
            () = inner.ports.clock.sleep_until(at.max(least)) => {}
        }
    }
}

/// One turn, taken again until its checkpoint is safe; returns when the next one is due if no fact
/// comes. Without a checkpoint nothing of a turn happens.
async fn turn(inner: &Arc<Inner>, slot: &Arc<Slot>) -> Option<Timestamp> {
    let mut delay = FIRST;
    loop {
        let turn = slot.lock().ledger.turn(inner.ports.clock.now());
        let Some(checkpoint) = turn.checkpoint().map(Box::new) else {
            return commit(inner, slot, turn);
        };
        let uid = slot.uid.clone();
        match stored(inner, move |store| store.save(&uid, &checkpoint)).await {
            Ok(()) => return commit(inner, slot, turn),
            Err(error) => {
                if delay == FIRST {
                    complain(inner, slot, &error);
                }
                pause(inner, &mut delay).await;
            }
        }
    }
}

/// Says, once, why the pod does not go on.
fn complain(inner: &Inner, slot: &Slot, error: &StoreError) {
    tracing::error!(
        uid = &*slot.uid,
        error = error as &dyn std::error::Error,
        "the pod waits until its checkpoint can be written"
    );
    let cause = std::error::Error::source(error)
        .map(|source| format!(": {source}"))
        .unwrap_or_default();
    let event = Event {
        kind: EventKind::Warning,
        reason: "FailedSync".to_owned(),
        message: format!("The pod waits until its checkpoint can be written: {error}{cause}"),
        container: None,
        at: inner.ports.clock.now(),
    };
    let pod = Arc::clone(slot.lock().ledger.pod());
    inner.ports.outlet.event(&pod, event);
}

/// Makes a turn so, whose checkpoint is safe.
fn commit(inner: &Arc<Inner>, slot: &Arc<Slot>, turn: Turn) -> Option<Timestamp> {
    let mut state = slot.lock();
    let Effects {
        pod,
        before: _,
        allocated,
        actions,
        events,
        status,
        released,
        wake_at,
        absorbed,
        view_changed,
    } = state.ledger.commit(turn, inner.ports.clock.now());
    for (ticket, action) in actions {
        // Under the lock: who abandons sets this first and then aborts what is under way.
        if inner.abandoned.load(Ordering::Acquire) {
            return None;
        }
        let key = action.key.clone();
        let task = inner.runtime.spawn(execute(
            Arc::clone(inner),
            Arc::clone(slot),
            Arc::clone(&allocated),
            ticket,
            action,
        ));
        state
            .finished(&key)
            .into_iter()
            .for_each(|earlier| earlier.abort());
        state.running.push((key, task.abort_handle()));
    }
    drop(state);
    if view_changed {
        inner.node.notify_one();
    }
    for (container, attempt) in absorbed {
        inner.ports.hands.absorbed(&slot.uid, &container, attempt);
    }
    if let Some(status) = status {
        inner
            .ports
            .outlet
            .publish(&slot.uid, &pod, status, released);
        inner.released.send_replace(());
    }
    for event in events {
        inner.ports.outlet.event(&pod, event);
    }
    wake_at
}

/// Executes an action and brings its answer home.
async fn execute(
    inner: Arc<Inner>,
    slot: Arc<Slot>,
    pod: Arc<Pod>,
    ticket: Ticket,
    action: Action,
) {
    let key = action.key.clone();
    let result = AssertUnwindSafe(async { inner.ports.hands.execute(pod, action).await })
        .catch_unwind()
        .await;
    let result = result.unwrap_or_else(|panic| {
        tracing::error!(
            uid = &*slot.uid,
            ?key,
            panic = said(&*panic),
            "an action has panicked"
        );
        Err(panicked(key.kind, said(&*panic)))
    });
    let at = inner.ports.clock.now();
    let mut state = slot.lock();
    if state.ledger.answer(&key, ticket, result, at) {
        state.finished(&key);
        slot.wake.notify_one();
    }
}

fn panicked(kind: Kind, said: &str) -> Failure {
    let reason = match kind {
        Kind::Pull => "ErrImagePull",
        Kind::Start => "RunContainerError",
        _ => "CreateContainerError",
    };
    let message = format!("{kind:?} ended by a fault of this program, please report it: {said}");
    Failure {
        reason: reason.to_owned(),
        message,
        retry: Retry::Backoff,
    }
}

/// Drops all that is kept of a pod that is over; false if the pod has come back meanwhile.
async fn forget(inner: &Inner, slot: &Arc<Slot>) -> bool {
    let mut delay = FIRST;
    let uid = slot.uid.clone();
    while let Err(error) = stored(inner, {
        let uid = uid.clone();
        move |store| store.remove(&uid)
    })
    .await
    {
        tracing::error!(
            uid = &*uid,
            error = &error as &dyn std::error::Error,
            "the checkpoint of a pod that is over stays"
        );
        pause(inner, &mut delay).await;
    }
    if !inner.remove(slot) {
        slot.lock().ledger.unsaved();
        return false;
    }
    for (_, running) in std::mem::take(&mut slot.lock().running) {
        running.abort();
    }
    inner.ports.outlet.forgotten(&uid);
    true
}

/// Calls the store where it may block.
async fn stored<T: Send + 'static>(
    inner: &Inner,
    call: impl FnOnce(&dyn Checkpoints) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let store = Arc::clone(&inner.ports.checkpoints);
    if store.instant() {
        return call(&*store);
    }
    match inner.runtime.spawn_blocking(move || call(&*store)).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => std::future::pending().await, // The runtime ends, and this task with it.
    }
}
