//! The statuses that simulated nodes gave their pods, for who wants to hold them against a real API
//! server.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::coverage::Coverage;
use crate::scenario::Scenario;
use crate::world::run;

/// A pod and every status that it was given, in order.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// The seed of its history.
    pub seed: u64,
    /// The object, as it was made.
    pub pod: Pod,
    /// As they were published, each of them different from the one before it.
    pub statuses: Vec<Arc<PodStatus>>,
}

/// The sequences of the pods of `count` histories, from that of `seed` on.
pub fn sequences(seed: u64, count: u64) -> Vec<Sequence> {
    let mut all = Vec::new();
    for seed in seed..seed.saturating_add(count) {
        let scenario = Scenario::of(seed);
        let mut statuses = run(&scenario, &mut Coverage::default()).statuses;
        for planned in scenario.pods {
            let statuses = statuses.remove(&planned.id).unwrap_or_default();
            if !statuses.is_empty() {
                let pod = planned.pod;
                all.push(Sequence {
                    seed,
                    pod,
                    statuses,
                });
            }
        }
    }
    all
}
