//! Modules that run in a running container.

use std::fs::{self, File};
use std::io::{PipeReader, Read};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::{Host, command, compiled};
use crate::spec::{ExecError, ExecFds, ExecSpec, ExitKind, GuestId, MountSpec, StartError};

const HOUR: Duration = Duration::from_secs(3600);

/// An exec that nobody hears.
pub(super) fn exec(id: &GuestId, wat: &str) -> (ExecSpec, ExecFds) {
    let spec = ExecSpec {
        id: id.clone(),
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

/// A pipe: what is read, and what an exec writes.
pub(super) fn pipe() -> (PipeReader, Option<OwnedFd>) {
    let (read, write) = std::io::pipe().unwrap();
    (read, Some(write.into()))
}

fn read(mut pipe: PipeReader) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).unwrap();
    text
}

/// Reads a line off the caller's thread: whoever writes it runs on another.
pub(super) fn line(mut pipe: PipeReader) -> PipeReader {
    let mut byte = [0];
    while byte != [b'\n'] {
        assert_eq!(pipe.read(&mut byte).unwrap(), 1);
    }
    pipe
}

pub(super) async fn sleeper(host: &Host) -> GuestId {
    let wat = command(r#"(func (export "_start") (call $ready) (call $sleep))"#);
    host.start(host.guest(&wat)).await
}

/// Exits with what a call of preview1 on a path answers: 0 if there is something.
fn stat(path: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "path_filestat_get" (func $stat (param i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 512) "{path}")
            (func (export "_start")
                (call $exit (call $stat (i32.const 3) (i32.const 1) (i32.const 512) (i32.const {}) (i32.const 64)))))"#,
        path.len()
    )
}

/// Writes its environment's bytes, NULs and all, and exits with how many arguments it has.
const ENVIRONMENT: &str = r#"(func $environ (import "wasi_snapshot_preview1" "environ_get") (param i32 i32) (result i32))"#;

fn environment() -> String {
    format!(
        r#"(module
            {ENVIRONMENT}
            (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start")
                (drop (call $sizes (i32.const 16) (i32.const 20)))
                (drop (call $environ (i32.const 256) (i32.const 1024)))
                (i32.store (i32.const 0) (i32.const 1024))
                (i32.store (i32.const 4) (i32.load (i32.const 20)))
                (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                (drop (call $args (i32.const 16) (i32.const 20)))
                (call $exit (i32.load (i32.const 16)))))"#
    )
}

#[tokio::test]
async fn it_has_the_containers_files_and_mounts() {
    let host = Host::new();
    fs::write(host.path("root/in-root"), "").unwrap();
    fs::create_dir(host.path("volume")).unwrap();
    fs::write(host.path("volume/in-volume"), "").unwrap();
    let (mut spec, mut fds) = host.guest(&command(r#"(func (export "_start") (call $sleep))"#));
    spec.mounts = vec![MountSpec {
        guest_path: "/mnt".to_owned(),
        read_only: true,
    }];
    fds.mounts = vec![File::open(host.path("volume")).unwrap().into()];
    let id = host.start((spec, fds)).await;
    const NOENT: u8 = 44;
    for (path, code) in [("in-root", 0), ("mnt/in-volume", 0), ("elsewhere", NOENT)] {
        let (spec, fds) = exec(&id, &stat(path));
        let end = host.local.exec(spec, fds).await.unwrap();
        assert_eq!((end.code, end.kind), (code, ExitKind::Exited), "{path}");
    }
    host.local.stop(&id, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn it_has_the_containers_environment_and_its_own_arguments_and_streams() {
    let host = Host::new();
    let (mut spec, fds) = host.guest(&command(r#"(func (export "_start") (call $sleep))"#));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    spec.env = vec![pair("A", "1"), pair("B", "2")];
    spec.cwd = "/work".to_owned();
    let id = host.start((spec, fds)).await;
    let run = async |change: fn(&mut ExecSpec)| {
        let (mut spec, mut fds) = exec(&id, &environment());
        change(&mut spec);
        let (output, write) = pipe();
        fds.stdout = write;
        let end = host.local.exec(spec, fds).await.unwrap();
        (end.code, read(output))
    };
    assert_eq!(run(|_| {}).await, (1, "A=1\0B=2\0PWD=/work\0".to_owned()));
    let changed = run(|spec| {
        spec.args = ["tool", "-l", "/"].map(str::to_owned).to_vec();
        spec.env = vec![("B".to_owned(), "own".to_owned())];
        spec.cwd = Some("/".to_owned());
    });
    assert_eq!(changed.await, (3, "A=1\0B=own\0".to_owned()));
    assert!(
        host.log(&id).is_empty(),
        "the container's log is not its own"
    );
    host.local.stop(&id, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_component_runs_in_it_too() {
    let host = Host::new();
    let id = sleeper(&host).await;
    for (body, code) in [("(i32.const 0)", 0), ("(i32.const 1)", 1)] {
        let (spec, fds) = exec(&id, &super::ends::component(body));
        assert_eq!(host.local.exec(spec, fds).await.unwrap().code, code);
    }
    host.local.stop(&id, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn it_reads_its_own_input() {
    let host = Host::new();
    let id = sleeper(&host).await;
    let wat = command(
        r#"(func (export "_start") (local $n i32)
            (loop $more (if (call $read) (then (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $more))))
            (call $exit (local.get $n)))"#,
    );
    let (spec, mut fds) = exec(&id, &wat);
    let (input, mut feed) = std::io::pipe().unwrap();
    fds.stdin = Some(input.into());
    std::io::Write::write_all(&mut feed, b"seven b").unwrap();
    drop(feed);
    assert_eq!(host.local.exec(spec, fds).await.unwrap().code, 7);
    host.local.stop(&id, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_trap_is_134_with_a_backtrace_on_its_own_stderr_and_the_container_goes_on() {
    let host = Host::new();
    let id = sleeper(&host).await;
    let (spec, mut fds) = exec(
        &id,
        r#"(module $tool (func $inner unreachable) (func (export "_start") (call $inner)))"#,
    );
    let (errors, write) = pipe();
    fds.stderr = write;
    let end = host.local.exec(spec, fds).await.unwrap();
    assert_eq!((end.code, end.kind), (134, ExitKind::Trapped));
    let errors = read(errors);
    assert!(
        errors.starts_with("coracle: tool: ") && errors.contains("tool!inner"),
        "{errors}"
    );
    assert!(host.local.stats(&id).is_ok());
    assert_eq!(host.local.budget().guests, 1);
    host.local.stop(&id, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn what_takes_the_container_over_its_memory_ends_all_of_it() {
    let host = Host::new();
    let (mut spec, fds) = host.guest(&command(
        r#"(func (export "_start") (drop (memory.grow (i32.const 64))) (call $ready) (call $sleep))"#,
    ));
    spec.limits.memory_bytes = Some(8 << 20);
    let id = host.start((spec, fds)).await;
    host.logged(&id, "stdout F ready").await;
    // It would fit, were it alone.
    let (spec, fds) = exec(
        &id,
        &command(r#"(func (export "_start") (drop (memory.grow (i32.const 100))))"#),
    );
    let end = host.local.exec(spec, fds).await.unwrap();
    assert_eq!((end.code, end.kind), (137, ExitKind::OomKilled));
    assert!(end.message.contains("the limit is 8.0 MiB"), "{end:?}");
    let exited = host.end(&id).await;
    assert_eq!((exited.code, exited.kind), (137, ExitKind::OomKilled));
    assert_eq!(exited.message, end.message);
}

#[tokio::test]
async fn it_dies_with_the_container_which_has_ended_only_then() {
    let host = Host::new();
    for body in ["(call $ready) (call $sleep)", "(call $ready) (call $spin)"] {
        let id = sleeper(&host).await;
        let (spec, mut fds) = exec(
            &id,
            &command(&format!(r#"(func (export "_start") {body})"#)),
        );
        let (output, write) = pipe();
        fds.stdout = write;
        let running = host.local.exec(spec, fds);
        let stopping = async {
            let output = tokio::task::spawn_blocking(|| line(output)).await.unwrap();
            host.local.stop(&id, HOUR).await.unwrap();
            // Nothing of it is left: its end of the pipe is closed.
            read(output)
        };
        let (end, rest) = tokio::join!(running, stopping);
        let end = end.unwrap();
        assert_eq!((end.code, end.kind), (137, ExitKind::Stopped));
        assert_eq!(end.message, "its container has ended");
        assert_eq!(rest, "");
    }
}

#[tokio::test]
async fn it_ends_when_nobody_waits_for_it_any_more() {
    let host = Host::new();
    let id = sleeper(&host).await;
    for body in ["(call $ready) (call $sleep)", "(call $ready) (call $spin)"] {
        let wat = command(&format!(r#"(func (export "_start") {body})"#));
        let (spec, mut fds) = exec(&id, &wat);
        let (output, write) = pipe();
        fds.stdout = write;
        let running = host.local.exec(spec, fds);
        let begun = tokio::task::spawn_blocking(|| line(output));
        let output = tokio::select! {
            end = running => panic!("{end:?}"),
            output = begun => output.unwrap(),
        };
        let rest = tokio::task::spawn_blocking(|| read(output));
        assert_eq!(rest.await.unwrap(), "", "its end of the pipe is closed");
    }
    assert_eq!(host.local.budget().guests, 1);
    host.local.stop(&id, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn there_has_to_be_a_container_that_runs() {
    let host = Host::new();
    let wat = command(r#"(func (export "_start"))"#);
    let exited = host.run_text(&wat).await;
    let (spec, fds) = exec(&exited.id, &wat);
    let error = host.local.exec(spec, fds).await.unwrap_err();
    assert_eq!(error, ExecError::Ended(exited.id.clone()));
    host.local.forget(&exited.id).unwrap();
    let (spec, fds) = exec(&exited.id, &wat);
    let error = host.local.exec(spec, fds).await.unwrap_err();
    assert_eq!(error, ExecError::Unknown(exited.id.clone()));
}

#[tokio::test]
async fn what_can_not_run_says_why_as_a_start_does() {
    let host = Host::new();
    let id = sleeper(&host).await;
    let why = async |(spec, fds): (ExecSpec, ExecFds)| match host.local.exec(spec, fds).await {
        Err(ExecError::Start(error)) => error,
        other => panic!("{other:?}"),
    };
    let no_start = why(exec(&id, "(module)")).await;
    assert!(matches!(no_start, StartError::Entry { .. }), "{no_start}");
    let import = r#"(module (import "env" "magic" (func)) (func (export "_start")))"#;
    let import = why(exec(&id, import)).await;
    assert!(matches!(import, StartError::Import { .. }), "{import}");
    let (spec, mut fds) = exec(&id, "(module)");
    fds.code = File::open("/dev/null").unwrap().into();
    let code = why((spec, fds)).await;
    assert!(matches!(code, StartError::Code { .. }), "{code}");
    let (mut spec, fds) = exec(&id, &command(r#"(func (export "_start"))"#));
    spec.cwd = Some("here".to_owned());
    assert_eq!(
        why((spec, fds)).await.to_string(),
        "cwd is \"here\": it has to be absolute: begin it with /"
    );
    host.local.stop(&id, Duration::ZERO).await.unwrap();
}
