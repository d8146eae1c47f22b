//! Children that are slow, hungry, many, unwanted or dead.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

fn limits() -> CompileLimits {
    CompileLimits::default()
}

async fn refused(limits: CompileLimits) -> CompileError {
    let cache = scratch();
    let module = source(heavy(2_000, 400));
    let compiler = compiler_with(cache.path(), limits);
    compiler.code(&module, |_| ()).await.unwrap_err()
}

#[tokio::test]
async fn a_slow_module_meets_the_limit_of_cpu_time() {
    let limits = CompileLimits {
        cpu_seconds: 1,
        ..limits()
    };
    let error = refused(limits).await;
    assert_eq!(error, CompileError::CpuLimit { seconds: 1 });
    assert!(!error.retryable());
}

#[tokio::test]
async fn a_slow_module_meets_the_limit_of_time() {
    let cache = scratch();
    // The key is there, so that the limit meets the compilation and not the question for it.
    compile(cache.path(), HELLO).await.unwrap();
    let limits = CompileLimits {
        wall: Duration::from_millis(50),
        ..limits()
    };
    let compiler = compiler_with(cache.path(), limits);
    let module = source(heavy(2_000, 400));
    let error = compiler.code(&module, |_| ()).await.unwrap_err();
    assert_eq!(error, CompileError::WallLimit { seconds: 0 });
    assert!(error.retryable());
}

#[tokio::test]
async fn a_hungry_module_meets_the_limit_of_memory() {
    let bytes = 96 << 20;
    let limits = CompileLimits {
        memory_bytes: bytes,
        ..limits()
    };
    let error = refused(limits).await;
    assert_eq!(error, CompileError::MemoryLimit { bytes });
    assert!(!error.retryable());
}

#[tokio::test]
async fn a_child_that_dies_is_told_with_its_last_words() {
    let cache = scratch();
    let exe = script(cache.path(), "echo 'no luck today' >&2; kill -9 $$");
    let compiler = Compiler::new(cache.path(), &exe, &[], limits()).unwrap();
    let error = compiler.code(&source(HELLO), |_| ()).await.unwrap_err();
    assert!(
        error.to_string().contains("signal 9: no luck today"),
        "{error}"
    );
    assert!(error.retryable());
}

#[tokio::test]
async fn a_binary_that_is_not_there_is_told() {
    let cache = scratch();
    let exe = cache.path().join("absent");
    let compiler = Compiler::new(cache.path(), &exe, &[], limits()).unwrap();
    let error = compiler.code(&source(HELLO), |_| ()).await.unwrap_err();
    assert!(
        error.to_string().contains("start the compiling process"),
        "{error}"
    );
}

/// A stand-in for the binary that does something first.
fn script(folder: &Path, first: &str) -> PathBuf {
    let path = folder.join("tmp-child.sh");
    let this = std::env::current_exe().unwrap();
    let script = format!("#!/bin/sh\n{first}\nexec '{}' \"$@\"\n", this.display());
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn asked_for_at_once_it_is_compiled_once() {
    let cache = scratch();
    let count = cache.path().join("tmp-count");
    let exe = script(cache.path(), &format!("echo x >> '{}'", count.display()));
    let compiler = Compiler::new(cache.path(), &exe, &child_args(), limits()).unwrap();
    let module = source(HELLO);
    let all = (0..16).map(|_| compiler.code(&module, |_| ()));
    let codes = futures::future::join_all(all).await;
    let cached: Vec<bool> = codes.into_iter().map(|code| code.unwrap().cached).collect();
    // Who asked late enough found it there.
    assert!(cached.contains(&false), "{cached:?}");
    // One child told the key and one compiled.
    let children = std::fs::read_to_string(&count).unwrap();
    assert_eq!(children.lines().count(), 2);
    assert!(compiler.code(&module, |_| ()).await.unwrap().cached);
}

#[tokio::test]
async fn a_failure_is_told_to_everyone_who_waits() {
    let cache = scratch();
    let compiler = compiler(cache.path());
    let module = source("nonsense");
    let all = (0..4).map(|_| compiler.code(&module, |_| ()));
    for result in futures::future::join_all(all).await {
        assert!(matches!(result, Err(CompileError::NotWasm { .. })));
    }
}

#[tokio::test]
async fn a_compilation_that_nobody_waits_for_is_killed() {
    let cache = scratch();
    let compiler = compiler(cache.path());
    compiler.code(&source(HELLO), |_| ()).await.unwrap();
    let slow = source(heavy(2_000, 400));
    let (begun, begins) = tokio::sync::oneshot::channel();
    let begun = Mutex::new(Some(begun));
    let tell = |progress| {
        if progress == CompileProgress::Compiling {
            begun.lock().unwrap().take().map(|begun| begun.send(()));
        }
    };
    tokio::select! {
        result = compiler.code(&slow, tell) => panic!("{result:?}"),
        begins = begins => begins.unwrap(),
    }
    // Every permit comes back once the child has been reaped; it would have taken minutes.
    let all = Share::of(std::thread::available_parallelism().unwrap().get()).children;
    let permits = compiler.0.permits.acquire_many(all as u32).await.unwrap();
    drop(permits);
    let left = std::fs::read_dir(cache.path()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.starts_with("tmp-")).count(), 0);
}

#[test]
fn half_the_cores_are_shared_out() {
    for cores in 1..=256 {
        let share = Share::of(cores);
        assert!(
            share.threads >= 1 && (1..=3).contains(&share.children),
            "{cores}"
        );
        assert!(
            share.threads * share.children <= (cores / 2).max(1),
            "{cores}"
        );
    }
}
