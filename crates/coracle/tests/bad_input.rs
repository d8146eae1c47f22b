//! Bad input and faults: each is refused in one line that says what is wrong and where, with exit
//! code 125, and leaves nothing behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::images::{Layout, Tar, saying, says};
use common::place::Place;
use common::{CORACLE, Ended, Root, Running, built, files};
use guests::Guest;
use serde_json::json;

impl Place {
    /// Puts a file there; gives its path.
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    /// Runs what is in a file called `app.wasm`.
    fn module(&self, bytes: impl AsRef<[u8]>) -> Ended {
        self.root().run([self.file("app.wasm", bytes)])
    }

    #[track_caller]
    fn refuses(&self, bytes: impl AsRef<[u8]>, words: &[&str]) {
        self.module(bytes)
            .refuses(&[words, &["app.wasm: "]].concat());
        self.root().assert_clean();
    }

    /// Imports and runs an image.
    fn image(&self, layout: &Layout) -> Ended {
        self.root().run([layout.write(&self.path("layout"))])
    }

    #[track_caller]
    fn refuses_image(&self, layout: &Layout, words: &[&str]) {
        self.image(layout).refuses(words);
        self.root().assert_clean();
    }
}

#[test]
fn what_is_not_wasm_is_named_for_what_it_is() {
    let place = Place::new();
    let elf = std::fs::read(CORACLE).unwrap();
    place.refuses(&elf[..4096], &["ELF", "wasm32-wasip1"]);
    place.refuses("", &["empty"]);
    place.refuses("hello\n", &["not WebAssembly"]);
    place.refuses(b"\x1f\x8b\x08\0\0\0\0\0", &["not WebAssembly"]);
    place.refuses(
        "(module (func (i33.const 1)))",
        &["text can't be read", "(line 1, column "],
    );
    place.refuses("(module", &["text can't be read"]);
}

#[test]
fn a_module_that_was_cut_off_is_refused_wherever_it_was_cut() {
    let Some(whole) = built(Guest::RustHello) else {
        return;
    };
    let whole = std::fs::read(whole).unwrap();
    let place = Place::new();
    for length in [1, 3, 4, 7, 9, 64, whole.len() / 2, whole.len() - 1] {
        let ended = place.module(&whole[..length]);
        ended.refuses(&["app.wasm: "]);
        let told = ["truncated", "cut off", "it begins with"];
        assert!(
            told.iter().any(|word| ended.stderr.contains(word)),
            "{length}: {ended:#?}"
        );
    }
    place.root().assert_clean();
    // And one with a flipped byte in its code section is refused or runs, but is never a crash.
    for at in (100..whole.len()).step_by(whole.len() / 7) {
        let mut spoilt = whole.clone();
        spoilt[at] ^= 0xff;
        let ended = place.module(&spoilt);
        assert!(ended.code.is_some(), "byte {at}: {ended:#?}");
    }
}

#[test]
fn imports_that_no_world_has_are_named() {
    let place = Place::new();
    let importing = |module: &str, name: &str| {
        format!(r#"(module (import "{module}" "{name}" (func)) (func (export "_start")))"#)
    };
    place.refuses(importing("env", "frob"), &["env.frob", "no world has"]);
    let unknown = importing("wasi_snapshot_preview1", "fd_frob");
    place.refuses(unknown, &["wasi_snapshot_preview1.fd_frob"]);
    let component =
        r#"(component (import "acme:frob/thing@1.0.0" (instance (export "f" (func)))))"#;
    place.refuses(component, &["acme:frob/thing@1.0.0", "no world has"]);
    place.refuses("(module)", &["\"_start\""]);
    place.refuses("(component)", &["wasi:cli/run"]);
    place.refuses(
        r#"(module (import "env" "memory" (memory 1 1 shared)) (func (export "_start")))"#,
        &["shared memory", "env.memory"],
    );
}

#[test]
fn an_image_for_another_platform_is_refused_and_told_how_to_build() {
    let place = Place::new();
    let layout = Layout::new([Tar::default().file("bin/sh", b"#!")])
        .config(json!({"Cmd": ["/bin/sh"]}))
        .platform("linux", "amd64");
    place.refuses_image(&layout, &["linux/amd64", "--os wasi --arch wasm32"]);
}

#[test]
fn an_image_of_linux_programs_is_refused_by_its_entrypoint() {
    let elf = &std::fs::read(CORACLE).unwrap()[..4096];
    let layout = Layout::new([Tar::default().file("app.wasm", elf)]);
    Place::new().refuses_image(&layout, &["app.wasm", "ELF"]);
    let layout = Layout::new([Tar::saying("x")]).config(json!({"Entrypoint": ["/bin/sh"]}));
    Place::new().refuses_image(&layout, &["/bin/sh"]);
    let layout = Layout::new([Tar::saying("x")]).config(json!({}));
    Place::new().refuses_image(&layout, &["entrypoint"]);
}

/// One byte of each blob in turn: nothing that was changed is ever run.
#[test]
fn bytes_that_do_not_match_their_digest_are_refused() {
    let place = Place::new();
    let layout = Layout::new([Tar::saying("x")]);
    let name = layout.write(&place.path("layout"));
    for blob in files(&place.path("layout/blobs")) {
        let whole = std::fs::read(&blob).unwrap();
        let mut spoilt = whole.clone();
        *spoilt.last_mut().unwrap() ^= 1;
        std::fs::write(&blob, &spoilt).unwrap();
        let ended = place.root().run([&name]);
        ended.refuses(&["does not match: expected ", "got "]);
        std::fs::write(&blob, &whole[..whole.len() - 1]).unwrap();
        place
            .root()
            .run([&name])
            .refuses(&["does not match: expected "]);
        std::fs::write(&blob, &whole).unwrap();
        place.root().assert_clean();
    }
    place.root().run([&name]).is(0, "x", "");
}

#[test]
fn layers_that_reach_out_of_themselves_are_refused() {
    let tar = || Tar::saying("x");
    let cases: [(Tar, &[&str]); 3] = [
        (tar().file("../evil", b"x"), &["\"../evil\""]),
        (tar().file("a/../../evil", b"x"), &["\"a/../../evil\""]),
        (tar().entry(b'1', "out", "../../evil", b""), &["\"out\""]),
    ];
    for (tar, words) in cases {
        let place = Place::new();
        place.refuses_image(&Layout::new([tar]), words);
        let outside: Vec<_> = files(place.0.path())
            .into_iter()
            .filter(|p| p.ends_with("evil"))
            .collect();
        assert_eq!(outside, Vec::<std::path::PathBuf>::new());
    }
}

/// A guest could open none of them: they are left out, and the rest of the image is as it was.
#[test]
fn devices_of_a_layer_are_left_out() {
    let Some(module) = built(Guest::RustInspect) else {
        return;
    };
    let place = Place::new();
    let tar = Tar::default()
        .file("app.wasm", &std::fs::read(module).unwrap())
        .file("dev/file", b"x")
        .entry(b'3', "dev/char", "", b"")
        .entry(b'4', "dev/block", "", b"")
        .entry(b'6', "dev/pipe", "", b"");
    let config = json!({"Entrypoint": ["/app.wasm", "/dev"]});
    let ended = place.image(&Layout::new([tar]).config(config));
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("/dev: [\"file\"]\n"), "{ended:#?}");
}

/// Links may say what they like: they lead through the container's root, never out of it, be they
/// read by a guest or written through by a later layer.
#[test]
fn links_out_of_the_root_lead_back_into_it() {
    let Some(module) = built(Guest::RustInspect) else {
        return;
    };
    let module = std::fs::read(module).unwrap();
    let place = Place::new();
    let secret = place.file("secret", "of the host");
    let below = Tar::default()
        .file("app.wasm", &module)
        .symlink("absolute", &secret)
        .symlink("up", &format!("../../../../../../../..{secret}"))
        .symlink("passwd", "/etc/hostname")
        .symlink("folder", place.0.path().to_str().unwrap());
    // Written through the link of the layer below, which must not be followed.
    let above = Tar::default().file("folder/planted", b"x");
    let args = json!({"Entrypoint": ["/app.wasm", "/absolute", "/up", "/folder/planted"]});
    let ended = place.image(&Layout::new([below, above]).config(args));
    assert!(
        !place.path("planted").exists(),
        "written to the host: {ended:#?}"
    );
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(!ended.stdout.contains("of the host"), "{ended:#?}");
    assert_eq!(
        ended.stdout.matches("error ENOENT").count(),
        2,
        "{ended:#?}"
    );
    assert!(
        ended.stdout.contains("/folder/planted: \"x\""),
        "{ended:#?}"
    );
}

#[test]
fn a_layer_that_grows_without_end_is_refused() {
    let place = Place::new();
    let zeros = vec![0; 512 << 20];
    let layout = Layout::new([Tar::saying("x").file("zeros", &zeros)]);
    drop(zeros);
    place.refuses_image(&layout, &["layer", "limit"]);
}

#[test]
fn archives_that_are_none_are_refused() {
    let place = Place::new();
    let root = place.root();
    let archive = |bytes: &[u8]| format!("oci-archive:{}", place.file("archive.tar", bytes));
    root.run([archive(b"")]).refuses(&["archive.tar"]);
    root.run([archive(&[7; 2048])])
        .refuses(&["archive.tar", "not a tar archive"]);
    root.run([archive(&[0; 1024])])
        .refuses(&["archive.tar", "index.json"]);
    let broken = place.path("broken");
    let name = Layout::new([Tar::saying("x")]).write(&broken);
    std::fs::write(broken.join("index.json"), "{").unwrap();
    root.run([&name]).refuses(&["index.json"]);
    std::fs::write(
        broken.join("index.json"),
        r#"{"schemaVersion":2,"manifests":[]}"#,
    )
    .unwrap();
    root.run([&name]).refuses(&["broken"]);
    root.assert_clean();
}

#[test]
fn a_root_that_can_not_be_one_is_refused() {
    let place = Place::new();
    let hello = place.file("hello.wat", says("hello\n"));
    let at = |path: &str| Root(path.into()).run([&hello]);
    at("/dev/null").refuses(&["/dev/null"]);
    at("/dev/null/below").refuses(&["/dev/null/below"]);
    at("/proc/coracle").refuses(&["/proc/coracle"]);
    let file = place.file("file", "x");
    at(&file).refuses(&[&file]);
    for folder in ["images", "code"] {
        let root = place.path(folder);
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join(folder), "in the way").unwrap();
        let named = root.join(folder).display().to_string();
        Root(root).run([&hello]).refuses(&[&named]);
    }
}

#[test]
fn a_root_that_others_own_is_refused() {
    let place = Place::new();
    let hello = place.file("hello.wat", says("hello\n"));
    let root = place.root();
    std::fs::create_dir(&root.0).unwrap();
    std::fs::set_permissions(&root.0, std::fs::Permissions::from_mode(0o555)).unwrap();
    let ended = match rustix::process::geteuid().is_root() {
        // Root may write anywhere: without that, it is as anybody.
        true => {
            std::fs::set_permissions(place.0.path(), std::fs::Permissions::from_mode(0o755))
                .unwrap();
            let mut command = Command::new("setpriv");
            command.args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                CORACLE,
                "run",
                &hello,
            ]);
            Running::spawn(command.env("CORACLE_ROOT", &root.0).stdin(Stdio::null())).end()
        }
        false => root.run([&hello]),
    };
    ended.refuses(&[root.0.to_str().unwrap(), "Permission denied"]);
}

/// Twenty of them want the same new module at once.
#[test]
fn many_on_one_root_all_succeed() {
    let place = Place::new();
    let root = place.root();
    let hello = place.file("hello.wat", says("all of us\n"));
    let image = Layout::new([Tar::saying("the image\n")]).write(&place.path("layout"));
    let all: Vec<(Running, &str)> = (0..20)
        .map(|number| match number % 2 {
            0 => (root.start([&hello]), "all of us\n"),
            _ => (root.start([&image]), "the image\n"),
        })
        .collect();
    for (running, said) in all {
        running.end().is(0, said, "");
    }
    root.assert_clean();
}

/// Killed at any moment of a first run with a new image, the next one works, on the same root.
#[test]
fn a_kill_at_any_moment_spoils_nothing() {
    let place = Place::new();
    let root = place.root();
    for number in 0..24_u64 {
        let text = format!("number {number}\n");
        let dir = place.path(&format!("layout-{number}"));
        let image = Layout::new([Tar::saying(&text)]).write(&dir);
        let running = root.start([&image]);
        running.ends_within(Duration::from_millis(number * 13));
        running.signal(rustix::process::Signal::KILL);
        running.end();
        root.run([&image]).is(0, &text, "");
        // What a killed writer of code left is the cache collector's, which goes by age.
        root.assert_no_pods();
    }
}

/// A root on a disk of its own, of a size; gives what the run said, and what is left.
fn on_a_disk_of(kib: usize, place: &Place, image: &str) -> (Ended, String) {
    let root = place.root().0;
    std::fs::create_dir_all(&root).unwrap();
    // Its own mount namespace: the disk is gone with the process, whatever happens.
    let script = r#"
        mount -t tmpfs -o size="$1"k none "$CORACLE_ROOT" || exit 99
        "$2" run "$3"; code=$?
        find "$CORACLE_ROOT"/pods "$CORACLE_ROOT"/images/tmp "$CORACLE_ROOT"/code -type f 2>/dev/null >"$4"
        exit $code"#;
    let left = place.file("left", "");
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        &kib.to_string(),
        CORACLE,
        image,
        &left,
    ]);
    command.env("CORACLE_ROOT", &root).stdin(Stdio::null());
    (
        Running::spawn(&mut command).end(),
        std::fs::read_to_string(left).unwrap(),
    )
}

/// Sizes up to the one that suffices, so that each write in turn finds the disk full.
#[test]
fn a_full_disk_is_told_at_every_write() {
    if !rustix::process::geteuid().is_root() {
        assert!(
            std::env::var_os("CI").is_none(),
            "a small disk can be mounted by root alone"
        );
        println!("left out: a small disk can be mounted by root alone");
        return;
    }
    let place = Place::new();
    let ballast: Vec<u8> = (0..60_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let tar = Tar::saying("it fits\n").file("ballast", &ballast);
    let image = Layout::new([tar]).write(&place.path("layout"));
    let mut refused = 0;
    for kib in (4..).step_by(28) {
        assert!(kib < 4096, "it never fits");
        let (ended, left) = on_a_disk_of(kib, &place, &image);
        if ended.code == Some(0) {
            ended.is(0, "it fits\n", "");
            break;
        }
        refused += 1;
        ended.refuses(&["No space left on device"]);
        let odd = |line: &&str| {
            !line.ends_with(".cwasm") && !line.ends_with(".json") && !line.contains("/keys/")
        };
        assert_eq!(
            left.lines().find(odd),
            None,
            "left behind with {kib} KiB: {ended:#?}"
        );
    }
    assert!(refused > 10, "{refused} sizes were too small");
}

/// Damaged code is compiled again, whatever happened to it.
#[test]
fn a_damaged_cache_is_rebuilt() {
    let place = Place::new();
    let hello = place.file("hello.wasm", saying("hello\n"));
    let root = place.root();
    root.run([&hello]).is(0, "hello\n", "");
    let code: Vec<_> = files(&root.0.join("code"));
    assert!(
        code.iter()
            .any(|path| path.extension().is_some_and(|e| e == "cwasm"))
    );
    let spoil: [fn(&Path); 4] = [
        |path| std::fs::write(path, b"").unwrap(),
        |path| std::fs::write(path, b"\x7fELF and no more").unwrap(),
        |path| std::fs::remove_file(path).unwrap(),
        |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        },
    ];
    for spoil in spoil {
        for path in &code {
            if path.exists() {
                spoil(path);
            }
            let ended = root.run([&hello]);
            assert_eq!(
                (ended.code, ended.stdout.as_str()),
                (Some(0), "hello\n"),
                "{path:?}: {ended:#?}"
            );
        }
    }
}
