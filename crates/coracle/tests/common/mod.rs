//! coracle as a user has it: a process with arguments, standard streams, signals and an exit code.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

pub mod images;
pub mod place;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use guests::{Guest, Missing};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

pub const CORACLE: &str = env!("CARGO_BIN_EXE_coracle");

/// A variable of the host that no guest may see, and the value that would give it away.
pub const SECRET: (&str, &str) = ("CORACLE_TEST_SECRET", "of-the-host-alone");

/// Longer than anything takes, CPython's compilation beside other tests included: what passes it
/// hangs.
const DEADLINE: Duration = Duration::from_secs(400);

/// A guest's file, or nothing where its language was left out on this machine.
pub fn built(guest: Guest) -> Option<PathBuf> {
    or_left_out(guests::path(guest))
}

pub fn or_left_out(found: Result<PathBuf, Missing>) -> Option<PathBuf> {
    match found {
        Ok(path) => Some(path),
        Err(missing @ Missing::LeftOut { .. }) => {
            println!("{missing}");
            None
        }
        Err(missing) => panic!("{missing}"),
    }
}

/// How a coracle ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; nothing if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The whole of what was expected.
    #[track_caller]
    pub fn is(&self, code: i32, stdout: &str, stderr: &str) {
        let seen = (self.code, self.stdout.as_str(), self.stderr.as_str());
        assert_eq!(seen, (Some(code), stdout, stderr), "{self:#?}");
    }

    /// A refusal: code 125, nothing on stdout, and one line on stderr that says all of `words`.
    #[track_caller]
    pub fn refuses(&self, words: &[&str]) {
        assert_eq!(self.code, Some(125), "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        assert_eq!(self.stderr.lines().count(), 1, "not one line: {self:#?}");
        assert!(self.stderr.starts_with("coracle: "), "{self:#?}");
        for word in words {
            assert!(
                self.stderr.contains(word),
                "{word:?} is not said: {self:#?}"
            );
        }
    }
}

/// A folder that coracle keeps its things in.
#[derive(Debug)]
pub struct Root(pub PathBuf);

impl Root {
    /// This test binary's own, so that a guest that many tests run is compiled once.
    pub fn shared() -> Root {
        Root(
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(concat!(env!("CARGO_CRATE_NAME"), "-root")),
        )
    }

    /// `coracle run` with these arguments.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(CORACLE);
        command
            .arg("run")
            .args(args)
            .env_clear()
            .env("PATH", "/host/path")
            .env("CORACLE_ROOT", &self.0)
            .env(SECRET.0, SECRET.1)
            .stdin(Stdio::null());
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        Running::spawn(&mut self.command(args)).end()
    }

    pub fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        Running::spawn(&mut self.command(args))
    }

    /// Nothing of a pod is left, and nothing of an image half-made.
    #[track_caller]
    pub fn assert_no_pods(&self) {
        for folder in ["pods", "runs", "images/tmp"] {
            let left = files(&self.0.join(folder));
            assert!(left.is_empty(), "left in {folder}: {left:?}");
        }
    }

    /// Nor any code half-made.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.assert_no_pods();
        let code = files(&self.0.join("code"));
        let odd = |path: &&PathBuf| {
            let whole = path
                .extension()
                .is_some_and(|e| e == "cwasm" || e == "json");
            !whole && !path.components().any(|c| c.as_os_str() == "keys")
        };
        assert_eq!(code.iter().find(odd), None, "left in code");
    }
}

/// All that is below a folder but folders.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// A coracle that runs. Ended when dropped.
pub struct Running {
    child: Child,
    pidfd: OwnedFd,
    lines: Receiver<Vec<u8>>,
    seen: Vec<u8>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    pub fn spawn(command: &mut Command) -> Running {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("coracle starts");
        let pid = Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let (send, lines) = channel();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            loop {
                let mut line = Vec::new();
                let read = stdout.read_until(b'\n', &mut line);
                // Nobody wants more: the pipe closes, as when `head` has had enough.
                if read.unwrap_or(0) == 0 || send.send(line).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut all = Vec::new();
            stderr
                .read_to_end(&mut all)
                .map(|_| all)
                .unwrap_or_default()
        });
        Running {
            child,
            pidfd,
            lines,
            seen: Vec::new(),
            stderr: Some(stderr),
        }
    }

    /// The next line of its stdout.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let Ok(line) = self.lines.recv_timeout(DEADLINE) else {
            self.child.kill().unwrap();
            panic!("no line on stdout; on stderr: {}", self.errors());
        };
        self.seen.extend_from_slice(&line);
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }

    /// Gives it all of its stdin.
    pub fn write(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    pub fn close_stdout(&mut self) {
        self.lines = channel().1;
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::pidfd_send_signal(&self.pidfd, signal).unwrap();
    }

    /// Waits that long for its end; tells whether it came.
    pub fn ends_within(&self, time: Duration) -> bool {
        let timeout = Timespec::try_from(time).unwrap();
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&timeout)).unwrap() > 0
    }

    /// The address that it listens at for TCP over IPv4, once it does.
    #[track_caller]
    pub fn listens_at(&mut self) -> std::net::SocketAddr {
        let begin = std::time::Instant::now();
        while begin.elapsed() < DEADLINE {
            if let Some(address) = self.listening() {
                return address;
            }
            if self.ends_within(Duration::from_millis(20)) {
                break;
            }
        }
        self.child.kill().unwrap();
        panic!("it listens nowhere; on stderr: {}", self.errors());
    }

    fn listening(&self) -> Option<std::net::SocketAddr> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let own: Vec<String> = std::fs::read_dir(process.join("fd"))
            .ok()?
            .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
            .map(|target| target.display().to_string())
            .collect();
        let table = std::fs::read_to_string(process.join("net/tcp")).ok()?;
        // proc_pid_net(5): local_address is the second field, the state the fourth, the inode the tenth.
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (ip, port) = fields.get(1)?.split_once(':')?;
            let is_ours = own.contains(&format!("socket:[{}]", fields.get(9)?));
            let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
            let port = u16::from_str_radix(port, 16).ok()?;
            (is_ours && fields.get(3) == Some(&"0A")).then(|| (ip, port).into())
        })
    }

    /// The CPU time that the process took until now.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // utime and stime, proc_pid_stat(5): fields 14 and 15, of which the second may hold spaces.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11..13]
            .iter()
            .map(|f| f.parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    fn errors(&mut self) -> String {
        let stderr = self.stderr.take().map(|thread| thread.join().unwrap());
        String::from_utf8_lossy(&stderr.unwrap_or_default()).into_owned()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        self.close_stdin();
        if !self.ends_within(DEADLINE) {
            self.child.kill().unwrap();
            let errors = self.errors();
            let stdout = String::from_utf8_lossy(&self.seen).into_owned();
            panic!("it hangs; stdout until then: {stdout}; stderr: {errors}");
        }
        let status = self.child.wait().unwrap();
        while let Ok(line) = self.lines.recv() {
            self.seen.extend_from_slice(&line);
        }
        Ended {
            code: status.code(),
            stdout: String::from_utf8_lossy(&self.seen).into_owned(),
            stderr: self.errors(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that ended already is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
