//! A process that dies by SIGKILL while it imports leaves a store that is whole.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]
mod common;

use std::process::{Command, Stdio};
use std::time::Instant;

use common::{Place, Tar, WASM, layout, wasi};
use image::{Digest, Source, Store};

const STORE: &str = "CORACLE_TEST_KILL_STORE";
const LAYOUT: &str = "CORACLE_TEST_KILL_LAYOUT";

/// Not a test by itself: what the child runs.
#[test]
fn child() {
    let (Ok(store), Ok(layout)) = (std::env::var(STORE), std::env::var(LAYOUT)) else {
        return;
    };
    let store = Store::open(store.as_ref()).unwrap();
    store
        .import(
            &Source {
                path: layout.into(),
                image: None,
            },
            Some(&"x/y".parse().unwrap()),
        )
        .unwrap();
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a kill has to come at an instant that nothing announces"
)]
fn a_store_survives_kills_at_any_instant() {
    let noise: Vec<u8> = (0..3_000_000u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    let many = (0..300).fold(Tar::default().file("app.wasm", WASM), |t, n| {
        t.file(&format!("d{}/f{n}", n % 7), b"x")
    });
    let made = wasi(&[many.bytes(), Tar::default().file("noise", &noise).bytes()]);
    let place = Place::new();
    let source = layout(&place.path("layout"), &made);
    let run = |store: &std::path::Path| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "child"])
            .env(STORE, store)
            .env(LAYOUT, &source.path);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    // How long a whole import takes here sets the scale of the instants; the shortest yet seen, so
    // that one slow moment does not spoil them all.
    let started = Instant::now();
    assert!(run(&place.path("measure")).wait().unwrap().success());
    let mut whole = started.elapsed();
    let mut interrupted = 0;
    for n in 0..24u32 {
        let path = place.path(&format!("store{n}"));
        let started = Instant::now();
        let mut children = [run(&path), run(&path)];
        std::thread::sleep(whole.mul_f64(f64::from(n % 12) / 10.0));
        let mut both = true;
        for child in &mut children {
            let _ = child.kill();
            let done = child.wait().unwrap().success();
            interrupted += u32::from(!done);
            both &= done;
        }
        if both {
            whole = whole.min(started.elapsed());
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(store.verify().unwrap(), []);
        assert_eq!(
            std::fs::read_dir(path.join("tmp")).unwrap().count(),
            0,
            "left behind by the dead"
        );
        let name = "x/y".parse().unwrap();
        if let Some(image) = store.get(&name).unwrap() {
            assert_eq!(image.layers.len(), 2);
        }
        let image = store.import(&source, Some(&name)).unwrap();
        assert_eq!(image.module("app").unwrap().digest, Digest::of(WASM));
        assert_eq!(
            std::fs::read(image.layers[1].path.join("noise")).unwrap(),
            noise
        );
        std::fs::remove_dir_all(&path).unwrap();
    }
    // Those that were killed at once, if no others.
    assert!(interrupted > 0, "nothing was interrupted");
}
