//! Scripted hands and an outlet that remembers, for tests alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub
)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::{
    Agent, Checkpoints, Clock, Config, Guest, Hands, Loaded, Outlet, Ports, StoreError, TokioClock,
};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use lifecycle::{
    Action, Checkpoint, Event, Exit, ExitKind, Failure, Image, Kind, Output, Resources, Retry, What,
};
use tokio::sync::Notify;

/// What scripted hands do with an action.
pub enum Does {
    Succeed,
    Fail(&'static str),
    Never,
    Panic,
}

type Script = Box<dyn Fn(&str, &Action) -> Does + Send + Sync>;

/// What has happened so far, and how the world behaves.
pub struct World {
    pub calls: Mutex<Vec<(String, Action)>>,
    pub statuses: Mutex<HashMap<String, (PodStatus, bool)>>,
    pub published: AtomicUsize,
    pub events: Mutex<Vec<Event>>,
    pub forgotten: Mutex<Vec<String>>,
    pub reaped: Mutex<Vec<Guest>>,
    pub absorbed: Mutex<Vec<(String, String, u32)>>,
    pub script: Mutex<Script>,
    pub panics: AtomicUsize,
    pub sleepers: AtomicUsize,
    clock: TokioClock,
    changed: Notify,
}

/// The time that guests began at, which is before any agent.
pub fn begin() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

/// Waits until something is so, which `changed` tells of; false if it is not within an hour of the
/// test's time.
pub async fn comes(changed: &Notify, so: impl Fn() -> bool) -> bool {
    let wait = async {
        loop {
            let changed = changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if so() {
                return;
            }
            changed.await;
        }
    };
    let limit = Duration::from_secs(3600);
    tokio::time::timeout(limit, wait).await.is_ok()
}

impl World {
    pub fn new() -> Arc<World> {
        let start = tokio::time::Instant::now();
        let system = move || begin() + SignedDuration::try_from(start.elapsed()).unwrap();
        Arc::new(World {
            calls: Mutex::default(),
            statuses: Mutex::default(),
            published: AtomicUsize::new(0),
            events: Mutex::default(),
            forgotten: Mutex::default(),
            reaped: Mutex::default(),
            absorbed: Mutex::default(),
            script: Mutex::new(Box::new(|_, _| Does::Succeed)),
            panics: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            clock: TokioClock::of(system),
            changed: Notify::new(),
        })
    }

    pub fn scripted(script: impl Fn(&str, &Action) -> Does + Send + Sync + 'static) -> Arc<World> {
        let world = World::new();
        *world.script.lock().unwrap() = Box::new(script);
        world
    }

    pub fn ports(self: &Arc<Self>, checkpoints: Arc<dyn Checkpoints>) -> Ports {
        Ports {
            machine: Arc::new(agent::Boundless),
            hands: self.clone(),
            outlet: self.clone(),
            checkpoints,
            clock: self.clone(),
        }
    }

    /// An agent whose guests and sources are yet to be told.
    pub async fn agent(
        self: &Arc<Self>,
        checkpoints: Arc<dyn Checkpoints>,
    ) -> (Agent, Vec<StoreError>) {
        let plenty = Resources {
            cpu_milli: 1 << 40,
            memory: 1 << 50,
            pods: 1 << 30,
            mappings: 1 << 40,
            descriptors: 1 << 40,
            ephemeral_storage: 1 << 50,
        };
        let config = Config {
            allocatable: plenty,
            ..Config::default()
        };
        Agent::start(config, self.ports(checkpoints)).await.unwrap()
    }

    /// An agent that knows of no guest.
    pub async fn ready(self: &Arc<Self>, checkpoints: Arc<dyn Checkpoints>) -> Agent {
        let (agent, damaged) = self.agent(checkpoints).await;
        assert!(damaged.is_empty(), "{damaged:?}");
        agent.guests_known(1, Vec::new(), self.now());
        agent.sources_ready();
        agent
    }

    /// Waits until something is so; an hour of the test's time is too long.
    pub async fn until(&self, what: &str, so: impl Fn(&World) -> bool) {
        if !comes(&self.changed, || so(self)).await {
            panic!(
                "never {what}: {:?} {:?} {:?}",
                self.calls(),
                self.statuses.lock().unwrap(),
                self.events.lock().unwrap()
            );
        }
    }

    pub async fn until_phase(&self, uid: &str, phase: &str) {
        self.until(phase, |world| world.phase(uid) == phase).await;
    }

    pub fn phase(&self, uid: &str) -> String {
        let statuses = self.statuses.lock().unwrap();
        statuses
            .get(uid)
            .and_then(|(status, _)| status.phase.clone())
            .unwrap_or_default()
    }

    pub fn status(&self, uid: &str) -> PodStatus {
        self.statuses.lock().unwrap()[uid].0.clone()
    }

    pub fn calls(&self) -> Vec<(String, Kind, u32)> {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .map(|(uid, action)| (uid.clone(), action.key.kind, action.key.attempt))
            .collect()
    }

    pub fn count(&self, uid: &str, kind: Kind) -> usize {
        self.calls()
            .iter()
            .filter(|call| call.0 == uid && call.1 == kind)
            .count()
    }

    pub fn stops(&self) -> Vec<u32> {
        let calls = self.calls.lock().unwrap();
        let grace = |what: &What| match what {
            What::Stop { grace_seconds, .. } => Some(*grace_seconds),
            _ => None,
        };
        calls
            .iter()
            .filter_map(|(_, action)| grace(&action.what))
            .collect()
    }

    pub fn exit(&self, code: i32) -> Exit {
        Exit {
            code,
            kind: ExitKind::Exited,
            message: String::new(),
            started_at: begin(),
            finished_at: self.now(),
        }
    }

    pub fn clear(&self) {
        self.calls.lock().unwrap().clear();
        self.statuses.lock().unwrap().clear();
        self.events.lock().unwrap().clear();
    }

    fn panic_once(&self, what: &str) {
        if self
            .panics
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok()
        {
            panic!("{what}, as scripted");
        }
    }
}

#[async_trait]
impl Hands for World {
    async fn execute(&self, pod: Arc<Pod>, action: Action) -> Result<Output, Failure> {
        let uid = pod.metadata.uid.clone().unwrap();
        let does = (self.script.lock().unwrap())(&uid, &action);
        self.calls
            .lock()
            .unwrap()
            .push((uid.clone(), action.clone()));
        self.changed.notify_waiters();
        match does {
            Does::Succeed => {}
            Does::Fail(reason) => {
                return Err(Failure {
                    reason: reason.into(),
                    message: "as scripted".into(),
                    retry: Retry::Backoff,
                });
            }
            Does::Never => std::future::pending().await,
            Does::Panic => panic!("as scripted"),
        }
        Ok(match action.what {
            What::Pull { image, .. } => Output::Pulled(Image {
                id: format!("sha256:{image}"),
                size: 1,
                present: true,
                took_ms: 0,
            }),
            What::Address => Output::Addresses(vec![IpAddr::from([10, 0, 0, 1])]),
            What::Start { .. } => {
                let container_id = format!("coracle://{uid}-{}", action.key.attempt);
                Output::Started {
                    at: self.now(),
                    container_id,
                }
            }
            _ => Output::Nothing,
        })
    }

    async fn reap(&self, guest: &Guest) -> Result<(), Failure> {
        self.reaped.lock().unwrap().push(guest.clone());
        self.changed.notify_waiters();
        Ok(())
    }

    fn absorbed(&self, uid: &str, container: &str, attempt: u32) {
        self.absorbed
            .lock()
            .unwrap()
            .push((uid.into(), container.into(), attempt));
        self.changed.notify_waiters();
    }
}

impl Outlet for World {
    fn publish(&self, uid: &str, pod: &Arc<Pod>, status: Arc<PodStatus>, released: bool) {
        if pod.metadata.name.as_deref() == Some("panics") {
            self.panic_once("publishing");
        }
        self.published.fetch_add(1, Ordering::SeqCst);
        self.statuses
            .lock()
            .unwrap()
            .insert(uid.into(), (PodStatus::clone(&status), released));
        self.changed.notify_waiters();
    }

    fn event(&self, _: &Arc<Pod>, event: Event) {
        self.events.lock().unwrap().push(event);
        self.changed.notify_waiters();
    }

    fn forgotten(&self, uid: &str) {
        self.forgotten.lock().unwrap().push(uid.into());
        self.changed.notify_waiters();
    }
}

#[async_trait]
impl Clock for World {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn sleep_until(&self, at: Timestamp) {
        struct Awake<'a>(&'a AtomicUsize);
        impl Drop for Awake<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let _awake = Awake(&self.sleepers);
        self.clock.sleep_until(at).await;
    }
}

/// A store in memory that outlives agents and fails when told to.
#[derive(Default)]
pub struct Memory {
    pub kept: Mutex<HashMap<String, Vec<u8>>>,
    /// So many saves fail, as on a full disk.
    pub full: AtomicUsize,
}

impl Checkpoints for Memory {
    fn load(&self) -> Result<Loaded, StoreError> {
        let kept = self.kept.lock().unwrap();
        let checkpoints = kept
            .values()
            .map(|bytes| Checkpoint::decode(bytes).unwrap())
            .collect();
        Ok(Loaded {
            checkpoints,
            damaged: Vec::new(),
        })
    }

    fn read(&self, uid: &str) -> Result<Option<Checkpoint>, StoreError> {
        Ok(self
            .kept
            .lock()
            .unwrap()
            .get(uid)
            .map(|bytes| Checkpoint::decode(bytes).unwrap()))
    }

    fn save(&self, uid: &str, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        if self
            .full
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok()
        {
            let source = std::io::Error::from_raw_os_error(28);
            return Err(StoreError::Io {
                what: "write",
                path: uid.into(),
                source,
            });
        }
        self.kept
            .lock()
            .unwrap()
            .insert(uid.into(), checkpoint.encode().unwrap());
        Ok(())
    }

    fn remove(&self, uid: &str) -> Result<(), StoreError> {
        self.kept.lock().unwrap().remove(uid);
        Ok(())
    }

    fn instant(&self) -> bool {
        true
    }
}

/// A Pod with one container, `web`.
pub fn pod(uid: &str, policy: &str) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": uid, "namespace": "default", "uid": uid, "creationTimestamp": "2023-11-14T22:13:20Z"},
        "spec": {
            "nodeName": "n", "restartPolicy": policy, "terminationGracePeriodSeconds": 30,
            "containers": [{"name": "web", "image": "web:1", "imagePullPolicy": "IfNotPresent"}],
        },
    }))
    .unwrap()
}

/// The pod while it is being deleted.
pub fn deleted(mut pod: Pod, grace: i64) -> Pod {
    let at = begin() + SignedDuration::from_secs(grace);
    pod.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
    pod.metadata.deletion_grace_period_seconds = Some(grace);
    pod
}

pub fn guest(uid: &str, attempt: u32) -> Guest {
    let container_id = format!("coracle://{uid}-{attempt}");
    Guest {
        uid: uid.into(),
        container: "web".into(),
        attempt,
        started_at: begin(),
        container_id,
    }
}

impl World {
    /// An agent that is told of no guest and of these pods.
    pub async fn ready_with(
        self: &Arc<Self>,
        checkpoints: Arc<dyn Checkpoints>,
        pods: &[Pod],
    ) -> Agent {
        let (agent, _) = self.agent(checkpoints).await;
        agent.guests_known(1, Vec::new(), self.now());
        for pod in pods {
            agent.apply(pod.clone()).unwrap();
        }
        agent.sources_ready();
        agent
    }
}
