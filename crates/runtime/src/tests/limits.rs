//! Memory, CPU and the host's room.

use std::time::{Duration, Instant};

use super::{Host, command};
use crate::local::LocalConfig;
use crate::spec::{ExitKind, Limits, StartError};

fn mib(n: u64) -> Limits {
    Limits {
        memory_bytes: Some(n << 20),
        ..Limits::default()
    }
}

/// Grows its memory by a MiB at a time, for ever, and exits with 3 when it may not.
const GLUTTON: &str = r#"(func (export "_start")
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    (call $exit (i32.const 3)))"#;

#[tokio::test]
async fn passing_the_memory_budget_ends_that_container_alone() {
    let host = Host::new();
    let other = host
        .start(host.guest(&command(r#"(func (export "_start") (call $sleep))"#)))
        .await;
    let (mut spec, fds) = host.guest(&command(GLUTTON));
    spec.limits = mib(8);
    let exited = host.run((spec, fds)).await;
    assert_eq!((exited.code, exited.kind), (137, ExitKind::OomKilled));
    assert!(
        exited
            .message
            .starts_with("out of memory: the limit is 8.0 MiB, "),
        "{}",
        exited.message
    );
    assert!(
        exited
            .message
            .ends_with("its linear memory wants 1.0 MiB more"),
        "{}",
        exited.message
    );
    assert_eq!(
        host.local.stats(&exited.id).unwrap().memory_bytes,
        0,
        "all is given back"
    );
    assert!(host.local.stats(&other).unwrap().memory_bytes >= 64 << 10);
    host.local.stop(&other, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_modules_own_maximum_is_answered_with_minus_one() {
    let host = Host::new();
    let (mut spec, fds) = host.guest(&command(GLUTTON).replace(
        r#"(memory (export "memory") 1)"#,
        r#"(memory (export "memory") 1 64)"#,
    ));
    spec.limits = mib(8);
    assert_eq!(host.run((spec, fds)).await.code, 3);
    // Four GiB are a 32-bit memory's own maximum: after growth that succeeded, too.
    let wat = command(
        r#"(func (export "_start")
            (drop (memory.grow (i32.const 1)))
            (if (i32.eq (memory.grow (i32.const 65535)) (i32.const -1)) (then (call $exit (i32.const 4)))))"#,
    );
    let (mut spec, fds) = host.guest(&wat);
    spec.limits = mib(8);
    assert_eq!(host.run((spec, fds)).await.code, 4);
}

#[tokio::test]
async fn a_memory_that_begins_beyond_the_budget_is_killed_not_refused() {
    let host = Host::new();
    let (mut spec, fds) = host.guest(r#"(module (memory 1024) (func (export "_start")))"#);
    spec.limits = mib(8);
    let exited = host.run((spec, fds)).await;
    assert_eq!((exited.code, exited.kind), (137, ExitKind::OomKilled));
}

#[tokio::test]
async fn tables_and_touched_stacks_count() {
    let host = Host::new();
    let table = r#"(func (export "_start") (drop (table.grow $table (ref.null func) (i32.const 1000000))))"#;
    // A frame that no tail call can do without, deep enough for 2 MiB.
    let stack = r#"(func $down (param $n i32) (result i64)
            (if (result i64) (i32.eqz (local.get $n)) (then (call $ready) (call $sleep) (i64.const 0))
                (else (i64.add (call $down (i32.sub (local.get $n) (i32.const 1))) (i64.extend_i32_u (local.get $n))))))
        (func (export "_start") (drop (call $down (i32.const 100000))) (drop (memory.grow (i32.const 1))))"#;
    let (mut spec, fds) = host.guest(&command(table));
    spec.limits = mib(8);
    let exited = host.run((spec, fds)).await;
    assert!(
        exited.kind == ExitKind::OomKilled && exited.message.contains("a table wants"),
        "{exited:?}"
    );

    let deep = host.start(host.guest(&command(stack))).await;
    host.logged(&deep, "stdout F ready").await;
    assert!(host.local.stats(&deep).unwrap().memory_bytes > 2 << 20);
    host.local.stop(&deep, Duration::ZERO).await.unwrap();

    let (mut spec, fds) = host.guest(&command(
        &stack.replace("(call $sleep)", "(drop (memory.grow (i32.const 1)))"),
    ));
    spec.limits = mib(2);
    let exited = host.run((spec, fds)).await;
    assert!(
        exited.kind == ExitKind::OomKilled && exited.message.contains("its stacks of"),
        "{exited:?}"
    );
}

#[tokio::test]
async fn limits_can_be_changed_while_it_runs() {
    let host = Host::new();
    let wat = command(
        r#"(func (export "_start") (call $ready) (drop (call $read)) (drop (memory.grow (i32.const 256))) (call $ready))"#,
    );
    for (limit, code) in [(Some(32 << 20), 0), (Some(1 << 20), 137), (None, 0)] {
        let (mut spec, mut fds) = host.guest(&wat);
        spec.limits = mib(2);
        let (input, feed) = std::io::pipe().unwrap();
        fds.stdin = Some(input.into());
        let id = host.start((spec, fds)).await;
        host.logged(&id, "stdout F ready").await;
        host.local
            .set_limits(
                &id,
                &Limits {
                    memory_bytes: limit,
                    ..Limits::default()
                },
            )
            .unwrap();
        drop(feed);
        assert_eq!(host.end(&id).await.code, code);
    }
}

/// What a guest took too much is a debt that it pays before it goes on, so that sooner or later it
/// has had no more than its share. Without a limit it has had all of the time, and that never comes.
#[tokio::test]
async fn a_cpu_limit_is_kept_over_time() {
    let host = Host::new();
    let wat = command(r#"(func (export "_start") (call $ready) (call $spin))"#);
    let (mut spec, fds) = host.guest(&wat);
    spec.limits.cpu_milli = Some(50);
    let begun = Instant::now();
    let id = host.start((spec, fds)).await;
    let kept = async {
        loop {
            // The time is looked at first: it is never more than what the guest had.
            let share = begun.elapsed().as_secs_f64() * 0.050;
            let cpu = host.local.stats(&id).unwrap().cpu_nanos as f64 / 1e9;
            // Several turns, and of the period that has begun no more than its whole share.
            if cpu > 0.020 && cpu <= share + 0.005 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let kept = tokio::time::timeout(Duration::from_secs(300), kept).await;
    assert!(kept.is_ok(), "{:?}", host.local.stats(&id));
    host.local.stop(&id, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn cpu_time_is_that_of_the_guest_alone() {
    let host = Host::new();
    let idle = host
        .start(host.guest(&command(
            r#"(func (export "_start") (call $ready) (call $sleep))"#,
        )))
        .await;
    host.logged(&idle, "stdout F ready").await;
    let busy = r#"(func (export "_start") (local $n i32)
        (local.set $n (i32.const 200000000))
        (loop $again (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))"#;
    let busy = host.run_text(&command(busy)).await;
    let (idle_cpu, busy_cpu) = [&idle, &busy.id]
        .map(|id| host.local.stats(id).unwrap().cpu_nanos)
        .into();
    assert!(
        0 < idle_cpu && idle_cpu * 4 < busy_cpu,
        "{idle_cpu} and {busy_cpu}"
    );
    host.local.stop(&idle, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn spinners_take_turns_on_one_thread() {
    let host = Host::new();
    let spin = command(r#"(func (export "_start") (call $ready) (call $spin))"#);
    for _ in 0..3 {
        let id = host.start(host.guest(&spin)).await;
        host.logged(&id, "stdout F ready").await;
    }
    let exited = host
        .run_text(&command(r#"(func (export "_start") (call $ready))"#))
        .await;
    assert_eq!(exited.code, 0);
    host.local.shutdown().await;
}

#[tokio::test]
async fn one_guest_too_many_for_the_host_is_refused_with_what_to_raise() {
    let host = Host::with(LocalConfig {
        workers: Some(1),
        room: Some((1000, 8)),
    });
    let sleeper = command(r#"(func (export "_start") (call $sleep))"#);
    let first = host.start(host.guest(&sleeper)).await;
    let second = host.start(host.guest(&sleeper)).await;
    let error = host.refused(host.guest(&sleeper)).await;
    assert!(
        matches!(&error, StartError::Budget { resource, used: 6, wanted: 3, max: 8, .. } if resource == "descriptors"),
        "{error}"
    );
    assert!(error.retryable() && error.to_string().contains("ulimit -n"));
    assert_eq!(host.local.budget().guests, 2);
    host.local.stop(&first, Duration::ZERO).await.unwrap();
    let third = host.start(host.guest(&sleeper)).await;
    for id in [second, third] {
        host.local.stop(&id, Duration::ZERO).await.unwrap();
    }
    assert_eq!(host.local.budget().descriptors.used, 0);
}

/// In a process of its own: other tests map as well.
#[test]
fn the_promised_mappings_are_no_fewer_than_a_guest_has() {
    let alone = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["tests::limits::mappings_of_guests", "--exact", "--ignored"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&alone.stdout);
    let ran = said.contains("1 passed");
    assert!(alone.status.success() && ran, "{said}");
}

#[tokio::test]
#[ignore = "the test above runs it"]
async fn mappings_of_guests() {
    let host = Host::new();
    let sleeper = command(r#"(func (export "_start") (call $ready) (call $sleep))"#);
    let (_, fds) = host.guest(&sleeper);
    let mappings = || {
        std::fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .count() as u64
    };
    let start = async || {
        let (spec, mut other) = host.guest("(module)");
        other.code = fds.code.try_clone().unwrap();
        let id = host.start((spec, other)).await;
        host.logged(&id, "stdout F ready").await;
    };
    start().await;
    let (before, promised) = (mappings(), host.local.budget().mappings.used);
    for _ in 0..100 {
        start().await;
    }
    let (each, promise) = (
        (mappings() - before) as f64 / 100.0,
        (host.local.budget().mappings.used - promised) / 100,
    );
    assert!(
        each <= promise as f64 + 0.5,
        "{each} mappings a guest, and {promise} are promised"
    );
    host.local.shutdown().await;
}

/// Opens a folder until it may not, or once; traps if it may not for another reason than that the
/// host has none to spare.
fn opener(body: &str) -> String {
    let import = r#"(module
            (import "wasi_snapshot_preview1" "path_open" (func $path_open
                (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;
    let open = r#"(data (i32.const 600) ".")
            (func $open (result i32)
                (call $path_open (i32.const 3) (i32.const 0) (i32.const 600) (i32.const 1) (i32.const 2)
                    (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 604)))"#;
    command(&format!("{open} {body}")).replacen("(module", import, 1)
}

#[tokio::test]
async fn hoarders_of_descriptors_leave_others_unharmed() {
    const NFILE: u32 = 41;
    let host = Host::with(LocalConfig {
        workers: Some(1),
        room: Some((10_000, 1000)),
    });
    let hoarder = opener(&format!(
        r#"(func (export "_start") (local $error i32)
            (loop $more (br_if $more (i32.eqz (local.tee $error (call $open)))))
            (if (i32.ne (local.get $error) (i32.const {NFILE})) (then unreachable))
            (call $ready) (call $sleep))"#
    ));
    let once = opener(r#"(func (export "_start") (call $exit (call $open)))"#);
    let mut hoarders = Vec::new();
    for _ in 0..3 {
        let id = host.start(host.guest(&hoarder)).await;
        host.logged(&id, "stdout F ready").await;
        hoarders.push(id);
    }
    let used = host.local.budget().descriptors.used;
    assert!((500..700).contains(&used), "{used}");
    assert_eq!(host.run_text(&once).await.code, 0);
    for id in hoarders {
        host.local
            .stop(&id, std::time::Duration::ZERO)
            .await
            .unwrap();
    }
    assert_eq!(host.local.budget().descriptors.used, 0);
}
