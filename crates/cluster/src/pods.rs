//! Which pods are bound to this node: a watch that never ends.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_resource};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::backoff::Backoff;
use crate::error::{Call, CallError};
use crate::mirror::is_mirror;
use crate::outage::Outage;

/// Seconds after which the server ends a watch, which is then resumed where it was. A connection that was cut without a
/// word is found out five seconds later.
const WATCH_SECONDS: u32 = 55;

/// What has become known of the pods bound to this node. A pod is its UID: one that comes back under the same name is
/// told as deleted and applied.
#[derive(Debug, Clone)]
pub enum PodEvent {
    /// The pod is new or has changed; under deletion if it has a `deletionTimestamp`.
    Applied(Arc<Pod>),
    /// The object is gone, also when it vanished while nobody watched.
    Deleted(Arc<Pod>),
    /// A mirror pod (the image of a static pod in the API, never to be run) is new or has changed.
    Mirror(Arc<Pod>),
    /// A mirror pod is gone.
    MirrorDeleted(Arc<Pod>),
    /// Every pod that there is has been told. Comes after the first list, and after each later one.
    Synced,
}

/// Watches the pods whose `spec.nodeName` is `node`. The stream never ends; its failures are logged and tried again.
pub fn watch(client: Client, node: &str) -> impl Stream<Item = PodEvent> + Send + use<> {
    let bound = format!("spec.nodeName={node}");
    follow(raw(Api::all(client), Some(&bound)))
}

/// What a watch of objects tells, of those that a field selector names if there is one. Never ends.
pub(crate) fn raw<K>(
    api: Api<K>,
    fields: Option<&str>,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + use<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
    if let Some(fields) = fields {
        config = config.fields(fields);
    }
    watch_resource(api, config).backoff(Backoff::calls())
}

/// Turns the raw events into ours. Apart from the client, so that it can be driven by hand.
fn follow(
    events: impl Stream<Item = watcher::Result<Event<Pod>>> + Send,
) -> impl Stream<Item = PodEvent> + Send {
    let outage = Outage::of("pod watch");
    let told = events.scan(
        (Known::default(), String::new()),
        move |(known, said), event| {
            let out = match event {
                Ok(event) => {
                    outage.answered();
                    said.clear();
                    known.take(event)
                }
                Err(error) => {
                    tell(&outage, said, "pods", error);
                    Vec::new()
                }
            };
            std::future::ready(Some(futures::stream::iter(out)))
        },
    );
    told.flatten()
}

/// Says why a watch of a resource waits, once for each reason.
pub(crate) fn tell(
    outage: &Outage,
    said: &mut String,
    resource: &'static str,
    error: watcher::Error,
) {
    let (verb, error) = match error {
        watcher::Error::InitialListFailed(error) => ("list", error),
        watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
            ("watch", error)
        }
        watcher::Error::WatchError(status) => ("watch", kube::Error::Api(status)),
        watcher::Error::NoResourceVersion => {
            return tracing::warn!(
                "watch {resource}: an answer without a resourceVersion; listing again"
            );
        }
    };
    let error = CallError::new(Call::on(verb, resource, ""), error);
    outage.failed(&error);
    let text = error.to_string();
    if !error.kind().is_outage() && *said != text {
        tracing::warn!("waiting for {resource}: {text}");
        *said = text;
    }
}

/// The pods that have been told, by UID.
#[derive(Default)]
struct Known {
    pods: HashMap<String, Arc<Pod>>,
    /// UIDs by namespace and name: a pod that was replaced while nobody watched has no event of its own.
    names: HashMap<(String, String), String>,
    /// Those of the list under way.
    listed: HashMap<String, Arc<Pod>>,
}

impl Known {
    fn take(&mut self, event: Event<Pod>) -> Vec<PodEvent> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(pod) => {
                let pod = Arc::new(trimmed(pod));
                if let Some(uid) = pod.metadata.uid.clone() {
                    self.listed.insert(uid, pod.clone());
                }
                self.apply(pod)
            }
            Event::InitDone => {
                let gone: Vec<String> = self
                    .pods
                    .keys()
                    .filter(|uid| !self.listed.contains_key(*uid))
                    .cloned()
                    .collect();
                self.listed.clear();
                let gone = gone
                    .iter()
                    .filter_map(|uid| self.remove(uid))
                    .collect::<Vec<_>>();
                gone.into_iter().chain([PodEvent::Synced]).collect()
            }
            Event::Apply(pod) => self.apply(Arc::new(trimmed(pod))),
            Event::Delete(pod) => {
                let pod = Arc::new(trimmed(pod));
                let Some(uid) = pod.metadata.uid.clone() else {
                    return Vec::new();
                };
                self.remove(&uid);
                vec![deleted(pod)]
            }
        }
    }

    fn apply(&mut self, pod: Arc<Pod>) -> Vec<PodEvent> {
        let Some(uid) = pod.metadata.uid.clone() else {
            return Vec::new();
        };
        let before = self
            .names
            .insert(name(&pod), uid.clone())
            .filter(|before| *before != uid);
        let replaced = before
            .and_then(|before| self.pods.remove(&before))
            .map(deleted);
        self.pods.insert(uid, pod.clone());
        replaced.into_iter().chain([applied(pod)]).collect()
    }

    fn remove(&mut self, uid: &str) -> Option<PodEvent> {
        let pod = self.pods.remove(uid)?;
        let name = name(&pod);
        if self.names.get(&name).is_some_and(|current| current == uid) {
            self.names.remove(&name);
        }
        Some(deleted(pod))
    }
}

/// Without what nobody here reads, and what is larger in memory than all the rest of a plain pod. And a copy: lists that
/// were read have room for four at least, which for one container and one volume are six KiB of nothing.
pub(crate) fn trimmed(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    pod.clone()
}

fn applied(pod: Arc<Pod>) -> PodEvent {
    match is_mirror(&pod) {
        true => PodEvent::Mirror(pod),
        false => PodEvent::Applied(pod),
    }
}

fn deleted(pod: Arc<Pod>) -> PodEvent {
    match is_mirror(&pod) {
        true => PodEvent::MirrorDeleted(pod),
        false => PodEvent::Deleted(pod),
    }
}

fn name(pod: &Pod) -> (String, String) {
    (
        pod.metadata.namespace.clone().unwrap_or_default(),
        pod.metadata.name.clone().unwrap_or_default(),
    )
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
