//! The agent over ports of this process: hands that have done at once what they are asked for, and
//! an outlet that keeps nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use agent::{Agent, Boundless, Checkpoints, Config, Guest, Hands, Outlet, Ports, TokioClock};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use lifecycle::{Action, Event, Failure, Image, Output, Resources, What};
use probe::{HttpGet, Scheme};
use tokio::sync::Notify;

/// The address of each pod.
const ADDRESS: [u8; 4] = [127, 0, 0, 1];
/// So long after the last start no other comes.
const STUCK: Duration = Duration::from_secs(60);
/// How long a probe may take: the machine may be busy with others.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the agent has asked for and told so far.
#[derive(Default)]
pub(crate) struct Seen {
    /// Guests that were started.
    pub(crate) started: AtomicUsize,
    /// Statuses that were published.
    pub(crate) published: AtomicU64,
    /// Probes that were answered, and those of them that failed.
    pub(crate) probed: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// When the latest guest was started, since `begun`, nanoseconds.
    started_at: AtomicU64,
    begun: Option<Instant>,
    changed: Notify,
}

impl Seen {
    pub(crate) fn new() -> Arc<Seen> {
        Arc::new(Seen {
            begun: Some(Instant::now()),
            ..Seen::default()
        })
    }

    /// When the latest guest was started.
    pub(crate) fn last_start(&self) -> Option<Instant> {
        let nanos = self.started_at.load(Ordering::Acquire);
        Some(self.begun? + Duration::from_nanos(nanos))
    }

    /// Returns once so many guests were started.
    ///
    /// # Errors
    /// If none is started for a minute.
    pub(crate) async fn until_started(&self, count: usize) -> anyhow::Result<()> {
        loop {
            let changed = self.changed.notified();
            let started = self.started.load(Ordering::Acquire);
            if started >= count {
                return Ok(());
            }
            tokio::time::timeout(STUCK, changed)
                .await
                .with_context(|| format!("{started} of {count} guests were started, then none"))?;
        }
    }
}

/// Does nothing, at once, but probe.
pub(crate) struct Ready(pub(crate) Arc<Seen>);

#[async_trait]
impl Hands for Ready {
    async fn execute(&self, pod: Arc<Pod>, action: Action) -> Result<Output, Failure> {
        Ok(match action.what {
            What::Pull { image, .. } => Output::Pulled(Image {
                id: image,
                size: 1,
                present: true,
                took_ms: 0,
            }),
            What::Address => Output::Addresses(vec![IpAddr::from(ADDRESS)]),
            What::Start { .. } => {
                if let Some(begun) = self.0.begun {
                    let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    self.0.started_at.store(nanos, Ordering::Release);
                }
                self.0.started.fetch_add(1, Ordering::AcqRel);
                self.0.changed.notify_waiters();
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                Output::Started {
                    at: Timestamp::now(),
                    container_id: format!("coracle://{uid}-web-{}", action.key.attempt),
                }
            }
            What::Probe { .. } => {
                let outcome = probe::http(&get(port(&pod)), PATIENCE).await;
                self.0.probed.fetch_add(1, Ordering::Relaxed);
                let (outcome, message) = match outcome {
                    Ok(probe::Outcome::Success(said)) => (lifecycle::Outcome::Success, said),
                    Ok(probe::Outcome::Warning(said)) => (lifecycle::Outcome::Warning, said),
                    Ok(probe::Outcome::Failure(said)) => (lifecycle::Outcome::Failure, said),
                    Err(broken) => (lifecycle::Outcome::Failure, broken.to_string()),
                };
                if outcome == lifecycle::Outcome::Failure {
                    self.0.failed.fetch_add(1, Ordering::Relaxed);
                }
                Output::Probed { outcome, message }
            }
            _ => Output::Nothing,
        })
    }

    async fn reap(&self, _: &Guest) -> Result<(), Failure> {
        Ok(())
    }

    fn absorbed(&self, _: &str, _: &str, _: u32) {}
}

impl Outlet for Ready {
    fn publish(&self, _: &str, _: &Arc<Pod>, _: Arc<PodStatus>, _: bool) {
        self.0.published.fetch_add(1, Ordering::Relaxed);
    }

    fn event(&self, _: &Arc<Pod>, _: Event) {}

    fn forgotten(&self, _: &str) {}
}

/// What a probe of a pod asks for.
pub(crate) fn get(port: u16) -> HttpGet {
    HttpGet {
        scheme: Scheme::Http,
        host: IpAddr::from(ADDRESS).to_string(),
        port,
        path: "/healthz".to_owned(),
        headers: Vec::new(),
        user_agent: "kube-probe/1.36".to_owned(),
    }
}

fn port(pod: &Pod) -> u16 {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let ports = container.and_then(|container| container.ports.as_ref());
    let first = ports.and_then(|ports| ports.first());
    first
        .and_then(|port| u16::try_from(port.container_port).ok())
        .unwrap_or_default()
}

/// An agent that knows of no guest and has no pods yet.
pub(crate) async fn agent(
    seen: &Arc<Seen>,
    checkpoints: Arc<dyn Checkpoints>,
) -> anyhow::Result<Agent> {
    let ready = Arc::new(Ready(Arc::clone(seen)));
    let ports = Ports {
        machine: Arc::new(Boundless),
        hands: ready.clone(),
        outlet: ready,
        checkpoints,
        clock: Arc::new(TokioClock::default()),
    };
    let config = Config {
        allocatable: Resources {
            cpu_milli: 1 << 40,
            memory: 1 << 50,
            pods: 1 << 30,
            mappings: 1 << 40,
            descriptors: 1 << 40,
            ephemeral_storage: 1 << 50,
        },
        host_ips: vec![IpAddr::from([192, 0, 2, 1])],
        ..Config::default()
    };
    let (agent, _) = Agent::start(config, ports).await?;
    agent.guests_known(1, Vec::new(), Timestamp::now());
    agent.sources_ready();
    Ok(agent)
}

/// Pod number `number` as an API server gives a Deployment's: with all defaults, and a volume
/// of the shape of its token's. With `probed` it is asked each ten seconds on that port whether it is ready.
pub(crate) fn pod(number: u32, probed: Option<u16>) -> anyhow::Result<Pod> {
    let port = probed.unwrap_or(8080);
    let probe = probed.map(|port| {
        format!(
            r#""readinessProbe":{{"httpGet":{{"path":"/healthz","port":{port},"scheme":"HTTP"}},
                "periodSeconds":10,"timeoutSeconds":10,"successThreshold":1,"failureThreshold":3}},"#
        )
    });
    let probe = probe.unwrap_or_default();
    let text = format!(
        r#"{{"metadata":{{"name":"web-6d5f7c9b8-{number:05}","generateName":"web-6d5f7c9b8-",
            "namespace":"default","uid":"6f1c2a34-0000-4000-8000-{number:012}",
            "resourceVersion":"{number}","generation":1,"creationTimestamp":"2026-01-01T00:00:00Z",
            "labels":{{"app":"web","pod-template-hash":"6d5f7c9b8"}},
            "ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-6d5f7c9b8",
                "uid":"0a1b2c3d-0000-4000-8000-000000000001","controller":true,
                "blockOwnerDeletion":true}}]}},
        "spec":{{"nodeName":"wasm-1","restartPolicy":"Always","terminationGracePeriodSeconds":30,
            "dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler","priority":0,
            "preemptionPolicy":"PreemptLowerPriority","enableServiceLinks":true,
            "serviceAccountName":"default","serviceAccount":"default","securityContext":{{}},
            "tolerations":[
                {{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute",
                    "tolerationSeconds":300}},
                {{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute",
                    "tolerationSeconds":300}}],
            "volumes":[{{"name":"kube-api-access-x7k2p","projected":{{"defaultMode":420,"sources":[
                {{"configMap":{{"name":"kube-root-ca.crt",
                    "items":[{{"key":"ca.crt","path":"ca.crt"}}]}}}},
                {{"downwardAPI":{{"items":[{{"path":"namespace","fieldRef":{{"apiVersion":"v1",
                    "fieldPath":"metadata.namespace"}}}}]}}}}]}}}}],
            "containers":[{{"name":"web","image":"registry.example/team/web:1.4.2",
                "imagePullPolicy":"IfNotPresent",
                "env":[{{"name":"LOG_LEVEL","value":"info"}},{{"name":"PORT","value":"{port}"}}],
                "ports":[{{"containerPort":{port},"protocol":"TCP","name":"http"}}],
                "resources":{{"requests":{{"cpu":"10m","memory":"16Mi"}},
                    "limits":{{"memory":"64Mi"}}}},
                {probe}
                "terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File",
                "volumeMounts":[{{"name":"kube-api-access-x7k2p","readOnly":true,
                    "mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}}]}}]}},
        "status":{{"phase":"Pending","qosClass":"Burstable","conditions":[
            {{"type":"PodScheduled","status":"True","lastTransitionTime":"2026-01-01T00:00:00Z"}}]}}}}"#
    );
    let pod: Pod = serde_json::from_str(&text)?;
    // As a watch's are kept (`trimmed` in `crates/cluster/src/pods.rs`): without room to spare.
    Ok(pod.clone())
}
