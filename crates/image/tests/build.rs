//! Images made, saved, loaded and tagged.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{Place, WASM, gzip};
use image::{Build, BuildFile, Digest, Error, Format, Image, Kind, Reference, Store};
use serde_json::Value;

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// A module and a folder beside it, written in some order, with some modes.
fn input(place: &Place, folder: &str, order: &[&str], mode: u32) -> Build {
    let dir = place.path(folder);
    std::fs::create_dir_all(dir.join("data/deep")).unwrap();
    for file in order {
        let path = dir.join("data").join(file);
        std::fs::write(&path, file.as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::symlink("deep/b", dir.join("data/link")).unwrap();
    std::fs::write(dir.join("app.wasm"), WASM).unwrap();
    Build {
        module: dir.join("app.wasm"),
        files: vec![BuildFile {
            source: dir.join("data"),
            guest: "/data".to_owned(),
        }],
        ..Build::default()
    }
}

fn build(store: &Store, build: &Build) -> Result<Image, Error> {
    store.build(build, &[name("localhost:5000/app:1")])
}

fn blob(place: &Place, digest: Digest) -> Vec<u8> {
    std::fs::read(place.path(&format!("store/blobs/sha256/{}", digest.hex()))).unwrap()
}

fn json(place: &Place, digest: Digest) -> Value {
    serde_json::from_slice(&blob(place, digest)).unwrap()
}

#[test]
fn the_same_input_is_the_same_image_to_the_bit() {
    let (one, other) = (Place::new(), Place::new());
    let mut first = input(&one, "in", &["a", "deep/b", "z"], 0o644);
    let mut second = input(&other, "elsewhere/in", &["z", "deep/b", "a"], 0o600);
    for build in [&mut first, &mut second] {
        build.created = 1_700_000_000;
        build.config.env = vec![("A".to_owned(), "B".to_owned())];
    }
    let (first, second) = (
        build(&one.store, &first).unwrap(),
        build(&other.store, &second).unwrap(),
    );
    assert_eq!(first.digest, second.digest);
    assert_eq!(first.id, second.id);
    let mut later = input(&other, "later", &["a", "deep/b", "z"], 0o644);
    later.created = 1_700_000_001;
    later.config.env = vec![("A".to_owned(), "B".to_owned())];
    assert_ne!(build(&other.store, &later).unwrap().digest, first.digest);
}

#[test]
fn a_compat_image_says_what_every_tool_reads() {
    let place = Place::new();
    let mut input = input(&place, "in", &["a", "deep/b"], 0o755);
    input.config.cmd = vec!["serve".to_owned()];
    input.config.working_dir = "/data".to_owned();
    input.config.labels.insert("k".to_owned(), "v".to_owned());
    let image = build(&place.store, &input).unwrap();
    assert_eq!(image.kind, Kind::Compat);
    assert_eq!(image.config.entrypoint, ["/app.wasm"]);
    let manifest = json(&place, image.digest);
    assert_eq!(
        manifest["annotations"]["module.wasm.image/variant"],
        "compat"
    );
    assert_eq!(
        manifest["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(
        manifest["layers"][0]["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    let config = json(&place, image.id);
    assert_eq!(
        (&config["os"], &config["architecture"]),
        (&"wasi".into(), &"wasm".into())
    );
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    assert_eq!(config["config"]["Cmd"][0], "serve");
    assert_eq!(config["config"].get("Env"), None);
    let root = &image.layers[0].path;
    assert_eq!(std::fs::read(root.join("data/deep/b")).unwrap(), b"deep/b");
    assert_eq!(
        std::fs::read_link(root.join("data/link")).unwrap(),
        Path::new("deep/b")
    );
    let mode = std::fs::metadata(root.join("data/a"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    let module = image.module("/app.wasm").unwrap();
    assert_eq!(module.digest, Digest::of(WASM));
    assert_eq!(
        place
            .store
            .get(&name("localhost:5000/app:1"))
            .unwrap()
            .unwrap()
            .digest,
        image.digest
    );
    place.assert_clean();
}

#[test]
fn an_artifact_is_the_module_and_says_what_it_is() {
    let place = Place::new();
    let text = place.path("run.wat");
    std::fs::write(
        &text,
        r#"(component (import "wasi:io/error@0.2.0" (instance)) (component $c)
           (instance $i (instantiate $c)) (export "wasi:cli/run@0.2.0" (instance $i)))"#,
    )
    .unwrap();
    let mut artifact = Build {
        module: text,
        artifact: true,
        ..Build::default()
    };
    let image = build(&place.store, &artifact).unwrap();
    let manifest = json(&place, image.digest);
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.wasm.config.v0+json"
    );
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    let config = json(&place, image.id);
    assert_eq!(config["layerDigests"][0], manifest["layers"][0]["digest"]);
    assert_eq!(
        (&config["os"], &config["architecture"]),
        (&"wasip2".into(), &"wasm".into())
    );
    assert_eq!(config["component"]["imports"][0], "wasi:io/error@0.2.0");
    assert_eq!(config["component"]["exports"][0], "wasi:cli/run@0.2.0");
    assert_eq!(image.config.entrypoint, ["run.wasm"]);
    assert!(matches!(image.kind, Kind::Artifact { .. }));
    artifact.config.env = vec![("A".to_owned(), "B".to_owned())];
    let error = build(&place.store, &artifact).unwrap_err().to_string();
    assert!(error.contains("a module alone"), "{error}");
    artifact.config = image::Config::default();
    artifact.module = place.path("in.wasm");
    std::fs::write(&artifact.module, WASM).unwrap();
    let module = build(&place.store, &artifact).unwrap();
    assert_eq!(json(&place, module.id)["os"], "wasip1");
    assert_eq!(json(&place, module.id)["component"], Value::Null);
}

#[test]
fn what_can_not_be_an_image_is_refused_and_not_named() {
    let place = Place::new();
    let good = input(&place, "in", &["a"], 0o644);
    let file = place.path("text.wasm");
    std::fs::write(&file, "hello").unwrap();
    let not_wasm = Build {
        module: file,
        ..Build::default()
    };
    let mut absent = good.clone();
    absent.config.entrypoint = vec!["/other.wasm".to_owned()];
    let mut twice = good.clone();
    twice.files[0].guest = "/app.wasm".to_owned();
    let mut missing = good.clone();
    missing.files[0].source = place.path("none");
    let mut era = good.clone();
    era.created = u64::MAX;
    let wrongs = [
        (not_wasm, "not WebAssembly"),
        (absent, "/other.wasm"),
        (twice, "/app.wasm"),
        (missing, "none"),
        (era, "SOURCE_DATE_EPOCH"),
    ];
    for (wrong, word) in wrongs {
        let error = build(&place.store, &wrong).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(place.store.list().unwrap(), []);
    assert!(place.store.build(&good, &[]).is_err());
}

fn save(place: &Place, names: &[&str], format: Format) -> Vec<u8> {
    let mut archive = Vec::new();
    let names: Vec<Reference> = names.iter().map(|n| name(n)).collect();
    place
        .store
        .save(&names, format, &mut archive, Path::new("out.tar"))
        .unwrap();
    archive
}

fn file(place: &Place, called: &str, bytes: &[u8]) -> PathBuf {
    let path = place.path(called);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn what_is_saved_is_loaded_elsewhere() {
    let here = Place::new();
    let image = build(&here.store, &input(&here, "in", &["a", "deep/b"], 0o644)).unwrap();
    let mut artifact = input(&here, "art", &[], 0o644);
    (artifact.artifact, artifact.files) = (true, Vec::new());
    here.store
        .build(&artifact, &[name("reg.example.org/art:2")])
        .unwrap();
    let both = ["localhost:5000/app:1", "reg.example.org/art:2"];
    let archive = save(&here, &both, Format::OciArchive);
    assert_eq!(
        archive,
        save(&here, &both, Format::OciArchive),
        "not the same bytes"
    );

    let there = Place::new();
    let loaded = there.store.load(&file(&there, "x.tar", &archive)).unwrap();
    let names: Vec<String> = loaded.iter().map(|i| i.name.to_string()).collect();
    assert_eq!(names, both);
    assert_eq!(loaded[0].digest, image.digest);
    there.assert_clean();

    let zipped = Place::new();
    let loaded = zipped
        .store
        .load(&file(&zipped, "x.tar.gz", &gzip(&archive)))
        .unwrap();
    assert_eq!(loaded[0].digest, image.digest);
    let streamed = Place::new();
    let stream = Path::new("standard input");
    let loaded = streamed
        .store
        .load_stream(stream, archive.as_slice(), "stdin")
        .unwrap();
    assert_eq!(loaded.len(), 2);
    streamed.assert_clean();
}

#[test]
fn dockers_archive_keeps_the_files_and_the_configuration() {
    let here = Place::new();
    let image = build(&here.store, &input(&here, "in", &["a", "deep/b"], 0o644)).unwrap();
    here.store
        .tag(&image.name, &[name("localhost/second:2")])
        .unwrap();
    let archive = save(&here, &["localhost:5000/app:1"], Format::DockerArchive);
    assert_eq!(
        archive,
        save(&here, &["localhost:5000/app:1"], Format::DockerArchive)
    );
    let there = Place::new();
    let loaded = there.store.load(&file(&there, "x.tar", &archive)).unwrap();
    assert_eq!(loaded[0].id, image.id);
    assert_eq!(loaded[0].layers[0].diff_id, image.layers[0].diff_id);
    assert_eq!(loaded[0].name, image.name);

    let mut artifact = input(&here, "art", &[], 0o644);
    (artifact.artifact, artifact.files) = (true, Vec::new());
    here.store.build(&artifact, &[name("art:2")]).unwrap();
    let refused = here.store.save(
        &[name("art:2")],
        Format::DockerArchive,
        &mut Vec::new(),
        Path::new("x"),
    );
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("oci-archive"), "{refused}");
}

#[test]
fn archives_that_are_none_leave_no_name() {
    let here = Place::new();
    build(&here.store, &input(&here, "in", &["a", "deep/b"], 0o644)).unwrap();
    let whole = save(&here, &["localhost:5000/app:1"], Format::OciArchive);
    let mut spoilt = whole.clone();
    // A byte of a blob: behind the headers and documents at the beginning.
    let at = whole.len() - 2048;
    spoilt[at] ^= 0xff;
    let there = Place::new();
    for (what, bytes) in [
        ("cut", &whole[..whole.len() / 2]),
        ("spoilt", &spoilt),
        ("no tar", b"hello"),
        ("empty", b""),
        ("cut gzip", &gzip(&whole)[..100]),
    ] {
        let path = file(&there, "x.tar", bytes);
        assert!(there.store.load(&path).is_err(), "{what}");
        assert_eq!(there.store.list().unwrap(), [], "{what}");
    }
    there.assert_clean();
    let absent = here.store.save(
        &[name("none:1")],
        Format::OciArchive,
        &mut Vec::new(),
        Path::new("x"),
    );
    assert!(matches!(absent, Err(Error::NotPresent(_))));
}

#[test]
fn a_full_target_is_told_by_its_name() {
    let here = Place::new();
    build(&here.store, &input(&here, "in", &["a"], 0o644)).unwrap();
    let mut full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let names = [name("localhost:5000/app:1")];
    let error = here
        .store
        .save(
            &names,
            Format::OciArchive,
            &mut full,
            Path::new("/dev/full"),
        )
        .unwrap_err();
    assert!(
        error.is_disk_full() && error.to_string().contains("/dev/full"),
        "{error}"
    );
}

#[test]
fn tags_move_and_name_what_is_there() {
    let place = Place::new();
    let image = build(&place.store, &input(&place, "in", &["a"], 0o644)).unwrap();
    let (a, b) = (name("localhost/a:1"), name("localhost/b:2"));
    place
        .store
        .tag(&image.name, &[a.clone(), b.clone()])
        .unwrap();
    for tag in [a.clone(), b] {
        assert_eq!(place.store.get(&tag).unwrap().unwrap().digest, image.digest);
    }
    assert!(matches!(
        place.store.tag(&name("none:1"), std::slice::from_ref(&a)),
        Err(Error::NotPresent(_))
    ));
    let pinned = a.pinned(image.digest);
    assert!(
        place
            .store
            .tag(&a, &[pinned])
            .unwrap_err()
            .to_string()
            .contains("digest")
    );
}

#[test]
fn what_is_in_hand_is_not_collected() {
    let place = Place::new();
    let image = build(&place.store, &input(&place, "in", &["a"], 0o644)).unwrap();
    assert!(place.store.remove(&image.name).unwrap());
    assert!(place.store.in_use(image.digest).unwrap());
    assert_eq!(place.store.collect(&[]).unwrap().blobs, 0);
    assert!(image.layers[0].path.join("app.wasm").exists());
    let digest = image.digest;
    drop(image);
    assert!(!place.store.in_use(digest).unwrap());
    let freed = place.store.collect(&[]).unwrap();
    assert_eq!((freed.blobs, freed.layers), (3, 1));
    assert!(freed.bytes > 0);
}

#[test]
fn a_list_tells_names_ids_and_sizes() {
    let place = Place::new();
    let image = build(&place.store, &input(&place, "in", &["a"], 0o644)).unwrap();
    place.store.tag(&image.name, &[name("a:2")]).unwrap();
    let list = place.store.summaries().unwrap();
    let names: Vec<String> = list.iter().map(|s| s.reference.to_string()).collect();
    assert_eq!(names, ["docker.io/library/a:2", "localhost:5000/app:1"]);
    for summary in &list {
        assert_eq!(
            (summary.id, summary.digest, summary.size),
            (image.id, image.digest, image.size)
        );
        assert_eq!(
            (summary.platform.as_str(), summary.artifact),
            ("wasi/wasm", false)
        );
        assert_eq!(summary.created.unwrap().as_second(), 0);
    }
    let details = place.store.details(&image.name).unwrap().unwrap();
    assert_eq!(details.layers, [image.layers[0].diff_id]);
    assert_eq!(details.config["config"]["Entrypoint"][0], "/app.wasm");
    assert_eq!(place.store.details(&name("none")).unwrap(), None);
    // A name whose documents are damaged hides no other.
    let manifest = place.path(&format!("store/blobs/sha256/{}", image.digest.hex()));
    let other = place.import(&common::artifact(WASM)).unwrap();
    std::fs::write(manifest, "{}").unwrap();
    let list = place.store.summaries().unwrap();
    assert_eq!(list.len(), 2, "its tag and its digest: {list:?}");
    assert!(list.iter().all(|s| s.digest == other.digest && s.artifact));
}
