//! The commands of one machine without a cluster, each as a user has it: the real binary, real
//! guests, a root folder of the test's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;

/// Longer than anything takes on a machine that is busy: what passes it hangs.
const DEADLINE: Duration = Duration::from_secs(300);

/// A guest that says `start` and sleeps for an hour, or with an argument says `exec` and ends with 5.
const SLEEPER: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\06\00\00\00\18\00\00\00\05\00\00\00start\0a\00\00exec\0a")
  (func (export "_start")
    (drop (call $args (i32.const 64) (i32.const 68)))
    (if (i32.gt_u (i32.load (i32.const 64)) (i32.const 1)) (then
      (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 72)))
      (call $exit (i32.const 5))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 72)))
    (i32.store (i32.const 144) (i32.const 1))
    (i64.store (i32.const 152) (i64.const 3600000000000))
    (drop (call $poll (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 320)))))"#;

/// A guest that says three lines and ends.
fn ends(code: u8) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\0c\00\00\00") (data (i32.const 16) "one\0atwo\0aend\0a")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const {code}))))"#
    )
}

/// A machine: a root folder, and guests in files.
struct Machine {
    folder: tempfile::TempDir,
    root: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    #[track_caller]
    fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout.trim_end()
    }

    #[track_caller]
    fn refuses(&self, words: &[&str]) {
        assert_eq!(self.code, Some(125), "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?}: {self:#?}");
        }
    }
}

impl Machine {
    fn new() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        Machine { folder, root }
    }

    fn guest(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name).with_extension("wat");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn sleeper(&self) -> String {
        self.guest("sleeper", SLEEPER)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(e2e::binary().unwrap());
        command
            .args(args)
            .env_clear()
            .env("CORACLE_ROOT", &self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    #[track_caller]
    fn coracle(&self, args: &[&str]) -> Ended {
        Running::of(self.command(args)).end()
    }

    fn start(&self, args: &[&str]) -> Running {
        Running::of(self.command(args))
    }

    /// Starts the sleeper in the background.
    #[track_caller]
    fn sleeps(&self, name: &str, options: &[&str]) {
        let guest = self.sleeper();
        let args = [&["run", "-d", "--name", name], options, &[guest.as_str()]].concat();
        assert_eq!(self.coracle(&args).ok(), name);
    }

    /// The one pod of that name, as `inspect -o json` has it.
    #[track_caller]
    fn pod(&self, name: &str) -> Value {
        serde_json::from_str(self.coracle(&["inspect", "-o", "json", name]).ok()).unwrap()
    }

    /// The process that holds a pod, by its record.
    fn process(&self, name: &str) -> Pid {
        let uid = self.pod(name)["metadata"]["uid"]
            .as_str()
            .unwrap()
            .to_owned();
        let record = self
            .root
            .join("runs")
            .join(&uid)
            .join(format!("{uid}.json"));
        let record: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
        Pid::from_raw(i32::try_from(record["pid"].as_i64().unwrap()).unwrap()).unwrap()
    }

    /// Nothing is left of any pod.
    #[track_caller]
    fn assert_clean(&self) {
        assert_eq!(self.coracle(&["ps", "-aq"]).ok(), "");
        let mut left = Vec::new();
        for folder in ["runs", "pods", "logs", "names/default"] {
            let entries = std::fs::read_dir(self.root.join(folder));
            left.extend(entries.into_iter().flatten().map(|it| it.unwrap().path()));
        }
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A test that failed leaves nothing that runs for an hour.
        let _ = self.command(&["rm", "-f", "--all"]).output();
    }
}

/// A command that runs. Ended when dropped.
struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn of(mut command: Command) -> Running {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdout }
    }

    fn is_running(&self) -> bool {
        let pid = Pid::from_child(&self.child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&Timespec::default())).unwrap() == 0
    }

    fn ends_in_time(&self) -> bool {
        let pidfd =
            rustix::process::pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).unwrap();
        let timeout = Timespec::try_from(DEADLINE).unwrap();
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&timeout)).unwrap() > 0
    }

    /// The next line of its standard output.
    fn line(&mut self) -> String {
        let timeout = Timespec::try_from(DEADLINE).unwrap();
        if self.stdout.buffer().is_empty() {
            let mut fds = [PollFd::new(self.stdout.get_ref(), PollFlags::IN)];
            assert!(
                rustix::event::poll(&mut fds, Some(&timeout)).unwrap() > 0,
                "no line"
            );
        }
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    #[track_caller]
    fn end(mut self) -> Ended {
        let mut stderr = self.child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text)
        });
        let watched = std::thread::scope(|scope| {
            let mut stdout = String::new();
            let pid = Pid::from_child(&self.child);
            let reader = &mut self.stdout;
            let read = scope.spawn(move || reader.read_to_string(&mut stdout).map(|_| stdout));
            let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
            let timeout = Timespec::try_from(DEADLINE).unwrap();
            let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
            let ended = rustix::event::poll(&mut fds, Some(&timeout)).unwrap() > 0;
            if !ended {
                rustix::process::kill_process(pid, Signal::KILL).unwrap();
            }
            (ended, read.join().unwrap().unwrap())
        });
        let status = self.child.wait().unwrap();
        let ended = Ended {
            code: status.code(),
            stdout: watched.1,
            stderr: errors.join().unwrap().unwrap(),
        };
        assert!(watched.0, "it hangs: {ended:#?}");
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that ended already is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exit_code(pod: &Value) -> Option<i64> {
    pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64()
}

#[test]
fn a_pod_in_the_background_is_listed_logged_stopped_and_removed() {
    let machine = Machine::new();
    machine.sleeps("web", &[]);
    let table = machine.coracle(&["ps"]);
    let row: Vec<&str> = table
        .ok()
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(row[..4], ["web", "1/1", "Running", "0"], "{table:#?}");
    assert_eq!(machine.coracle(&["ps", "-o", "name"]).ok(), "pod/web");
    assert_eq!(machine.coracle(&["logs", "web"]).ok(), "start");
    let uid = machine.coracle(&["ps", "-q"]).ok().to_owned();
    assert_eq!(machine.pod(&uid[..6])["metadata"]["name"], "web");
    let timed = machine.coracle(&["logs", "-t", "pod/web"]);
    assert!(timed.ok().ends_with("Z start"), "{timed:#?}");
    machine.coracle(&["rm", "web"]).refuses(&["web", "rm -f"]);

    assert_eq!(machine.coracle(&["stop", "-t", "1", "web"]).ok(), "web");
    assert_eq!(machine.coracle(&["ps", "-q"]).ok(), "");
    assert_eq!(machine.coracle(&["ps", "-aq"]).ok(), uid);
    assert_eq!(exit_code(&machine.pod("web")), Some(143));
    assert_eq!(machine.coracle(&["logs", "web"]).ok(), "start", "kept");
    assert_eq!(machine.coracle(&["stop", "web"]).ok(), "web", "twice");
    assert_eq!(machine.coracle(&["rm", "web"]).ok(), "web");
    machine.assert_clean();
    machine
        .coracle(&["logs", "web"])
        .refuses(&["no pod", "web"]);
}

#[test]
fn a_name_is_one_pods_until_it_is_removed() {
    let machine = Machine::new();
    machine.sleeps("web", &[]);
    let guest = machine.sleeper();
    let again = ["run", "-d", "--name", "web", &guest];
    machine
        .coracle(&again)
        .refuses(&["web", "taken", "which runs", "coracle rm -f"]);
    machine.coracle(&["stop", "web"]).ok();
    machine
        .coracle(&again)
        .refuses(&["web", "taken", "is kept"]);
    machine.coracle(&["rm", "-f", "web"]).ok();
    machine.sleeps("web", &["--rm"]);
    machine.coracle(&["rm", "-f", "web"]).ok();
    machine.sleeps("web", &["--rm"]);
    machine.coracle(&["stop", "web"]).ok();
    machine.assert_clean();
    machine
        .coracle(&["run", "-d", "--name", "../up", &guest])
        .refuses(&[]);
}

#[test]
fn what_can_not_begin_is_told_to_who_asked_and_leaves_nothing() {
    let machine = Machine::new();
    let none = machine.guest("none", "(module (import \"a\" \"b\" (func)))");
    let text = machine.guest("text", "no module at all");
    let gone = machine.folder.path().join("gone.wasm");
    for (args, word) in [
        (vec!["--pull", "never", "localhost:1/absent:1"], "absent"),
        (vec![none.as_str()], "a"),
        (vec![text.as_str()], "text"),
        (vec![gone.to_str().unwrap()], "gone.wasm"),
    ] {
        let args = [vec!["run", "-d", "--name", "web"], args].concat();
        let ended = machine.coracle(&args);
        ended.refuses(&[word]);
        assert_eq!(ended.stdout, "");
    }
    machine.assert_clean();
}

#[test]
fn following_a_log_ends_with_the_container() {
    let machine = Machine::new();
    machine.sleeps("web", &[]);
    let mut follower = machine.start(&["logs", "-f", "web"]);
    assert_eq!(follower.line(), "start\n");
    machine.coracle(&["stop", "web"]).ok();
    assert!(follower.ends_in_time(), "it follows what has ended");
    assert_eq!(follower.end().ok(), "");
    assert_eq!(machine.coracle(&["logs", "-f", "web"]).ok(), "start");
}

#[test]
fn a_log_is_shown_in_the_part_that_is_asked_for() {
    let machine = Machine::new();
    let guest = machine.guest("ends", &ends(0));
    machine
        .coracle(&["run", "-d", "--name", "job", &guest])
        .ok();
    assert_eq!(machine.coracle(&["wait", "job"]).ok(), "0");
    for (args, expected) in [
        (&["logs", "job"][..], "one\ntwo\nend"),
        (&["logs", "--tail", "1", "job"], "end"),
        (&["logs", "--tail=-1", "job"], "one\ntwo\nend"),
        (&["logs", "--limit-bytes", "5", "job"], "one\nt"),
        (&["logs", "--since", "1h", "job"], "one\ntwo\nend"),
        (&["logs", "--since-time", "2100-01-01T00:00:00Z", "job"], ""),
        (
            &["logs", "--all-containers", "--prefix", "--tail", "1", "job"],
            "[pod/job/main] end",
        ),
    ] {
        assert_eq!(machine.coracle(args).ok(), expected, "{args:?}");
    }
    machine
        .coracle(&["logs", "-p", "job"])
        .refuses(&["no run before"]);
    machine
        .coracle(&["logs", "-c", "x", "job"])
        .refuses(&["\"x\"", "main"]);
    machine
        .coracle(&["logs", "--tail", "some", "job"])
        .refuses(&[]);
    assert_eq!(machine.coracle(&["rm", "--all"]).ok(), "job");
    machine.assert_clean();
}

#[test]
fn a_crash_is_restarted_and_the_run_before_can_be_read() {
    let machine = Machine::new();
    let guest = machine.guest("crash", &ends(3));
    let args = [
        "run",
        "-d",
        "--name",
        "crash",
        "--restart",
        "on-failure",
        &guest,
    ];
    machine.coracle(&args).ok();
    let mut events = machine.start(&["events", "-f", "crash"]);
    // The second start counts at the first one's event.
    while !{
        let line = events.line();
        assert_ne!(line, "", "the events end");
        line.contains("(x2 over") && line.contains("Started")
    } {}
    drop(events);
    assert_eq!(
        machine.coracle(&["logs", "-p", "crash"]).ok(),
        "one\ntwo\nend"
    );
    let pod = machine.pod("crash");
    let status = &pod["status"]["containerStatuses"][0];
    assert!(status["restartCount"].as_i64().unwrap() >= 1, "{pod:#}");
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3);
    machine.coracle(&["rm", "-f", "crash"]).ok();
    machine.assert_clean();
}

#[test]
fn waiting_ends_with_the_exit_code_or_the_condition() {
    let machine = Machine::new();
    let guest = machine.guest("ends", &ends(3));
    assert_eq!(
        machine
            .coracle(&["run", "-d", "--name", "job", &guest])
            .ok(),
        "job"
    );
    assert_eq!(machine.coracle(&["wait", "job"]).ok(), "3");
    machine.sleeps("web", &[]);
    let ready = ["wait", "--for=condition=Ready", "--timeout", "200s", "web"];
    assert_eq!(machine.coracle(&ready).ok(), "pod/web condition met");
    let never = [
        "wait",
        "--for=condition=Ready=false",
        "--timeout",
        "0s",
        "web",
    ];
    machine.coracle(&never).refuses(&["timed out", "web"]);
    let waiting = machine.start(&["wait", "web", "job"]);
    let gone = machine.start(&["wait", "--for=delete", "web"]);
    machine.coracle(&["stop", "web"]).ok();
    assert_eq!(waiting.end().ok(), "143\n3");
    gone.end().refuses(&["coracle rm"]);
    machine
        .coracle(&["wait", "--for=jsonpath", "web"])
        .refuses(&["condition=Ready"]);
}

#[test]
fn a_session_that_is_killed_is_told_as_lost_and_leaves_what_rm_removes() {
    let machine = Machine::new();
    machine.sleeps("web", &[]);
    machine.sleeps("brief", &["--rm"]);
    let folders = || std::fs::read_dir(machine.root.join("pods")).map_or(0, Iterator::count);
    let waiting = machine.start(&["wait", "web"]);
    let follower = machine.start(&["logs", "-f", "web"]);
    rustix::process::kill_process(machine.process("web"), Signal::KILL).unwrap();
    assert_eq!(waiting.end().ok(), "137");
    assert_eq!(follower.end().ok(), "start");
    let table = machine.coracle(&["ps", "-a"]);
    assert!(
        table
            .ok()
            .lines()
            .any(|line| line.starts_with("web") && line.contains("ContainerStatusUnknown")),
        "{table:#?}"
    );
    assert_eq!(exit_code(&machine.pod("web")), Some(137));
    assert_eq!(machine.coracle(&["logs", "web"]).ok(), "start");
    assert_eq!(
        machine.coracle(&["ps", "-o", "name"]).ok(),
        "pod/brief",
        "the living is left alone"
    );
    machine
        .coracle(&["exec", "web", "sleeper"])
        .refuses(&["has ended"]);
    assert_eq!(machine.coracle(&["rm", "web"]).ok(), "web");
    machine.coracle(&["rm", "-f", "brief"]).ok();
    machine.assert_clean();
    assert_eq!(folders(), 0);
}

/// The processes that hold sessions of a root folder, told by their command line and environment.
fn sessions(root: &Path) -> Vec<Pid> {
    let root = format!("CORACLE_ROOT={}", root.display());
    let has = |path: PathBuf, wanted: &[&str]| {
        let text = std::fs::read(path).unwrap_or_default();
        let words: Vec<&[u8]> = text.split(|byte| *byte == 0).collect();
        wanted.iter().all(|word| words.contains(&word.as_bytes()))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|it| has(it.path().join("cmdline"), &["internal", "session"]))
        .filter(|it| has(it.path().join("environ"), &[&root]))
        .filter_map(|it| Pid::from_raw(it.file_name().to_str()?.parse().ok()?))
        .collect()
}

#[test]
fn a_session_may_be_killed_at_any_moment() {
    let machine = Machine::new();
    let guest = machine.sleeper();
    machine
        .coracle(&["run", "-d", "--name", "warm", "--rm", &guest])
        .ok();
    machine.coracle(&["rm", "-f", "warm"]).ok();
    for round in 0..24_u64 {
        let run = machine.start(&["run", "-d", "--name", "web", &guest]);
        // As far as it comes in so many looks: each round a little further.
        let mut looks = 0;
        while sessions(&machine.root).is_empty() && run.is_running() {}
        while looks < round * 4 && run.is_running() {
            looks += 1;
            std::hint::black_box(sessions(&machine.root));
        }
        for pid in sessions(&machine.root) {
            // One that has ended meanwhile is killed enough.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        let ended = run.end();
        assert!(matches!(ended.code, Some(0 | 125)), "{ended:#?}");
        machine.coracle(&["rm", "-f", "--all"]).ok();
        machine.assert_clean();
    }
}

#[test]
fn a_record_that_can_not_be_written_is_told_and_ends_nothing_that_runs() {
    let machine = Machine::new();
    machine.sleeps("web", &[]);
    let uid = machine.coracle(&["ps", "-q"]).ok().to_owned();
    let folder = machine.root.join("runs").join(&uid);
    let log = || std::fs::read_to_string(folder.join("out.log")).unwrap();
    // As a full disk does, for root too: a folder is where the next record is to be written.
    while std::fs::create_dir(folder.join(format!("{uid}.tmp"))).is_err() {}
    assert_eq!(machine.coracle(&["ps", "-o", "name"]).ok(), "pod/web");
    let ended = machine.coracle(&["exec", "web", "sleeper", "now"]);
    assert_eq!(ended.code, Some(5), "{ended:#?}");
    assert_eq!(machine.coracle(&["stop", "web"]).ok(), "web");
    // Once its session has ended, nobody knows more than was written.
    let deadline = Instant::now() + DEADLINE;
    loop {
        let table = machine.coracle(&["ps", "-a"]);
        if table.ok().contains("ContainerStatusUnknown") {
            break;
        }
        assert!(Instant::now() < deadline, "{table:#?}");
    }
    assert!(log().contains("can't be written"), "{}", log());
    assert_eq!(machine.coracle(&["rm", "web"]).ok(), "web");
    machine.assert_clean();
}

#[test]
fn a_command_runs_in_a_container_and_ends_with_its_own_code() {
    let machine = Machine::new();
    machine.sleeps("web", &[]);
    let ended = machine.coracle(&["exec", "web", "--", "sleeper", "now"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(5), "exec\n"),
        "{ended:#?}"
    );
    let ended = machine.coracle(&["exec", "-it", "web", "-c", "main", "sleeper", "-x"]);
    assert_eq!(ended.code, Some(5), "{ended:#?}");
    let ended = machine.coracle(&["exec", "web", "none"]);
    assert_eq!(ended.code, Some(127), "{ended:#?}");
    // One that goes on ends with its container.
    let mut running = machine.start(&["exec", "web", "sleeper"]);
    assert_eq!(running.line(), "start\n");
    machine.coracle(&["rm", "-f", "web"]).ok();
    let code = running.end().code.unwrap();
    assert!(code > 128, "{code}");
    machine.assert_clean();
}

#[test]
fn what_is_used_and_what_was_told_can_be_had_as_json() {
    let machine = Machine::new();
    machine.sleeps("web", &["--memory", "64Mi"]);
    let stats: Value =
        serde_json::from_str(machine.coracle(&["stats", "-o", "json"]).ok()).unwrap();
    assert_eq!(stats[0]["pod"], "web");
    assert_eq!(stats[0]["memoryLimitBytes"], 64 << 20);
    assert!(stats[0]["memoryBytes"].as_u64().unwrap() > 0);
    let table = machine.coracle(&["stats", "--no-stream", "web"]);
    assert!(table.ok().contains("/ 64.0MiB"), "{table:#?}");
    let events: Value =
        serde_json::from_str(machine.coracle(&["events", "-o", "json", "web"]).ok()).unwrap();
    let reasons: Vec<&str> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["reason"].as_str().unwrap())
        .collect();
    assert!(reasons.contains(&"Started"), "{reasons:?}");
    let list: Value = serde_json::from_str(machine.coracle(&["ps", "-o", "json"]).ok()).unwrap();
    assert_eq!(
        (&list["kind"], &list["items"][0]["kind"]),
        (&"List".into(), &"Pod".into())
    );
    assert_eq!(list["items"][0]["status"]["phase"], "Running");
}

#[test]
fn a_run_in_the_foreground_is_found_too_and_says_where_its_output_goes() {
    let machine = Machine::new();
    let guest = machine.sleeper();
    let mut run = machine.start(&["run", "--name", "here", &guest]);
    assert_eq!(run.line(), "start\n");
    assert_eq!(machine.coracle(&["ps", "-o", "name"]).ok(), "pod/here");
    machine
        .coracle(&["logs", "here"])
        .refuses(&["terminal", "-d"]);
    let ended = machine.coracle(&["exec", "here", "sleeper", "now"]);
    assert_eq!(ended.code, Some(5), "{ended:#?}");
    assert_eq!(machine.coracle(&["stop", "here"]).ok(), "here");
    assert_eq!(run.end().code, Some(143));
    machine.assert_clean();
}

#[test]
fn many_begin_at_once_on_one_root() {
    let machine = Machine::new();
    let guest = machine.guest("ends", &ends(0));
    let names: Vec<String> = (0..50).map(|number| format!("n{number}")).collect();
    let started: Vec<Running> = names
        .iter()
        .map(|name| machine.start(&["run", "-d", "--name", name, &guest]))
        .collect();
    for (name, run) in names.iter().zip(started) {
        assert_eq!(run.end().ok(), name);
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let codes = machine.coracle(&[&["wait"], &all[..]].concat());
    assert_eq!(codes.ok(), vec!["0"; 50].join("\n"));
    assert_eq!(machine.coracle(&["ps", "-aq"]).ok().lines().count(), 50);
    machine.coracle(&["rm", "--all"]).ok();
    machine.assert_clean();
}

#[test]
fn the_control_socket_is_its_users_alone_and_takes_any_request() {
    let mut machine = Machine::new();
    // Longer than the address of a socket may be.
    machine.root = machine.folder.path().join("long/".repeat(40)).join("root");
    machine.sleeps("web", &[]);
    let uid = machine.coracle(&["ps", "-q"]).ok().to_owned();
    let folder = machine.root.join("runs");
    let socket = format!("{uid}.sock");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join(&socket)), 0o600);

    // A short way to it.
    let link = machine.folder.path().join("s");
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    let ask = |request: &[u8]| {
        let mut stream = UnixStream::connect(link.join(&socket)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // One that is refused midway is answered and closed.
        let _ = stream.write_all(request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let ok = b"{\"version\":1,\"call\":\"pods\",\"later\":[1]}\n";
    assert!(ask(ok).contains("\"web\""));
    for (request, word) in [
        (&b""[..], "ended"),
        (b"{\"version\":1,\"call\":\"pods\"}", "ended"),
        (b"\n", "understand"),
        (b"\xff\xfe\0\n", "understand"),
        (b"{\"version\":1,\"call\":\"fly\"}\n", "fly"),
        (b"{\"version\":2,\"call\":\"pods\"}\n", "version 2"),
        (
            b"{\"version\":1,\"call\":\"stop\",\"uid\":\"none\"}\n",
            "no such pod",
        ),
        (
            b"{\"version\":1,\"call\":\"exec\",\"uid\":\"u\",\"container\":\"c\",\"command\":[]}\n",
            "descriptors",
        ),
    ] {
        let answer = ask(request);
        assert!(
            answer.contains("\"error\"") && answer.contains(word),
            "{answer}"
        );
    }
    let endless = vec![b'x'; 3 << 20];
    let answer = ask(&endless);
    assert!(answer.is_empty() || answer.contains("longer"), "{answer}");
    // Those who say nothing keep nobody from being served.
    let silent: Vec<UnixStream> = (0..100)
        .map(|_| UnixStream::connect(link.join(&socket)).unwrap())
        .collect();
    assert!(ask(ok).contains("\"web\""));
    drop(silent);
    assert_eq!(machine.coracle(&["rm", "-f", "web"]).ok(), "web");
    machine.assert_clean();
}
