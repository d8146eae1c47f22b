//! The guest host with real guests: small ones, in Wasm text, compiled here and run as any other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod ends;
mod exec;
mod exec_limits;
mod http;
mod limits;
mod orders;
pub(crate) mod preview3;
mod streams;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::local::{Local, LocalConfig};
use crate::spec::{Exited, GuestFds, GuestId, GuestSpec, LogSpec, StartError};

/// Longer than anything takes that does not hang.
const GUARD: Duration = Duration::from_secs(120);

/// Resolves when something is so; false if it never is.
async fn comes(so: impl Fn() -> bool) -> bool {
    let wait = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, wait).await.is_ok()
}

/// Resolves when something is so. What never comes fails, and says what it was.
async fn until(what: &str, so: impl Fn() -> bool) {
    assert!(comes(so).await, "never {what}");
}

/// A guest host, and a folder for its guests' roots and logs.
struct Host {
    local: Local,
    dir: TempDir,
    next: AtomicU32,
}

impl Host {
    fn new() -> Host {
        Host::with(LocalConfig {
            workers: Some(1),
            room: None,
        })
    }

    fn with(config: LocalConfig) -> Host {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::create_dir(dir.path().join("logs")).unwrap();
        Host {
            local: Local::new(config).unwrap(),
            dir,
            next: AtomicU32::new(0),
        }
    }

    /// A guest that logs, as yet unstarted.
    fn guest(&self, wat: &str) -> (GuestSpec, GuestFds) {
        let attempt = self.next.fetch_add(1, Ordering::Relaxed);
        let spec = GuestSpec {
            id: GuestId {
                pod_uid: "uid".to_owned(),
                container: "main".to_owned(),
                attempt,
            },
            name: "default/pod/main".to_owned(),
            export: None,
            args: vec!["guest".to_owned()],
            env: Vec::new(),
            cwd: "/".to_owned(),
            tty: false,
            mounts: Vec::new(),
            read_only_root: false,
            limits: crate::Limits::default(),
            drain: false,
            log: Some(LogSpec {
                stem: attempt.to_string(),
                max_size: 1 << 20,
                max_files: 2,
            }),
            network: crate::Network::Node,
            http: None,
            outgoing: crate::OutgoingHttp::default(),
        };
        let fds = GuestFds {
            code: compiled(wat),
            root: self.folder("root"),
            mounts: Vec::new(),
            log_dir: Some(self.folder("logs")),
            stdin: None,
            stdout: None,
            stderr: None,
            listeners: Vec::new(),
        };
        (spec, fds)
    }

    fn folder(&self, name: &str) -> OwnedFd {
        File::open(self.dir.path().join(name)).unwrap().into()
    }

    /// Starts a guest.
    async fn start(&self, guest: (GuestSpec, GuestFds)) -> GuestId {
        let id = guest.0.id.clone();
        self.local.start(guest.0, guest.1).await.unwrap();
        id
    }

    /// Runs a guest to its end.
    async fn run(&self, guest: (GuestSpec, GuestFds)) -> Exited {
        let id = self.start(guest).await;
        self.end(&id).await
    }

    /// Runs a guest that only its text tells from another.
    async fn run_text(&self, wat: &str) -> Exited {
        self.run(self.guest(wat)).await
    }

    /// Why a guest does not start.
    async fn refused(&self, guest: (GuestSpec, GuestFds)) -> StartError {
        self.local.start(guest.0, guest.1).await.unwrap_err()
    }

    /// The end of a guest that was started.
    async fn end(&self, id: &GuestId) -> Exited {
        let mut events = self.local.events();
        let end = async {
            loop {
                let exited = events.next().await.unwrap();
                if exited.id == *id {
                    return exited;
                }
            }
        };
        let end = tokio::time::timeout(GUARD, end).await;
        end.unwrap_or_else(|_| panic!("{id:?} never ends"))
    }

    /// What a guest has logged: lines of `stdout F text`, without their times.
    fn log(&self, id: &GuestId) -> Vec<String> {
        let path = self
            .dir
            .path()
            .join("logs")
            .join(format!("{}.log", id.attempt));
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    /// Resolves when the guest has logged a line.
    async fn logged(&self, id: &GuestId, line: &str) {
        let logged = || self.log(id).iter().any(|logged| logged == line);
        assert!(comes(logged).await, "no {line:?} in {:?}", self.log(id));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Compiled code, as the compile child would write it.
pub(crate) fn compiled(wat: &str) -> OwnedFd {
    let engine = crate::engine::compiler(crate::engine::Calls::Sequential).unwrap();
    let wasm = wat::parse_str(wat).unwrap();
    let code = match wasm[4..8] {
        [0x0d, ..] => engine.precompile_component(&wasm),
        _ => engine.precompile_module(&wasm),
    };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&code.unwrap()).unwrap();
    file.reopen().unwrap().into()
}

/// A command of preview1 that writes `$say`s lines; `body` is the rest of `_start`.
fn command(body: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (table $table 1 funcref)
            (data (i32.const 64) "ready\n")
            (data (i32.const 80) "broken\n")
            (func $write (param $fd i32) (param $at i32) (param $length i32)
                (i32.store (i32.const 0) (local.get $at))
                (i32.store (i32.const 4) (local.get $length))
                (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func $ready (call $write (i32.const 1) (i32.const 64) (i32.const 6)))
            ;; Reads a byte; answers how many there were.
            (func $read (result i32)
                (i32.store (i32.const 0) (i32.const 128))
                (i32.store (i32.const 4) (i32.const 1))
                (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
                (i32.load (i32.const 8)))
            ;; Sleeps for an hour.
            (func $sleep
                (i64.store (i32.const 256) (i64.const 0))
                (i32.store8 (i32.const 264) (i32.const 0))
                (i32.store (i32.const 272) (i32.const 1))
                (i64.store (i32.const 280) (i64.const 3600000000000))
                (i64.store (i32.const 288) (i64.const 0))
                (i32.store16 (i32.const 296) (i32.const 0))
                (drop (call $poll (i32.const 256) (i32.const 320) (i32.const 1) (i32.const 8))))
            (func $spin (loop $again (br $again)))
            {body})"#
    )
}
