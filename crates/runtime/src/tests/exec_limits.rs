//! What the execs of a container may have: in number, of the host's room, of the container's quota.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use super::exec::{exec, line, pipe, sleeper};
use super::{Host, command};
use crate::execs::MAX_EXECS;
use crate::local::LocalConfig;
use crate::spec::{ExecError, ExitKind, Limits, StartError};

#[tokio::test]
async fn a_container_has_a_bounded_number_of_them() {
    let host = Arc::new(Host::new());
    let id = sleeper(&host).await;
    let waiter = command(r#"(func (export "_start") (call $ready) (drop (call $read)))"#);
    let mut running = tokio::task::JoinSet::new();
    let mut feeds = Vec::new();
    for _ in 0..MAX_EXECS {
        let (spec, mut fds) = exec(&id, &waiter);
        let (output, write) = pipe();
        let (input, feed) = std::io::pipe().unwrap();
        (fds.stdin, fds.stdout) = (Some(input.into()), write);
        let host = Arc::clone(&host);
        running.spawn(async move { host.local.exec(spec, fds).await.unwrap() });
        tokio::task::spawn_blocking(|| line(output)).await.unwrap();
        feeds.push(feed);
    }
    let (spec, fds) = exec(&id, &waiter);
    let error = host.local.exec(spec, fds).await.unwrap_err();
    assert!(
        matches!(error, ExecError::TooMany { max: MAX_EXECS, .. }),
        "{error}"
    );
    feeds.pop();
    running.join_next().await.unwrap().unwrap();
    let (spec, fds) = exec(&id, &waiter);
    assert_eq!(host.local.exec(spec, fds).await.unwrap().code, 0);
    host.local.stop(&id, Duration::ZERO).await.unwrap();
    let ends = running.join_all().await;
    assert!(ends.iter().all(|end| end.kind == ExitKind::Stopped));
}

#[tokio::test]
async fn its_mappings_and_descriptors_are_promised() {
    let host = Host::with(LocalConfig {
        workers: Some(1),
        room: Some((1000, 6)),
    });
    let id = sleeper(&host).await;
    let used = host.local.budget();
    let waiter = command(r#"(func (export "_start") (call $ready) (call $sleep))"#);
    let (output, write) = pipe();
    let (spec, mut fds) = exec(&id, &waiter);
    fds.stdout = write;
    let first = host.local.exec(spec, fds);
    let others = async {
        let output = tokio::task::spawn_blocking(|| line(output)).await.unwrap();
        let budget = host.local.budget();
        assert_eq!(budget.descriptors.used, used.descriptors.used + 1);
        assert!(budget.mappings.used > used.mappings.used);
        let (spec, mut fds) = exec(&id, &waiter);
        (fds.stdin, fds.stdout, fds.stderr) = (
            Some(File::open("/dev/null").unwrap().into()),
            pipe().1,
            pipe().1,
        );
        let error = host.local.exec(spec, fds).await.unwrap_err();
        assert!(
            matches!(&error, ExecError::Start(StartError::Budget { resource, .. }) if resource == "descriptors"),
            "{error}"
        );
        output
    };
    tokio::select! {
        end = first => panic!("{end:?}"),
        _ = others => {}
    }
    host.local.stop(&id, Duration::ZERO).await.unwrap();
    assert_eq!(host.local.budget().mappings.used, 0, "all is given back");
}

#[tokio::test]
async fn its_cpu_time_is_the_containers() {
    let host = Host::new();
    let id = sleeper(&host).await;
    host.logged(&id, "stdout F ready").await;
    let before = host.local.stats(&id).unwrap().cpu_nanos;
    let busy = |times: u32| {
        format!(
            r#"(func (export "_start") (local $n i32)
            (local.set $n (i32.const {times}))
            (loop $again (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))"#
        )
    };
    let (spec, fds) = exec(&id, &command(&busy(20_000_000)));
    host.local.exec(spec, fds).await.unwrap();
    let after = host.local.stats(&id).unwrap().cpu_nanos;
    assert!(after > before + 1_000_000, "{before} and {after}");
    let limits = Limits {
        cpu_milli: Some(200),
        ..Limits::default()
    };
    host.local.set_limits(&id, &limits).unwrap();
    let (spec, fds) = exec(&id, &command(&busy(400_000_000)));
    let begin = std::time::Instant::now();
    host.local.exec(spec, fds).await.unwrap();
    let took = begin.elapsed().as_secs_f64();
    let cpu = (host.local.stats(&id).unwrap().cpu_nanos - after) as f64 / 1e9;
    // 20 ms of each 100: the last turn, of 4 ms and what a busy machine adds, may be in debt.
    assert!(
        took >= (cpu - 0.100) / 0.200 - 0.100,
        "{cpu} s of CPU time in {took} s"
    );
    host.local.stop(&id, Duration::ZERO).await.unwrap();
}
