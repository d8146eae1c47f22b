//! A pod that passes its own limits of local storage has to go: `localStorageEviction` of
//! `pkg/kubelet/eviction/eviction_manager.go`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::usage::{PodUsage, Usage};
use super::{NodeStep, NodeView, amount, evict, rank};
use crate::observed::{Eviction, Verdict};
use crate::resources::units;
use crate::spec::{self, Role};

const STORAGE: &str = "ephemeral-storage";

/// Ends each pod that uses more than it may; gives their UIDs.
pub(super) fn evict(view: &NodeView, usage: &Usage, step: &mut NodeStep) -> BTreeSet<String> {
    let mut over = BTreeMap::new();
    for pod in evict::candidates(view, step) {
        let own = usage.pods.get(&pod.uid).filter(|own| own.looked);
        let passed = own.and_then(|own| passed(&pod.pod, own));
        let Some(message) = passed.filter(|_| !rank::is_critical(&pod.pod)) else {
            continue;
        };
        let verdict = Verdict::Evicted {
            eviction: Eviction::StorageLimit,
            message,
            grace_seconds: evict::IMMEDIATE,
        };
        over.insert(pod.uid.clone(), verdict);
    }
    let uids = over.keys().cloned().collect();
    step.memory.sentences.extend(over);
    uids
}

/// Whether the pod has such a limit, so that its disk has to be looked at.
pub(super) fn has(pod: &Pod) -> bool {
    volumes(pod).next().is_some() || spec::members(pod).any(|member| limit(member.spec).is_some())
}

/// Its emptyDirs that have a limit.
fn volumes(pod: &Pod) -> impl Iterator<Item = (&str, &Quantity)> {
    let all = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    all.filter_map(|volume| {
        let empty = volume.empty_dir.as_ref()?;
        let size = empty.size_limit.as_ref()?;
        // A folder in memory holds no more in any case.
        let on_disk = empty.medium.as_deref() != Some("Memory");
        (on_disk && units(size) > 0).then_some((volume.name.as_str(), size))
    })
}

fn limit(container: &Container) -> Option<&Quantity> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    limits.get(STORAGE)
}

/// The message, if a limit is passed.
fn passed(pod: &Pod, own: &PodUsage) -> Option<String> {
    let full = volumes(pod).find(|(name, size)| {
        let used = own.volumes.get(*name).map_or(0, |disk| disk.bytes);
        used > units(size)
    });
    if let Some((name, size)) = full {
        let size = &size.0;
        return Some(format!(
            "Usage of EmptyDir volume {name:?} exceeds the limit {size:?}. "
        ));
    }
    if let Some((total, text)) = total(pod)
        && own.disk().bytes > total
    {
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {text}. "
        ));
    }
    spec::mains(pod).find_map(|member| {
        let limit = limit(member.spec).filter(|limit| units(limit) > 0)?;
        let uses = own.containers.get(member.name())?;
        let used = uses.root.plus(uses.logs).bytes;
        (used > units(limit)).then(|| {
            format!(
                "Container {} exceeded its local ephemeral storage limit {:?}. ",
                member.name(),
                limit.0
            )
        })
    })
}

/// The limits together, with the largest moment of the init containers if that is more
/// (`PodLimits` of `component-helpers/resource`), and how it reads; `None` without any.
fn total(pod: &Pod) -> Option<(u64, String)> {
    let (mut sum, mut sidecars, mut initial) = (0_u64, 0_u64, 0_u64);
    let mut all = Vec::new();
    for member in spec::members(pod) {
        let Some(limit) = limit(member.spec) else {
            continue;
        };
        let own = units(limit);
        all.push(&limit.0);
        match member.role {
            // Those have none.
            Role::Ephemeral => {}
            Role::Init => initial = initial.max(sidecars.saturating_add(own)),
            Role::Main => sum = sum.saturating_add(own),
            Role::Sidecar => {
                sum = sum.saturating_add(own);
                sidecars = sidecars.saturating_add(own);
            }
        }
    }
    let total = sum.max(initial);
    match all.as_slice() {
        [] => None,
        [one] => Some((total, (*one).clone())),
        _ => Some((total, amount::binary(total))),
    }
}
