//! Events: what `kubectl describe` shows. The only thing here that may be dropped, and then it is counted.
//!
//! Never in anyone's way: a bounded queue, one write after another in order, at the kubelet's rate (50/s, 100 at once).

mod correlate;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::error::{Call, CallError, Kind};
use crate::outage::Outage;
use correlate::{Bucket, Correlator, Write};

/// Events that wait for the API server before new ones are dropped.
const QUEUE: usize = 1000;
/// How long one write may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The namespace of events about objects that have none, as the Node.
const CLUSTER_NAMESPACE: &str = "default";
/// Who speaks: by this name, dashboards and `kubectl describe` know a node's events.
const COMPONENT: &str = "kubelet";

/// Whether something is out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// What an event is about.
#[derive(Debug, Clone)]
pub enum Subject {
    /// A pod, or a container of it by its path in the spec: `spec.containers{web}`.
    Pod(Arc<Pod>, Option<String>),
    /// This node.
    Node,
}

/// A handle on the recorder; clones share it. The writer ends when the last is dropped and the queue is empty.
#[derive(Clone)]
pub struct Recorder {
    queue: Arc<Queue>,
    node: Arc<str>,
    _alive: Arc<Alive>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<Event>>,
    dropped: AtomicU64,
    changed: Notify,
    closed: std::sync::atomic::AtomicBool,
}

/// Tells the writer when nobody can record any more.
struct Alive(Arc<Queue>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.changed.notify_one();
    }
}

impl Recorder {
    /// A recorder for the node `node`, whose writer runs on the current tokio runtime.
    pub fn new(client: Client, node: &str) -> Recorder {
        let queue = Arc::new(Queue::default());
        tokio::spawn(Writer::new(client, queue.clone()).write_all());
        Recorder {
            _alive: Arc::new(Alive(queue.clone())),
            queue,
            node: node.into(),
        }
    }

    /// Records that something happened, now. Never blocks; dropped, and counted, when too many wait.
    pub fn record(&self, subject: &Subject, severity: Severity, reason: &str, message: &str) {
        let event = event(
            &self.node,
            subject,
            severity,
            reason,
            message,
            Timestamp::now(),
        );
        let mut waiting = self
            .queue
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= QUEUE {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.push_back(event);
        drop(waiting);
        self.queue.changed.notify_one();
    }

    /// How many events were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }
}

fn event(
    node: &str,
    subject: &Subject,
    severity: Severity,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Event {
    let involved_object = match subject {
        Subject::Pod(pod, field_path) => ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: field_path.clone(),
        },
        // The kubelet has no UID of its Node at hand and gives the name; kubectl describe looks for either.
        Subject::Node => ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            uid: Some(node.to_owned()),
            ..Default::default()
        },
    };
    let namespace = involved_object
        .namespace
        .clone()
        .unwrap_or_else(|| CLUSTER_NAMESPACE.to_owned());
    let name = involved_object.name.clone().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: Some(namespace),
            ..Default::default()
        },
        involved_object,
        type_: Some(format!("{severity:?}")),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource {
            component: Some(COMPONENT.to_owned()),
            host: Some(node.to_owned()),
        }),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(node.to_owned()),
        ..Default::default()
    }
}

struct Writer {
    client: Client,
    queue: Arc<Queue>,
    correlator: Correlator,
    rate: Bucket,
    outage: Outage,
    told: u64,
}

impl Writer {
    fn new(client: Client, queue: Arc<Queue>) -> Writer {
        let now = Timestamp::now();
        Writer {
            client,
            queue,
            correlator: Correlator::default(),
            rate: Bucket::full(100.0, 50.0, now),
            outage: Outage::of("events"),
            told: 0,
        }
    }

    async fn write_all(mut self) {
        loop {
            let changed = self.queue.changed.notified();
            let next = self
                .queue
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some(event) = next else {
                if self.queue.closed.load(Ordering::Acquire) {
                    return;
                }
                changed.await;
                continue;
            };
            drop(changed);
            if let Some(write) = self.correlator.correlate(event, Timestamp::now()) {
                self.write(write).await;
            }
            self.tell_dropped();
        }
    }

    fn tell_dropped(&mut self) {
        let dropped = self.queue.dropped.load(Ordering::Relaxed);
        if dropped > self.told {
            tracing::warn!(
                "{} events were dropped while the API server took none",
                dropped - self.told
            );
            self.told = dropped;
        }
    }

    /// Writes one event, however long the API server is away: those behind it wait in the queue.
    async fn write(&mut self, mut write: Write) {
        let mut backoff = Backoff::calls();
        loop {
            while let Err(wait) = self.rate.take(Timestamp::now()) {
                tokio::time::sleep(wait).await;
            }
            match self.call(&write).await {
                Ok(written) => {
                    self.outage.answered();
                    return self.correlator.written(&written);
                }
                // It lived for its hour: told anew.
                Err(error) if write.repeats && error.kind() == Kind::NotFound => {
                    write.repeats = false
                }
                Err(error) if error.kind().is_outage() || error.kind() == Kind::Throttled => {
                    self.outage.failed(&error);
                    tokio::time::sleep(backoff.next(error.retry_after())).await;
                }
                // The namespace is going, or the event is refused: it would be so again.
                Err(error) => return tracing::debug!("an event is dropped: {error}"),
            }
        }
    }

    async fn call(&self, write: &Write) -> Result<Event, CallError> {
        let event = &write.event;
        let namespace = event
            .metadata
            .namespace
            .as_deref()
            .unwrap_or(CLUSTER_NAMESPACE);
        let name = event.metadata.name.as_deref().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        if write.repeats {
            let patch = json!({ "count": event.count, "message": event.message, "lastTimestamp": event.last_timestamp });
            let request = Patch::Strategic(patch);
            let call = Call::of("patch", "events", namespace, name);
            return call
                .run(LIMIT, api.patch(name, &PatchParams::default(), &request))
                .await;
        }
        let call = Call::of("create", "events", namespace, name);
        call.run(LIMIT, api.create(&PostParams::default(), event))
            .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_event_has_the_kubelet_s_shape() {
        let metadata = ObjectMeta {
            namespace: Some("ns".into()),
            name: Some("web".into()),
            uid: Some("u1".into()),
            ..Default::default()
        };
        let pod = Arc::new(Pod {
            metadata,
            ..Default::default()
        });
        let subject = Subject::Pod(pod, Some("spec.containers{app}".into()));
        let now = Timestamp::from_second(1).unwrap();
        let event = event(
            "wasm-1",
            &subject,
            Severity::Warning,
            "Failed",
            "no such image",
            now,
        );
        let about = (
            event.involved_object.uid.as_deref(),
            event.involved_object.field_path.as_deref(),
        );
        assert_eq!(about, (Some("u1"), Some("spec.containers{app}")));
        assert_eq!(event.metadata.name.as_deref(), Some("web.3b9aca00"));
        assert_eq!(
            (event.type_.as_deref(), event.count),
            (Some("Warning"), Some(1))
        );
        let source = event.source.unwrap();
        assert_eq!(
            (source.component.as_deref(), source.host.as_deref()),
            (Some("kubelet"), Some("wasm-1"))
        );
    }
}
