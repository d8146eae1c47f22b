//! What the node's decisions need of this machine: how much of it is free, what pods use of it, and
//! that what nobody needs goes. Decides nothing.

mod collect;
mod disk;
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent::Subject;
use async_trait::async_trait;
use lifecycle::node::{Call, ContainerUsage, Level, NodeEvent, PodUsage, Pressure, Signal, Usage};

use crate::dirs::Dirs;
use crate::hands::Hands;
pub(crate) use disk::{COPIED, SAID};

/// Who is told of the node's state.
pub(crate) trait Teller: Send + Sync + 'static {
    /// What the node is short of now.
    fn pressures(&self, pressures: &BTreeSet<Pressure>);

    /// Something happened to it.
    fn event(&self, event: &NodeEvent);
}

/// Without a cluster there is no Node: it is in the log.
pub(crate) struct ToLog;

impl Teller for ToLog {
    fn pressures(&self, _: &BTreeSet<Pressure>) {}

    fn event(&self, event: &NodeEvent) {
        tracing::warn!(reason = event.reason, "{}", event.message);
    }
}

/// See the module.
pub(crate) struct Machine {
    hands: Arc<Hands>,
    dirs: Dirs,
    /// Bytes that pods' guests may have together before there is less than the threshold left.
    share: Option<u64>,
    teller: Box<dyn Teller>,
}

impl Machine {
    /// Of a root folder and its guest host.
    pub(crate) fn new(
        hands: Arc<Hands>,
        dirs: Dirs,
        share: Option<u64>,
        teller: Box<dyn Teller>,
    ) -> Machine {
        Machine {
            hands,
            dirs,
            share,
            teller,
        }
    }

    /// Bytes of memory of the containers that run, by UID and name.
    async fn memory_of_guests(&self) -> BTreeMap<(String, String), u64> {
        let all = match self.hands.host().all_stats().await {
            Ok(all) => all,
            Err(error) => {
                tracing::debug!(%error, "what guests use is not known");
                Vec::new()
            }
        };
        let own = all.into_iter().map(|stats| {
            let id = stats.id;
            ((id.pod_uid, id.container), stats.working_set_bytes)
        });
        own.collect()
    }

    /// The share of the machine that pods have together, and what is left of it.
    fn of_share(&self, guests: &BTreeMap<(String, String), u64>) -> Option<Level> {
        let used = guests
            .values()
            .fold(0_u64, |sum, one| sum.saturating_add(*one));
        self.share.map(|capacity| Level {
            capacity,
            available: capacity.saturating_sub(used),
        })
    }
}

#[async_trait]
impl agent::Machine for Machine {
    async fn measure(&self, subjects: Vec<Subject>, images: bool) -> Usage {
        let guests = self.memory_of_guests().await;
        let share = self.of_share(&guests);
        let mut usage = Usage::default();
        for subject in &subjects {
            let uid = subject.pod.metadata.uid.clone().unwrap_or_default();
            usage.pods.insert(uid, PodUsage::default());
        }
        for ((uid, container), memory) in guests {
            if let Some(pod) = usage.pods.get_mut(&uid) {
                let own = pod
                    .containers
                    .entry(container)
                    .or_insert(ContainerUsage::default());
                own.memory = own.memory.saturating_add(memory);
            }
        }
        let (dirs, store) = (self.dirs.clone(), self.hands.store.clone());
        let measured = tokio::task::spawn_blocking(move || {
            usage.levels = memory::levels();
            disk::levels(&dirs, &mut usage);
            for subject in subjects.iter().filter(|subject| subject.disk) {
                disk::of_pod(&dirs, &subject.pod, &mut usage);
            }
            if images {
                usage.images = Some(collect::images(&store, &subjects));
            }
            usage
        });
        let mut usage = measured.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the machine can't be measured");
            Usage::default()
        });
        if let Some(level) = share {
            usage
                .levels
                .insert(Signal::AllocatableMemoryAvailable, level);
        }
        usage
    }

    async fn call(&self, call: Call) {
        let dirs = self.dirs.clone();
        let done = tokio::task::spawn_blocking(move || match call {
            Call::CollectContainers => collect::containers(&dirs),
            Call::RemoveImages(ids) => collect::remove(&dirs, &ids),
        });
        if let Err(error) = done.await {
            tracing::error!(%error, "what nobody needs stays");
        }
    }

    fn pressures(&self, pressures: &BTreeSet<Pressure>) {
        self.teller.pressures(pressures);
    }

    fn event(&self, event: NodeEvent) {
        self.teller.event(&event);
    }
}
