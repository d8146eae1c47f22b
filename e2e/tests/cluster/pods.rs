//! Pods: seen, their status written, their deletion finished, events.

use std::pin::Pin;
use std::sync::Arc;

use cluster::events::{Severity, Subject};
use cluster::publisher::Report;
use cluster::{PodEvent, Publisher, Recorder, pods};
use e2e::{ControlPlane, Guard};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::runtime::WatchStreamExt;
use kube::{Api, Client};

use crate::bench::{PATIENCE, access, phase, pod, status};

/// A node's view: its client, what it watches, its publisher.
struct Seat {
    plane: Guard,
    client: Client,
    events: Pin<Box<dyn Stream<Item = PodEvent> + Send>>,
    publisher: Publisher,
    reports: tokio::sync::mpsc::UnboundedReceiver<Report>,
}

impl Seat {
    /// `name` is the node's and the namespace's.
    async fn take(name: &str) -> Seat {
        let plane = ControlPlane::shared().await.unwrap();
        plane.namespace(name).await.unwrap();
        let client = access(&plane, name).await.pods().unwrap();
        let events = Box::pin(pods::watch(client.clone(), name));
        let (publisher, reports) = Publisher::new(client.clone());
        Seat {
            plane,
            client,
            events,
            publisher,
            reports,
        }
    }

    /// The next event that `wanted` takes; the publisher sees all of them, as the agent's does.
    async fn next<T>(&mut self, wanted: impl Fn(&PodEvent) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let event = self.events.next().await.expect("the watch never ends");
                match &event {
                    PodEvent::Applied(pod) => self.publisher.observe(pod),
                    PodEvent::Deleted(pod) => {
                        self.publisher.deleted(pod.metadata.uid.as_deref().unwrap())
                    }
                    PodEvent::Mirror(_) | PodEvent::MirrorDeleted(_) | PodEvent::Synced => {}
                }
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("the event comes")
    }

    async fn applied(&mut self, like: impl Fn(&Pod) -> bool) -> Arc<Pod> {
        self.next(|event| match event {
            PodEvent::Applied(pod) if like(pod) => Some(pod.clone()),
            _ => None,
        })
        .await
    }

    fn publish(&self, pod: &Arc<Pod>, phase: &str, released: bool) {
        self.publisher
            .publish(uid(pod), pod, status(phase), released);
    }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap()
}

#[tokio::test]
async fn a_bound_pod_is_seen_run_and_finished() {
    let mut seat = Seat::take("seen").await;
    seat.next(|event| matches!(event, PodEvent::Synced).then_some(()))
        .await;
    let made = pod(&seat.plane, "seen", "web", "seen").await;
    pod(&seat.plane, "seen", "elsewhere", "another-node").await;
    let seen = seat.applied(|_| true).await;
    assert_eq!(uid(&seen), uid(&made));
    seat.publish(&seen, "Running", false);
    seat.applied(|pod| phase(Some(pod)) == "Running").await;
    // A readiness gate of somebody else's stays through our patches.
    let gate = r#"{"status":{"conditions":[{"type":"example.com/gate","status":"True"}]}}"#;
    seat.plane
        .kubectl(&[
            "patch",
            "pod",
            "web",
            "-n",
            "seen",
            "--subresource=status",
            "-p",
            gate,
        ])
        .await
        .unwrap();
    seat.publish(&seen, "Succeeded", true);
    let done = seat.applied(|pod| phase(Some(pod)) == "Succeeded").await;
    let conditions = done.status.clone().unwrap().conditions.unwrap();
    let kinds: Vec<&str> = conditions
        .iter()
        .map(|condition| condition.type_.as_str())
        .collect();
    assert!(
        ["example.com/gate", "Ready"]
            .iter()
            .all(|kind| kinds.contains(kind)),
        "{kinds:?}"
    );
    // Already terminal: the API server deletes it without our doing.
    seat.plane
        .kubectl(&["delete", "pod", "web", "-n", "seen", "--wait=false"])
        .await
        .unwrap();
    let gone = seat
        .next(|event| match event {
            PodEvent::Deleted(pod) => Some(uid(pod).to_owned()),
            _ => None,
        })
        .await;
    assert_eq!(gone, uid(&made));
}

#[tokio::test]
async fn a_graceful_deletion_is_finished_once_released() {
    let mut seat = Seat::take("finished").await;
    let web = pod(&seat.plane, "finished", "web", "finished").await;
    seat.publish(&web, "Running", false);
    seat.applied(|pod| phase(Some(pod)) == "Running").await;
    seat.plane
        .kubectl(&["delete", "pod", "web", "-n", "finished", "--wait=false"])
        .await
        .unwrap();
    let deleting = seat
        .applied(|pod| pod.metadata.deletion_timestamp.is_some())
        .await;
    seat.publish(&deleting, "Failed", false);
    seat.applied(|pod| phase(Some(pod)) == "Failed").await;
    seat.publish(&deleting, "Failed", true);
    seat.next(|event| matches!(event, PodEvent::Deleted(_)).then_some(()))
        .await;
    seat.plane
        .await_pod("finished", "web", "gone", |pod: Option<&Pod>| pod.is_none())
        .await
        .unwrap();
}

#[tokio::test]
async fn the_namesake_of_a_pod_that_is_gone_is_never_written() {
    let mut seat = Seat::take("namesake").await;
    let first = pod(&seat.plane, "namesake", "web", "namesake").await;
    seat.plane
        .kubectl(&[
            "delete",
            "pod",
            "web",
            "-n",
            "namesake",
            "--force",
            "--grace-period=0",
        ])
        .await
        .unwrap();
    let second = pod(&seat.plane, "namesake", "web", "namesake").await;
    // Nobody has told the publisher of the deletion: the API server's precondition does.
    seat.publish(&first, "Running", false);
    let report = tokio::time::timeout(PATIENCE, seat.reports.recv())
        .await
        .unwrap();
    assert_eq!(
        report,
        Some(Report::Gone {
            uid: uid(&first).to_owned()
        })
    );
    let api: Api<Pod> = Api::namespaced(seat.client.clone(), "namesake");
    let now = api.get("web").await.unwrap();
    assert_eq!((uid(&now), phase(Some(&now))), (uid(&second), "Pending"));
    // And of a pod whose name is gone altogether.
    seat.plane
        .kubectl(&[
            "delete",
            "pod",
            "web",
            "-n",
            "namesake",
            "--force",
            "--grace-period=0",
        ])
        .await
        .unwrap();
    seat.publish(&second, "Running", false);
    let report = tokio::time::timeout(PATIENCE, seat.reports.recv())
        .await
        .unwrap();
    assert_eq!(
        report,
        Some(Report::Gone {
            uid: uid(&second).to_owned()
        })
    );
}

#[tokio::test]
async fn a_status_that_validation_refuses_holds_nothing_up() {
    let mut seat = Seat::take("refused").await;
    let web = pod(&seat.plane, "refused", "web", "refused").await;
    let mut bad = status("Running");
    bad.pod_ip = Some("not an address".into());
    bad.pod_ips = Some(vec![k8s_openapi::api::core::v1::PodIP {
        ip: "not an address".into(),
    }]);
    seat.publisher.publish(uid(&web), &web, bad, false);
    while seat.publisher.behind() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        seat.plane
            .kubectl(&[
                "get",
                "pod",
                "web",
                "-n",
                "refused",
                "-o",
                "jsonpath={.status.phase}"
            ])
            .await
            .unwrap(),
        "Pending"
    );
    seat.publish(&web, "Running", false);
    seat.applied(|pod| phase(Some(pod)) == "Running").await;
}

#[tokio::test]
async fn the_same_event_counts_up() {
    let seat = Seat::take("told").await;
    let web = pod(&seat.plane, "told", "web", "told").await;
    let recorder = Recorder::new(seat.client.clone(), "told");
    let subject = Subject::Pod(web, Some("spec.containers{app}".into()));
    for _ in 0..3 {
        recorder.record(
            &subject,
            Severity::Warning,
            "BackOff",
            "Back-off restarting failed container",
        );
    }
    recorder.record(&subject, Severity::Normal, "Started", "Container started");
    recorder.record(
        &Subject::Node,
        Severity::Normal,
        "Starting",
        "Starting coracle.",
    );
    let events: Api<Event> = Api::namespaced(seat.plane.admin().await.unwrap(), "told");
    // Written in order: once the last of this namespace is there, all are.
    let last = kube::runtime::watcher::Config::default().fields("reason=Started");
    let mut last = Box::pin(kube::runtime::watcher(events.clone(), last).applied_objects());
    tokio::time::timeout(PATIENCE, last.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let listed = events.list(&ListParams::default()).await.unwrap().items;
    let said: Vec<(Option<&str>, Option<i32>)> = listed
        .iter()
        .map(|event| (event.reason.as_deref(), event.count))
        .collect();
    assert!(
        said.contains(&(Some("BackOff"), Some(3))) && said.len() == 2,
        "{said:?}"
    );
    assert_eq!(recorder.dropped(), 0);
    let described = seat
        .plane
        .kubectl(&["describe", "pod", "web", "-n", "told"])
        .await
        .unwrap();
    assert!(
        described.contains("(x3 over")
            && described.contains("Back-off restarting failed container"),
        "{described}"
    );
}
