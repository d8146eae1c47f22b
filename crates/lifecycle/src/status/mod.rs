//! The pod's status as the kubelet's `generateAPIPodStatus` makes it (`pkg/kubelet/kubelet_pods.go`),
//! with only what the kubelet owns.
//!
//! Must not know: what others wrote into the status, but for readiness gates; who merges it.

mod conditions;
mod containers;
mod phase;
pub(crate) mod qos;

use k8s_openapi::api::core::v1::{HostIP, PodIP, PodStatus};

use crate::memory::{Memory, Phase, Run};
use crate::observed::Verdict;
use crate::plan::Plan;
use crate::time::whole;

/// The status of the pod as it is after a step. Phase and conditions are remembered.
pub(crate) fn status(plan: &Plan<'_>, memory: &mut Memory) -> PodStatus {
    if memory.inherited {
        return plan.pod.status.clone().unwrap_or_default();
    }
    let mut status = PodStatus {
        qos_class: Some(qos::class(plan.pod).to_owned()),
        start_time: memory.start_time.map(whole),
        observed_generation: plan.pod.metadata.generation,
        ..PodStatus::default()
    };
    if let Some(Verdict::Refused { reason, message }) = &memory.verdict {
        status.phase = Some(Phase::Failed.as_str().to_owned());
        status.reason = Some(reason.clone());
        status.message = Some(format!("Pod was rejected: {message}"));
        return status;
    }
    addresses(plan, memory, &mut status);
    let over = is_over(plan, memory);
    let shown = containers::show(plan, memory, over);
    let phase = phase::phase(&shown, memory, over);
    memory.phase = Some(phase);
    status.phase = Some(phase.as_str().to_owned());
    if phase.is_terminal()
        && let Some((reason, message)) = memory
            .terminating
            .as_ref()
            .and_then(|end| end.failed.clone())
    {
        status.reason = Some(reason);
        status.message = Some(message);
    }
    status.conditions = Some(conditions::conditions(plan, memory, &shown, phase));
    let (inits, mains) = containers::statuses(plan.pod, &shown);
    status.init_container_statuses = (!inits.is_empty()).then_some(inits);
    status.container_statuses = Some(mains);
    let ephemerals = containers::ephemerals(plan, memory);
    status.ephemeral_container_statuses = (!ephemerals.is_empty()).then_some(ephemerals);
    status
}

/// The pod is ending and no container may run, so its phase may be a terminal one.
fn is_over(plan: &Plan<'_>, memory: &Memory) -> bool {
    memory.terminating.is_some()
        && plan.members().all(|member| {
            memory
                .containers
                .get(member.name())
                .is_none_or(|one| one.run == Run::Over)
        })
}

fn addresses(plan: &Plan<'_>, memory: &Memory, status: &mut PodStatus) {
    let hosts: Vec<String> = plan
        .observed
        .host_ips
        .iter()
        .map(ToString::to_string)
        .collect();
    status.host_ip = hosts.first().cloned();
    if !hosts.is_empty() {
        status.host_ips = Some(hosts.into_iter().map(|ip| HostIP { ip }).collect());
    }
    let own: Vec<String> = memory.ips.iter().map(ToString::to_string).collect();
    status.pod_ip = own.first().cloned();
    if !own.is_empty() {
        status.pod_ips = Some(own.into_iter().map(|ip| PodIP { ip }).collect());
    }
}
