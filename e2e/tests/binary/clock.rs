//! A machine whose clock is set while its node works: by hours, forwards and back.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;

use kube::runtime::wait::await_condition;

use super::*;

/// How far the clock is set: more than any timeout, backoff or lease.
const HOURS: i64 = 2;

/// The wall clock of processes that are told of it.
struct WallClock {
    folder: tempfile::TempDir,
    shim: PathBuf,
}

impl WallClock {
    fn new() -> WallClock {
        let folder = tempfile::tempdir().unwrap();
        let shim = folder.path().join("clock.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/binary/clock.c");
        let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
        let compiled = compiler.arg(&shim).arg(source).status().unwrap();
        assert!(compiled.success(), "{compiled}");
        let clock = WallClock { folder, shim };
        clock.set_ahead(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }

    fn set_ahead(&self, hours: i64) {
        let beside = self.folder.path().join("next");
        std::fs::write(&beside, (hours * 3600).to_string()).unwrap();
        std::fs::rename(beside, self.file()).unwrap();
    }

    fn environment(&self) -> [(OsString, OsString); 2] {
        [
            ("LD_PRELOAD".into(), self.shim.clone().into()),
            ("CLOCK_AHEAD".into(), self.file().into()),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_ends_nothing_and_delays_nothing() {
    let (Some(sleep), Some(exit)) = (module(Guest::GoSleep), module(Guest::GoExit)) else {
        return;
    };
    let clock = WallClock::new();
    let scene = Scene::set_in("clock", &sleep, &clock.environment()).await;
    let crasher = scene.push("clock-exit:1", &exit);
    scene.apply("stays", "Always", &["1h"]).await;
    let before = scene.phase("stays", "Running").await;
    let ready_since = since(&scene).await;

    clock.set_ahead(HOURS);
    let ahead = Timestamp::now() + SignedDuration::from_hours(HOURS) - SignedDuration::from_mins(1);
    let leases: Api<Lease> = Api::namespaced(scene.plane.admin().await.unwrap(), "kube-node-lease");
    let renewed = |lease: Option<&Lease>| {
        let at = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.clone());
        at.is_some_and(|at| at.0 > ahead)
    };
    let waited = await_condition(leases, "clock", renewed);
    let waited = tokio::time::timeout(Duration::from_secs(60), waited).await;
    assert!(waited.is_ok(), "the node takes no note of its clock");
    goes_its_way(&scene, "forwards", &crasher).await;

    clock.set_ahead(-HOURS);
    goes_its_way(&scene, "back", &crasher).await;

    let after = scene.phase("stays", "Running").await;
    assert_eq!(container_id(&after), container_id(&before));
    let status = after.status.unwrap().container_statuses.unwrap();
    assert_eq!(status[0].restart_count, 0, "{}", scene.node.log().unwrap());
    assert_eq!(since(&scene).await, ready_since, "it was not Ready");
    scene.delete("stays").await;
    scene.gone("stays").await;
}

/// A pod runs and goes within its grace; one that crashes is restarted twice, after its backoff of ten seconds.
async fn goes_its_way(scene: &Scene, when: &str, crasher: &str) {
    let begun = std::time::Instant::now();
    let (runs, crashes) = (format!("runs-{when}"), format!("crashes-{when}"));
    scene.apply(&runs, "Always", &["1h"]).await;
    scene.apply_image(&crashes, "Always", crasher, &["3"]).await;
    scene.phase(&runs, "Running").await;
    scene.delete(&runs).await;
    scene.gone(&runs).await;
    let twice = |pod: Option<&Pod>| {
        let status = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
        status.is_some_and(|all| all[0].restart_count >= 2)
    };
    let restarted = scene
        .plane
        .await_pod(scene.name, &crashes, "restarted twice", twice);
    if let Err(error) = restarted.await {
        panic!("{error:#}\n{}", scene.node.log().unwrap());
    }
    scene.delete(&crashes).await;
    scene.gone(&crashes).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(120), "{when}: {took:?}");
}

/// Since when the Node is Ready.
async fn since(scene: &Scene) -> Timestamp {
    let nodes: Api<Node> = Api::all(scene.plane.admin().await.unwrap());
    let status = nodes.get(scene.name).await.unwrap().status.unwrap();
    let mut all = status.conditions.unwrap().into_iter();
    let ready = all.find(|one| one.type_ == "Ready" && one.status == "True");
    ready.unwrap().last_transition_time.unwrap().0
}
