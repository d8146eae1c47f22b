//! Starting, stopping and forgetting, in and out of order.

use std::sync::Arc;
use std::time::Duration;

use super::{Host, command};
use crate::container::Container;
use crate::guest::{Guest, Run};
use crate::instance::Code;
use crate::room::{Needs, Room};
use crate::spec::{ExitKind, GuestId, HostError, Limits, Phase, StartError};
use crate::ticker::Ticker;
use crate::world::ContainerWorld;

const HOUR: Duration = Duration::from_secs(3600);

fn sleeper() -> String {
    command(r#"(func (export "_start") (call $ready) (call $sleep))"#)
}

/// A guest that goes on until its input ends.
fn reader() -> String {
    command(
        r#"(func (export "_start") (call $ready) (loop $more (br_if $more (call $read))) (call $exit (i32.const 5)))"#,
    )
}

#[tokio::test]
async fn a_stop_ends_at_once_who_sleeps_spins_or_waits_for_input() {
    let host = Host::new();
    let spinner = command(r#"(func (export "_start") (call $ready) (call $spin))"#);
    for wat in [sleeper(), spinner, reader()] {
        let (spec, mut fds) = host.guest(&wat);
        let (input, _feed) = std::io::pipe().unwrap();
        fds.stdin = Some(input.into());
        let id = host.start((spec, fds)).await;
        host.logged(&id, "stdout F ready").await;
        host.local.stop(&id, HOUR).await.unwrap();
        let exited = host.end(&id).await;
        assert_eq!((exited.code, exited.kind), (143, ExitKind::Stopped));
        host.local.stop(&id, HOUR).await.unwrap();
    }
}

#[tokio::test]
async fn a_drain_ends_the_input_and_lets_the_guest_finish() {
    let host = Host::new();
    let (mut spec, mut fds) = host.guest(&reader());
    spec.drain = true;
    let (input, mut feed) = std::io::pipe().unwrap();
    fds.stdin = Some(input.into());
    let id = host.start((spec, fds)).await;
    std::io::Write::write_all(&mut feed, b"some").unwrap();
    host.logged(&id, "stdout F ready").await;
    host.local.stop(&id, HOUR).await.unwrap();
    let exited = host.end(&id).await;
    assert_eq!((exited.code, exited.kind), (5, ExitKind::Exited));
}

#[tokio::test]
async fn a_drain_closes_the_listeners() {
    let host = Host::new();
    let (mut spec, mut fds) = host.guest(&sleeper());
    spec.drain = true;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    fds.listeners = vec![listener.into()];
    let id = host.start((spec, fds)).await;
    std::net::TcpStream::connect(address).unwrap();
    let stop = host.local.stop(&id, HOUR);
    tokio::pin!(stop);
    while std::net::TcpStream::connect(address).is_ok() {
        assert!(futures::poll!(&mut stop).is_pending(), "it has its grace");
        tokio::task::yield_now().await;
    }
    host.local.stop(&id, Duration::ZERO).await.unwrap();
    stop.await.unwrap();
}

#[tokio::test]
async fn a_shorter_grace_overtakes_and_a_longer_one_changes_nothing() {
    let host = Host::new();
    let (mut spec, fds) = host.guest(&sleeper());
    spec.drain = true;
    let id = host.start((spec, fds)).await;
    let (long, short, longer) = tokio::join!(
        host.local.stop(&id, HOUR),
        host.local.stop(&id, Duration::ZERO),
        host.local.stop(&id, HOUR)
    );
    assert_eq!((long, short, longer), (Ok(()), Ok(()), Ok(())));
    let exited = host.end(&id).await;
    assert_eq!((exited.code, exited.kind), (137, ExitKind::Stopped));
    assert_eq!(exited.message, "it did not end within its grace");
}

#[tokio::test]
async fn a_second_start_is_the_same_guest_even_at_once() {
    let host = Host::new();
    let (spec, fds) = host.guest(&sleeper());
    let again = |code: &std::os::fd::OwnedFd| {
        let (_, mut fds) = host.guest("(module)");
        fds.code = code.try_clone().unwrap();
        fds
    };
    let (second, third) = (again(&fds.code), again(&fds.code));
    let (a, b) = tokio::join!(
        host.local.start(spec.clone(), fds),
        host.local.start(spec.clone(), second)
    );
    assert_eq!(a.clone().unwrap(), b.unwrap());
    assert_eq!(host.local.list().len(), 1);
    host.local.stop(&spec.id, HOUR).await.unwrap();
    assert_eq!(
        host.local.start(spec.clone(), third).await,
        a,
        "one that ended is not run again"
    );
    assert!(matches!(host.local.list()[0].phase, Phase::Exited(_)));
}

#[tokio::test]
async fn ends_are_told_until_they_are_forgotten() {
    let host = Host::new();
    let done = host.run_text(&command(r#"(func (export "_start"))"#)).await;
    let running = host.start(host.guest(&sleeper())).await;
    let mut early = host.local.events();
    assert_eq!(early.next().await.as_ref(), Some(&done));
    assert_eq!(
        host.local.events().next().await.as_ref(),
        Some(&done),
        "to everyone"
    );
    assert_eq!(
        host.local.forget(&running),
        Err(HostError::Running(running.clone()))
    );
    host.local.forget(&done.id).unwrap();
    host.local.forget(&done.id).unwrap();
    host.local.stop(&running, HOUR).await.unwrap();
    assert_eq!(early.next().await.unwrap().id, running);
    assert_eq!(host.local.events().next().await.unwrap().id, running);
    assert_eq!(host.local.list().len(), 1);
}

#[tokio::test]
async fn who_is_not_known_can_not_be_stopped() {
    let host = Host::new();
    let id = GuestId {
        pod_uid: "nobody".to_owned(),
        container: "c".to_owned(),
        attempt: 0,
    };
    assert_eq!(
        host.local.stop(&id, HOUR).await,
        Err(HostError::Unknown(id.clone()))
    );
    assert_eq!(host.local.stats(&id), Err(HostError::Unknown(id.clone())));
    assert_eq!(
        host.local.set_limits(&id, &Limits::default()),
        Err(HostError::Unknown(id))
    );
}

#[tokio::test]
async fn a_shutdown_ends_all_and_takes_no_more() {
    let host = Host::new();
    for _ in 0..4 {
        host.start(host.guest(&sleeper())).await;
    }
    let (mut spec, fds) = host.guest(&sleeper());
    spec.drain = true;
    host.start((spec, fds)).await;
    host.local.shutdown().await;
    assert!(
        host.local
            .list()
            .iter()
            .all(|guest| matches!(guest.phase, Phase::Exited(_)))
    );
    assert_eq!(
        host.refused(host.guest(&sleeper())).await,
        StartError::Closing
    );
}

/// A guest whose code is a future of the test's.
fn guest_of(
    code: impl FnOnce(Arc<wasi_host::Blocking>) -> Code,
) -> (Arc<Guest>, Box<Run>, Arc<Ticker>) {
    let id = GuestId {
        pod_uid: "uid".to_owned(),
        container: "main".to_owned(),
        attempt: 0,
    };
    let container = Arc::new(Container::new(&Limits::default()));
    let blocking = Arc::clone(&container.blocking);
    let root = std::fs::File::open("/").unwrap().into();
    let world = ContainerWorld {
        container,
        root: wasi_host::fs::Root::new(root, Vec::new()).unwrap(),
        env: Vec::new(),
        cwd: "/".to_owned(),
        network: wasi_host::Network::default(),
        outgoing: wasi_host::OutgoingHttp::default(),
    };
    let name = "default/pod/main".to_owned();
    let guest = Guest::new(id, name, false, Arc::new(world));
    let run = Run {
        work: crate::guest::Work::Run(code(blocking)),
        stderr: Arc::new(wasi_host::stdio::NullSink),
        listeners: Vec::new(),
        drained: tokio::sync::watch::Sender::new(false),
        promise: Arc::new(Room::new(1, 1))
            .promise(Needs {
                mappings: 1,
                descriptors: 1,
            })
            .unwrap(),
    };
    let ticker =
        Ticker::start(crate::engine::guests(crate::engine::Calls::Sequential).unwrap()).unwrap();
    (Arc::new(guest), Box::new(run), Arc::new(ticker))
}

#[tokio::test]
async fn a_stopped_guest_has_ended_only_when_its_blocking_work_has() {
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (finish, finished) = std::sync::mpsc::channel::<()>();
    let work = move || {
        begun.send(()).unwrap();
        finished.recv().unwrap();
    };
    let (guest, run, ticker) =
        guest_of(|blocking| Box::pin(async move { Ok(blocking.run(work).await?) }));
    let running = tokio::spawn({
        let guest = Arc::clone(&guest);
        async move {
            let exited = guest.run(run, ticker).await;
            guest.end(exited);
        }
    });
    has_begun.await.unwrap();
    let stop = guest.stop(HOUR);
    tokio::pin!(stop);
    for _ in 0..100 {
        assert!(futures::poll!(&mut stop).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(guest.state().phase, Phase::Stopping);
    finish.send(()).unwrap();
    stop.await;
    running.await.unwrap();
    assert_eq!(guest.exited().unwrap().code, 143);
}

#[tokio::test]
async fn a_panic_of_the_hosts_is_the_end_of_that_guest_alone() {
    let (guest, run, ticker) = guest_of(|_| Box::pin(async { panic!("a broken promise") }));
    let exited = guest.run(run, ticker).await;
    assert_eq!((exited.code, exited.kind), (137, ExitKind::Lost));
    assert!(
        exited.message.ends_with("a broken promise"),
        "{}",
        exited.message
    );
}
