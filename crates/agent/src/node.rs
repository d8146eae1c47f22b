//! The node's task: lets [`lifecycle::node_step`] decide over all pods, and tells each its verdict.
//! A verdict is kept by the pod's own checkpoint.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lifecycle::{NodeView, node_step};

use crate::agent::Inner;

/// When to try again after a fault.
const AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// Runs as long as the agent does; decides when a pod has come, gone, changed or ended.
pub(crate) async fn work(inner: Arc<Inner>) {
    loop {
        let now = inner.ports.clock.now();
        let after = |delay| now.saturating_add(delay).unwrap_or(now);
        let wake_at = catch_unwind(AssertUnwindSafe(|| decide(&inner, now))).unwrap_or_else(|_| {
            tracing::error!(
                "the node's decision has panicked; pods that wait for it go on waiting"
            );
            Some(after(AGAIN))
        });
        let Some(at) = wake_at else {
            inner.node.notified().await;
            continue;
        };
        tokio::select! {
            () = inner.node.notified() => {}
            () = inner.ports.clock.sleep_until(at.max(after(crate::worker::LEAST))) => {}
        }
    }
}

fn decide(inner: &Inner, now: Timestamp) -> Option<Timestamp> {
    let (shutdown, object, memory) = {
        let table = inner.table();
        if !table.sources_ready {
            // Admission goes by creation: a pod that a source has yet to tell may come first.
            return None;
        }
        let memory = table.memory.clone();
        (table.shutdown, table.object.clone(), memory)
    };
    let slots = inner.slots();
    let pods = slots
        .iter()
        .map(|slot| slot.lock().ledger.view().clone())
        .collect();
    let view = NodeView {
        allocatable: inner.config.allocatable,
        object,
        pods,
        shutdown,
        memory,
    };
    let mut step = node_step(&view, now);
    inner.table().memory = step.memory;
    for slot in slots {
        if let Some(verdict) = step.verdicts.remove(&slot.uid) {
            slot.tell(|ledger| ledger.judged(verdict));
        }
    }
    step.wake_at
}
