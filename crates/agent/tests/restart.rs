//! What an agent knew, the one after it knows: ends, counts, backoffs, and pods that left meanwhile.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use agent::Clock;
use common::{Memory, World, guest, pod};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use lifecycle::Kind;

fn container(world: &World) -> Option<ContainerStatus> {
    let statuses = world.statuses.lock().unwrap();
    let (status, _) = statuses.get("a")?;
    status.container_statuses.as_ref()?.first().cloned()
}

fn waits_for(world: &World, wanted: &str) -> bool {
    let waiting = container(world).and_then(|it| it.state?.waiting);
    waiting.is_some_and(|it| it.reason.as_deref() == Some(wanted))
}

fn static_pod() -> Pod {
    let mut pod = pod("a", "Always");
    let source = ("kubernetes.io/config.source".to_owned(), "file".to_owned());
    pod.metadata.annotations = Some([source].into());
    pod
}

#[tokio::test(start_paused = true)]
async fn what_was_finished_stays_finished_with_its_exit_code() {
    let (world, store) = (World::new(), Arc::new(Memory::default()));
    let agent = world.ready(store.clone()).await;
    agent.apply(pod("a", "Never")).unwrap();
    world.until_phase("a", "Running").await;
    agent.guest_exited("a", "web", 0, world.exit(3));
    world.until_phase("a", "Failed").await;
    drop(agent);
    world.clear();
    let _agent = world.ready_with(store, &[pod("a", "Never")]).await;
    world.until_phase("a", "Failed").await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.count("a", Kind::Start), 0);
    let ended = container(&world).unwrap().state.unwrap().terminated;
    assert_eq!(ended.unwrap().exit_code, 3);
}

#[tokio::test(start_paused = true)]
async fn a_backoff_goes_on_with_its_count_and_its_last_state() {
    let (world, store) = (World::new(), Arc::new(Memory::default()));
    let agent = world.ready(store.clone()).await;
    agent.apply(pod("a", "Always")).unwrap();
    world.until_phase("a", "Running").await;
    agent.guest_exited("a", "web", 0, world.exit(1));
    let again = |world: &World| {
        container(world)
            .is_some_and(|it| it.restart_count == 1 && it.state.unwrap().running.is_some())
    };
    world.until("restarted", again).await;
    let ended = world.now();
    agent.guest_exited("a", "web", 1, world.exit(2));
    world
        .until("backing off", |world| waits_for(world, "CrashLoopBackOff"))
        .await;
    drop(agent);
    world.clear();
    let _agent = world.ready_with(store, &[pod("a", "Always")]).await;
    world
        .until("backing off", |world| waits_for(world, "CrashLoopBackOff"))
        .await;
    let status = container(&world).unwrap();
    let last = status.last_state.unwrap().terminated.unwrap();
    assert_eq!((status.restart_count, last.exit_code), (1, 2));
    world
        .until("started", |world| world.count("a", Kind::Start) == 1)
        .await;
    // The time is the test's own: neither at once nor from the beginning of the second agent.
    let waited = ended.duration_until(world.now());
    assert_eq!(waited.as_secs(), SignedDuration::from_secs(10).as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_whose_file_went_meanwhile_ends_without_an_api_server() {
    let (world, store) = (World::new(), Arc::new(Memory::default()));
    let (agent, _) = world.agent(store.clone()).await;
    agent.guests_known(1, Vec::new(), world.now());
    agent.apply(static_pod()).unwrap();
    world.until_phase("a", "Running").await;
    drop(agent);
    world.clear();
    let (agent, _) = world.agent(store.clone()).await;
    agent.guests_known(1, vec![guest("a", 0)], world.now());
    agent.gone("a");
    world
        .until("stopped", |world| world.count("a", Kind::Stop) == 1)
        .await;
    agent.guest_exited("a", "web", 0, world.exit(143));
    world
        .until("forgotten", |world| {
            !world.forgotten.lock().unwrap().is_empty()
        })
        .await;
    assert!(store.kept.lock().unwrap().is_empty());
}
