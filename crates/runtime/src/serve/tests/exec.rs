//! Execs across the socket.

use std::io::{PipeReader, Read};

use tokio::net::UnixStream;

use super::*;
use crate::protocol::frame::encode;
use crate::protocol::message::Hello;
use crate::protocol::stream::write;
use crate::spec::{ExecError, ExecFds, ExecSpec};

/// Says a line and sleeps for an hour.
const READY: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 512) "ready\n")
    (func (export "_start")
        (i32.store (i32.const 256) (i32.const 512))
        (i32.store (i32.const 260) (i32.const 6))
        (drop (call $fd_write (i32.const 1) (i32.const 256) (i32.const 1) (i32.const 264)))
        (i64.store (i32.const 24) (i64.const 3600000000000))
        (loop $again
            (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
            (br $again))))"#;

fn exec(attempt: u32, wat: &str) -> (ExecSpec, ExecFds) {
    let spec = ExecSpec {
        id: id(attempt),
        export: None,
        args: vec!["tool".to_owned()],
        env: Vec::new(),
        cwd: None,
        tty: false,
    };
    let fds = ExecFds {
        code: compiled(wat),
        stdin: None,
        stdout: None,
        stderr: None,
    };
    (spec, fds)
}

/// An exec that says when it runs, and what it says.
fn talker() -> (ExecSpec, ExecFds, PipeReader) {
    let (spec, mut fds) = exec(0, READY);
    let (reader, writer) = std::io::pipe().unwrap();
    fds.stdout = Some(writer.into());
    (spec, fds, reader)
}

async fn ready(mut pipe: PipeReader) -> PipeReader {
    let reading = tokio::task::spawn_blocking(move || {
        let mut line = [0; 6];
        pipe.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"ready\n");
        pipe
    });
    reading.await.unwrap()
}

/// Resolves when nobody can write any more.
async fn closed(mut pipe: PipeReader) {
    let reading = tokio::task::spawn_blocking(move || pipe.read(&mut [0]).unwrap());
    assert_eq!(reading.await.unwrap(), 0);
}

#[tokio::test]
async fn an_exec_runs_in_the_other_process_and_its_end_is_told() {
    let folder = Folder::new();
    let remote = folder.remote().await.unwrap();
    start(&remote, folder.guest(0, SLEEPER)).await;
    let (spec, fds) = exec(0, SEVEN);
    let end = remote.exec(spec, fds).await.unwrap();
    assert_eq!((end.code, end.kind), (7, ExitKind::Exited));
    let (spec, fds) = exec(9, SEVEN);
    let error = remote.exec(spec, fds).await.unwrap_err();
    assert_eq!(error, ExecError::Unknown(id(9)));
    let (spec, fds) = exec(0, "(module)");
    let error = remote.exec(spec, fds).await.unwrap_err();
    assert!(
        matches!(error, ExecError::Start(StartError::Entry { .. })),
        "{error}"
    );
    remote.shutdown().await.unwrap();
}

#[tokio::test]
async fn it_ends_with_whoever_waits_for_it_and_the_container_goes_on() {
    let folder = Folder::new();
    let remote = folder.remote().await.unwrap();
    start(&remote, folder.guest(0, SLEEPER)).await;
    let (spec, fds, pipe) = talker();
    let pipe = tokio::select! {
        end = remote.exec(spec, fds) => panic!("{end:?}"),
        pipe = ready(pipe) => pipe,
    };
    // The future is gone, the connection is not.
    closed(pipe).await;

    let agent = folder.remote().await.unwrap();
    let (spec, fds, pipe) = talker();
    let running = tokio::spawn(async move { agent.exec(spec, fds).await });
    let pipe = ready(pipe).await;
    // The whole agent is gone.
    running.abort();
    drop(running.await);
    closed(pipe).await;
    assert_eq!(remote.list().await.unwrap()[0].phase, Phase::Running);
    remote.shutdown().await.unwrap();
}

#[tokio::test]
async fn it_ends_with_its_container_and_with_the_guest_host() {
    let folder = Folder::new();
    let remote = folder.remote().await.unwrap();
    start(&remote, folder.guest(0, SLEEPER)).await;
    let (spec, fds, pipe) = talker();
    let (end, ()) = tokio::join!(remote.exec(spec, fds), async {
        let pipe = ready(pipe).await;
        remote.stop(&id(0), Duration::ZERO).await.unwrap();
        closed(pipe).await;
    });
    let end = end.unwrap();
    assert_eq!((end.code, end.kind), (137, ExitKind::Stopped));

    remote.forget(&id(0)).await.unwrap();
    start(&remote, folder.guest(0, SLEEPER)).await;
    let (spec, fds, pipe) = talker();
    let (end, ()) = tokio::join!(remote.exec(spec, fds), async {
        let pipe = ready(pipe).await;
        kill(&remote, Signal::KILL);
        closed(pipe).await;
    });
    let error = end.unwrap_err();
    assert!(matches!(error, ExecError::Gone(_)), "{error}");
}

#[tokio::test]
async fn a_guest_host_of_an_earlier_release_is_not_asked() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let old = Hello {
        binary: "0.0.1".to_owned(),
        capabilities: Vec::new(),
        ..Hello::ours()
    };
    write(&theirs, &encode(&old, 0).unwrap(), &[])
        .await
        .unwrap();
    let remote = Remote::over(ours).await.unwrap();
    let (spec, fds) = exec(0, SEVEN);
    let error = remote.exec(spec, fds).await.unwrap_err();
    let version = "0.0.1".to_owned();
    assert_eq!(error, ExecError::Unsupported { version });
}
