//! Layers, honest and hostile, and the module that is found in them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]
mod common;

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::{Place, Tar, WASM, artifact, compat, gzip, layout, wasi};
use image::{Digest, Error, Kind, Limits, Store};
use serde_json::json;

fn words(error: Error, words: &[&str]) {
    let text = error.to_string();
    assert!(
        words.iter().all(|w| text.contains(w)),
        "{text:?} lacks one of {words:?}"
    );
}

#[test]
fn an_ordinary_layer() {
    let place = Place::new();
    let tar = Tar::default()
        .dir("./")
        .dir("app/")
        .entry(b'0', "app/run.wasm", "", 0o6755, WASM)
        .file("new/folders/file", b"x")
        .symlink("link", "/app/run.wasm")
        .link("hard", "app/run.wasm")
        .file("app/twice", b"1")
        .file("app/twice", b"22")
        .file("/absolute", b"a");
    let fs = place.layer(tar).unwrap();
    let meta = std::fs::metadata(fs.join("app/run.wasm")).unwrap();
    assert_eq!(
        (meta.mode() & 0o7777, meta.mtime(), meta.nlink()),
        (0o755, 1000, 2)
    );
    assert_eq!(
        std::fs::read_link(fs.join("link")).unwrap(),
        Path::new("/app/run.wasm")
    );
    assert_eq!(std::fs::read(fs.join("app/twice")).unwrap(), b"22");
    assert!(fs.join("absolute").is_file() && fs.join("new/folders/file").is_file());
    assert_eq!(std::fs::metadata(fs.join("app")).unwrap().mtime(), 1000);
    place.assert_clean();
}

#[test]
fn hostile_entries_are_refused_by_name_and_leave_nothing() {
    let deep = "d/".repeat(201) + "f";
    let deep_entry = || {
        let pax = format!("{:03} path={deep}\n", deep.len() + 10);
        Tar::default()
            .entry(b'x', "pax", "", 0o644, pax.as_bytes())
            .file("short", b"x")
    };
    let cases: Vec<(Tar, &[&str])> = vec![
        (
            Tar::default().file("../outside", b"x"),
            &["../outside", "'..'"],
        ),
        (
            Tar::default().file("a/../../outside", b"x"),
            &["a/../../outside", "'..'"],
        ),
        (
            Tar::default().link("hard", "../../../etc/passwd"),
            &["hard", "out of the layer", "etc/passwd"],
        ),
        (
            Tar::default().link("hard", "/etc/passwd"),
            &["hard", "not in this layer"],
        ),
        (
            Tar::default().dir("d").link("hard", "d"),
            &["hard", "no file"],
        ),
        (
            Tar::default().file("f", b"x").file("f/below", b"x"),
            &["f/below", "no folder"],
        ),
        (
            Tar::default().symlink("l", "/etc").file("l/x", b"x"),
            &["l/x", "leads to no folder"],
        ),
        (
            Tar::default().symlink("l", "l").file("l/x", b"x"),
            &["l/x", "loop"],
        ),
        (
            Tar::default().file(".wh...", b""),
            &[".wh...", "whiteout of nothing"],
        ),
        (
            Tar::default().entry(b'S', "sparse", "", 0o644, b"x"),
            &["sparse", "--sparse"],
        ),
        (
            Tar::default().entry(b'?', "odd", "", 0o644, b"x"),
            &["odd", "unknown entry type"],
        ),
        (deep_entry(), &["at most 200"]),
    ];
    for (tar, expected) in cases {
        let place = Place::new();
        let error = place.layer(tar).unwrap_err();
        assert_eq!(error.reason(), "ErrImagePull");
        words(error, expected);
        assert_eq!(
            std::fs::read_dir(place.path("store/layers"))
                .unwrap()
                .count(),
            0
        );
        place.assert_clean();
    }
}

#[test]
fn nothing_is_written_through_links_out_of_the_layer() {
    let place = Place::new();
    let outside = place.path("outside");
    std::fs::create_dir(&outside).unwrap();
    let out = outside.to_str().unwrap();
    let tar = Tar::default()
        .dir(out)
        .symlink("abs", out)
        .symlink("up", &format!("../../../../../../../..{out}"))
        .file("abs/one", b"1")
        .file("up/two", b"2")
        .file("up/.wh.three", b"")
        .symlink("file", &format!("{out}/target"))
        .file("file", b"replaced, not followed");
    let fs = place.layer(tar).unwrap();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    let inside = fs.join(out.trim_start_matches('/'));
    assert_eq!(std::fs::read(inside.join("one")).unwrap(), b"1");
    assert_eq!(std::fs::read(inside.join("two")).unwrap(), b"2");
    assert!(
        std::fs::symlink_metadata(fs.join("file"))
            .unwrap()
            .is_file()
    );
}

#[test]
fn devices_are_left_out_with_a_warning() {
    let place = Place::new();
    let tar = Tar::default()
        .entry(b'3', "dev/null", "", 0o666, b"")
        .entry(b'6', "fifo", "", 0o644, b"")
        .file("app.wasm", WASM);
    let image = place.import(&wasi(&[tar.bytes()])).unwrap();
    let layer = &image.layers[0];
    assert!(!layer.path.join("dev/null").exists() && !layer.path.join("fifo").exists());
    assert_eq!(layer.warnings.len(), 2);
    assert!(
        layer.warnings[0].contains("dev/null") && layer.warnings[0].contains("character device")
    );
}

#[test]
fn nothing_of_a_layer_gives_anybody_anothers_rights() {
    let place = Place::new();
    let tar = Tar::default()
        .entry(b'5', "dir", "", 0o7755, b"")
        .entry(b'0', "dir/setuid", "", 0o4755, b"x")
        .entry(b'0', "dir/setgid", "", 0o2750, b"x")
        .entry(b'1', "dir/linked", "dir/setuid", 0o6755, b"");
    let layer = place.layer(tar).unwrap();
    for (name, mode) in [
        ("dir/setuid", 0o755),
        ("dir/setgid", 0o750),
        ("dir/linked", 0o755),
    ] {
        let found = std::fs::metadata(layer.join(name)).unwrap().mode();
        assert_eq!(found & 0o7777, mode, "{name}");
    }
    let dir = std::fs::metadata(layer.join("dir")).unwrap().mode();
    assert_eq!(dir & 0o6000, 0);
}

#[test]
fn bombs_meet_their_limits() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        layer_bytes: 100 << 10,
        layer_entries: 50,
        layers: 2,
        image_bytes: 1 << 20,
        ..Limits::default()
    };
    let store = Store::open_with(&dir.path().join("store"), limits).unwrap();
    let import = |made| {
        store
            .import(&layout(&dir.path().join("layout"), &made), None)
            .unwrap_err()
    };
    words(
        import(wasi(&[Tar::default()
            .file("zeros", &[0; 200 << 10])
            .bytes()])),
        &["102400 bytes"],
    );
    let many = (0..60).fold(Tar::default(), |t, n| t.file(&n.to_string(), b""));
    words(import(wasi(&[many.bytes()])), &["50 entries"]);
    let one = Tar::default().file("a", b"").bytes();
    words(
        import(wasi(&[one.clone(), one.clone(), one])),
        &["2 layers"],
    );
    let mut big = wasi(&[Tar::default().bytes()]);
    let mut manifest: serde_json::Value = serde_json::from_slice(&big.manifest).unwrap();
    manifest["layers"][0]["size"] = json!(u64::MAX);
    big.manifest = manifest.to_string().into_bytes();
    words(import(big), &["1048576 bytes"]);
    assert_eq!(
        std::fs::read_dir(dir.path().join("store/layers"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_bomb_of_a_hundred_gib_costs_nothing() {
    let place = Place::new();
    // Its header is true: so many zeros would follow, in some 100 MiB of gzip.
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_mode(0o644);
    header.set_size(100 << 30);
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.resize(1 << 20, 0);
    words(
        place.import(&wasi(&[tar])).unwrap_err(),
        &["exceeds the limit", "compressed size"],
    );
    assert_eq!(
        std::fs::read_dir(place.path("store/layers"))
            .unwrap()
            .count(),
        0
    );
    place.assert_clean();
}

#[test]
fn damage_is_named_with_both_digests() {
    let place = Place::new();
    let tar = Tar::default().file("app.wasm", WASM).bytes();
    let mut made = wasi(std::slice::from_ref(&tar));
    let right = Digest::of(&made.blobs[0]);
    layout(&place.path("layout"), &made);
    let blob = place.path("layout/blobs/sha256").join(right.hex());
    let mut bytes = std::fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&blob, &bytes).unwrap();
    let source = image::Source {
        path: place.path("layout"),
        image: None,
    };
    words(
        place.store.import(&source, None).unwrap_err(),
        &[&right.to_string(), &Digest::of(&bytes).to_string()],
    );
    std::fs::write(&blob, &bytes[..10]).unwrap();
    words(
        place.store.import(&source, None).unwrap_err(),
        &["10 bytes", &format!("{} bytes", bytes.len())],
    );
    std::fs::remove_file(&blob).unwrap();
    words(
        place.store.import(&source, None).unwrap_err(),
        &["is missing", &right.hex()],
    );
    place.assert_clean();

    let other = Tar::default().file("app.wasm", b"other").bytes();
    made = compat(&[(other, gzip(&tar))], json!({}), ("wasi", "wasm32"));
    words(
        place.import(&made).unwrap_err(),
        &["diffID", &Digest::of(&tar).to_string()],
    );
    let html = b"<html>not a tar</html>".repeat(50);
    words(place.import(&wasi(&[html])).unwrap_err(), &["not a tar"]);
    place.assert_clean();
}

#[test]
fn whiteouts_are_listed_and_the_module_is_found_through_them() {
    let place = Place::new();
    let low = Tar::default()
        .file("gone.wasm", WASM)
        .file("hidden/old.wasm", WASM)
        .file("bin/tool.wasm", WASM)
        .file("lib/real.wasm", b"\0asm\x01\0\0\0low")
        .symlink("bin/alias", "/lib/real.wasm");
    let high = Tar::default()
        .file(".wh.gone.wasm", b"")
        .file("hidden/.wh..wh..opq", b"")
        .file("hidden/new.wasm", WASM)
        .file("lib/real.wasm", b"\0asm\x01\0\0\0high")
        .file(".wh.again", b"")
        .dir("again")
        .file(".wh.later", b"")
        .file("later/x", b"")
        .file("script", b"#!/bin/sh");
    let image = place.import(&wasi(&[low.bytes(), high.bytes()])).unwrap();
    let whiteouts = &image.layers[1].whiteouts;
    assert_eq!(whiteouts.removed, [PathBuf::from("gone.wasm")]);
    assert_eq!(
        whiteouts.opaque,
        ["again", "hidden", "later"].map(PathBuf::from)
    );
    if whiteouts.marked {
        let mark = std::fs::symlink_metadata(image.layers[1].path.join("gone.wasm")).unwrap();
        assert_eq!((mark.mode() & 0o170_000, mark.rdev()), (0o020_000, 0));
    }
    let found = |word: &str| image.module(word).map(|m| (m.guest_path, m.digest));
    let wasm = Digest::of(WASM);
    assert_eq!(
        found("tool").unwrap(),
        (PathBuf::from("/bin/tool.wasm"), wasm)
    );
    assert_eq!(
        found("hidden/new.wasm").unwrap(),
        (PathBuf::from("/hidden/new.wasm"), wasm)
    );
    assert_eq!(
        found("alias").unwrap(),
        (
            PathBuf::from("/lib/real.wasm"),
            Digest::of(b"\0asm\x01\0\0\0high")
        )
    );
    assert_eq!(
        image
            .module("/bin/tool.wasm#run")
            .unwrap()
            .export
            .as_deref(),
        Some("run")
    );
    // Remembered: the second answer is the same.
    assert_eq!(found("alias").unwrap(), found("alias").unwrap());
    for (word, says) in [
        ("gone.wasm", "looked for /bin/gone.wasm"),
        ("hidden/old.wasm", "there is no"),
        ("/", "Spin"),
        ("", "names no file"),
        ("#run", "names no file"),
        ("/lib", "a folder"),
        ("script", "script"),
        ("../../etc/passwd", "there is no"),
    ] {
        let error = found(word).unwrap_err();
        assert_eq!(error.reason(), "ImageInspectError");
        words(error, &[says]);
    }
}

#[test]
fn an_artifact_is_its_module() {
    let place = Place::new();
    let image = place.import(&artifact(WASM)).unwrap();
    assert_eq!(
        image.kind,
        Kind::Artifact {
            module: Digest::of(WASM)
        }
    );
    assert!(image.layers.is_empty());
    let module = image.module(&image.config.entrypoint[0]).unwrap();
    assert_eq!(
        (module.digest, std::fs::read(module.path).unwrap()),
        (Digest::of(WASM), WASM.to_vec())
    );
    words(
        image.module("/bin/sh").unwrap_err(),
        &["/bin/sh", "one module"],
    );
}

#[test]
fn a_linux_image_is_refused_before_its_layers_are_read() {
    let place = Place::new();
    let made = compat(
        &[(vec![1], vec![1])],
        json!({"Cmd": ["bash"]}),
        ("linux", "amd64"),
    );
    words(
        place.import(&made).unwrap_err(),
        &["linux/amd64", "--os wasi --arch wasm32"],
    );
    assert!(
        !place
            .path("store/blobs/sha256")
            .join(Digest::of(&[1]).hex())
            .exists()
    );
}

#[test]
fn archives_as_tools_write_them() {
    let place = Place::new();
    let tar = Tar::default().file("app.wasm", WASM).bytes();
    let made = wasi(std::slice::from_ref(&tar));
    layout(&place.path("layout"), &made);
    let archive = place.path("oci.tar");
    let mut builder = tar::Builder::new(std::fs::File::create(&archive).unwrap());
    builder.append_dir_all(".", place.path("layout")).unwrap();
    builder.finish().unwrap();
    let source = image::Source {
        path: archive.clone(),
        image: None,
    };
    let image = place
        .store
        .import(&source, Some(&"x/y:1".parse().unwrap()))
        .unwrap();
    assert_eq!(image.module("app").unwrap().digest, Digest::of(WASM));
    assert_eq!(
        place
            .store
            .get(&"x/y:1".parse().unwrap())
            .unwrap()
            .unwrap()
            .id,
        image.id
    );

    let saved = place.path("saved.tar");
    let manifest = json!([{"Config": "c.json", "RepoTags": ["my/app:2"], "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    let config = json!({"os": "wasi", "architecture": "wasm32", "config": {"Cmd": ["app.wasm"]},
        "rootfs": {"diff_ids": [Digest::of(&tar).to_string(), Digest::of(&tar).to_string()]}});
    let docker = Tar::default()
        .file("c.json", config.to_string().as_bytes())
        .file("a/layer.tar", &tar)
        .symlink("b/layer.tar", "../a/layer.tar")
        .file("manifest.json", manifest.to_string().as_bytes());
    std::fs::write(&saved, docker.bytes()).unwrap();
    let image = place
        .store
        .import(
            &image::Source {
                path: saved.clone(),
                image: None,
            },
            None,
        )
        .unwrap();
    assert_eq!(
        (image.name.to_string().as_str(), image.layers.len()),
        ("docker.io/my/app:2", 2)
    );

    std::fs::write(&saved, gzip(b"x")).unwrap();
    words(
        place
            .store
            .import(
                &image::Source {
                    path: saved,
                    image: None,
                },
                None,
            )
            .unwrap_err(),
        &["gunzip"],
    );
    std::fs::write(&archive, Tar::default().file("x", b"").bytes()).unwrap();
    words(
        place.store.import(&source, None).unwrap_err(),
        &["not an image"],
    );
    place.assert_clean();
}

#[test]
fn the_collector_keeps_what_is_named_or_in_use() {
    let place = Place::new();
    let name = |n: &str| format!("x/{n}").parse::<image::Reference>().unwrap();
    let made = |n: &str| wasi(&[Tar::default().file("app.wasm", WASM).file(n, b"").bytes()]);
    let import = |n: &str| {
        place
            .store
            .import(&layout(&place.path(n), &made(n)), Some(&name(n)))
            .unwrap()
    };
    let (a, b) = (import("a"), import("b"));
    for image in [&a, &b] {
        place.store.remove(&image.name).unwrap();
        place
            .store
            .remove(&image.name.pinned(image.digest))
            .unwrap();
    }
    // What this process has in hand is in use, whoever asks.
    assert_eq!(place.store.collect(&[]).unwrap().layers, 0);
    let (digest, of_a, of_b) = (a.digest, a.layers[0].path.clone(), b.layers[0].path.clone());
    drop((a, b));
    let freed = place.store.collect(&[digest]).unwrap();
    assert_eq!((freed.blobs, freed.layers), (3, 1));
    assert!(of_a.exists() && !of_b.exists());
    assert_eq!(place.store.collect(&[]).unwrap().layers, 1);
    place.assert_clean();
}

#[test]
fn a_full_disk_at_every_write() {
    let context = rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC);
    let Ok(context) = context else {
        eprintln!("left out: a small tmpfs needs CAP_SYS_ADMIN");
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "CI has to test this"
        );
        return;
    };
    rustix::mount::fsconfig_set_string(&context, "size", "256k").unwrap();
    rustix::mount::fsconfig_create(&context).unwrap();
    let flags = rustix::mount::FsMountFlags::FSMOUNT_CLOEXEC;
    let small =
        rustix::mount::fsmount(&context, flags, rustix::mount::MountAttrFlags::empty()).unwrap();
    let disk = PathBuf::from(format!("/proc/self/fd/{}", small.as_raw_fd()));
    let dir = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = (0..60_000u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[..1].to_vec())
        .collect();
    let source = layout(
        dir.path(),
        &wasi(&[Tar::default()
            .file("app.wasm", WASM)
            .file("noise", &noise)
            .bytes()]),
    );
    let store = Store::open(&disk.join("store")).unwrap();
    // Ever more room: the import fails at each of its writes in turn, until it has enough.
    let mut failures = 0;
    for spare in (0..=256 << 10).step_by(4096) {
        let ballast = disk.join("ballast");
        std::fs::write(&ballast, vec![0; (256 << 10) - spare]).unwrap_err_or_ok();
        let result = store.import(&source, None);
        std::fs::remove_file(&ballast).unwrap();
        match result {
            Err(error) => {
                assert!(error.is_disk_full() && error.retryable(), "{error}");
                assert!(error.to_string().contains("/store/"), "{error}");
                failures += 1;
            }
            Ok(image) => {
                image.module("app").unwrap();
                break;
            }
        }
        assert_eq!(store.verify().unwrap(), []);
    }
    assert!(failures > 3, "{failures}");
    assert_eq!(store.list().unwrap().len(), 2);
}

/// The ballast may itself meet the full disk: it fills what there is.
trait Either {
    fn unwrap_err_or_ok(self);
}

impl Either for std::io::Result<()> {
    fn unwrap_err_or_ok(self) {
        if let Err(error) = self {
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        }
    }
}
