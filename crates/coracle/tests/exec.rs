//! `coracle exec`: commands in a container that runs in the background.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use common::images::{Layout, Tar};
use common::{CORACLE, Ended, Root, Running, SECRET, built, or_left_out};
use guests::Guest;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use serde_json::json;

/// Longer than anything takes, CPython's compilation beside other tests included.
const DEADLINE: Timespec = Timespec {
    tv_sec: 400,
    tv_nsec: 0,
};

/// A pod that runs until this is dropped, and for ten minutes at most.
struct Pod {
    root: Root,
    name: &'static str,
    _image: tempfile::TempDir,
}

impl Pod {
    /// Of an image that sleeps, with these files beside; nothing where guests were left out.
    fn start(
        name: &'static str,
        files: &[(&str, Vec<u8>)],
        config: &serde_json::Value,
    ) -> Option<Pod> {
        let sleeper = std::fs::read(built(Guest::RustSleeper)?).unwrap();
        let image = tempfile::tempdir().unwrap();
        let mut tar = Tar::default().file("app.wasm", &sleeper).dir("bin/");
        for (path, bytes) in files {
            tar = tar.file(path, bytes);
        }
        let mut all = json!({"Entrypoint": ["/app.wasm"], "Cmd": ["600000"], "Env": ["PATH=/bin", "GREETING=hi"]});
        let more = config.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(more);
        let written = Layout::new([tar]).config(all).write(image.path());
        let pod = Pod {
            root: Root::shared(),
            name,
            _image: image,
        };
        let begun = pod.coracle(&["run", "-d", "--name", name, "-e", "A=1", &written]);
        assert_eq!(begun.code, Some(0), "{begun:#?}");
        Some(pod)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(CORACLE);
        command
            .args(args)
            .env_clear()
            .env("PATH", "/host/path")
            .env("CORACLE_ROOT", &self.root.0)
            .env(SECRET.0, SECRET.1)
            .stdin(Stdio::null());
        command
    }

    fn coracle(&self, args: &[&str]) -> Ended {
        Running::spawn(&mut self.command(args)).end()
    }

    fn exec(&self, args: &[&str]) -> Ended {
        self.coracle(&[&["exec", self.name, "--"], args].concat())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.coracle(&["rm", "-f", self.name]);
    }
}

fn tool() -> Option<Vec<u8>> {
    Some(std::fs::read(built(Guest::RustTool)?).unwrap())
}

#[test]
fn a_command_runs_in_the_containers_world_and_its_code_passes_through() {
    let Some(tool) = tool() else { return };
    let files = [("bin/tool.wasm", tool), ("notes.txt", b"a note\n".to_vec())];
    let Some(pod) = Pod::start("exec-world", &files, &json!({})) else {
        return;
    };
    pod.exec(&["tool", "cat", "/notes.txt"])
        .is(0, "a note\n", "");
    pod.exec(&["/bin/tool.wasm", "exit", "42"]).is(42, "", "");
    let env = pod.exec(&["tool.wasm", "env"]);
    for line in ["A=1", "GREETING=hi", "PATH=/bin"] {
        assert!(env.stdout.lines().any(|l| l == line), "{line}: {env:#?}");
    }
    assert!(!env.stdout.contains(SECRET.1), "{env:#?}");

    let missing = pod.exec(&["vi", "/notes.txt"]);
    assert_eq!(
        (missing.code, missing.stdout.as_str()),
        (Some(127), ""),
        "{missing:#?}"
    );
    for word in ["\"vi\"", "/bin/vi.wasm", "/app.wasm", "/bin/tool.wasm"] {
        assert!(missing.stderr.contains(word), "{word}: {missing:#?}");
    }
    let unfit = pod.exec(&["/notes.txt"]);
    assert_eq!(unfit.code, Some(126), "{unfit:#?}");
    assert!(unfit.stderr.contains("not WebAssembly"), "{unfit:#?}");
}

#[test]
fn standard_input_is_given_only_if_asked_for() {
    let Some(tool) = tool() else { return };
    let files = [("bin/tool.wasm", tool)];
    let Some(pod) = Pod::start("exec-input", &files, &json!({})) else {
        return;
    };
    let cat = |options: &[&str]| {
        let args = [&["exec"], options, &[pod.name, "--", "tool", "cat"]].concat();
        let mut running = Running::spawn(pod.command(&args).stdin(Stdio::piped()));
        // Who does not want it may have ended by now.
        if !options.is_empty() {
            running.write(b"through\n");
        }
        running.close_stdin();
        running.end()
    };
    cat(&["-i"]).is(0, "through\n", "");
    cat(&[]).is(0, "", "");
}

#[test]
fn a_multicall_entrypoint_gets_what_is_not_in_the_image_whole() {
    let Some(tool) = tool() else { return };
    let config = json!({
        "Entrypoint": ["/bin/tool.wasm"],
        "Cmd": ["sleep", "600000"],
        "Labels": {"dev.coracle.multicall": "true"},
    });
    let Some(pod) = Pod::start("exec-multicall", &[("bin/tool.wasm", tool)], &config) else {
        return;
    };
    pod.exec(&["echo", "as", "argv[0]"])
        .is(0, "as argv[0]\n", "");
    let unknown = pod.exec(&["vi"]);
    assert_eq!(unknown.code, Some(127), "{unknown:#?}");
    assert!(
        unknown.stderr.starts_with("tool: "),
        "the tool's own words: {unknown:#?}"
    );
}

/// A terminal: its master's side, and the one of programs.
fn terminal() -> (File, OwnedFd) {
    const TIOCSPTLCK: rustix::ioctl::Opcode = 0x4004_5431;
    const TIOCGPTN: rustix::ioctl::Opcode = 0x8004_5430;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/ptmx", flags, Mode::empty()).unwrap();
    // SAFETY: both take a pointer to an int, as they are given (ioctl_tty(2)).
    let number = unsafe {
        let unlock = rustix::ioctl::Setter::<TIOCSPTLCK, i32>::new(0);
        rustix::ioctl::ioctl(&master, unlock).unwrap();
        rustix::ioctl::ioctl(&master, rustix::ioctl::Getter::<TIOCGPTN, u32>::new()).unwrap()
    };
    let slave = rustix::fs::open(format!("/dev/pts/{number}"), flags, Mode::empty()).unwrap();
    (File::from(master), slave)
}

/// A program on a terminal, and all that it has shown.
struct Screen {
    master: File,
    child: Child,
    shown: String,
}

impl Screen {
    fn of(command: &mut Command) -> Screen {
        let (master, slave) = terminal();
        let side = || Stdio::from(slave.as_fd().try_clone_to_owned().unwrap());
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn();
        Screen {
            master,
            child: child.unwrap(),
            shown: String::new(),
        }
    }

    /// Reads until `text` is shown; gives what was shown before it, since the last one.
    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            if let Some((before, after)) = self.shown.split_once(text) {
                let before = before.to_owned();
                self.shown = after.to_owned();
                return before;
            }
            let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
            let answered = rustix::event::poll(&mut ready, Some(&DEADLINE)).unwrap();
            assert!(
                answered > 0,
                "{text:?} is not shown, it hangs: {}",
                self.shown
            );
            let count = self.master.read(&mut buffer).unwrap_or(0);
            assert!(count > 0, "{text:?} is not shown: {}", self.shown);
            self.shown
                .push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    fn enter(&mut self, line: &str) {
        self.master
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // One that ended already is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn cpython_is_a_prompt_on_a_terminal_and_knows_nothing_of_the_host() {
    let Some(python) = or_left_out(guests::cpython()) else {
        return;
    };
    let files = [("python3.wasm", std::fs::read(python).unwrap())];
    let Some(pod) = Pod::start("exec-python", &files, &json!({})) else {
        return;
    };
    let mut screen = Screen::of(&mut pod.command(&["exec", "-it", pod.name, "--", "python3.wasm"]));
    screen.until("Python 3.12");
    screen.until(">>> ");
    screen.enter("1+1");
    assert!(screen.until(">>> ").contains("\r\n2\r\n"));
    screen.enter("import os; print(sorted(os.environ))");
    let names = screen.until(">>> ");
    let given = ["'A'", "'GREETING'", "'HOSTNAME'", "'PATH'"];
    for name in given {
        assert!(names.contains(name), "{name}: {names}");
    }
    assert!(!names.contains(SECRET.0), "{names}");
    screen.enter("raise SystemExit(7)");
    let status = screen.child.wait().unwrap();
    assert_eq!(status.code(), Some(7), "{}", screen.shown);
}
