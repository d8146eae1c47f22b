//! `coracle image`: images made, listed, moved and removed, as a user does it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::images::{saying, says};
use common::{CORACLE, Ended, Root, Running};
use serde_json::Value;

/// A root folder with nothing in it, and a folder for files.
struct Place {
    dir: tempfile::TempDir,
    root: Root,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let root = Root(dir.path().join("root"));
        Place { dir, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(CORACLE);
        command
            .args(words)
            .env_clear()
            .env("CORACLE_ROOT", &self.root.0)
            .env("HOME", self.dir.path())
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    fn image(&self, words: &[&str]) -> Ended {
        let words: Vec<&str> = ["image"].iter().chain(words).copied().collect();
        Running::spawn(&mut self.command(&words)).end()
    }

    /// What it prints, when all is well.
    #[track_caller]
    fn good(&self, words: &[&str]) -> String {
        let ended = self.image(words);
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:#?}");
        ended.stdout.trim_end().to_owned()
    }

    /// An image of a module that says its name.
    fn build(&self, name: &str, more: &[&str]) -> String {
        std::fs::write(self.path("app.wasm"), saying("built\n")).unwrap();
        let words: Vec<&str> = ["build", "-q", "-t", name, "app.wasm"]
            .iter()
            .chain(more)
            .copied()
            .collect();
        self.good(&words)
    }
}

#[test]
fn what_is_built_runs() {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).unwrap();
    std::fs::write(place.path("data/f"), "1").unwrap();
    std::fs::write(place.path("text.wat"), says("from text\n")).unwrap();
    let built = place.image(&["build", "text.wat", "--copy", "data:/data", "-e", "A=B"]);
    assert_eq!(built.code, Some(0), "{built:#?}");
    assert!(built.stdout.starts_with("sha256:"), "{built:#?}");
    assert_eq!(built.stderr, "Successfully tagged localhost/text:latest\n");
    place.root.run(["localhost/text"]).is(0, "from text\n", "");
    place.good(&["build", "-t", "localhost/art", "--artifact", "text.wat"]);
    place
        .root
        .run(["--pull", "never", "localhost/art"])
        .is(0, "from text\n", "");
    let inspected: Value =
        serde_json::from_str(&place.good(&["inspect", "localhost/text", "localhost/art"])).unwrap();
    assert_eq!(inspected[0]["Config"]["Entrypoint"][0], "/text.wasm");
    assert_eq!(inspected[0]["Config"]["Env"][0], "A=B");
    assert_eq!(
        (&inspected[0]["Os"], &inspected[0]["Architecture"]),
        (&"wasi".into(), &"wasm".into())
    );
    assert_eq!(inspected[0]["RepoTags"][0], "localhost/text:latest");
    assert_eq!(inspected[1]["Kind"], "artifact");
}

#[test]
fn the_same_input_has_the_same_id() {
    let (one, other) = (Place::new(), Place::new());
    let id = one.build("a:1", &["-l", "k=v"]);
    assert_eq!(id, other.build("b:2", &["-l", "k=v"]));
    assert_ne!(id, other.build("c:3", &["-l", "k=v", "--timestamp", "1"]));
}

#[test]
fn lists_are_dockers() {
    let place = Place::new();
    let id = place.build("localhost:5000/app:1", &[]);
    place.good(&["tag", "localhost:5000/app:1", "app:new"]);
    let short = &id["sha256:".len()..][..12];
    let table = place.good(&["ls"]);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    );
    assert_eq!(lines[1][..3], ["docker.io/library/app", "new", short]);
    assert_eq!(lines[2][..3], ["localhost:5000/app", "1", short]);
    assert_eq!(place.good(&["ls", "-q"]), short);
    assert_eq!(place.good(&["ls", "-q", "--no-trunc"]), id);
    let images = Running::spawn(&mut place.command(&["images", "-q"])).end();
    images.is(0, &format!("{short}\n"), "");
    assert_eq!(
        place.good(&["ls", "-o", "name", "localhost:5000/app"]),
        "localhost:5000/app:1"
    );
    assert_eq!(place.good(&["ls", "-q", "none"]), "");
    let json: Value = serde_json::from_str(&place.good(&["ls", "-o", "json", "app:new"])).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(
        (&json[0]["Tag"], &json[0]["ID"]),
        (&"new".into(), &id.as_str().into())
    );
    assert_eq!(json[0]["Platform"], "wasi/wasm");
}

#[test]
fn removal_goes_name_by_name_and_by_id() {
    let place = Place::new();
    let id = place.build("a:1", &[]);
    place.good(&["tag", "a:1", "b:2"]);
    let untagged = place.good(&["rm", "a:1"]);
    assert_eq!(untagged, "Untagged: docker.io/library/a:1");
    place.good(&["tag", "b:2", "a:1"]);
    let several = place.image(&["rm", &id]);
    assert_eq!(several.code, Some(125));
    assert!(
        several.stderr.contains("several names") && several.stderr.contains("a:1"),
        "{several:#?}"
    );
    let removed = place.good(&["rm", "-f", &id[..20]]);
    assert!(
        removed.contains("Untagged: docker.io/library/b:2") && removed.contains("Deleted: sha256:"),
        "{removed}"
    );
    assert_eq!(place.good(&["ls", "-q"]), "");
    assert!(common::files(&place.root.0.join("images/blobs")).is_empty());
    let none = place.image(&["rm", "a:1", "zz"]);
    assert_eq!(none.code, Some(1));
    assert_eq!(none.stderr.lines().count(), 2, "{none:#?}");
    assert!(
        none.stderr.contains("no such image: docker.io/library/a:1"),
        "{none:#?}"
    );
}

#[test]
fn what_a_pod_uses_stays() {
    let place = Place::new();
    std::fs::write(
        place.path("waits.wat"),
        r#"(module
          (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\10\00\00\00\03\00\00\00") (data (i32.const 16) "up\0a")
          (data (i32.const 32) "\40\00\00\00\01\00\00\00")
          (func (export "_start")
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (drop (call $read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 40)))))"#,
    )
    .unwrap();
    place.good(&["build", "-t", "localhost/waits", "waits.wat"]);
    let mut command = place.root.command(["-i", "localhost/waits"]);
    let mut running = Running::spawn(command.stdin(Stdio::piped()));
    assert_eq!(running.line(), "up");
    let refused = place.image(&["rm", "localhost/waits"]);
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(
        refused.stderr.contains("in use") && refused.stderr.contains("-f"),
        "{refused:#?}"
    );
    assert_eq!(
        place.good(&["prune", "-a", "-f"]),
        "Total reclaimed space: 0B"
    );
    place.good(&["rm", "-f", "localhost/waits"]);
    assert!(!common::files(&place.root.0.join("images/blobs")).is_empty());
    assert_eq!(running.end().code, Some(0));
    let pruned = place.good(&["prune", "-f"]);
    assert!(
        pruned.starts_with("Total reclaimed space: ") && !pruned.ends_with(" 0B"),
        "{pruned}"
    );
    assert!(common::files(&place.root.0.join("images/blobs")).is_empty());
}

#[test]
fn pruning_asks_and_leaves_tags_alone() {
    let place = Place::new();
    place.build("a:1", &[]);
    place.image(&["prune"]).refuses(&["-f", "nobody to ask"]);
    assert_eq!(place.good(&["prune", "-f"]), "Total reclaimed space: 0B");
    place.build("a:1", &["-l", "other=1"]);
    let freed = place.good(&["prune", "-f"]);
    assert!(!freed.ends_with(" 0B"), "{freed}");
    assert_eq!(place.good(&["ls", "-o", "name"]), "docker.io/library/a:1");
    let all = place.good(&["prune", "-a", "-f"]);
    assert!(all.contains("Untagged: docker.io/library/a:1"), "{all}");
    assert_eq!(place.good(&["ls", "-q"]), "");
}

#[test]
fn archives_go_by_file_and_by_pipe() {
    let (here, there) = (Place::new(), Place::new());
    let id = here.build("a:1", &[]);
    for format in ["oci-archive", "docker-archive"] {
        here.good(&["save", "--format", format, "-o", "a.tar", "a:1"]);
        let archive = here.path("a.tar").display().to_string();
        assert_eq!(
            there.good(&["load", "-i", &archive]),
            "Loaded image: docker.io/library/a:1"
        );
        assert_eq!(there.good(&["ls", "-q", "--no-trunc"]), id);
        there
            .root
            .run(["--pull", "never", "a:1"])
            .is(0, "built\n", "");
        there.good(&["rm", "a:1"]);
    }
    let mut save = here.command(&["image", "save", "a:1"]);
    let mut save = save.stdout(Stdio::piped()).spawn().unwrap();
    let mut load = there.command(&["image", "load"]);
    let loaded = Running::spawn(load.stdin(save.stdout.take().unwrap())).end();
    assert!(save.wait().unwrap().success());
    loaded.is(0, "Loaded image: docker.io/library/a:1\n", "");
    let left: Vec<_> = std::fs::read_dir(here.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|n| n.to_string_lossy().starts_with(".coracle-save")),
        "{left:?}"
    );
}

#[test]
fn mistakes_are_named() {
    let place = Place::new();
    place.build("a:1", &[]);
    std::fs::write(place.path("text.wasm"), "hello").unwrap();
    for (words, told) in [
        (
            &["build", "text.wasm"][..],
            &["text.wasm", "not WebAssembly"][..],
        ),
        (&["build", "none.wasm"], &["none.wasm"]),
        (&["build", "app.wasm", "--copy", "nothere:/x"], &["nothere"]),
        (
            &["build", "app.wasm", "--artifact", "-e", "A=B"],
            &["artifact", "module alone"],
        ),
        (
            &["build", "app.wasm", "--entrypoint", "/x.wasm"],
            &["/x.wasm"],
        ),
        (&["tag", "none", "b:1"], &["no such image", "none"]),
        (&["inspect", "none"], &["no such image"]),
        (&["save", "-o", "x.tar", "none"], &["no such image"]),
        (&["save", "-o", "no/such/x.tar", "a:1"], &["no/such"]),
        (&["load", "-i", "text.wasm"], &["text.wasm"]),
        (&["load", "-i", "none.tar"], &["none.tar"]),
        (&["pull", "localhost:1/app:1"], &["localhost:1"]),
    ] {
        let ended = place.image(words);
        assert_eq!(ended.code, Some(125), "{words:?}: {ended:#?}");
        for word in told {
            assert!(
                ended.stderr.contains(word),
                "{words:?}: {word:?} is not said: {ended:#?}"
            );
        }
    }
    for words in [
        &["build"][..],
        &["build", "app.wasm", "--copy", "data:relative"],
        &["build", "-t", "UPPER", "app.wasm"],
        &["pull", "--platform", "linux/amd64", "a"],
        &["tag", "a:1"],
        &["rm"],
    ] {
        assert_eq!(place.image(words).code, Some(125), "{words:?}");
    }
    assert!(!Path::new(&place.path("x.tar")).exists());
}

#[test]
fn shells_and_man_know_the_commands() {
    let place = Place::new();
    let run = |words: &[&str]| Running::spawn(&mut place.command(words)).end();
    let bash = run(&["completion", "bash"]);
    assert_eq!(bash.code, Some(0));
    assert!(bash.stdout.contains("prune"), "{bash:#?}");
    std::fs::write(place.path("coracle.bash"), &bash.stdout).unwrap();
    let completed = Command::new("bash")
        .args(["-c", "source coracle.bash; COMP_WORDS=(coracle image pu); COMP_CWORD=2; _coracle coracle pu image; echo ${COMPREPLY[@]}"])
        .current_dir(place.dir.path())
        .output()
        .unwrap();
    let offered = String::from_utf8(completed.stdout).unwrap();
    assert!(offered.contains("pull"), "{offered}");
    assert_eq!(run(&["completion", "ksh"]).code, Some(125));
    assert!(run(&["man"]).stdout.contains(".TH coracle 1"));
    assert_eq!(run(&["man", "pages"]).code, Some(0));
    assert!(place.path("pages/coracle-image-build.1").is_file());
}
