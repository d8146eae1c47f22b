#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use api::Backend;
use serde_json::{Value, json};

use super::*;

fn known() -> (tempfile::TempDir, Known) {
    let folder = tempfile::tempdir().unwrap();
    let dirs = Dirs::open(folder.path()).unwrap();
    (folder, Known::new(dirs, Value::Null))
}

fn pod(uid: &str, created: &str) -> Arc<Pod> {
    let pod = json!({"metadata": {"name": "web", "namespace": "default", "uid": uid, "creationTimestamp": created},
        "status": {"qosClass": "Burstable", "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": created},
            {"type": "Ready", "status": "True", "lastTransitionTime": created}]}});
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn status(id: &str, state: &str) -> PodStatus {
    let state: Value = [(state.to_owned(), json!({"exitCode": 0}))]
        .into_iter()
        .collect();
    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "main", "image": "i", "imageID": "", "ready": true,
            "restartCount": 0, "containerID": id, "state": state}]});
    serde_json::from_value(status).unwrap()
}

#[test]
fn the_newest_pod_of_a_name_is_meant_with_what_was_found_of_it() {
    let (_folder, known) = known();
    let (old, new) = (
        pod("old", "2026-01-01T00:00:00Z"),
        pod("new", "2026-01-02T00:00:00Z"),
    );
    known.applied(&new);
    known.applied(&old);
    assert_eq!(known.pods().len(), 2);
    assert_eq!(known.pod("default", "none"), None);
    assert_eq!(known.pod("other", "web"), None);
    known.published("new", &new, status("u_main_0", "running"));
    known.applied(&new); // The API server's status is older than ours.
    let found = known.pod("default", "web").unwrap();
    assert_eq!(found.metadata.uid.as_deref(), Some("new"));
    let status = found.status.clone().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.qos_class.as_deref(), Some("Burstable"));
    let conditions = status.conditions.unwrap();
    let kinds: Vec<&str> = conditions.iter().map(|c| c.type_.as_str()).collect();
    assert_eq!(kinds, ["Ready", "PodScheduled"]);
    assert!(conditions[0].last_transition_time.is_some());
    known.forgotten("new");
    let left = known.pod("default", "web").unwrap();
    assert_eq!(left.metadata.uid.as_deref(), Some("old"));
}

#[tokio::test]
async fn a_run_ends_when_it_does_and_when_its_pod_is_forgotten() {
    let (_folder, known) = known();
    let pod = pod("u", "2026-01-01T00:00:00Z");
    let over = |future: &mut BoxFuture<'static, ()>| future.now_or_never().is_some();
    known.published("u", &pod, status("u_main_1", "running"));
    let mut ended = known.ended("u", "main", "u_main_1");
    assert!(!over(&mut ended));
    known.ended("u", "main", "u_main_0").await;
    known.ended("u", "other", "u_main_1").await;
    known.ended("unknown", "main", "u_main_1").await;
    known.published("u", &pod, status("u_main_1", "running"));
    assert!(!over(&mut ended));
    known.published("u", &pod, status("u_main_1", "terminated"));
    ended.await;
    known.published("u", &pod, status("u_main_2", "running"));
    let mut ended = known.ended("u", "main", "u_main_2");
    assert!(!over(&mut ended));
    known.forgotten("u");
    ended.await;
}

#[test]
fn a_log_is_found_by_its_runs_id() {
    let (_folder, known) = known();
    let pod = pod("u", "2026-01-01T00:00:00Z");
    let open = |id: &str| known.open_log(&pod, "main", id, logs::Options::default());
    assert!(matches!(open("docker://abc"), Err(LogError::Foreign(_))));
    assert!(matches!(
        open("coracle://u_main_3"),
        Err(LogError::Folder { .. })
    ));
    let folder = known.dirs.logs(&pod, "main");
    crate::dirs::make(&folder).unwrap();
    assert!(matches!(
        open("coracle://u_main_3"),
        Err(LogError::Log { .. })
    ));
    std::fs::write(
        folder.join("3.log"),
        "2026-01-01T00:00:00Z stdout F hello\n",
    )
    .unwrap();
    let mut text = Vec::new();
    open("coracle://u_main_3").unwrap().next(&mut text).unwrap();
    assert_eq!(text, b"hello\n");
}
