//! How a pod ended, or why it never will begin, read from its status.

use std::fmt;

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use lifecycle::Event;

/// How a pod ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its guests ended.
    Exited {
        /// The first of their codes that is not 0, in the order of the spec.
        code: i32,
        /// That container's reason: `Completed`, `Error`, `OOMKilled`.
        reason: String,
        /// What is known beyond that.
        message: String,
    },
    /// There was no guest.
    Never(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Never(message) => f.write_str(message),
            End::Exited {
                code,
                reason,
                message,
            } if message.is_empty() => {
                write!(f, "{reason}, exit code {code}")
            }
            End::Exited {
                reason, message, ..
            } => write!(f, "{reason}: {message}"),
        }
    }
}

fn terminated(state: &ContainerStateTerminated) -> End {
    let reason = state.reason.clone().unwrap_or_default();
    let message = state.message.clone().unwrap_or_default();
    match reason.as_str() {
        "StartError" => End::Never(message),
        _ => End::Exited {
            code: state.exit_code,
            reason,
            message,
        },
    }
}

/// All containers, init containers first, those that are ephemeral last.
pub(crate) fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let ephemeral = status.ephemeral_container_statuses.iter().flatten();
    lasting(status).chain(ephemeral)
}

/// Those that the pod is there for.
fn lasting(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten())
}

/// A container's status.
pub(crate) fn status_of<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    containers(pod.status.as_ref()?).find(|status| status.name == container)
}

/// Which run a container's id is of: `coracle://<uid>_<container>_<attempt>`.
pub(crate) fn attempt_of(id: Option<&str>) -> Option<u32> {
    id?.rsplit('_').next()?.parse().ok()
}

/// The run of a container that goes on.
pub(crate) fn running_attempt(pod: &Pod, container: &str) -> Option<u32> {
    let status = status_of(pod, container)?;
    status.state.as_ref()?.running.as_ref()?;
    attempt_of(status.container_id.as_deref())
}

/// How a pod ended that has ended.
pub(crate) fn end_of(status: &PodStatus) -> Option<End> {
    if !is_terminal(status) {
        return None;
    }
    let ends: Vec<End> = lasting(status)
        .filter_map(|c| Some(terminated(c.state.as_ref()?.terminated.as_ref()?)))
        .collect();
    let bad = |end: &&End| !matches!(end, End::Exited { code: 0, .. });
    let words = || status.message.clone().or_else(|| status.reason.clone());
    match ends.iter().find(bad).or_else(|| ends.last()) {
        Some(End::Exited { code: 0, .. }) if status.phase.as_deref() == Some("Failed") => Some(
            End::Never(words().unwrap_or_else(|| "the pod failed".to_owned())),
        ),
        Some(end) => Some(end.clone()),
        None => Some(End::Never(words().unwrap_or_else(|| {
            "the pod ended before a guest of it began".to_owned()
        }))),
    }
}

/// Whether the phase is one that no pod leaves.
pub(crate) fn is_terminal(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// Whether a container of it has begun, now or before.
pub(crate) fn has_begun(status: &PodStatus) -> bool {
    lasting(status).any(|container| {
        let ran = container.state.as_ref().is_some_and(|state| {
            state.running.is_some()
                || state
                    .terminated
                    .as_ref()
                    .is_some_and(|ended| ended.reason.as_deref() != Some("StartError"))
        });
        ran || container.restart_count > 0
    })
}

/// Why a container can't begin, where a cluster would wait and a person in front of a terminal not:
/// what can heal by itself was tried again by then.
pub(crate) fn hopeless(status: &PodStatus) -> Option<String> {
    let waits = lasting(status).filter_map(|c| c.state.as_ref()?.waiting.as_ref());
    waits
        .filter_map(|waiting| {
            let reason = waiting.reason.as_deref().filter(|it| !it.is_empty())?;
            let heals = matches!(
                reason,
                "ContainerCreating"
                    | "PodInitializing"
                    | "CrashLoopBackOff"
                    | "RestartingAllContainers"
            );
            (!heals).then(|| waiting.message.clone().unwrap_or_else(|| reason.to_owned()))
        })
        .next()
}

/// A pod's folders and addresses are tried for again and again, and its status says no more than
/// ContainerCreating: why, only an event tells.
pub(crate) fn is_hopeless_event(event: &Event) -> bool {
    matches!(
        event.reason.as_str(),
        "FailedMount" | "FailedCreatePodSandBox"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn status(json: serde_json::Value) -> PodStatus {
        serde_json::from_value(json).unwrap()
    }

    fn of(phase: &str, states: &[serde_json::Value]) -> PodStatus {
        let containers: Vec<_> = states
            .iter()
            .map(|state| {
                serde_json::json!({"name": "c", "image": "i", "imageID": "", "ready": false,
                    "restartCount": 0, "state": state})
            })
            .collect();
        status(serde_json::json!({"phase": phase, "containerStatuses": containers}))
    }

    fn ended(code: i32, reason: &str) -> serde_json::Value {
        serde_json::json!({"terminated": {"exitCode": code, "reason": reason, "message": "why"}})
    }

    #[test]
    fn an_exit_is_an_end_and_its_code_passes() {
        let end = |code, reason: &str| {
            Some(End::Exited {
                code,
                reason: reason.into(),
                message: "why".into(),
            })
        };
        assert_eq!(end_of(&of("Failed", &[ended(7, "Error")])), end(7, "Error"));
        let several = [ended(0, "Completed"), ended(3, "Error"), ended(4, "Error")];
        assert_eq!(end_of(&of("Failed", &several)), end(3, "Error"));
        assert_eq!(
            end_of(&of("Succeeded", &[ended(0, "Completed")])),
            end(0, "Completed")
        );
        assert_eq!(
            end_of(&of("Running", &[ended(7, "Error")])),
            None,
            "restarted"
        );
    }

    #[test]
    fn what_a_cluster_waits_for_is_hopeless_here() {
        for reason in ["ErrImagePull", "InvalidImageName", "CreateContainerError"] {
            let waiting = serde_json::json!({"waiting": {"reason": reason, "message": "why"}});
            let status = of("Pending", &[waiting]);
            assert_eq!(hopeless(&status).as_deref(), Some("why"), "{reason}");
            assert!(!has_begun(&status));
        }
        let creating = serde_json::json!({"waiting": {"reason": "ContainerCreating"}});
        assert_eq!(hopeless(&of("Pending", &[creating])), None);
    }

    #[test]
    fn a_refused_pod_says_why() {
        let refused = status(
            serde_json::json!({"phase": "Failed", "reason": "OutOfmemory",
            "message": "Pod was rejected: no room"}),
        );
        let end = end_of(&refused).unwrap();
        assert_eq!(end, End::Never("Pod was rejected: no room".into()));
        let never = end_of(&of("Failed", &[ended(128, "StartError")]));
        assert_eq!(never, Some(End::Never("why".into())));
    }
}
