//! The options of `coracle run`, and what it says to those that are none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::images::{Layout, Tar};
use common::{Ended, Root, Running, SECRET, built};
use guests::Guest;
use serde_json::json;

fn inspect(options: &[&str], args: &[&str]) -> Option<Ended> {
    let path = built(Guest::RustInspect)?;
    Some(Root::shared().run([options, &[path.to_str().unwrap()], args].concat()))
}

/// What `inspect` says of something, such as `env`.
#[track_caller]
fn said<'a>(ended: &'a Ended, of: &str) -> &'a str {
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let start = format!("{of}: ");
    let mut lines = ended
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix(&start));
    lines
        .next_back()
        .unwrap_or_else(|| panic!("{of}: {ended:#?}"))
}

/// Refused before anything runs; the message is held by words.
#[track_caller]
fn refuses(options: &[&str], words: &[&str]) {
    if let Some(ended) = inspect(options, &[]) {
        ended.refuses(words);
    }
}

/// A wrong command line: what is wrong, and where help is to be had.
#[track_caller]
fn misuse(options: &[&str], words: &[&str]) {
    let Some(ended) = inspect(options, &[]) else {
        return;
    };
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(125), ""),
        "{ended:#?}"
    );
    assert!(ended.stderr.starts_with("error: "), "{ended:#?}");
    for word in words.iter().chain(&["--help"]) {
        assert!(
            ended.stderr.contains(word),
            "{word:?} is not said: {ended:#?}"
        );
    }
}

#[test]
fn variables_are_set_passed_on_and_nothing_else() {
    let ended = inspect(&["-e", "A=1=2", "-e", SECRET.0, "--env", "EMPTY="], &[]);
    let Some(ended) = ended else { return };
    let env = said(&ended, "env");
    for variable in [
        r#""A=1=2""#,
        &format!(r#""{}={}""#, SECRET.0, SECRET.1),
        r#""EMPTY=""#,
    ] {
        assert!(env.contains(variable), "{variable}: {env}");
    }
    let count = env.split(", ").count();
    assert_eq!(
        count,
        3 + 2,
        "PATH and HOSTNAME are all there is besides: {env}"
    );
    let ended = inspect(&["-e", "PATH=/mine", "-e", "A=1", "-e", "A=2"], &[]).unwrap();
    assert!(
        said(&ended, "env").contains(r#""PATH=/mine""#),
        "{ended:#?}"
    );
    assert!(said(&ended, "env").contains(r#""A=2""#), "{ended:#?}");
    assert!(!said(&ended, "env").contains(r#""A=1""#), "{ended:#?}");
}

#[test]
fn a_variable_without_name_or_value_is_refused() {
    refuses(
        &["-e", "NOT_THERE"],
        &["-e NOT_THERE", "write -e NOT_THERE=VALUE"],
    );
    refuses(&["-e", "=x"], &["-e =x", "write -e NAME=VALUE"]);
}

fn folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "text").unwrap();
    let path = folder.path().display().to_string();
    (folder, path)
}

#[test]
fn volumes_are_folders_and_files() {
    let (_folder, path) = folder();
    let (whole, one) = (format!("{path}:/a/b"), format!("{path}/file:/etc/extra"));
    let options = ["-v", &whole, "--volume", &one];
    let Some(ended) = inspect(&options, &["/", "/a", "/a/b/file", "/etc", "/etc/extra"]) else {
        return;
    };
    assert_eq!(said(&ended, "/"), r#"["a", "etc", "tmp"]"#);
    assert_eq!(said(&ended, "/a"), r#"["b"]"#);
    assert_eq!(said(&ended, "/a/b/file"), r#""text""#);
    assert_eq!(
        said(&ended, "/etc"),
        r#"["extra", "hostname", "hosts", "resolv.conf"]"#
    );
    assert_eq!(said(&ended, "/etc/extra"), r#""text""#);
}

#[test]
fn what_is_read_only_is_not_written() {
    let Some(module) = built(Guest::RustFiles) else {
        return;
    };
    let (folder, path) = folder();
    let module = module.to_str().unwrap();
    let volume = format!("{path}:/data:ro");
    let ended = Root::shared().run(["-v", &volume, module, "/data"]);
    ended.is(1, "create_dir: error EROFS\n", "");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    // `:rw` is the same as nothing.
    let volume = format!("{path}:/data:rw");
    assert_eq!(
        Root::shared().run(["-v", &volume, module, "/data"]).code,
        Some(0)
    );
}

#[test]
fn a_volume_that_is_none_is_refused() {
    let help = "write -v HOST:GUEST or -v HOST:GUEST:ro";
    let (_folder, path) = folder();
    let at = |rest: &str| format!("{path}:{rest}");
    refuses(
        &["-v", "/not/there:/x"],
        &["-v /not/there:/x", "No such file or directory"],
    );
    refuses(&["-v", &path], &[&path, "no path in the container", help]);
    refuses(&["-v", &at("x")], &["must be absolute", "\"x\"", help]);
    refuses(
        &["-v", &at("/x:noexec")],
        &["option \"noexec\" is not supported", help],
    );
    refuses(
        &["-v", &at("/x"), "-v", &at("/x")],
        &["something is mounted at /x already"],
    );
    refuses(
        &["-v", "/dev/null:/x"],
        &["/dev/null", "is neither a file nor a directory"],
    );
    refuses(&["-v", &at("/")], &["mount path \"/\""]);
    refuses(&["-v", &at("/a/../b")], &["mount path \"/a/../b\""]);
}

#[test]
fn amounts_that_are_none_are_refused() {
    for wrong in ["lots", "0", "-1", "1Zi", ""] {
        misuse(&["--memory", wrong], &[]);
        misuse(&["--cpus", wrong], &[]);
    }
    misuse(
        &["--memory", "lots"],
        &["'--memory <SIZE>'", "\"lots\"", "64Mi"],
    );
    misuse(
        &["--cpus", "many"],
        &["'--cpus <NUMBER>'", "\"many\"", "0.5"],
    );
}

#[test]
fn unknown_options_are_refused_and_help_is_no_error() {
    misuse(
        &["--no-such-option"],
        &["'--no-such-option'", "Usage: coracle run"],
    );
    let nothing = Root::shared().run::<&str>([]);
    assert_eq!(nothing.code, Some(125), "{nothing:#?}");
    assert!(nothing.stderr.contains("<IMAGE|FILE>"), "{nothing:#?}");
    let help = Root::shared().run(["--help"]);
    assert_eq!(
        (help.code, help.stderr.as_str()),
        (Some(0), ""),
        "{help:#?}"
    );
    assert!(help.stdout.contains("Usage: coracle run"), "{help:#?}");
}

/// What stands after the image is the guest's, dashes and all.
#[test]
fn arguments_after_the_image_are_the_guests() {
    for first in ["-e", "--help", "--memory", "--", "-", "--no-such-option"] {
        let Some(ended) = inspect(&[], &[first, "X=1", "--", "-i", "--help", ""]) else {
            return;
        };
        let args = format!(r#"args: ["inspect.wasm", "{first}", "X=1", "--", "-i", "--help", ""]"#);
        assert_eq!(
            ended.stdout.lines().next(),
            Some(args.as_str()),
            "{ended:#?}"
        );
    }
    let dashes = inspect(&["--"], &["-e"]).unwrap();
    assert!(
        dashes.stdout.starts_with(r#"args: ["inspect.wasm", "-e"]"#),
        "{dashes:#?}"
    );
}

/// Go's runtime goes there; wasi-libc has no more than `PWD` of it, and begins at `/`.
#[test]
fn the_working_directory_is_the_one_asked_for() {
    let Some(module) = built(Guest::GoInspect) else {
        return;
    };
    let (_folder, path) = folder();
    let (volume, module) = (format!("{path}:/data"), module.to_str().unwrap());
    let args = ["-v", &volume, "-w", "/data", module, "file", "../data/file"];
    let ended = Root::shared().run(args);
    assert!(said(&ended, "env").contains(r#""PWD=/data""#), "{ended:#?}");
    assert_eq!(said(&ended, "cwd"), "/data");
    assert_eq!(said(&ended, "file"), r#""text""#);
    assert_eq!(said(&ended, "../data/file"), r#""text""#);
    refuses(&["-w", "data"], &["workingDir \"data\" is not absolute"]);
}

/// Standard input is the guest's with `-i` alone; else it is at its end.
#[test]
fn standard_input_is_given_when_asked_for() {
    let Some(module) = built(Guest::RustEcho) else {
        return;
    };
    let module = module.to_str().unwrap();
    for (options, expected) in [(&["-i", module][..], "a\nb"), (&[module][..], "")] {
        let mut command = Root::shared().command(options);
        let mut running = Running::spawn(command.stdin(Stdio::piped()));
        if !expected.is_empty() {
            running.write(b"a\nb");
        }
        running.close_stdin();
        running.end().is(0, expected, "");
    }
}

/// The bound is from above: beside busy neighbours a guest gets less, and never more. What a turn took
/// too much is paid later, so the share is looked at until it is kept, for as long as it takes.
#[test]
fn cpus_bound_the_time_that_a_guest_takes() {
    let Some(module) = built(Guest::RustSpinner) else {
        return;
    };
    let mut running = Root::shared().start(["--cpus", "0.25", module.to_str().unwrap()]);
    assert_eq!(running.line(), "spinning");
    let (begun, before) = (Instant::now(), running.cpu_time());
    let share = loop {
        let ended = running.ends_within(Duration::from_secs(1));
        assert!(!ended, "a spinner ended");
        let took = (running.cpu_time() - before).as_secs_f64();
        let share = took / begun.elapsed().as_secs_f64();
        if (took > 0.3 && share < 0.30) || begun.elapsed() > Duration::from_secs(300) {
            break share;
        }
    };
    assert!(share < 0.30, "{share} of a CPU, and the limit is 0.25");
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.end().code, Some(143));
}

/// An image with a module and an interpreter's files around it.
fn image(dir: &Path) -> String {
    let module = std::fs::read(built(Guest::GoInspect).unwrap()).unwrap();
    let below = Tar::saying("other\n")
        .dir("srv")
        .file("srv/old", b"old")
        .file("srv/both", b"1");
    let above = Tar::default()
        .file("bin/inspect.wasm", &module)
        .file("srv/.wh.old", b"");
    let above = above
        .file("srv/both", b"2")
        .symlink("srv/absolute", "/srv/both");
    Layout::new([below, above])
        .config(
            json!({"Entrypoint": ["inspect.wasm", "/srv"], "Cmd": ["/srv/both"],
            "Env": ["PATH=/bin", "MODE=image"], "WorkingDir": "/srv"}),
        )
        .write(dir)
}

#[test]
fn an_image_in_a_folder_brings_its_files_and_its_process() {
    if built(Guest::GoInspect).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let name = image(dir.path());
    let root = Root::shared();
    let ended = root.run([&name]);
    let line = ended.stdout.lines().next().unwrap_or_default();
    assert_eq!(
        line, r#"args: ["inspect.wasm", "/srv", "/srv/both"]"#,
        "{ended:#?}"
    );
    assert_eq!(said(&ended, "cwd"), "/srv");
    assert_eq!(said(&ended, "/srv"), r#"["absolute", "both"]"#);
    assert_eq!(said(&ended, "/srv/both"), r#""2""#);
    assert_eq!(
        said(&ended, "/"),
        r#"["app.wasm", "bin", "etc", "srv", "tmp"]"#
    );
    assert!(
        said(&ended, "env").contains(r#""MODE=image", "PATH=/bin", "PWD=/srv""#),
        "{ended:#?}"
    );

    let ended = root.run(["-e", "MODE=mine", "-w", "/tmp", &name, "/srv/absolute"]);
    assert_eq!(said(&ended, "/srv/absolute"), r#"link to "/srv/both", "2""#);
    assert_eq!(said(&ended, "cwd"), "/tmp");
    assert!(said(&ended, "env").contains(r#""MODE=mine""#), "{ended:#?}");

    root.run(["--entrypoint", "/app.wasm", &name])
        .is(0, "other\n", "");
    root.run(["--entrypoint", "/gone.wasm", &name])
        .refuses(&["/gone.wasm"]);
}

/// What a guest writes is its container's own, and gone with it.
#[test]
fn writes_do_not_reach_the_image() {
    let Some(module) = built(Guest::RustFiles) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let tar = Tar::default()
        .file("app.wasm", &std::fs::read(module).unwrap())
        .dir("srv");
    let name = Layout::new([tar])
        .config(json!({"Entrypoint": ["/app.wasm", "/srv"]}))
        .write(dir.path());
    for _ in 0..2 {
        let ended = Root::shared().run([&name]);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }
}

#[test]
fn a_module_takes_no_other_entrypoint() {
    refuses(
        &["--entrypoint", "other.wasm"],
        &["--entrypoint other.wasm", "inspect.wasm", "or an image"],
    );
}

#[test]
fn names_that_are_none_are_refused() {
    let root = Root::shared();
    let long = format!("localhost/{}", "a".repeat(300));
    let cases: [(&str, &[&str]); 9] = [
        ("gone.wasm", &["\"gone.wasm\"", "No such file"]),
        ("./gone", &["\"./gone\"", "No such file"]),
        ("oci:/gone", &["\"/gone\"", "No such file"]),
        ("oci-archive:/gone", &["\"/gone\"", "No such file"]),
        ("Nginx", &["\"library/Nginx\" must be lower case"]),
        ("a___b", &["\"a___b\" is not a path component"]),
        ("a:b:c", &["\"a:b:c\""]),
        (&long, &["at most 255"]),
        ("localhost:1/x:1", &["localhost:1", "Connection refused"]),
    ];
    for (name, words) in cases {
        root.run([name]).refuses(words);
    }
    root.run([""]).refuses(&["empty"]);
    root.run(["--pull", "never", "localhost:1/x:1"])
        .refuses(&["localhost:1/x:1", "pull policy of Never"]);
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().to_owned();
    root.run([format!("oci:{}", path.display())])
        .refuses(&["index.json", "not an image"]);
    root.run([path]).refuses(&["is no regular file"]);
}
