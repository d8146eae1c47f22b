//! Images of every form, to a real registry with TLS and a password, and back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e::{Registry, Visitor};
use guests::{Guest, Missing};
use serde_json::json;
use sha2::{Digest, Sha256};

/// What a guest in Go that says hello is, and says.
fn hello() -> Option<(PathBuf, &'static str)> {
    match guests::path(Guest::GoHello) {
        Ok(path) => Some((path, "hello from Go\n")),
        Err(missing @ Missing::LeftOut { .. }) => {
            println!("not run: {missing}");
            None
        }
        Err(missing) => panic!("{missing}"),
    }
}

/// Someone at a machine: a home folder, and a store of their own.
struct Person {
    home: PathBuf,
    folder: tempfile::TempDir,
}

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Person {
    fn new(registry: &Registry, visitor: Visitor) -> Person {
        Person {
            home: registry.home(visitor).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn coracle(&self, words: &[&str]) -> Ended {
        let output = Command::new(e2e::binary().unwrap())
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &self.home)
            .env("CORACLE_ROOT", self.folder.path().join("root"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn good(&self, words: &[&str]) -> Ended {
        let ended = self.coracle(words);
        assert_eq!(
            ended.code,
            Some(0),
            "{words:?}: {}{}",
            ended.stdout,
            ended.stderr
        );
        ended
    }

    #[track_caller]
    fn refused(&self, words: &[&str], told: &[&str]) {
        let ended = self.coracle(words);
        assert_eq!(
            ended.code,
            Some(125),
            "{words:?}: {}{}",
            ended.stdout,
            ended.stderr
        );
        for word in told {
            assert!(
                ended.stderr.contains(word),
                "{words:?}: {word:?} is not said: {}",
                ended.stderr
            );
        }
        assert!(
            !ended.stderr.contains("correct horse"),
            "a password is told: {}",
            ended.stderr
        );
    }
}

/// The digest that a push or a pull told of.
fn digest(text: &str) -> &str {
    let at = text
        .find("sha256:")
        .unwrap_or_else(|| panic!("no digest: {text}"));
    &text[at..at + 71]
}

/// A CNCF Wasm artifact, written by hand as an OCI layout.
fn artifact(folder: &Path, name: &str, module: &[u8]) {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let hex = hex::encode(Sha256::digest(bytes));
        std::fs::write(blobs.join(&hex), bytes).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()})
    };
    let module = put("application/wasm", module);
    let config = json!({"created": "2026-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip1",
        "layerDigests": [module["digest"]]});
    let config = put(
        "application/vnd.wasm.config.v0+json",
        config.to_string().as_bytes(),
    );
    let oci = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": oci, "config": config, "layers": [module]});
    let mut root = put(oci, manifest.to_string().as_bytes());
    root["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [root]});
    std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
    std::fs::write(
        folder.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_goes_there_and_comes_back() {
    let Some((module, says)) = hello() else {
        return;
    };
    let registry = Registry::start_private().await.unwrap();
    let name = |n: &str| format!("{}/{n}:1", registry.address());
    let maker = Person::new(&registry, Visitor::Known);
    let module_word = module.display().to_string();

    let by_buildah = registry.push_module("by/buildah:1", &module).unwrap();
    let (built, made, by_hand) = (name("built"), name("made"), name("hand"));
    maker.good(&["image", "build", "-t", &built, &module_word]);
    maker.good(&["image", "build", "-t", &made, "--artifact", &module_word]);
    let layout = maker.folder.path().join("layout");
    artifact(&layout, &by_hand, &std::fs::read(&module).unwrap());
    maker.good(&["image", "load", "-i", &layout.display().to_string()]);
    let mut pushed = vec![(by_buildah, None)];
    for image in [built, made, by_hand] {
        let told = maker.good(&["image", "push", &image]).stdout;
        pushed.push((image, Some(digest(&told).to_owned())));
    }

    let user = Person::new(&registry, Visitor::Known);
    for (image, expected) in pushed {
        let told = user.good(&["image", "pull", &image]).stdout;
        if let Some(expected) = expected {
            assert_eq!(digest(&told), expected, "{image}");
        }
        let ran = user.good(&["run", "--pull", "never", &image]);
        assert_eq!(
            (ran.stdout.as_str(), ran.stderr.as_str()),
            (says, ""),
            "{image}"
        );
    }
    // And by the way that a person takes: run alone.
    let other = Person::new(&registry, Visitor::Known);
    assert_eq!(other.good(&["run", "-q", &name("built")]).stdout, says);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_registry_has_is_not_sent_again() {
    let Some((module, _)) = hello() else {
        return;
    };
    let registry = Registry::start_private().await.unwrap();
    let maker = Person::new(&registry, Visitor::Known);
    let (one, other) = (
        format!("{}/one:1", registry.address()),
        format!("{}/other:1", registry.address()),
    );
    maker.good(&[
        "image",
        "build",
        "-t",
        &one,
        "-t",
        &other,
        &module.display().to_string(),
    ]);
    let first = maker.good(&["image", "push", &one]);
    assert_eq!(
        first.stderr.matches(": Pushed").count(),
        2,
        "{}",
        first.stderr
    );
    let again = maker.good(&["image", "push", &one]);
    assert_eq!(
        again.stderr.matches("Layer already exists").count(),
        2,
        "{}",
        again.stderr
    );
    let mounted = maker.good(&["image", "push", &other]);
    assert_eq!(
        mounted.stderr.matches("Mounted from one").count(),
        2,
        "{}",
        mounted.stderr
    );
    assert_eq!(digest(&first.stdout), digest(&mounted.stdout));
    let elsewhere = format!("{}/third:2", registry.address());
    assert_eq!(
        maker
            .good(&["image", "push", "-q", &one, &elsewhere])
            .stdout,
        format!("{elsewhere}\n")
    );
    maker.good(&["image", "pull", &elsewhere]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_why() {
    let Some((module, _)) = hello() else {
        return;
    };
    let registry = Registry::start_private().await.unwrap();
    let address = registry.address();
    let image = format!("{address}/app:1");
    let known = Person::new(&registry, Visitor::Known);
    known.good(&[
        "image",
        "build",
        "-t",
        &image,
        &module.display().to_string(),
    ]);
    known.good(&["image", "push", &image]);
    let archive = known.folder.path().join("app.tar").display().to_string();
    known.good(&["image", "save", "-o", &archive, &image]);
    for (visitor, told) in [
        (Visitor::Mistaken, &["401", "credentials"][..]),
        (Visitor::Stranger, &["401", "credentials"]),
        (
            Visitor::Distrustful,
            &["not trusted", "unknown authority", "certs.d"],
        ),
    ] {
        let person = Person::new(&registry, visitor);
        let told = [told, &[address]].concat();
        person.refused(&["image", "pull", &image], &told);
        person.refused(&["run", &image], &told);
        person.good(&["image", "load", "-i", &archive]);
        person.refused(&["image", "push", &image], &told);
    }
    let absent = format!("{address}/app:2");
    known.refused(
        &["image", "pull", &absent],
        &["not found", "\"2\"", "has 1"],
    );
    let nowhere = format!("{address}/none:1");
    known.refused(&["image", "pull", &nowhere], &["not found", "none"]);
    known.refused(&["image", "push", &nowhere], &["no such image"]);
}
