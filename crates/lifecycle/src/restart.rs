//! All containers of a pod begin anew, in place: the action `RestartAllContainers` of a rule
//! (`computePodActions` in `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).
//!
//! ```text
//!  a run ends with a code of the rule ──► every guest is ended ──► each container waits for its turn
//!                                         (no preStop, least grace)  again, init containers first
//! ```
//!
//! The pod keeps its folders and addresses; what is ephemeral goes on. Must not know: what ended.

use k8s_openapi::api::core::v1::Pod;

use crate::action::Cause;
use crate::containers;
use crate::memory::{Memory, Run, Terminating, Waiting};
use crate::plan::Plan;
use crate::spec;
use crate::terminate;

/// `RestartAllContainers`
pub(crate) const ACTION: &str = "RestartAllContainers";

/// Whether a rule of the pod may ask for it: `AllContainersCouldRestart` in `pkg/api/v1/pod/util.go`.
pub(crate) fn is_possible(pod: &Pod) -> bool {
    spec::members(pod).any(|member| {
        let mut rules = member.spec.restart_policy_rules.iter().flatten();
        rules.any(|rule| rule.action == ACTION)
    })
}

/// Brings every container down; true once they wait for their turns again.
pub(crate) fn all(plan: &mut Plan<'_>, memory: &mut Memory) -> bool {
    let end = Terminating {
        cause: Cause::RestartAll,
        failed: None,
        since: plan.now,
        until: plan.now,
        at_once: false,
    };
    let mut down = true;
    for member in spec::members(plan.pod) {
        if let Some(container) = memory.containers.get_mut(member.name()) {
            terminate::conclude(plan, &member, container, (&end, true));
            down &= container.run == Run::Over;
        }
    }
    if !down {
        for member in spec::members(plan.pod) {
            if let Some(container) = memory.containers.get_mut(member.name()) {
                containers::sweep(plan, &member, container);
            }
        }
        return false;
    }
    for member in spec::members(plan.pod) {
        let Some(container) = memory.containers.get_mut(member.name()) else {
            continue;
        };
        container.run = Run::Waiting;
        container.attempt = container.attempt.saturating_add(1);
        container.anew = true;
        // Nothing of the runs before it is left to back off from.
        container.backed_off = true;
        container.waiting = container.ended.is_some().then(|| Waiting {
            reason: "RestartingAllContainers".to_owned(),
            message: "The container is removed because RestartAllContainers in place".to_owned(),
        });
    }
    memory.initialized = false;
    memory.restarting = false;
    true
}
