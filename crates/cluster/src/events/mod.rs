//! Events: what `kubectl describe` shows. The only thing here that may be dropped, and then it is counted.
//!
//! Never in anyone's way: a bounded queue, one write after another in order, at the kubelet's rate (50/s, 100 at once).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use events::{Bucket, Correlator, Heard, Key};
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

/// An event to be written.
#[derive(Debug, Clone)]
struct Write {
    event: Event,
    key: Key,
    /// It stands in the API already: its count, message and time are patched.
    repeats: bool,
}

/// What to write of `event`, if anything. What was told is known by its object's name.
fn correlate(
    correlator: &mut Correlator<Option<String>>,
    mut event: Event,
    now: Timestamp,
) -> Option<Write> {
    let object = &event.involved_object;
    let said = [
        &object.kind,
        &object.namespace,
        &object.name,
        &object.uid,
        &object.api_version,
    ];
    let about = said.map(|part| part.as_deref().unwrap_or_default());
    let heard = Heard {
        about: &about.join("\0"),
        kind: event.type_.as_deref().unwrap_or_default(),
        reason: event.reason.as_deref().unwrap_or_default(),
        part: object.field_path.as_deref().unwrap_or_default(),
        message: event.message.as_deref().unwrap_or_default(),
    };
    let tell = correlator.correlate(&heard, event.metadata.name.clone(), now)?;
    event.message = Some(tell.message);
    event.count = Some(i32::try_from(tell.count).unwrap_or(i32::MAX));
    event.first_timestamp = Some(Time(tell.first));
    event.metadata.name = tell.tag;
    Some(Write {
        event,
        key: tell.key,
        repeats: tell.repeats,
    })
}

struct Writer {
    client: Client,
    queue: Arc<Queue>,
    correlator: Correlator<Option<String>>,
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
            let write = correlate(&mut self.correlator, event, Timestamp::now());
            if let Some(write) = write {
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
                    let count = written.count.and_then(|count| u32::try_from(count).ok());
                    if let Some(count) = count {
                        self.correlator.counted(&write.key, count);
                    }
                    return;
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
    fn what_happens_again_is_written_under_its_first_name() {
        let mut correlator = Correlator::default();
        let mut write = |second| {
            let now = Timestamp::from_second(second).unwrap();
            let event = event(
                "wasm-1",
                &Subject::Node,
                Severity::Normal,
                "Rebooted",
                "again",
                now,
            );
            correlate(&mut correlator, event, now).unwrap()
        };
        let (first, again) = (write(1), write(2));
        assert!(!first.repeats && again.repeats);
        assert_eq!(first.event.metadata.name, again.event.metadata.name);
        assert_eq!((first.event.count, again.event.count), (Some(1), Some(2)));
        assert_eq!(first.event.first_timestamp, again.event.first_timestamp);
        assert_ne!(first.event.last_timestamp, again.event.last_timestamp);
    }

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
