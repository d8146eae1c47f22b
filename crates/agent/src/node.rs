//! The node's task: lets [`lifecycle::node_step`] decide over all pods, tells each its verdict, and
//! has done and measured what that asks for. A verdict is kept by the pod's own checkpoint.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use lifecycle::node::{Call, Measure, NodeStep, Period, Pressure, Usage};
use lifecycle::{NodeMemory, NodeObject, NodeView, node_step};

use crate::agent::Inner;
use crate::ports::Subject;
use crate::slot::Slot;

/// When to try again after a fault.
const AGAIN: SignedDuration = SignedDuration::from_secs(10);
/// A decision looks at every pod. One that takes longer than this is followed by a rest of so many times as long.
const BRIEF: SignedDuration = SignedDuration::from_micros(500);
const REST_AFTER: i32 = 4;
/// Measuring takes at most one part in so many of the time.
const PART: i32 = 20;
/// Between two measurements, however fast one is.
const REST: SignedDuration = SignedDuration::from_millis(100);

/// What the node's decisions go by beside the pods.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) shutdown: Option<Vec<Period>>,
    /// The Node's object, as last told.
    pub(crate) object: Option<NodeObject>,
    /// What the decisions remember.
    pub(crate) memory: NodeMemory,
    usage: Option<Arc<Usage>>,
    collected: Option<Timestamp>,
    pressures: BTreeSet<Pressure>,
    measuring: bool,
    /// The next measurement may not begin before.
    rests_until: Option<Timestamp>,
    /// Calls that are under way.
    calls: u32,
}

/// Runs as long as the agent does; decides when a pod has come, gone, changed or ended, when
/// something was measured, and when it said so itself.
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
        let took = now.duration_until(inner.ports.clock.now());
        if took > BRIEF {
            let rest = after(took * (REST_AFTER + 1));
            inner.ports.clock.sleep_until(rest).await;
        }
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

fn decide(inner: &Arc<Inner>, now: Timestamp) -> Option<Timestamp> {
    let (mut view, ready) = {
        let table = inner.table();
        let node = &table.node;
        let view = NodeView {
            allocatable: inner.config.allocatable,
            object: node.object.clone(),
            pods: Vec::new(),
            shutdown: node.shutdown.clone(),
            policy: inner.config.policy.clone(),
            usage: node.usage.clone(),
            collected: node.collected,
            memory: node.memory.clone(),
        };
        (view, table.sources_ready)
    };
    let slots = inner.slots();
    let pods = slots
        .iter()
        .map(|slot| Arc::clone(slot.lock().ledger.view()));
    // Admission goes by creation: a pod that a source has yet to tell may come first. Static pods
    // wait for no API server, and come before all others.
    let told = pods.filter(|view| ready || view.verdict.is_some() || view.is_static());
    view.pods = told.collect();
    let mut step = node_step(&view, now);
    for slot in &slots {
        let sizing = step.sizings.remove(&*slot.uid);
        let verdict = step.verdicts.remove(&*slot.uid);
        slot.tell(|ledger| {
            let sized = sizing.is_some_and(|sizing| ledger.sized(sizing));
            let judged = verdict.is_some_and(|verdict| ledger.judged(verdict));
            sized || judged
        });
    }
    let wake_at = [step.wake_at, take(inner, &slots, step, now)];
    wake_at.into_iter().flatten().min()
}

/// Takes a step's other results; gives when the next measurement is due.
fn take(
    inner: &Arc<Inner>,
    slots: &[Arc<Slot>],
    step: NodeStep,
    now: Timestamp,
) -> Option<Timestamp> {
    let machine = &inner.ports.machine;
    for event in step.events {
        machine.event(event);
    }
    let mut table = inner.table();
    let node = &mut table.node;
    node.memory = step.memory;
    if node.pressures != step.pressures {
        machine.pressures(&step.pressures);
        node.pressures = step.pressures;
    }
    if !step.calls.is_empty() {
        node.calls += 1;
        call(inner, step.calls);
    }
    // What is being collected makes a measurement of no worth.
    let wanted = step
        .measure
        .filter(|_| !node.measuring && node.calls == 0)?;
    let at = node
        .rests_until
        .map_or(wanted.at, |until| wanted.at.max(until));
    if at > now {
        return Some(at);
    }
    node.measuring = true;
    drop(table);
    measure(inner, slots, &wanted);
    None
}

fn measure(inner: &Arc<Inner>, slots: &[Arc<Slot>], wanted: &Measure) {
    let subject = |slot: &Arc<Slot>| {
        let state = slot.lock();
        let ledger = &state.ledger;
        let containers = ledger.memory().containers.values();
        let images = containers.filter_map(|one| one.image.as_ref().map(|image| image.id.clone()));
        let over = ledger.view().terminal;
        (!over).then(|| Subject {
            pod: Arc::clone(ledger.pod()),
            images: images.collect(),
            disk: wanted.disk.contains(&*slot.uid),
        })
    };
    let subjects = slots.iter().filter_map(subject).collect();
    let (weak, ports, images) = (Arc::downgrade(inner), inner.ports.clone(), wanted.images);
    inner.runtime.spawn(async move {
        let begun = ports.clock.now();
        let measured = ports.machine.measure(subjects, images);
        let measured = AssertUnwindSafe(measured).catch_unwind().await;
        let Some(inner) = weak.upgrade() else { return };
        let now = inner.ports.clock.now();
        let mut table = inner.table();
        table.node.measuring = false;
        let rest = match measured {
            Ok(usage) => {
                table.node.usage = Some(Arc::new(Usage { at: begun, ..usage }));
                (begun.duration_until(now) * PART).max(REST)
            }
            Err(_) => {
                tracing::error!("measuring the machine has panicked; it is tried again");
                AGAIN
            }
        };
        table.node.rests_until = now.saturating_add(rest).ok();
        drop(table);
        inner.node.notify_one();
    });
}

fn call(inner: &Arc<Inner>, calls: Vec<Call>) {
    let (weak, ports) = (Arc::downgrade(inner), inner.ports.clone());
    inner.runtime.spawn(async move {
        for call in calls {
            let done = AssertUnwindSafe(ports.machine.call(call)).catch_unwind();
            if done.await.is_err() {
                tracing::error!("collecting what nobody uses has panicked");
            }
        }
        let Some(inner) = weak.upgrade() else { return };
        let now = inner.ports.clock.now();
        let mut table = inner.table();
        table.node.calls -= 1;
        table.node.collected = Some(now);
        drop(table);
        inner.node.notify_one();
    });
}
