//! What is known of a pod when its session does not live: a file a pod, in the session's folder.
//!
//! It is written beside and renamed, without fsync: it has to survive the session, and what a power
//! cut takes takes the guests with it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus,
};
use serde::{Deserialize, Serialize};

use super::alive::RECORD;
use super::events::Events;
use super::{end, words};

/// The form of records and of the control protocol.
pub(crate) const VERSION: u32 = 1;

/// No record is larger; what is, is none.
const MAX_SIZE: u64 = 16 << 20;

/// What is known of a pod, on disk and over the control socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// With its latest status.
    pub(crate) pod: Pod,
    /// The command line of coracle that made it.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// The process that holds it.
    #[serde(default)]
    pub(crate) pid: u32,
    /// Whether it stays until `rm` when it has ended.
    #[serde(default)]
    pub(crate) kept: bool,
    /// Whether its output is in a log; else it goes to the terminal of its command.
    #[serde(default)]
    pub(crate) logged: bool,
    /// What was told of it.
    #[serde(default)]
    pub(crate) events: Events,
}

impl Record {
    /// Its file in a session's folder.
    pub(crate) fn path(folder: &Path, uid: &str) -> PathBuf {
        folder.join(format!("{uid}.{RECORD}"))
    }

    /// The UID of its pod.
    pub(crate) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// When the disk is full, or refuses.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = Record::path(folder, self.uid());
        let bytes = serde_json::to_vec(self).context("a record has no form in JSON")?;
        let beside = path.with_extension("tmp");
        let write = || {
            std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?
                .write_all(&bytes)?;
            std::fs::rename(&beside, &path)
        };
        write()
            .inspect_err(|_| {
                // It only takes space; the write's error is the one to tell.
                let _ = std::fs::remove_file(&beside);
            })
            .with_context(|| format!("can't write the record {}", path.display()))
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it can't be read, is damaged, or of a later coracle.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Record> {
        let damaged = || format!("the record {} can't be used", path.display());
        let size = std::fs::metadata(path).with_context(damaged)?.len();
        if size > MAX_SIZE {
            bail!("{}: it has {size} bytes", damaged());
        }
        let bytes = std::fs::read(path).with_context(damaged)?;
        let record: Record = serde_json::from_slice(&bytes).with_context(damaged)?;
        match record.version {
            VERSION => Ok(record),
            other => bail!(
                "{}: it has version {other}, and this coracle writes {VERSION}",
                damaged()
            ),
        }
    }

    /// The pod as it is when its session is gone: what had not ended is lost.
    pub(crate) fn lose(mut self) -> Record {
        let status = self.pod.status.get_or_insert_default();
        if !end::is_terminal(status) {
            lose(status);
        }
        self.pod.metadata.deletion_timestamp = None;
        self
    }
}

/// As the kubelet has it for containers that it can't find any more
/// (`convertToAPIContainerStatuses` of `pkg/kubelet/kubelet_pods.go`).
fn lose(status: &mut PodStatus) {
    status.phase = Some("Failed".to_owned());
    let inits = status.init_container_statuses.iter_mut().flatten();
    let lasting = inits.chain(status.container_statuses.iter_mut().flatten());
    for container in lasting.chain(status.ephemeral_container_statuses.iter_mut().flatten()) {
        let ended = container
            .state
            .as_ref()
            .is_some_and(|state| state.terminated.is_some());
        if !ended {
            lose_container(container);
        }
    }
    for condition in status.conditions.iter_mut().flatten() {
        if matches!(condition.type_.as_str(), "Ready" | "ContainersReady") {
            condition.status = "False".to_owned();
            condition.reason = Some("PodFailed".to_owned());
        }
    }
}

fn lose_container(container: &mut ContainerStatus) {
    let started_at = container
        .state
        .as_ref()
        .and_then(|state| state.running.as_ref()?.started_at.clone());
    container.ready = false;
    container.started = Some(false);
    container.state = Some(ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some(words::LOST.to_owned()),
            message: Some(
                "The container could not be located when the pod was terminated".to_owned(),
            ),
            started_at,
            container_id: container.container_id.clone(),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record(state: serde_json::Value, phase: &str) -> Record {
        serde_json::from_value(serde_json::json!({
            "version": VERSION,
            "unknown": {"field": "of a later coracle"},
            "pod": {"metadata": {"uid": "u", "name": "web", "deletionTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"containers": [{"name": "main"}]},
                "status": {"phase": phase, "containerStatuses": [{"name": "main", "image": "i",
                    "imageID": "", "ready": true, "restartCount": 2, "state": state}]}},
        }))
        .unwrap()
    }

    #[test]
    fn what_ran_when_its_session_died_is_lost_and_what_had_ended_is_not() {
        let running = serde_json::json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let lost = record(running, "Running").lose();
        let status = lost.pod.status.clone().unwrap();
        let container = status.container_statuses.unwrap().remove(0);
        let ended = container.state.unwrap().terminated.unwrap();
        assert_eq!(status.phase.as_deref(), Some("Failed"));
        assert_eq!(
            (ended.exit_code, ended.reason.as_deref()),
            (137, Some(words::LOST))
        );
        assert!(!container.ready && ended.started_at.is_some());
        assert_eq!(words::Words::of(&lost.pod).status, words::LOST);

        let ended = serde_json::json!({"terminated": {"exitCode": 3, "reason": "Error"}});
        let kept = record(ended, "Failed").lose();
        assert_eq!(words::Words::of(&kept.pod).status, "Error");
    }

    #[test]
    fn it_is_read_as_it_was_written_and_what_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let written = record(serde_json::json!({}), "Pending");
        written.write(folder.path()).unwrap();
        written.write(folder.path()).unwrap();
        let path = Record::path(folder.path(), "u");
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(
            serde_json::to_vec(&Record::read(&path).unwrap()).unwrap(),
            bytes
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        for bad in [
            &b""[..],
            b"{",
            b"[]",
            br#"{"version":2,"pod":{"metadata":{}}}"#,
            bytes.get(..bytes.len() / 2).unwrap(),
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = format!("{:#}", Record::read(&path).unwrap_err());
            assert!(error.contains("u.json"), "{error}");
        }
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(MAX_SIZE + 1).unwrap();
        Record::read(&path).unwrap_err();
    }

    #[test]
    fn a_disk_that_is_full_leaves_the_record_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        // A folder in the way of the file beside refuses as a full disk does, for root too.
        let written = record(serde_json::json!({}), "Pending");
        written.write(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("u.tmp")).unwrap();
        let error = written.write(folder.path()).unwrap_err();
        assert!(format!("{error:#}").contains("u.json"), "{error:#}");
        Record::read(&Record::path(folder.path(), "u")).unwrap();
    }
}
