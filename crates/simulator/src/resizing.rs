//! Pods whose resources change while they run, and the rules of it: what guests have is what their
//! containers were given, and what is told of it was true.
//!
//! Must not know: how `lifecycle` compares.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::api::core::v1::{Container, ContainerResizePolicy, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use lifecycle::memory::Run;
use lifecycle::{Memory, What, quantity};

use crate::chance::Chance;
use crate::machine::{Limits, Machine};
use crate::node::Worker;
use crate::rules::{Broken, Shown, broken, member};
use crate::scenario::{Fault, Trouble};

/// Gives some containers limits, and some of those a policy that restarts them. Drawn apart: what
/// the pod is else does not change with it.
pub(crate) fn outfit(seed: u64, id: u32, containers: &mut [Container], restarts: bool) {
    let mut chance = Chance::of(seed, ("resources", id));
    for one in containers {
        let Some(resources) = &mut one.resources else {
            continue;
        };
        if chance.percent(50) {
            set(resources, 100 + 100 * i64::from(chance.below(5)), 64);
        }
        if restarts && one.restart_policy.is_none() && chance.percent(30) {
            one.resize_policy = Some(vec![ContainerResizePolicy {
                resource_name: chance.pick(["cpu", "memory"], "cpu").to_owned(),
                restart_policy: "RestartContainer".to_owned(),
            }]);
        }
    }
}

/// Requests of CPU with a larger limit, and as much memory as its limit, in MiB: never Guaranteed.
fn set(resources: &mut ResourceRequirements, cpu_milli: i64, memory: i64) {
    let list = |cpu: i64| {
        BTreeMap::from([
            ("cpu".to_owned(), Quantity(format!("{cpu}m"))),
            ("memory".to_owned(), Quantity(format!("{memory}Mi"))),
        ])
    };
    resources.requests = Some(list(cpu_milli));
    resources.limits = Some(list(cpu_milli + 500));
}

/// Some histories have resizes.
pub(crate) fn faults(seed: u64, length: u32, pods: u32, faults: &mut Vec<Fault>) {
    let mut chance = Chance::of(seed, "resizes");
    if !chance.percent(35) {
        return;
    }
    for _ in 0..=chance.below(4) {
        let cpu = chance.pick([50, 100, 200, 300, 600, 900], 100);
        let memory = chance.pick([32, 64, 128], 64);
        faults.push(Fault {
            after: chance.below(length),
            what: Trouble::Resize(chance.below(pods), chance.below(4), cpu, memory),
        });
    }
}

/// `kubectl patch --subresource resize`, of the nth container; one without resources has to stay
/// without, so that the QoS class does.
pub(crate) fn resize(pod: &mut Pod, nth: u32, (cpu_milli, memory): (i64, i64)) {
    let spec = pod.spec.iter_mut();
    let mut all: Vec<&mut ResourceRequirements> = spec
        .flat_map(|spec| {
            let inits = spec.init_containers.iter_mut().flatten();
            inits.chain(&mut spec.containers)
        })
        .filter_map(|one| one.resources.as_mut())
        .collect();
    let place = usize::try_from(nth).unwrap_or_default() % all.len().max(1);
    if let Some(one) = all.get_mut(place) {
        set(one, cpu_milli, memory);
    }
}

/// What a guest of that container is to have.
pub(crate) fn limits(pod: &Pod, name: &str) -> Limits {
    let Ok((container, _)) = member(pod, name) else {
        return (None, None);
    };
    of(container.resources.as_ref())
}

fn of(resources: Option<&ResourceRequirements>) -> Limits {
    let limit = |name: &str| resources?.limits.as_ref()?.get(name);
    (
        limit("cpu").and_then(quantity::milli),
        limit("memory").and_then(quantity::bytes),
    )
}

/// A guest that runs gets what its container was given, and no more is asked of one that ends.
pub(crate) fn asked(shown: &Shown<'_>, name: &str, what: &What) -> Result<(), Broken> {
    let What::Resize {
        run,
        cpu_milli,
        memory_bytes,
        ..
    } = what
    else {
        return broken("vocabulary", format!("{what:?} is no resize"));
    };
    let runs = shown.memory.containers.get(name).is_some_and(|container| {
        container.attempt == *run && matches!(container.run, Run::Running { stop: None, .. })
    });
    if !runs {
        return broken("only what runs is resized", format!("{name}: run {run}"));
    }
    let wanted = limits(shown.pod, name);
    if wanted != (*cpu_milli, *memory_bytes) {
        let detail = format!("{name}: {what:?}, given {wanted:?}");
        return broken("a guest gets what its container was given", detail);
    }
    Ok(())
}

/// A container is restarted for its resources only if it wants that.
pub(crate) fn restarts(container: &Container) -> bool {
    let mut policies = container.resize_policy.iter().flatten();
    policies.any(|policy| policy.restart_policy == "RestartContainer")
}

/// The limits that are told of a guest that runs are such as it has had.
pub(crate) fn told(machine: &Machine, id: u32, status: &PodStatus) -> Result<(), Broken> {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    for one in lists.into_iter().flatten().flatten() {
        let guest = machine.guests.iter().find(|((pod, name, _), guest)| {
            (*pod, name) == (id, &one.name)
                && Some(&guest.container_id) == one.container_id.as_ref()
        });
        let runs = one
            .state
            .as_ref()
            .is_some_and(|state| state.running.is_some());
        let Some((_, guest)) = guest.filter(|_| runs) else {
            continue;
        };
        let said = of(one.resources.as_ref());
        if !guest.limits.contains(&said) {
            let detail = format!("{}: {said:?}, it has had {:?}", one.name, guest.limits);
            return broken("limits are told as they are", detail);
        }
    }
    Ok(())
}

/// In the end, whoever runs has what he was given, or the status says why not, and whoever asks for
/// something else was answered.
pub(crate) fn settled(machine: &Machine, id: u32, worker: &Worker) -> Result<(), Broken> {
    let memory: &Memory = worker.ledger.memory();
    let Some(allocated) = &memory.resize.allocated else {
        return Ok(());
    };
    if memory.terminating.is_some() || worker.is_busy() {
        return Ok(());
    }
    let pod = worker.ledger.pod();
    let answered = memory.resize.pending.is_some();
    if allocated.is_of(pod) == answered {
        let detail = format!("{:?}", memory.resize);
        return broken("a resize is answered", detail);
    }
    let given = allocated.apply(pod);
    let failed = memory
        .resize
        .progress
        .as_ref()
        .is_some_and(|one| one.reason == "Error");
    for ((of, name, attempt), guest) in &machine.guests {
        let ends = memory.containers.get(name).is_none_or(|container| {
            container.attempt != *attempt
                || !matches!(container.run, Run::Running { stop: None, .. })
        });
        if *of != id || ends || failed {
            continue;
        }
        let wanted = limits(&given, name);
        if guest.limits.last() != Some(&wanted) {
            let detail = format!("{name}: {wanted:?}, it has {:?}", guest.limits);
            return broken("what was given is in effect", detail);
        }
    }
    Ok(())
}
