//! Children that are slow, hungry, many, unwanted or dead.

use super::*;

/// The usual limits, but for the clock's: a child is nice, and waits long beside busy neighbours.
fn limits() -> CompileLimits {
    CompileLimits {
        wall: Duration::from_secs(24 * 3600),
        ..CompileLimits::default()
    }
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
    let compiler = after("echo 'no luck today' >&2; kill -9 $$", cache.path());
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

/// A compiler whose children do something in a shell first. Nothing is written that would then be
/// executed: a child of another thread's might still hold it open for writing (ETXTBSY).
fn after(first: &str, cache: &Path) -> Compiler {
    let this = std::env::current_exe().unwrap();
    let script = format!("{first}\nexec \"$0\" \"$@\"");
    let mut args = vec!["-c".into(), script.into(), this.into_os_string()];
    args.extend(child_args());
    Compiler::new(cache, Path::new("/bin/sh"), &args, limits()).unwrap()
}

#[tokio::test]
async fn asked_for_at_once_it_is_compiled_once() {
    let cache = scratch();
    let count = cache.path().join("tmp-count");
    let compiler = after(&format!("echo x >> '{}'", count.display()), cache.path());
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

/// Who asks for the key while the first who asked has its child's answer, and has not learnt it yet.
#[tokio::test]
async fn the_key_is_asked_for_once_however_late_it_is_learnt() {
    let cache = scratch();
    let count = cache.path().join("tmp-count");
    let compiler = after(&format!("echo x >> '{}'", count.display()), cache.path());
    let mut first = Box::pin(compiler.key());
    assert!(futures::poll!(&mut first).is_pending());
    // The child has been reaped: its permit is back.
    let permit = compiler.0.identify.acquire().await.unwrap();
    drop(permit);
    let mut second = Box::pin(compiler.key());
    assert!(futures::poll!(&mut second).is_pending());
    let (first, second) = futures::join!(first, second);
    assert_eq!(first.unwrap(), second.unwrap());
    let children = std::fs::read_to_string(&count).unwrap();
    assert_eq!(children.lines().count(), 1);
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
