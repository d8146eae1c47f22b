#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::VecDeque;

use http::{Method, Request, Response};
use k8s_openapi::api::core::v1::PodStatus;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::Semaphore as Gate;

use super::*;

/// An API server of one pod: it merges nothing, it answers what the script says and then takes everything.
#[derive(Clone)]
struct Server {
    script: Arc<Mutex<VecDeque<(u16, Value)>>>,
    pod: Arc<Mutex<Value>>,
    calls: mpsc::UnboundedSender<(Method, Value)>,
    /// A permit lets one call be answered.
    gate: Arc<Gate>,
}

struct Bench {
    publisher: Publisher,
    reports: mpsc::UnboundedReceiver<Report>,
    calls: mpsc::UnboundedReceiver<(Method, Value)>,
    server: Server,
    pod: Arc<Pod>,
}

impl Server {
    async fn answer(
        self,
        request: Request<Body>,
    ) -> Result<Response<Body>, std::convert::Infallible> {
        let method = request.method().clone();
        let body = request.into_body().collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        self.calls.send((method.clone(), body.clone())).unwrap();
        self.gate.acquire().await.unwrap().forget();
        let scripted = self.script.lock().unwrap().pop_front();
        let (code, answer) = scripted.unwrap_or_else(|| (200, self.take(&method, &body)));
        let response = Response::builder()
            .status(code)
            .body(Body::from(serde_json::to_vec(&answer).unwrap()));
        Ok(response.unwrap())
    }

    fn take(&self, method: &Method, body: &Value) -> Value {
        let mut pod = self.pod.lock().unwrap();
        if method == Method::PATCH {
            let version: u64 = pod["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            pod["metadata"]["resourceVersion"] = json!((version + 1).to_string());
            for (field, value) in body["status"].as_object().unwrap() {
                pod["status"][field] = value.clone();
            }
        }
        pod.clone()
    }
}

fn bench(deleting: bool) -> Bench {
    let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "status": { "phase": "Pending" },
        "metadata": { "namespace": "ns", "name": "web", "uid": "u1", "resourceVersion": "1" } });
    if deleting {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let (calls, seen) = mpsc::unbounded_channel();
    let server = Server {
        script: Arc::default(),
        pod: Arc::new(Mutex::new(pod.clone())),
        calls,
        gate: Arc::new(Gate::new(Gate::MAX_PERMITS)),
    };
    let service = server.clone();
    let service = tower::service_fn(move |request| service.clone().answer(request));
    let (publisher, reports) = Publisher::new(Client::new(service, "default"));
    Bench {
        publisher,
        reports,
        calls: seen,
        server,
        pod: Arc::new(serde_json::from_value(pod).unwrap()),
    }
}

impl Bench {
    fn script(&self, answers: impl IntoIterator<Item = (u16, Value)>) {
        self.server.script.lock().unwrap().extend(answers);
    }

    fn publish(&self, phase: &str, released: bool) {
        let status = PodStatus {
            phase: Some(phase.into()),
            ..Default::default()
        };
        self.publisher.publish("u1", &self.pod, status, released);
    }

    /// The phase of the next patch, or the method of the next other call.
    async fn next(&mut self) -> String {
        let (method, body) = self.calls.recv().await.unwrap();
        match body["status"]["phase"].as_str() {
            Some(phase) => {
                assert_eq!(body["metadata"]["uid"], "u1");
                phase.to_owned()
            }
            None => format!("{method} {body}"),
        }
    }

    /// Waits until the publisher has nothing more to do. Time stands still but for what it sleeps.
    async fn idle(&self) {
        while self.publisher.behind() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    (
        code,
        json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message }),
    )
}

#[tokio::test(start_paused = true)]
async fn while_one_patch_is_under_way_only_the_newest_waits() {
    let mut bench = bench(false);
    bench.server.gate.forget_permits(Gate::MAX_PERMITS);
    bench.publish("Pending", false);
    assert_eq!(bench.publisher.behind(), 0, "nothing differs");
    bench.publish("Running", false);
    assert_eq!(bench.next().await, "Running");
    for phase in ["Unknown", "Running", "Succeeded"] {
        bench.publish(phase, false);
    }
    bench.server.gate.add_permits(10);
    assert_eq!(bench.next().await, "Succeeded");
    bench.idle().await;
    assert!(bench.calls.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_outage_loses_nothing_and_undoes_no_terminal_status() {
    let mut bench = bench(false);
    bench.script([
        failure(503, "ServiceUnavailable", ""),
        failure(500, "InternalError", ""),
        failure(429, "TooManyRequests", ""),
    ]);
    bench.publish("Running", false);
    assert_eq!(bench.next().await, "Running");
    bench.publish("Failed", false);
    bench.publish("Running", false);
    for _ in 0..3 {
        assert_eq!(bench.next().await, "Failed");
    }
    bench.idle().await;
    assert!(bench.calls.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_invalid_status_is_said_once_and_a_newer_one_goes_through() {
    let mut bench = bench(false);
    bench.script([failure(422, "Invalid", "status.phase: no")]);
    bench.publish("Nonsense", false);
    assert_eq!(bench.next().await, "Nonsense");
    bench.idle().await;
    bench.publish("Nonsense", false);
    bench.publisher.observe(&bench.pod);
    bench.idle().await;
    assert!(
        bench.calls.try_recv().is_err(),
        "the same is not sent again"
    );
    bench.publish("Running", false);
    assert_eq!(bench.next().await, "Running");
}

#[tokio::test(start_paused = true)]
async fn what_the_server_takes_but_drops_is_not_sent_for_ever() {
    let mut bench = bench(false);
    let kept = bench.server.pod.lock().unwrap().clone();
    bench.script([(200, kept)]);
    bench.publish("Running", false);
    assert_eq!(bench.next().await, "Running");
    bench.idle().await;
    bench.publisher.observe(&bench.pod);
    bench.idle().await;
    assert!(bench.calls.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_another_uid_or_none_is_reported_gone() {
    let uid = "Precondition failed: UID in precondition: u1, UID in object meta: u2";
    for answer in [
        failure(404, "NotFound", "no pod"),
        failure(409, "Conflict", uid),
    ] {
        let mut bench = bench(false);
        bench.script([answer]);
        bench.publish("Running", false);
        assert_eq!(
            bench.reports.recv().await,
            Some(Report::Gone { uid: "u1".into() })
        );
        bench.publish("Succeeded", true);
        bench.idle().await;
        assert_eq!(bench.next().await, "Running");
        assert!(bench.calls.try_recv().is_err(), "nothing more is written");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_finished_once_the_terminal_phase_was_seen_back() {
    let mut bench = bench(true);
    bench.publish("Succeeded", false);
    assert_eq!(bench.next().await, "Succeeded");
    bench.idle().await;
    assert!(bench.calls.try_recv().is_err(), "something is still held");
    bench.script([failure(503, "ServiceUnavailable", "")]);
    bench.publish("Succeeded", true);
    let expected = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": "u1" } });
    for _ in 0..2 {
        let call = bench.next().await;
        let body: Value = serde_json::from_str(call.strip_prefix("DELETE ").unwrap()).unwrap();
        assert_eq!(body, expected);
    }
    bench.idle().await;
    bench.publisher.observe(&bench.pod);
    bench.idle().await;
    assert!(
        bench.calls.try_recv().is_err(),
        "a finalizer of others is waited for quietly"
    );
}

#[tokio::test(start_paused = true)]
async fn a_released_pod_that_nobody_deletes_stays() {
    let mut bench = bench(false);
    bench.publish("Succeeded", true);
    assert_eq!(bench.next().await, "Succeeded");
    bench.idle().await;
    assert!(bench.calls.try_recv().is_err());
    let mut deleted =
        serde_json::from_value::<Pod>(bench.server.pod.lock().unwrap().clone()).unwrap();
    deleted.metadata.deletion_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now()),
    );
    bench.publisher.observe(&Arc::new(deleted));
    assert!(bench.next().await.starts_with("DELETE"));
}

/// A pod whose container is being made, for the reason given.
fn waiting(reason: &str) -> PodStatus {
    let container = json!({ "name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": reason } } });
    let status =
        json!({ "phase": "Pending", "hostIP": "192.0.2.1", "containerStatuses": [container] });
    serde_json::from_value(status).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_not_written_when_something_better_comes_soon() {
    let mut bench = bench(false);
    let made = waiting("ContainerCreating");
    bench.publisher.publish("u1", &bench.pod, made, false);
    tokio::time::sleep(PASSING / 2).await;
    assert!(bench.calls.try_recv().is_err());
    let begun = Instant::now();
    bench.publish("Running", false);
    assert_eq!(bench.next().await, "Running");
    assert!(begun.elapsed() < PASSING / 4, "it waited for nothing");
    bench.idle().await;
    assert!(bench.calls.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_written_when_it_stays_and_what_fails_at_once() {
    let mut bench = bench(false);
    let begun = Instant::now();
    let made = waiting("ContainerCreating");
    bench.publisher.publish("u1", &bench.pod, made, false);
    let (_, written) = bench.calls.recv().await.unwrap();
    let reason = &written["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
    assert_eq!(reason, "ContainerCreating");
    assert!(begun.elapsed() >= PASSING);
    bench.idle().await;
    let begun = Instant::now();
    let failed = waiting("ErrImagePull");
    bench.publisher.publish("u1", &bench.pod, failed, false);
    let (_, written) = bench.calls.recv().await.unwrap();
    let reason = &written["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
    assert_eq!(reason, "ErrImagePull");
    assert!(begun.elapsed() < PASSING);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_that_lets_go_soon_is_told_of_once() {
    let mut bench = bench(true);
    let ended = |ready: &str| {
        let container = json!({ "name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 143 } } });
        let condition = json!({ "type": "PodReadyToStartContainers", "status": ready });
        let status = json!({ "phase": "Failed", "conditions": [condition], "containerStatuses": [container] });
        serde_json::from_value::<PodStatus>(status).unwrap()
    };
    let publisher = bench.publisher.clone();
    let publish =
        |ready: &str, released| publisher.publish("u1", &bench.pod, ended(ready), released);
    publish("True", false);
    tokio::time::sleep(PASSING / 2).await;
    let begun = Instant::now();
    publish("False", true);
    let (_, written) = bench.calls.recv().await.unwrap();
    assert_eq!(written["status"]["conditions"][0]["status"], "False");
    assert!(begun.elapsed() < PASSING / 4, "it waited for nothing");
    assert!(bench.next().await.starts_with("DELETE"));
    bench.idle().await;
    assert!(bench.calls.try_recv().is_err());
}
