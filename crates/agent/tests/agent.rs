//! The agent with scripted hands, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent::{ApplyError, Checkpoints as _, Clock as _, Folder, StoreError, Volatile};
use common::{Does, Memory, World, deleted, guest, pod};
use lifecycle::{Checkpoint, Kind};

#[tokio::test(start_paused = true)]
async fn a_pod_goes_from_its_image_to_its_end_and_is_forgotten() {
    let (world, store) = (World::new(), Arc::new(Memory::default()));
    let agent = world.ready(store.clone()).await;
    agent.apply(pod("a", "Never")).unwrap();
    world.until_phase("a", "Running").await;
    assert_eq!(world.count("a", Kind::Start), 1);
    agent.guest_exited("a", "web", 0, world.exit(0));
    world.until_phase("a", "Succeeded").await;
    agent.drained().await;
    assert_eq!(
        *world.absorbed.lock().unwrap(),
        [("a".to_owned(), "web".to_owned(), 0)]
    );
    assert_eq!(
        (
            world.count("a", Kind::Unmount),
            world.count("a", Kind::Release)
        ),
        (2, 1)
    );
    assert_eq!(agent.statuses()[0].1.phase.as_deref(), Some("Succeeded"));
    assert!(store.kept.lock().unwrap().contains_key("a"));
    agent.gone("a");
    world
        .until("forgotten", |world| {
            *world.forgotten.lock().unwrap() == ["a"]
        })
        .await;
    assert!(store.kept.lock().unwrap().is_empty() && agent.statuses().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_status_is_told_only_when_it_changes() {
    let world = World::new();
    let agent = world.ready(Arc::new(Volatile)).await;
    agent.apply(pod("a", "Always")).unwrap();
    world.until_phase("a", "Running").await;
    let before = world.published.load(Ordering::SeqCst);
    for version in 0..100 {
        let mut same = pod("a", "Always");
        same.metadata.resource_version = Some(version.to_string());
        agent.apply(same).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(world.published.load(Ordering::SeqCst), before);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_before_the_effect_asks_for_it_again() {
    let store = Arc::new(Memory::default());
    let world = World::scripted(|_, action| match action.key.kind {
        Kind::Start => Does::Never,
        _ => Does::Succeed,
    });
    let first = world.ready(store.clone()).await;
    first.apply(pod("a", "Always")).unwrap();
    world
        .until("started", |world| world.count("a", Kind::Start) == 1)
        .await;
    first.abandon();
    world.clear();
    *world.script.lock().unwrap() = Box::new(|_, _| Does::Succeed);
    let (second, _) = world.agent(store).await;
    second.apply(pod("a", "Always")).unwrap();
    second.sources_ready();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        world.count("a", Kind::Start),
        0,
        "before the guests are known nothing may start"
    );
    second.guests_known(1, Vec::new(), world.now());
    world.until_phase("a", "Running").await;
    assert_eq!(
        world
            .calls()
            .iter()
            .filter(|call| call.1 == Kind::Start)
            .map(|call| call.2)
            .collect::<Vec<_>>(),
        [0]
    );
}

/// A store with the pod `a` as it runs.
async fn running(policy: &str) -> (Arc<World>, Arc<Memory>) {
    let (world, store) = (World::new(), Arc::new(Memory::default()));
    let agent = world.ready(store.clone()).await;
    agent.apply(pod("a", policy)).unwrap();
    world.until_phase("a", "Running").await;
    drop(agent);
    world.clear();
    (world, store)
}

#[tokio::test(start_paused = true)]
async fn what_still_runs_is_adopted() {
    let (world, store) = running("Always").await;
    let (agent, _) = world.agent(store).await;
    agent.guests_known(1, vec![guest("a", 0)], world.now());
    agent.apply(pod("a", "Always")).unwrap();
    agent.sources_ready();
    world.until_phase("a", "Running").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.calls(), []);
    let status = world.status("a").container_statuses.unwrap().remove(0);
    assert_eq!(
        (status.restart_count, status.container_id.as_deref()),
        (0, Some("coracle://a-0"))
    );
    assert!(world.reaped.lock().unwrap().is_empty());
    agent.guest_exited("a", "web", 0, world.exit(3));
    world
        .until("restarted", |world| world.count("a", Kind::Start) == 1)
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_no_more_is_lost_and_restarted() {
    let (world, store) = running("Always").await;
    let agent = world.ready_with(store, &[pod("a", "Always")]).await;
    world
        .until("restarted", |world| world.count("a", Kind::Start) == 1)
        .await;
    world.until_phase("a", "Running").await;
    world
        .until("counted", |world| {
            world.status("a").container_statuses.unwrap()[0].restart_count == 1
        })
        .await;
    let last = world.status("a").container_statuses.unwrap()[0]
        .last_state
        .clone()
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!(
        (last.exit_code, last.reason.as_deref()),
        (137, Some("ContainerStatusUnknown"))
    );
    // And when the guest host is replaced under a living agent.
    tokio::time::sleep(Duration::from_secs(1)).await;
    agent.guests_known(1, Vec::new(), world.now());
    world
        .until("restarted", |world| world.count("a", Kind::Start) == 2)
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_exit_while_no_agent_was_there_is_not_lost() {
    let (world, store) = running("Never").await;
    let (agent, _) = world.agent(store).await;
    agent.guest_exited("a", "web", 0, world.exit(7));
    agent.guest_exited("a", "web", 0, world.exit(8));
    agent.guests_known(1, Vec::new(), world.now());
    world.until_phase("a", "Failed").await;
    let state = world.status("a").container_statuses.unwrap()[0]
        .state
        .clone()
        .unwrap();
    assert_eq!(state.terminated.unwrap().exit_code, 7);
}

#[tokio::test(start_paused = true)]
async fn a_restored_pod_is_gone_only_once_all_sources_have_told() {
    let (world, store) = running("Always").await;
    let (agent, _) = world.agent(store.clone()).await;
    agent.guests_known(1, vec![guest("a", 0), guest("stranger", 4)], world.now());
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(world.stops().is_empty() && world.reaped.lock().unwrap().is_empty());
    agent.sources_ready();
    world
        .until("reaped", |world| {
            *world.reaped.lock().unwrap() == [guest("stranger", 4)]
        })
        .await;
    world
        .until("stopped", |world| !world.stops().is_empty())
        .await;
    agent.guest_exited("a", "web", 0, world.exit(143));
    world
        .until("forgotten", |world| {
            *world.forgotten.lock().unwrap() == ["a"]
        })
        .await;
    assert!(store.kept.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_waits_for_no_api_server() {
    let world = World::new();
    let (agent, _) = world.agent(Arc::new(Memory::default())).await;
    agent.guests_known(1, Vec::new(), world.now());
    let mut fixed = pod("fixed", "Always");
    let source = ("kubernetes.io/config.source".to_owned(), "file".to_owned());
    fixed.metadata.annotations = Some([source].into());
    agent.apply(fixed).unwrap();
    agent.apply(pod("bound", "Always")).unwrap();
    world.until_phase("fixed", "Running").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.count("bound", Kind::Start), 0);
    agent.sources_ready();
    world.until_phase("bound", "Running").await;
    assert_eq!(agent.pods().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_checkpoint_nothing_happens_and_it_is_said_once() {
    let (world, store) = (World::new(), Arc::new(Memory::default()));
    store.full.store(5, Ordering::SeqCst);
    let agent = world.ready(store.clone()).await;
    agent.apply(pod("a", "Always")).unwrap();
    world
        .until("told", |world| !world.events.lock().unwrap().is_empty())
        .await;
    let event = world.events.lock().unwrap()[0].clone();
    assert_eq!(event.reason, "FailedSync");
    assert!(event.message.contains("No space left"), "{}", event.message);
    assert_eq!(
        (world.calls(), world.published.load(Ordering::SeqCst)),
        (vec![], 0)
    );
    let from = tokio::time::Instant::now();
    world.until_phase("a", "Running").await;
    assert!(from.elapsed() >= Duration::from_secs(1 + 2 + 4 + 8));
    let told = world
        .events
        .lock()
        .unwrap()
        .iter()
        .filter(|event| event.reason == "FailedSync")
        .count();
    assert_eq!(told, 1);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_checkpoint_is_set_aside_and_harms_no_other() {
    let tmp = tempfile::tempdir().unwrap();
    let folder = || Arc::new(Folder::open(tmp.path()).unwrap());
    let world = World::new();
    let agent = world.ready(folder()).await;
    for uid in ["a", "b", "c"] {
        agent.apply(pod(uid, "Always")).unwrap();
        world.until_phase(uid, "Running").await;
    }
    drop(agent);
    world.clear();
    let b = tmp.path().join("b.json");
    let bytes = std::fs::read(&b).unwrap();
    std::fs::write(&b, &bytes[..100]).unwrap();
    let c = tmp.path().join("c.json");
    let newer = String::from_utf8(std::fs::read(&c).unwrap())
        .unwrap()
        .replace("\"version\":1", "\"version\":9");
    std::fs::write(&c, newer).unwrap();
    std::fs::write(tmp.path().join("d.json.tmp"), b"{").unwrap();

    let (agent, damaged) = world.agent(folder()).await;
    assert_eq!(damaged.len(), 2);
    assert!(
        damaged
            .iter()
            .all(|error| matches!(error, StoreError::Damaged { .. })),
        "{damaged:?}"
    );
    assert!(tmp.path().join("b.json.bad").exists() && tmp.path().join("c.json.bad").exists());
    assert!(!tmp.path().join("d.json.tmp").exists());
    agent.guests_known(
        1,
        vec![guest("a", 0), guest("b", 0), guest("c", 0)],
        world.now(),
    );
    for uid in ["a", "b"] {
        agent.apply(pod(uid, "Always")).unwrap();
    }
    agent.sources_ready();
    world.until_phase("a", "Running").await;
    world.until_phase("b", "Running").await;
    world
        .until("reaped", |world| world.reaped.lock().unwrap().len() == 2)
        .await;
    assert_eq!(
        (world.count("a", Kind::Start), world.count("b", Kind::Start)),
        (0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_the_end_of_guests_of_its_forgotten_life() {
    let world = World::new();
    let (agent, _) = world.agent(Arc::new(Memory::default())).await;
    agent.guests_known(1, vec![guest("a", 0)], world.now());
    agent.apply(pod("a", "Never")).unwrap();
    // It is told of the guest that is being ended, not of the pod's first run.
    agent.guest_exited("a", "web", 0, world.exit(9));
    agent.sources_ready();
    world.until_phase("a", "Running").await;
    assert_eq!(*world.reaped.lock().unwrap(), [guest("a", 0)]);
    assert_eq!(world.count("a", Kind::Start), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_overtakes_a_start_and_is_shortened() {
    let world = World::scripted(|_, action| match action.key.kind {
        Kind::Start | Kind::Stop => Does::Never,
        _ => Does::Succeed,
    });
    let agent = world.ready(Arc::new(Memory::default())).await;
    agent.apply(pod("a", "Always")).unwrap();
    world
        .until("starting", |world| world.count("a", Kind::Start) == 1)
        .await;
    agent.apply(deleted(pod("a", "Always"), 20)).unwrap();
    world.until("stopping", |world| world.stops() == [20]).await;
    agent.apply(deleted(pod("a", "Always"), 5)).unwrap();
    world
        .until("shortened", |world| world.stops() == [20, 5])
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_harms_no_other_pod_and_its_own_goes_on() {
    let (world, store) = (World::new(), Arc::new(Memory::default()));
    world.panics.store(3, Ordering::SeqCst);
    let agent = world.ready(store).await;
    agent.apply(pod("panics", "Always")).unwrap();
    agent.apply(pod("calm", "Always")).unwrap();
    let from = tokio::time::Instant::now();
    world.until_phase("calm", "Running").await;
    assert!(from.elapsed() < Duration::from_millis(500));
    world.until_phase("panics", "Running").await;
    assert_eq!(world.panics.load(Ordering::SeqCst), 0);
    assert_eq!(world.count("panics", Kind::Start), 1);
}

#[tokio::test(start_paused = true)]
async fn an_action_that_panics_is_one_that_failed() {
    let world = World::scripted(|_, action| match (action.key.kind, action.key.attempt) {
        (Kind::Pull, 0) => Does::Panic,
        (Kind::Mount, 0) if action.key.container.is_some() => Does::Fail("CreateContainerError"),
        _ => Does::Succeed,
    });
    let agent = world.ready(Arc::new(Memory::default())).await;
    agent.apply(pod("a", "Always")).unwrap();
    world
        .until("waiting", |world| {
            world.phase("a") == "Pending" && world.count("a", Kind::Pull) == 1
        })
        .await;
    world.until_phase("a", "Running").await;
    assert!(world.count("a", Kind::Pull) >= 2);
}

#[tokio::test(start_paused = true)]
async fn five_thousand_idle_pods_wait_for_nothing() {
    const PODS: usize = 5000;
    let world = World::new();
    let agent = world.ready(Arc::new(Volatile)).await;
    for n in 0..PODS {
        agent.apply(pod(&n.to_string(), "Always")).unwrap();
    }
    world
        .until("running", |world| {
            world.published.load(Ordering::SeqCst) >= PODS && {
                let statuses = world.statuses.lock().unwrap();
                statuses
                    .values()
                    .filter(|(status, _)| status.phase.as_deref() == Some("Running"))
                    .count()
                    == PODS
            }
        })
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        world.sleepers.load(Ordering::SeqCst),
        0,
        "an idle worker has no timer"
    );
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    assert!(tasks <= PODS + 2, "{tasks} tasks");
    drop(agent);
}

#[tokio::test(start_paused = true)]
async fn refuses_a_pod_without_a_uid() {
    let world = World::new();
    let agent = world.ready(Arc::new(Volatile)).await;
    let mut nameless = pod("", "Always");
    assert_eq!(
        agent.apply(nameless.clone()),
        Err(ApplyError::NoUid(String::new()))
    );
    nameless.metadata.uid = None;
    assert!(agent.apply(nameless).is_err());
    agent.gone("nobody");
    agent.guest_exited("nobody", "web", 0, world.exit(0));
    assert_eq!(
        world.absorbed.lock().unwrap().len(),
        1,
        "an exit that nobody waits for need not be kept"
    );
    agent.drained().await;
}

#[test]
fn a_folder_keeps_what_it_was_given_and_nothing_else() {
    let tmp = tempfile::tempdir().unwrap();
    let folder = Folder::open(tmp.path().join("deep/pods")).unwrap();
    let checkpoint = |uid: &str| Checkpoint::new(pod(uid, "Always"), lifecycle::Memory::default());
    for uid in ["", "../a", "a/b", ".", "-x", "a\0b", &"x".repeat(129)] {
        assert!(
            matches!(folder.save(uid, &checkpoint(uid)), Err(StoreError::Uid(_))),
            "{uid:?}"
        );
    }
    folder.save("a", &checkpoint("a")).unwrap();
    folder.save("a", &checkpoint("a")).unwrap();
    assert_eq!(folder.read("a").unwrap(), Some(checkpoint("a")));
    assert_eq!(folder.read("b").unwrap(), None);
    folder.save("b", &checkpoint("a")).unwrap();
    let loaded = folder.load().unwrap();
    assert_eq!(loaded.checkpoints, [checkpoint("a")]);
    assert!(
        matches!(loaded.damaged[..], [StoreError::Misplaced { .. }]),
        "{:?}",
        loaded.damaged
    );
    folder.remove("a").unwrap();
    folder.remove("a").unwrap();
    assert!(folder.load().unwrap().checkpoints.is_empty());
    std::fs::remove_dir_all(tmp.path().join("deep")).unwrap();
    assert!(matches!(
        folder.save("a", &checkpoint("a")),
        Err(StoreError::Io { .. })
    ));
    assert!(folder.load().is_err());
}
