//! A guest host in a process of its own, with real guests: this test binary, run again as [`entry`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod exec;
mod raw;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::local::{Local, LocalConfig};
use crate::remote::{Remote, RemoteError};
use crate::spec::{
    ExitKind, Exited, GuestFds, GuestId, GuestSpec, HostError, Limits, Phase, StartError,
};
use crate::tests::compiled;

/// What a child of these tests runs, and nothing that the suite runs by itself.
#[test]
#[ignore = "the children of the other tests run it"]
fn entry() {
    if std::env::args().any(|arg| arg == "--exact") {
        crate::serve::guest_host_main();
    }
}

const SLEEPER: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        ;; one clock subscription, an hour
        (i64.store (i32.const 24) (i64.const 3600000000000))
        (loop $again
            (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
            (br $again))))"#;

const SEVEN: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") i32.const 7 call $exit))"#;

/// The folder of a guest host; the guest host, if one is left, ends with it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    async fn remote(&self) -> Result<Remote, RemoteError> {
        self.remote_of("serve::tests::entry").await
    }

    async fn remote_of(&self, test: &str) -> Result<Remote, RemoteError> {
        let exe = std::env::current_exe().unwrap();
        let args = [test, "--exact", "--ignored", "--nocapture"].map(OsString::from);
        Remote::spawn_or_adopt(self.path(), &exe, &args).await
    }

    fn socket(&self) -> PathBuf {
        self.path().join("guest-host.sock")
    }

    fn guest(&self, attempt: u32, wat: &str) -> (GuestSpec, GuestFds) {
        let root: OwnedFd = File::open(self.path()).unwrap().into();
        let spec = GuestSpec {
            id: id(attempt),
            name: "default/pod/main".to_owned(),
            export: None,
            args: vec!["guest".to_owned()],
            env: Vec::new(),
            cwd: "/".to_owned(),
            tty: false,
            mounts: Vec::new(),
            read_only_root: false,
            limits: Limits::default(),
            drain: false,
            log: None,
            network: crate::Network::Node,
            http: None,
            outgoing: crate::OutgoingHttp::default(),
        };
        let fds = GuestFds {
            code: compiled(wat),
            root,
            mounts: Vec::new(),
            log_dir: None,
            stdin: None,
            stdout: None,
            stderr: None,
            listeners: Vec::new(),
        };
        (spec, fds)
    }
}

fn id(attempt: u32) -> GuestId {
    GuestId {
        pod_uid: "uid".to_owned(),
        container: "main".to_owned(),
        attempt,
    }
}

async fn start(remote: &Remote, guest: (GuestSpec, GuestFds)) {
    remote.start(guest.0, guest.1).await.unwrap();
}

async fn end(remote: &Remote, id: &GuestId) -> Exited {
    let mut events = remote.events();
    loop {
        let exited = events.next().await.unwrap();
        if exited.id == *id {
            return exited;
        }
    }
}

fn kill(remote: &Remote, signal: Signal) {
    kill_process(Pid::from_raw(remote.pid() as i32).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn a_guest_starts_ends_is_told_to_everyone_and_is_forgotten() {
    let folder = Folder::new();
    let remote = folder.remote().await.unwrap();
    assert!(!remote.adopted());
    let mode = std::fs::metadata(folder.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut early = remote.events();
    start(&remote, folder.guest(0, SEVEN)).await;
    let exited = early.next().await.unwrap();
    assert_eq!((exited.code, exited.kind), (7, ExitKind::Exited));
    // A later stream, and another connection's, are told it again.
    assert_eq!(end(&remote, &id(0)).await, exited);
    let other = folder.remote().await.unwrap();
    assert!(other.adopted());
    assert_eq!(end(&other, &id(0)).await, exited);
    let state = &other.list().await.unwrap()[0];
    assert_eq!(state.phase, Phase::Exited(exited));

    remote.forget(&id(0)).await.unwrap();
    remote.forget(&id(0)).await.unwrap();
    assert!(other.list().await.unwrap().is_empty());
    remote.shutdown().await.unwrap();
}

#[tokio::test]
async fn calls_are_concurrent_and_each_is_answered() {
    let folder = Folder::new();
    let remote = folder.remote().await.unwrap();
    start(&remote, folder.guest(0, SLEEPER)).await;
    start(&remote, folder.guest(1, SLEEPER)).await;
    assert_eq!(remote.forget(&id(0)).await, Err(HostError::Running(id(0))));
    let unknown = Err(HostError::Unknown(id(9)));
    assert_eq!(remote.stop(&id(9), Duration::ZERO).await, unknown);
    assert_eq!(remote.budget().await.unwrap().guests, 2);
    assert_eq!(remote.stats(&id(1)).await.unwrap().id, id(1));
    assert_eq!(remote.all_stats().await.unwrap().len(), 2);
    let limits = Limits {
        memory_bytes: Some(64 << 20),
        ..Limits::default()
    };
    remote.set_limits(&id(1), &limits).await.unwrap();
    let stats = remote.stats(&id(1)).await.unwrap();
    assert_eq!(stats.memory_limit_bytes, Some(64 << 20));

    let lists = futures::future::join_all((0..100).map(|_| remote.list()));
    let (first, second) = (id(0), id(1));
    let (lists, one, two) = tokio::join!(
        lists,
        remote.stop(&first, Duration::ZERO),
        remote.stop(&second, Duration::ZERO),
    );
    assert!(lists.into_iter().all(|list| list.unwrap().len() == 2));
    one.unwrap();
    two.unwrap();
    assert_eq!(end(&remote, &first).await.code, 143);
    remote.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_start_that_is_refused_says_why_across_the_socket() {
    let folder = Folder::new();
    let remote = folder.remote().await.unwrap();
    let (spec, mut fds) = folder.guest(0, SEVEN);
    fds.code = File::open("/dev/null").unwrap().into();
    let error = remote.start(spec, fds).await.unwrap_err();
    assert!(matches!(error, StartError::Code { .. }), "{error}");

    let (spec, mut fds) = folder.guest(0, SEVEN);
    fds.mounts = (0..300).map(|_| File::open("/").unwrap().into()).collect();
    let error = remote.start(spec, fds).await.unwrap_err();
    assert!(matches!(error, StartError::Invalid { .. }), "{error}");
    remote.shutdown().await.unwrap();
}

#[tokio::test]
async fn guests_outlive_their_agent_and_are_adopted() {
    let folder = Folder::new();
    let first = folder.remote().await.unwrap();
    let pid = first.pid();
    start(&first, folder.guest(0, SLEEPER)).await;
    drop(first);
    let next = folder.remote().await.unwrap();
    assert_eq!((next.pid(), next.adopted()), (pid, true));
    assert_eq!(next.list().await.unwrap()[0].phase, Phase::Running);
    next.stop(&id(0), Duration::ZERO).await.unwrap();
    next.shutdown().await.unwrap();
    // Its place is free again at once, or a moment later.
    let after = folder.remote().await.unwrap();
    assert!(!after.adopted() && after.pid() != pid);
    after.shutdown().await.unwrap();
}

#[tokio::test]
async fn two_agents_that_start_at_once_share_one_guest_host() {
    let folder = Folder::new();
    let (one, two) = tokio::join!(folder.remote(), folder.remote());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.pid(), two.pid());
    assert_ne!(one.adopted(), two.adopted());
    one.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_guest_host_that_is_killed_is_seen_and_replaced() {
    let folder = Folder::new();
    let remote = folder.remote().await.unwrap();
    start(&remote, folder.guest(0, SLEEPER)).await;
    let mut events = remote.events();
    remote.list().await.unwrap();
    let zero = id(0);
    let stopping = remote.stop(&zero, Duration::from_secs(3600));
    kill(&remote, Signal::KILL);
    // The stop may have been done before the signal: what matters is that it does not hang.
    let _ = stopping.await;
    let reason = remote.gone().await;
    assert!(reason.contains(&remote.pid().to_string()), "{reason}");
    while events.next().await.is_some() {}
    assert!(matches!(remote.list().await, Err(HostError::Gone(_))));
    assert!(remote.events().next().await.is_none());
    let (spec, fds) = folder.guest(1, SEVEN);
    let error = remote.start(spec, fds).await.unwrap_err();
    assert!(matches!(error, StartError::Gone { .. }), "{error}");

    let next = folder.remote().await.unwrap();
    assert!(!next.adopted());
    assert!(next.list().await.unwrap().is_empty());
    next.shutdown().await.unwrap();
}

#[tokio::test]
async fn sigterm_ends_the_guests_and_the_guest_host() {
    let folder = Folder::new();
    let remote = folder.remote().await.unwrap();
    start(&remote, folder.guest(0, SLEEPER)).await;
    let mut events = remote.events();
    remote.list().await.unwrap();
    kill(&remote, Signal::HUP);
    remote.list().await.unwrap();
    kill(&remote, Signal::TERM);
    assert_eq!(events.next().await.unwrap().code, 143);
    remote.gone().await;
}

#[tokio::test]
async fn a_child_that_gives_up_is_told_with_its_last_words() {
    let folder = Folder::new();
    // This test of the child's ends without serving.
    let error = folder
        .remote_of("compile::tests::entry")
        .await
        .err()
        .unwrap();
    assert!(matches!(error, RemoteError::Start(_)), "{error}");
    // What it left, a socket that nobody listens at, is no hindrance.
    assert!(folder.socket().exists());
    let remote = folder.remote().await.unwrap();
    remote.shutdown().await.unwrap();
}
