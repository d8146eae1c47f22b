//! What this node knows of its pods, for who asks at its port. The watch and the agent's outlet write it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent::Outlet;
use api::LogError;
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use lifecycle::Event;
use tokio::sync::watch;

use crate::dirs::Dirs;
use crate::local::end;

/// The pods, by UID.
pub(super) struct Known {
    dirs: Dirs,
    configuration: serde_json::Value,
    pods: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    pod: Arc<Pod>,
    /// As last published; before that as the API server had it.
    status: watch::Sender<PodStatus>,
}

impl Entry {
    fn new(pod: &Arc<Pod>, status: PodStatus) -> Entry {
        Entry {
            pod: Arc::clone(pod),
            status: watch::Sender::new(status),
        }
    }

    fn pod(&self) -> Arc<Pod> {
        Arc::new(with_status(&self.pod, &self.status.borrow()))
    }
}

impl Known {
    pub(super) fn new(dirs: Dirs, configuration: serde_json::Value) -> Known {
        Known {
            dirs,
            configuration,
            pods: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pod that the agent has taken in, as its source has it now.
    pub(super) fn applied(&self, pod: &Arc<Pod>) {
        let Some(uid) = pod.metadata.uid.clone() else {
            return;
        };
        let status = pod.status.clone().unwrap_or_default();
        self.lock()
            .entry(uid)
            .and_modify(|entry| entry.pod = Arc::clone(pod))
            .or_insert_with(|| Entry::new(pod, status));
    }

    fn published(&self, uid: &str, pod: &Arc<Pod>, status: PodStatus) {
        let mut pods = self.lock();
        match pods.get(uid) {
            Some(entry) => {
                entry.status.send_replace(status);
            }
            None => {
                pods.insert(uid.to_owned(), Entry::new(pod, status));
            }
        }
    }

    fn forgotten(&self, uid: &str) {
        self.lock().remove(uid);
    }
}

/// A pod as its source has it, with what this node has since found out of it.
fn with_status(pod: &Pod, found: &PodStatus) -> Pod {
    let mut status = found.clone();
    let before = pod.status.clone().unwrap_or_default();
    status.qos_class = status.qos_class.or(before.qos_class);
    status.start_time = status.start_time.or(before.start_time);
    let others = before.conditions.into_iter().flatten();
    let conditions = status.conditions.get_or_insert_default();
    for other in others {
        match conditions.iter_mut().find(|own| own.type_ == other.type_) {
            Some(own) if own.status == other.status => {
                let since = &mut own.last_transition_time;
                *since = since.take().or(other.last_transition_time);
            }
            Some(_) => {}
            None => conditions.push(other),
        }
    }
    Pod {
        status: Some(status),
        ..pod.clone()
    }
}

fn runs(status: &PodStatus, container: &str, id: &str) -> bool {
    end::containers(status).any(|status| {
        let state = status.state.as_ref();
        status.name == container
            && status.container_id.as_deref() == Some(id)
            && state.is_some_and(|state| state.running.is_some())
    })
}

impl api::Backend for Known {
    fn pods(&self) -> Vec<Arc<Pod>> {
        self.lock().values().map(Entry::pod).collect()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let pods = self.lock();
        let meta = |entry: &&Entry| entry.pod.metadata.clone();
        let named = pods.values().filter(|entry| {
            let meta = &entry.pod.metadata;
            meta.name.as_deref() == Some(name) && meta.namespace.as_deref() == Some(namespace)
        });
        // One that is being replaced may still end.
        let newest = named.max_by_key(|entry| meta(entry).creation_timestamp.map(|at| at.0));
        newest.map(Entry::pod)
    }

    fn configuration(&self) -> serde_json::Value {
        self.configuration.clone()
    }

    fn open_log(
        &self,
        pod: &Pod,
        container: &str,
        id: &str,
        options: logs::Options,
    ) -> Result<logs::Reader, LogError> {
        let attempt = end::attempt_of(Some(id)).ok_or_else(|| LogError::Foreign(id.to_owned()))?;
        let dir = self.dirs.open_logs(pod, container);
        let dir = dir.map_err(|source| LogError::Folder {
            id: id.to_owned(),
            source,
        })?;
        logs::Reader::open(dir, &attempt.to_string(), options).map_err(|source| LogError::Log {
            id: id.to_owned(),
            source,
        })
    }

    fn ended(&self, uid: &str, container: &str, id: &str) -> BoxFuture<'static, ()> {
        let Some(mut status) = self.lock().get(uid).map(|entry| entry.status.subscribe()) else {
            return std::future::ready(()).boxed();
        };
        let (container, id) = (container.to_owned(), id.to_owned());
        async move {
            // An error says that the pod is forgotten.
            let _ = status.wait_for(|now| !runs(now, &container, &id)).await;
        }
        .boxed()
    }
}

/// An outlet that tells this node's port, too.
pub(super) struct Also<O> {
    pub(super) outlet: O,
    pub(super) known: Arc<Known>,
}

impl<O: Outlet> Outlet for Also<O> {
    fn publish(&self, uid: &str, pod: &Arc<Pod>, status: Arc<PodStatus>, released: bool) {
        self.known.published(uid, pod, PodStatus::clone(&status));
        self.outlet.publish(uid, pod, status, released);
    }

    fn event(&self, pod: &Arc<Pod>, event: Event) {
        self.outlet.event(pod, event);
    }

    fn forgotten(&self, uid: &str) {
        self.known.forgotten(uid);
        self.outlet.forgotten(uid);
    }
}

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;
