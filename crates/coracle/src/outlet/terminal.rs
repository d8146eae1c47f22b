//! The outlet of `coracle run`: tells how its one pod ended.

use std::sync::Arc;

use agent::Outlet;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod, PodStatus};
use lifecycle::Event;
use tokio::sync::watch;

/// How the pod of a `run` ended, or why it never will begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its guest ended.
    Exited {
        /// Its code.
        code: i32,
        /// The container's reason: `Completed`, `Error`, `OOMKilled`.
        reason: String,
        /// What is known beyond that.
        message: String,
    },
    /// There was no guest.
    Never(String),
}

/// See the module.
pub(crate) struct TerminalOutlet {
    end: watch::Sender<Option<End>>,
    released: watch::Sender<bool>,
}

impl TerminalOutlet {
    /// The outlet, what tells the end, and what tells that nothing of the pod is left.
    pub(crate) fn new() -> (
        TerminalOutlet,
        watch::Receiver<Option<End>>,
        watch::Receiver<bool>,
    ) {
        let (end, ended) = watch::channel(None);
        let (released, is_released) = watch::channel(false);
        (TerminalOutlet { end, released }, ended, is_released)
    }
}

/// Waiting reasons that a cluster would wait through, and a person in front of a terminal not:
/// what can heal by itself was tried again by then.
fn is_hopeless(reason: &str) -> bool {
    !matches!(
        reason,
        "ContainerCreating" | "PodInitializing" | "CrashLoopBackOff"
    )
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

fn end_of(status: &PodStatus) -> Option<End> {
    let states = status
        .container_statuses
        .iter()
        .flatten()
        .filter_map(|c| c.state.as_ref());
    for state in states {
        if let Some(ended) = &state.terminated {
            return Some(terminated(ended));
        }
        let reason = state
            .waiting
            .as_ref()
            .and_then(|w| w.reason.as_deref())
            .unwrap_or_default();
        if !reason.is_empty() && is_hopeless(reason) {
            let message = state.waiting.as_ref().and_then(|w| w.message.clone());
            return Some(End::Never(message.unwrap_or_else(|| reason.to_owned())));
        }
    }
    match status.phase.as_deref() {
        Some("Failed") => {
            let text = status.message.clone().or_else(|| status.reason.clone());
            Some(End::Never(
                text.unwrap_or_else(|| "the pod failed".to_owned()),
            ))
        }
        _ => None,
    }
}

impl TerminalOutlet {
    /// The first end counts: what follows is its consequence.
    fn ends(&self, end: End) {
        self.end.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(end);
            }
            first
        });
    }
}

/// A pod's folders and addresses are tried for again and again, and its status says no more than
/// ContainerCreating: why, only an event tells.
fn is_hopeless_event(event: &Event) -> bool {
    matches!(
        event.reason.as_str(),
        "FailedMount" | "FailedCreatePodSandBox"
    )
}

impl Outlet for TerminalOutlet {
    fn publish(&self, _uid: &str, _pod: &Arc<Pod>, status: PodStatus, released: bool) {
        if let Some(end) = end_of(&status) {
            self.ends(end);
        }
        if released {
            self.released.send_replace(true);
        }
    }

    fn event(&self, _pod: &Arc<Pod>, event: Event) {
        tracing::debug!(reason = event.reason, message = event.message, "event");
        if is_hopeless_event(&event) {
            self.ends(End::Never(event.message));
        }
    }

    fn forgotten(&self, _uid: &str) {
        self.released.send_replace(true);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn status(json: &str) -> PodStatus {
        serde_json::from_str(json).unwrap()
    }

    fn container(state: &str) -> PodStatus {
        status(&format!(
            r#"{{"phase":"Pending","containerStatuses":[{{"name":"main","image":"i","imageID":"","ready":false,"restartCount":0,"state":{state}}}]}}"#
        ))
    }

    #[test]
    fn an_exit_is_an_end_and_its_code_passes() {
        let ended = container(r#"{"terminated":{"exitCode":7,"reason":"Error"}}"#);
        let end = End::Exited {
            code: 7,
            reason: "Error".into(),
            message: String::new(),
        };
        assert_eq!(end_of(&ended), Some(end));
    }

    #[test]
    fn what_a_cluster_waits_for_ends_a_run() {
        for reason in ["ErrImagePull", "InvalidImageName", "CreateContainerError"] {
            let waiting = format!(r#"{{"waiting":{{"reason":"{reason}","message":"why"}}}}"#);
            assert_eq!(
                end_of(&container(&waiting)),
                Some(End::Never("why".into())),
                "{reason}"
            );
        }
        let creating = container(r#"{"waiting":{"reason":"ContainerCreating"}}"#);
        assert_eq!(end_of(&creating), None);
    }

    #[test]
    fn a_refused_pod_says_why() {
        let refused = status(
            r#"{"phase":"Failed","reason":"OutOfmemory","message":"Pod was rejected: no room"}"#,
        );
        assert_eq!(
            end_of(&refused),
            Some(End::Never("Pod was rejected: no room".into()))
        );
    }
}
