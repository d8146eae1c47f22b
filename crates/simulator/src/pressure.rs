//! A machine that runs short of things, and the rules for what a node does about it.
//!
//! Must not know: how a ranking is made; it holds any that is against the rules.

use jiff::{SignedDuration, Timestamp};
use lifecycle::node::{
    Amount, ContainerUsage, Disk, ImagePolicy, ImageView, Level, Measure, PodUsage, Policy, Signal,
    Threshold, Usage,
};
use lifecycle::{Cause, Eviction, NodeStep, NodeView, PodView, Verdict};

use crate::chance::Chance;
use crate::machine::Machine;
use crate::rules::{Broken, broken};
use crate::scenario::{Fault, Trouble};

/// From this priority on a pod is critical.
pub(crate) const CRITICAL: i32 = 2_000_000_000;

/// In some histories pods have to go, and something runs short now and then.
pub(crate) fn policy(seed: u64, length: u32, faults: &mut Vec<Fault>) -> Policy {
    let mut chance = Chance::of(seed, "pressure");
    if !chance.percent(20) {
        return Policy::default();
    }
    for _ in 0..1 + chance.below(4) {
        let signals = [
            Signal::MemoryAvailable,
            Signal::MemoryAvailable,
            Signal::NodeFsAvailable,
        ];
        let signal = chance.pick(signals, Signal::MemoryAvailable);
        let percent = chance.pick([5, 20, 90], 5);
        faults.push(Fault {
            after: chance.below(length),
            what: Trouble::Low(signal, percent),
        });
    }
    let part = |percent: u32| Amount::Part(percent * 10_000);
    Policy {
        thresholds: vec![
            Threshold::hard(Signal::MemoryAvailable, part(10)),
            Threshold {
                grace: SignedDuration::from_secs(20),
                reclaim: chance.percent(50).then_some(part(5)),
                ..Threshold::hard(Signal::MemoryAvailable, part(30))
            },
            Threshold::hard(Signal::NodeFsAvailable, part(10)),
        ],
        pressure_transition: SignedDuration::from_secs(30),
        max_pod_grace: chance.pick([0, 3], 0),
        images: Some(ImagePolicy::default()),
    }
}

impl Machine {
    /// What a measurement finds: a pod with guests uses what its number says.
    pub(crate) fn usage(&self, seed: u64, ids: &[u32], measure: &Measure, now: Timestamp) -> Usage {
        let mut usage = Usage {
            at: now,
            images: measure.images.then(|| {
                vec![ImageView {
                    id: "sha256:free".to_owned(),
                    size: 1,
                    used: false,
                }]
            }),
            ..Usage::default()
        };
        for signal in [
            Signal::MemoryAvailable,
            Signal::NodeFsAvailable,
            Signal::ImageFsAvailable,
        ] {
            let percent = self.levels.get(&signal).copied().unwrap_or(90);
            let level = Level {
                capacity: 100,
                available: percent.into(),
            };
            usage.levels.insert(signal, level);
        }
        for id in ids {
            let mut chance = Chance::of(seed, ("uses", id));
            let amount = u64::try_from(chance.between(0, 3)).unwrap_or_default();
            let uid = format!("uid-{id}");
            let mut own = PodUsage {
                looked: measure.disk.contains(&uid),
                ..PodUsage::default()
            };
            if self.has_guests(*id) {
                let container = ContainerUsage {
                    memory: amount,
                    root: Disk {
                        bytes: amount,
                        inodes: amount,
                    },
                    ..ContainerUsage::default()
                };
                own.containers.insert("c0".to_owned(), container);
            }
            usage.pods.insert(uid, own);
        }
        usage
    }

    /// What nobody needed is gone: that may have been enough.
    pub(crate) fn collected(&mut self) {
        if let Some(percent) = self.levels.get_mut(&Signal::NodeFsAvailable) {
            *percent = percent.saturating_add(4).min(90);
        }
    }
}

fn priority(pod: &PodView) -> i32 {
    pod.pod
        .spec
        .as_ref()
        .and_then(|spec| spec.priority)
        .unwrap_or_default()
}

/// Holds a step of the node to the rules.
pub(crate) fn held(view: &NodeView, step: &NodeStep, now: Timestamp) -> Result<(), Broken> {
    let new = step
        .memory
        .sentences
        .iter()
        .filter_map(|(uid, verdict)| match verdict {
            Verdict::Evicted {
                eviction: Eviction::Pressure,
                message,
                ..
            } if !view.memory.sentences.contains_key(uid) => Some((uid, message)),
            _ => None,
        });
    let new: Vec<(&String, &String)> = new.collect();
    if new.len() > 1 {
        return broken("one pod is evicted a pass", format!("{new:?} at {now}"));
    }
    let pod = |uid: &String| view.pods().find(|pod| pod.uid == *uid);
    if let Some((uid, told)) = new.first().copied()
        && let Some(victim) = pod(uid)
    {
        evicted(view, victim, told)?;
    }
    let ends =
        |pod: &&PodView| matches!(step.verdicts.get(&pod.uid), Some(Verdict::Shutdown { .. }));
    let live = |pod: &&PodView| pod.verdict == Some(Verdict::Admitted) && !pod.terminal;
    let critical = |pod: &&PodView| priority(pod) >= CRITICAL;
    let mut all = view.pods();
    if all.any(|pod| critical(&pod) && ends(&pod))
        && let Some(other) = view
            .pods()
            .filter(|pod| live(pod) && !critical(pod))
            .find(|pod| !ends(pod) && !step.memory.sentences.contains_key(&pod.uid))
    {
        let detail = format!("{} goes on while a critical pod ends", other.uid);
        return broken("critical pods end last", detail);
    }
    Ok(())
}

/// The pod may go, and none had to go before it. `told` is what its status will say.
fn evicted(view: &NodeView, victim: &PodView, told: &str) -> Result<(), Broken> {
    let Some(usage) = &view.usage else {
        return broken("nobody goes for nothing", "nothing was measured");
    };
    if priority(victim) >= CRITICAL || victim.terminal {
        return broken("no critical pod is evicted", victim.uid.clone());
    }
    let free = |signal| {
        usage
            .levels
            .get(&signal)
            .map_or(100, |level| level.available)
    };
    let (memory, disk) = (free(Signal::MemoryAvailable), free(Signal::NodeFsAvailable));
    // Of two the node may be short of one for too short a while.
    let for_memory = told.starts_with("The node was low on resource: memory.");
    let short = if for_memory { memory < 35 } else { disk < 10 };
    if !short {
        return broken(
            "nobody goes for nothing",
            format!("{memory} % and {disk} % are free, and {told:?}"),
        );
    }
    if !for_memory && view.collected.is_none() {
        return broken("what nobody uses goes before a pod", victim.uid.clone());
    }
    let used = |pod: &PodView| {
        let own = usage.pods.get(&pod.uid);
        own.map(|own| own.containers.values().map(|one| one.memory).sum::<u64>())
    };
    // Nobody in these histories asks for disk.
    let asked = |pod: &PodView| if for_memory { pod.requests.memory } else { 0 };
    let modest = |pod: &PodView| used(pod).is_some_and(|used| used <= asked(pod));
    let rank = |pod: &PodView| (modest(pod), priority(pod));
    let going = |pod: &PodView| {
        let cause = pod.ending;
        view.memory.sentences.contains_key(&pod.uid)
            || matches!(
                cause,
                Some(Cause::Eviction | Cause::StorageLimit | Cause::Preemption)
            )
    };
    let before = view.pods().find(|pod| {
        let candidate = pod.verdict == Some(Verdict::Admitted) && !pod.terminal && !going(pod);
        candidate && priority(pod) < CRITICAL && rank(pod) < rank(victim)
    });
    match before {
        None => Ok(()),
        Some(other) => broken(
            "who uses more than it asked for goes first, then the lower priority",
            format!("{} went before {}", victim.uid, other.uid),
        ),
    }
}
