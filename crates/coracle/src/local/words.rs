//! A pod in the few words of kubectl's table (`printPod` of `pkg/printers/internalversion/printers.go`).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodSpec, PodStatus,
};

/// The reason of a container that nobody knows the end of.
pub(crate) const LOST: &str = "ContainerStatusUnknown";

/// The words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// `Running`, `Completed`, `CrashLoopBackOff`, `Init:0/1`, `Terminating`, …
    pub(crate) status: String,
    /// How many containers are ready.
    pub(crate) ready: usize,
    /// How many there are.
    pub(crate) total: usize,
    /// How often containers were started again.
    pub(crate) restarts: i32,
    /// When the last of those that were had ended.
    pub(crate) restarted: Option<Timestamp>,
}

/// Where the count is.
struct Count<'a> {
    spec: Option<&'a PodSpec>,
    status: &'a PodStatus,
    words: Words,
}

impl Words {
    /// Of a pod as it is.
    pub(crate) fn of(pod: &Pod) -> Words {
        let none = PodStatus::default();
        let status = pod.status.as_ref().unwrap_or(&none);
        let spec = pod.spec.as_ref();
        let own = status.reason.clone().filter(|reason| !reason.is_empty());
        let phase = status.phase.clone().filter(|phase| !phase.is_empty());
        let mut count = Count {
            spec,
            status,
            words: Words {
                status: own.or(phase).unwrap_or_else(|| "Pending".to_owned()),
                ready: 0,
                total: spec.map_or(0, |spec| spec.containers.len()),
                restarts: 0,
                restarted: None,
            },
        };
        let initializing = count.init();
        if !initializing || condition(status, "Initialized") {
            count.main();
        }
        let mut words = count.words;
        if pod.metadata.deletion_timestamp.is_some() && !super::end::is_terminal(status) {
            words.status = "Terminating".to_owned();
        }
        words
    }
}

impl Count<'_> {
    fn is_sidecar(&self, name: &str) -> bool {
        let inits = self.spec.and_then(|spec| spec.init_containers.as_ref());
        inits
            .into_iter()
            .flatten()
            .any(|c| c.name == name && c.restart_policy.as_deref() == Some("Always"))
    }

    fn restarts(&mut self, container: &ContainerStatus) {
        self.words.restarts += container.restart_count;
        let last = container.last_state.as_ref();
        let ended = last
            .and_then(|state| state.terminated.as_ref()?.finished_at.as_ref())
            .map(|at| at.0);
        self.words.restarted = self.words.restarted.max(ended);
    }

    /// The init containers; true while the pod waits for them.
    fn init(&mut self) -> bool {
        let inits = self.spec.and_then(|spec| spec.init_containers.as_ref());
        let names: Vec<String> = inits
            .into_iter()
            .flatten()
            .map(|c| c.name.clone())
            .collect();
        self.words.total += names.iter().filter(|name| self.is_sidecar(name)).count();
        let statuses = self.status.init_container_statuses.iter().flatten();
        for (index, container) in statuses.enumerate() {
            self.restarts(container);
            let state = container.state.clone().unwrap_or_default();
            if state
                .terminated
                .as_ref()
                .is_some_and(|it| it.exit_code == 0)
            {
                continue;
            }
            if self.is_sidecar(&container.name) && container.started == Some(true) {
                self.words.ready += usize::from(container.ready);
                continue;
            }
            self.words.status = init_words(&state, index, names.len());
            return true;
        }
        false
    }

    fn main(&mut self) {
        let sidecars = self.status.init_container_statuses.iter().flatten();
        // Only of those that go on: an init container's restarts were its own affair.
        self.words.restarts = sidecars
            .filter(|c| self.is_sidecar(&c.name))
            .map(|c| c.restart_count)
            .sum();
        let mut runs = false;
        let statuses = self.status.container_statuses.iter().flatten();
        for container in statuses.rev() {
            self.restarts(container);
            let state = container.state.clone().unwrap_or_default();
            if let Some(reason) = waiting(&state) {
                self.words.status = reason;
            } else if let Some(ended) = &state.terminated {
                self.words.status = ended_words(ended);
            } else if container.ready && state.running.is_some() {
                runs = true;
                self.words.ready += 1;
            }
        }
        if self.words.status == "Completed" && runs {
            let ready = condition(self.status, "Ready");
            self.words.status = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
}

fn condition(status: &PodStatus, name: &str) -> bool {
    let mut all = status.conditions.iter().flatten();
    all.any(|condition| condition.type_ == name && condition.status == "True")
}

fn waiting(state: &ContainerState) -> Option<String> {
    let reason = state.waiting.as_ref()?.reason.clone()?;
    (!reason.is_empty()).then_some(reason)
}

fn ended_words(ended: &ContainerStateTerminated) -> String {
    match (ended.reason.as_deref().unwrap_or_default(), ended.signal) {
        ("", Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        ("", _) => format!("ExitCode:{}", ended.exit_code),
        (reason, _) => reason.to_owned(),
    }
}

fn init_words(state: &ContainerState, index: usize, of: usize) -> String {
    if let Some(ended) = &state.terminated {
        return format!("Init:{}", ended_words(ended));
    }
    match waiting(state).filter(|reason| reason != "PodInitializing") {
        Some(reason) => format!("Init:{reason}"),
        None => format!("Init:{index}/{of}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn container(name: &str, ready: bool, restarts: i32, state: Value) -> Value {
        json!({"name": name, "image": "i", "imageID": "", "ready": ready, "restartCount": restarts,
            "started": ready, "state": state})
    }

    fn words(phase: &str, inits: &[Value], mains: &[Value], more: Value) -> Words {
        let named = |all: &[Value], policy: Value| -> Vec<Value> {
            all.iter()
                .map(|c| match c["name"].as_str().unwrap().starts_with("side") {
                    true => json!({"name": c["name"], "restartPolicy": policy}),
                    false => json!({"name": c["name"]}),
                })
                .collect()
        };
        let mut pod = json!({
            "metadata": {"name": "web"},
            "spec": {"containers": named(mains, Value::Null), "initContainers": named(inits, json!("Always"))},
            "status": {"phase": phase, "initContainerStatuses": inits, "containerStatuses": mains},
        });
        for (part, fields) in more.as_object().unwrap() {
            for (name, value) in fields.as_object().unwrap() {
                pod[part][name] = value.clone();
            }
        }
        Words::of(&serde_json::from_value(pod).unwrap())
    }

    fn running() -> Value {
        json!({"running": {}})
    }

    fn waits(reason: &str) -> Value {
        json!({"waiting": {"reason": reason}})
    }

    fn ended(code: i32, reason: &str) -> Value {
        json!({"terminated": {"exitCode": code, "reason": reason}})
    }

    #[test]
    fn the_words_are_kubectls() {
        let table = [
            (
                "Running",
                vec![container("a", true, 0, running())],
                "Running",
                1,
            ),
            (
                "Succeeded",
                vec![container("a", false, 0, ended(0, "Completed"))],
                "Completed",
                0,
            ),
            (
                "Failed",
                vec![container("a", false, 0, ended(1, "Error"))],
                "Error",
                0,
            ),
            (
                "Failed",
                vec![container("a", false, 0, ended(137, "OOMKilled"))],
                "OOMKilled",
                0,
            ),
            (
                "Failed",
                vec![container("a", false, 0, ended(4, ""))],
                "ExitCode:4",
                0,
            ),
            (
                "Running",
                vec![container("a", false, 3, waits("CrashLoopBackOff"))],
                "CrashLoopBackOff",
                0,
            ),
            (
                "Pending",
                vec![container("a", false, 0, waits("ErrImagePull"))],
                "ErrImagePull",
                0,
            ),
            (
                "Running",
                vec![
                    container("a", true, 0, running()),
                    container("b", false, 0, ended(0, "Completed")),
                ],
                "NotReady",
                1,
            ),
            ("Pending", vec![], "Pending", 0),
        ];
        for (phase, mains, expected, ready) in table {
            let said = words(phase, &[], &mains, json!({}));
            assert_eq!(
                (said.status.as_str(), said.ready),
                (expected, ready),
                "{mains:?}"
            );
            assert_eq!(said.total, mains.len());
        }
    }

    #[test]
    fn init_containers_are_told_until_they_are_through() {
        let main = [container("a", false, 0, waits("PodInitializing"))];
        let done = container("i1", false, 1, ended(0, "Completed"));
        for (state, expected) in [
            (running(), "Init:1/2"),
            (waits("PodInitializing"), "Init:1/2"),
            (waits("CrashLoopBackOff"), "Init:CrashLoopBackOff"),
            (ended(1, "Error"), "Init:Error"),
            (ended(3, ""), "Init:ExitCode:3"),
        ] {
            let inits = [done.clone(), container("i2", false, 2, state)];
            let said = words("Pending", &inits, &main, json!({}));
            assert_eq!((said.status.as_str(), said.restarts), (expected, 3));
        }
        let sidecar = container("side", true, 1, running());
        let main = [container("a", true, 2, running())];
        let said = words("Running", &[done, sidecar], &main, json!({}));
        assert_eq!(
            (said.status.as_str(), said.ready, said.total, said.restarts),
            ("Running", 2, 2, 3)
        );
    }

    #[test]
    fn what_is_deleted_terminates_and_what_was_refused_says_so() {
        let more = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let main = [container("a", true, 0, running())];
        assert_eq!(
            words("Running", &[], &main, more.clone()).status,
            "Terminating"
        );
        let main = [container("a", false, 0, ended(0, "Completed"))];
        assert_eq!(words("Succeeded", &[], &main, more).status, "Completed");
        let refused = words(
            "Failed",
            &[],
            &[],
            json!({"status": {"reason": "OutOfmemory"}}),
        );
        assert_eq!(refused.status, "OutOfmemory");
    }
}
