//! The outlet of `coracle node`: statuses and events go to the API server, and the logs of a pod
//! go when it does.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use agent::Outlet;
use cluster::events::{Severity, Subject};
use cluster::{Mirrors, Publisher, Recorder};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use lifecycle::{Event, EventKind};
use tokio::sync::Notify;

use crate::dirs::Dirs;
use crate::node::is_static;

/// See the module.
pub(crate) struct ClusterOutlet {
    publisher: Publisher,
    mirrors: Mirrors,
    recorder: Recorder,
    dirs: Dirs,
    /// Told each time that nothing is left of some pod.
    forgotten: Arc<Notify>,
    logs: Mutex<HashMap<String, PathBuf>>,
}

impl ClusterOutlet {
    /// An outlet to one cluster.
    pub(crate) fn new(
        publisher: Publisher,
        mirrors: Mirrors,
        recorder: Recorder,
        dirs: Dirs,
    ) -> ClusterOutlet {
        ClusterOutlet {
            publisher,
            mirrors,
            recorder,
            dirs,
            forgotten: Arc::default(),
            logs: Mutex::default(),
        }
    }

    /// Told each time that nothing is left of some pod.
    pub(crate) fn when_forgotten(&self) -> Arc<Notify> {
        self.forgotten.clone()
    }

    fn logs(&self) -> std::sync::MutexGuard<'_, HashMap<String, PathBuf>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet for ClusterOutlet {
    fn publish(&self, uid: &str, pod: &Arc<Pod>, status: Arc<PodStatus>, released: bool) {
        let status = Arc::unwrap_or_clone(status);
        self.logs()
            .entry(uid.to_owned())
            .or_insert_with(|| self.dirs.pod_logs(pod));
        match is_static(pod) {
            true => self.mirrors.publish(pod, status),
            false => self.publisher.publish(uid, pod, status, released),
        }
    }

    fn event(&self, pod: &Arc<Pod>, event: Event) {
        let severity = match event.kind {
            EventKind::Normal => Severity::Normal,
            EventKind::Warning => Severity::Warning,
        };
        let subject = Subject::Pod(pod.clone(), event.container);
        self.recorder
            .record(&subject, severity, &event.reason, &event.message);
    }

    fn forgotten(&self, uid: &str) {
        self.publisher.forget(uid);
        self.mirrors.forget(uid);
        self.forgotten.notify_one();
        let Some(folder) = self.logs().remove(uid) else {
            return;
        };
        tokio::task::spawn_blocking(move || {
            if let Err(error) = volume::remove(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "a pod's logs stay");
            }
        });
    }
}
