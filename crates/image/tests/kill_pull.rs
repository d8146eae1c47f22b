//! A process that dies by SIGKILL while it pulls leaves a store that is whole, and what it had fetched.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]
mod common;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::registry::{Registry, Reply, is_blob};
use common::{Made, Place, Tar, WASM, wasi};
use image::{Digest, PullOptions, Store};
use tokio::sync::Notify;

const STORE: &str = "CORACLE_TEST_KILL_PULL_STORE";
const NAME: &str = "CORACLE_TEST_KILL_PULL_NAME";

fn options() -> PullOptions {
    PullOptions {
        // One after the other, so that the instants are the same in every run.
        parallel: 1,
        ..PullOptions::default()
    }
}

/// Not a test by itself: what the child runs.
#[tokio::test]
async fn child() {
    let (Ok(store), Ok(name)) = (std::env::var(STORE), std::env::var(NAME)) else {
        return;
    };
    let store = Store::open(store.as_ref()).unwrap();
    store
        .pull(&name.parse().unwrap(), &options())
        .await
        .unwrap();
}

fn app() -> Made {
    let noise: Vec<u8> = (0..400_000u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    wasi(&[
        Tar::default().file("app.wasm", WASM).bytes(),
        Tar::default().file("noise", &noise).bytes(),
    ])
}

/// Kills a pull at its request number `at`: before the answer, or in the middle of its body.
async fn kill_at(at: usize, in_its_body: bool) -> bool {
    let made = app();
    let (reached, count) = (Arc::new(Notify::new()), AtomicUsize::new(0));
    let (armed, tell) = (Arc::new(AtomicBool::new(true)), reached.clone());
    let (is_armed, blobs) = (armed.clone(), made.blobs.clone());
    let begun = Arc::new(Mutex::new(Vec::new()));
    let log = begun.clone();
    let registry = Registry::start(&made, move |r| {
        let counted = r.path != "/v2/" && is_armed.load(Ordering::Relaxed);
        if !counted || count.fetch_add(1, Ordering::Relaxed) != at {
            log.lock().unwrap().push(r.path.clone());
            return None;
        }
        tell.notify_one();
        let blob = blobs
            .iter()
            .find(|b| r.path.ends_with(&Digest::of(b).hex()));
        Some(match blob.filter(|_| in_its_body && is_blob(r)) {
            Some(blob) => Reply::Part(blob[..blob.len() / 2].to_vec(), blob.len()),
            None => Reply::Hang,
        })
    })
    .await;
    let place = Place::new();
    let path = place.path("store");
    let name = registry.reference("app:v1");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child"])
        .env(STORE, &path)
        .env(NAME, name.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ended = tokio::task::spawn_blocking({
        let (pid, reached) = (child.id(), reached.clone());
        let runtime = tokio::runtime::Handle::current();
        move || {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            runtime.spawn(async move {
                reached.notified().await;
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            });
            child.wait().unwrap()
        }
    });
    if ended.await.unwrap().success() {
        return false;
    }
    armed.store(false, Ordering::Relaxed);

    let store = Store::open(&path).unwrap();
    assert_eq!(store.verify().unwrap(), []);
    assert_eq!(std::fs::read_dir(path.join("tmp")).unwrap().count(), 0);
    assert!(store.get(&name).unwrap().is_none());
    let before = begun.lock().unwrap().clone();
    let image = store.pull(&name, &options()).await.unwrap();
    assert_eq!(image.module("app").unwrap().digest, Digest::of(WASM));
    assert_eq!(image.layers.len(), 2);
    // What had come whole is not fetched again: at the next request the one before is in the store.
    for blob in before.iter().filter(|p| p.contains("/blobs/")) {
        assert_eq!(registry.asked(blob), 1, "{blob}");
    }
    true
}

#[tokio::test]
async fn a_store_survives_kills_at_each_request_of_a_pull() {
    let mut killed = 0;
    for at in 0.. {
        let (before, within) = (kill_at(at, false).await, kill_at(at, true).await);
        assert_eq!(before, within);
        if !before {
            break;
        }
        killed += 1;
    }
    // The manifest, the configuration and two layers.
    assert_eq!(killed, 4);
}
