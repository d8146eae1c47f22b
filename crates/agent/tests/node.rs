//! What the node decides, with the real agent, scripted hands and a scripted machine, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use agent::{Agent, Checkpoints, Clock as _, Config, Machine, Ports, Subject, Volatile};
use async_trait::async_trait;
use common::{Does, Memory, World, comes, guest, pod};
use k8s_openapi::api::core::v1::Pod;
use lifecycle::node::{
    Amount, Call, ContainerUsage, Level, NodeEvent, Period, PodUsage, Policy, Pressure, Signal,
    Threshold, Usage,
};
use lifecycle::{Kind, NodeObject, Resources};
use tokio::sync::Notify;

/// A machine with so much of 100 left.
struct Scripted {
    memory: Mutex<u64>,
    disk: Mutex<u64>,
    calls: Mutex<Vec<Call>>,
    pressures: Mutex<BTreeSet<Pressure>>,
    events: Mutex<Vec<NodeEvent>>,
    changed: Notify,
}

impl Scripted {
    fn new() -> Arc<Scripted> {
        Arc::new(Scripted {
            memory: Mutex::new(90),
            disk: Mutex::new(90),
            calls: Mutex::default(),
            pressures: Mutex::default(),
            events: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Waits until something is so; an hour of the test's time is too long.
    async fn until(&self, so: impl Fn(&Scripted) -> bool) {
        let came = comes(&self.changed, || so(self)).await;
        let said = || (self.calls.lock().unwrap(), self.events.lock().unwrap());
        assert!(came, "it never is: {:?}", said());
    }

    fn says(&self, pressures: &[Pressure]) -> bool {
        self.pressures.lock().unwrap().iter().eq(pressures)
    }
}

#[async_trait]
impl Machine for Scripted {
    async fn measure(&self, subjects: Vec<Subject>, images: bool) -> Usage {
        let level = |available: &Mutex<u64>| Level {
            capacity: 100,
            available: *available.lock().unwrap(),
        };
        let own = |subject: &Subject| {
            let uid = subject.pod.metadata.uid.clone().unwrap();
            let container = ContainerUsage {
                memory: u64::from(uid.as_bytes()[0]),
                ..ContainerUsage::default()
            };
            let own = PodUsage {
                containers: [("web".to_owned(), container)].into(),
                looked: subject.disk,
                ..PodUsage::default()
            };
            (uid, own)
        };
        self.changed.notify_waiters();
        Usage {
            levels: [
                (Signal::MemoryAvailable, level(&self.memory)),
                (Signal::NodeFsAvailable, level(&self.disk)),
            ]
            .into(),
            pods: subjects.iter().map(own).collect(),
            images: images.then(Vec::new),
            ..Usage::default()
        }
    }

    async fn call(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
        *self.disk.lock().unwrap() = 50;
        self.changed.notify_waiters();
    }

    fn pressures(&self, pressures: &BTreeSet<Pressure>) {
        self.pressures.lock().unwrap().clone_from(pressures);
        self.changed.notify_waiters();
    }

    fn event(&self, event: NodeEvent) {
        self.events.lock().unwrap().push(event);
        self.changed.notify_waiters();
    }
}

async fn started(
    world: &Arc<World>,
    machine: &Arc<Scripted>,
    store: Arc<dyn Checkpoints>,
) -> Agent {
    let part = Amount::Part(100_000);
    let config = Config {
        allocatable: Resources {
            cpu_milli: 1000,
            memory: 1 << 40,
            pods: 100,
            mappings: 1000,
            descriptors: 1000,
            ephemeral_storage: 1 << 40,
        },
        policy: Policy {
            thresholds: vec![
                Threshold::hard(Signal::MemoryAvailable, part),
                Threshold::hard(Signal::NodeFsAvailable, part),
            ],
            ..Policy::default()
        },
        ..Config::default()
    };
    let ports = Ports {
        machine: machine.clone(),
        ..world.ports(store)
    };
    Agent::start(config, ports).await.unwrap().0
}

async fn ready(world: &Arc<World>, machine: &Arc<Scripted>, store: Arc<dyn Checkpoints>) -> Agent {
    let agent = started(world, machine, store).await;
    agent.guests_known(1, Vec::new(), world.now());
    agent.sources_ready();
    agent
}

fn of_priority(uid: &str, priority: i32) -> Pod {
    let mut pod = pod(uid, "Always");
    pod.spec.as_mut().unwrap().priority = Some(priority);
    pod
}

#[tokio::test(start_paused = true)]
async fn memory_comes_back_with_the_pod_that_took_most() {
    let (world, machine) = (World::new(), Scripted::new());
    let agent = ready(&world, &machine, Arc::new(Volatile)).await;
    for uid in ["a", "b"] {
        agent.apply(pod(uid, "Always")).unwrap();
        world.until_phase(uid, "Running").await;
    }
    *machine.memory.lock().unwrap() = 9;
    world
        .until("stopped", |world| world.count("b", Kind::Stop) == 1)
        .await;
    assert!(machine.says(&[Pressure::Memory]));
    assert_eq!(
        machine.events.lock().unwrap()[0].reason,
        "EvictionThresholdMet"
    );
    *machine.memory.lock().unwrap() = 50;
    agent.guest_exited("b", "web", 0, world.exit(143));
    world.until_phase("b", "Failed").await;
    let status = world.status("b");
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    let said = "The node was low on resource: memory. Threshold quantity: 10, available: 9. \
        Container web was using 98, request is 0, has larger consumption of memory. ";
    assert_eq!(status.message.as_deref(), Some(said));
    assert!(
        world
            .events
            .lock()
            .unwrap()
            .iter()
            .any(|event| event.reason == "Evicted")
    );
    // While the condition stays, and it does for five minutes, nobody is taken in that asks for nothing.
    agent.apply(pod("c", "Always")).unwrap();
    world.until_phase("c", "Failed").await;
    machine.until(|machine| machine.says(&[])).await;
    agent.apply(pod("d", "Always")).unwrap();
    world.until_phase("d", "Running").await;
    assert_eq!(
        (world.phase("a").as_str(), world.count("a", Kind::Stop)),
        ("Running", 0)
    );
}

#[tokio::test(start_paused = true)]
async fn what_nobody_uses_goes_first_and_may_be_enough() {
    let (world, machine) = (World::new(), Scripted::new());
    let agent = ready(&world, &machine, Arc::new(Volatile)).await;
    agent.apply(pod("a", "Always")).unwrap();
    world.until_phase("a", "Running").await;
    *machine.disk.lock().unwrap() = 5;
    machine
        .until(|machine| machine.says(&[Pressure::Disk]))
        .await;
    machine.until(|machine| machine.says(&[])).await;
    assert_eq!(*machine.calls.lock().unwrap(), [Call::CollectContainers]);
    assert_eq!(world.count("a", Kind::Stop), 0);
}

#[tokio::test(start_paused = true)]
async fn an_eviction_goes_on_after_a_restart_of_the_agent() {
    let world = World::scripted(|_, action| match action.key.kind {
        Kind::Stop => Does::Never,
        _ => Does::Succeed,
    });
    let (machine, store) = (Scripted::new(), Arc::new(Memory::default()));
    let first = ready(&world, &machine, store.clone()).await;
    first.apply(pod("a", "Always")).unwrap();
    world.until_phase("a", "Running").await;
    *machine.memory.lock().unwrap() = 0;
    world
        .until("stopped", |world| world.count("a", Kind::Stop) == 1)
        .await;
    first.abandon();
    world.clear();
    let calm = Scripted::new();
    let next = started(&world, &calm, store).await;
    next.guests_known(1, vec![guest("a", 0)], world.now());
    next.apply(pod("a", "Always")).unwrap();
    next.sources_ready();
    world
        .until("stopped again", |world| world.count("a", Kind::Stop) == 1)
        .await;
    next.guest_exited("a", "web", 0, world.exit(143));
    world.until_phase("a", "Failed").await;
    assert_eq!(world.status("a").reason.as_deref(), Some("Evicted"));
}

#[tokio::test(start_paused = true)]
async fn critical_pods_end_last_and_nobody_comes_while_the_node_ends() {
    let (world, machine) = (World::new(), Scripted::new());
    let agent = ready(&world, &machine, Arc::new(Volatile)).await;
    for (uid, priority) in [("a", 0), ("s", 2_000_000_000)] {
        agent.apply(of_priority(uid, priority)).unwrap();
        world.until_phase(uid, "Running").await;
    }
    let period = |priority, seconds| Period { priority, seconds };
    agent.shutdown(vec![period(0, 20), period(2_000_000_000, 10)]);
    world
        .until("stopped", |world| world.count("a", Kind::Stop) == 1)
        .await;
    assert_eq!(world.count("s", Kind::Stop), 0);
    agent.apply(pod("n", "Always")).unwrap();
    world.until_phase("n", "Failed").await;
    assert_eq!(world.status("n").reason.as_deref(), Some("NodeShutdown"));
    assert_eq!(world.count("s", Kind::Stop), 0);
    agent.guest_exited("a", "web", 0, world.exit(143));
    world
        .until("stopped last", |world| world.count("s", Kind::Stop) == 1)
        .await;
    agent.guest_exited("s", "web", 0, world.exit(143));
    agent.drained().await;
    for uid in ["a", "s"] {
        let status = world.status(uid);
        assert_eq!(status.reason.as_deref(), Some("Terminated"), "{uid}");
        assert_eq!(world.phase(uid), "Failed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_labels_that_are_as_new_as_it_is() {
    let (world, machine) = (World::new(), Scripted::new());
    let agent = ready(&world, &machine, Arc::new(Volatile)).await;
    let object = |label: &str| NodeObject {
        name: "wasm-1".to_owned(),
        labels: [(label.to_owned(), "yes".to_owned())].into(),
        taints: Vec::new(),
        seen: world.now(),
    };
    agent.node_seen(object("old"));
    for (uid, label) in [("a", "new"), ("b", "none")] {
        let mut pod = pod(uid, "Always");
        let selector = [(label.to_owned(), "yes".to_owned())];
        pod.spec.as_mut().unwrap().node_selector = Some(selector.into());
        agent.apply(pod).unwrap();
    }
    world.until_phase("b", "Pending").await;
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    agent.node_seen(object("new"));
    world.until_phase("a", "Running").await;
    world.until_phase("b", "Failed").await;
    assert_eq!(world.status("b").reason.as_deref(), Some("NodeAffinity"));
}
