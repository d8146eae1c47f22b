//! Commands of preview3: what they see of the world, and that its limits hold for them.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::OnceLock;

use guests::{Guest, Missing};

use super::*;
use crate::engine::{Calls, compiler};
use crate::spec::ExitKind;

/// The code of a guest in Rust, as the compile child would write it; `None` where Rust's guests were
/// left out on this machine.
pub(crate) fn precompiled(
    guest: Guest,
    path: &'static OnceLock<Option<PathBuf>>,
) -> Option<OwnedFd> {
    let compile = || {
        let wasm = match guests::path(guest) {
            Ok(path) => fs::read(path).unwrap(),
            Err(missing @ Missing::LeftOut { .. }) => {
                println!("not run: {missing}");
                return None;
            }
            Err(missing) => panic!("{missing}"),
        };
        let code = compiler(Calls::Concurrent)
            .unwrap()
            .precompile_component(&wasm);
        let (mut file, path) = tempfile::NamedTempFile::new().unwrap().keep().unwrap();
        file.write_all(&code.unwrap()).unwrap();
        Some(path)
    };
    let path = path.get_or_init(compile).as_ref()?;
    Some(File::open(path).unwrap().into())
}

/// The guest `concurrent` with these arguments, as yet unstarted.
fn guest(host: &Host, args: &[&str]) -> Option<(GuestSpec, GuestFds)> {
    static CODE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let (mut spec, mut fds) = host.guest("(module)");
    fds.code = precompiled(Guest::RustConcurrent, &CODE)?;
    spec.args.extend(args.iter().map(|arg| (*arg).to_owned()));
    Some((spec, fds))
}

/// Runs it, and gives its end and what it logged.
async fn ran(args: &[&str], change: impl FnOnce(&mut GuestSpec)) -> Option<(Exited, Vec<String>)> {
    let host = Host::new();
    let (mut spec, fds) = guest(&host, args)?;
    change(&mut spec);
    let exited = host.run((spec, fds)).await;
    let log = host.log(&exited.id);
    Some((exited, log))
}

#[tokio::test]
async fn a_command_sees_its_arguments_environment_clocks_and_streams() {
    let ran = ran(&["hello", "x y"], |spec| {
        spec.env = vec![("A".to_owned(), "b".to_owned())];
        spec.cwd = "/work".to_owned();
    });
    let Some((exited, log)) = ran.await else {
        return;
    };
    assert_eq!(
        log,
        [
            "stdout F argument guest",
            "stdout F argument hello",
            "stdout F argument x y",
            "stdout F A=b",
            "stdout F cwd Some(\"/work\")",
            "stdout F clock true, random true",
            "stderr F on standard error",
        ]
    );
    assert_eq!(exited.code, 0);
}

#[tokio::test]
async fn a_command_exits_as_it_says() {
    for (args, code) in [(&["exit", "7"][..], 7), (&["exit", "0"], 0), (&["fail"], 1)] {
        let Some((exited, _)) = ran(args, |_| {}).await else {
            return;
        };
        assert_eq!(
            (exited.code, exited.kind),
            (code, ExitKind::Exited),
            "{args:?}"
        );
    }
}

#[tokio::test]
async fn what_it_wrote_and_did_not_wait_for_is_written() {
    let Some((exited, log)) = ran(&["broken"], |_| {}).await else {
        return;
    };
    assert_eq!(exited.code, 0);
    assert_eq!(log, ["stdout F not waited for"]);
}

#[tokio::test]
async fn standard_input_flows_through_in_order_whatever_its_size() {
    let host = Host::new();
    let Some((mut spec, mut fds)) = guest(&host, &["echo"]) else {
        return;
    };
    (spec.log, fds.log_dir) = (None, None);
    let (input, mut give) = std::io::pipe().unwrap();
    let (mut take, output) = std::io::pipe().unwrap();
    (fds.stdin, fds.stdout) = (Some(input.into()), Some(output.into()));
    let text: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    let given = text.clone();
    let giving = std::thread::spawn(move || give.write_all(&given).unwrap());
    let taking = std::thread::spawn(move || {
        let mut taken = Vec::new();
        take.read_to_end(&mut taken).unwrap();
        taken
    });
    let exited = host.run((spec, fds)).await;
    giving.join().unwrap();
    assert!(taking.join().unwrap() == text, "what came out differs");
    assert_eq!(exited.code, 0, "{}", exited.message);
}

#[tokio::test]
async fn files_are_those_of_its_root_and_of_nothing_else() {
    let host = Host::new();
    let Some((spec, fds)) = guest(&host, &["files", "dir"]) else {
        return;
    };
    fs::create_dir_all(host.path("root/dir")).unwrap();
    fs::create_dir_all(host.path("root/etc")).unwrap();
    fs::write(host.path("root/etc/hostname"), "the guest's own\n").unwrap();
    let exited = host.run((spec, fds)).await;
    assert_eq!(
        host.log(&exited.id),
        [
            "stdout F root /",
            "stdout F a \"one two\"",
            "stdout F b true",
            "stdout F entries a c link",
            "stdout F c has 300000 bytes",
            "stdout F absolute Err(ErrorCode::NotPermitted)",
            "stdout F above the guest's own",
            "stdout F reading a folder Err(ErrorCode::IsDirectory)",
            "stdout F gone Err(ErrorCode::NoEntry)",
        ]
    );
    assert_eq!(fs::read(host.path("root/dir/a")).unwrap(), b"one two");
}

#[tokio::test]
async fn a_guest_waits_for_several_things_at_once() {
    let Some((exited, log)) = ran(&["wait", "20"], |_| {}).await else {
        return;
    };
    assert_eq!(log, ["stdout F waited true"]);
    assert_eq!(exited.code, 0);
}

/// A pod's address that no other test has.
fn pod(number: u32) -> crate::Network {
    crate::Network::Pod {
        ip: crate::Network::local_pod(60_000 + number),
    }
}

#[tokio::test]
async fn its_sockets_are_its_pods_and_its_loopback_is_the_pods_address() {
    let Some((exited, log)) = ran(&["tcp"], |spec| spec.network = pod(1)).await else {
        return;
    };
    assert_eq!(
        log,
        [
            "stdout F from 127.0.0.1 to 127.0.0.1: OVER TCP",
            "stdout F again Err(ErrorCode::InvalidState)",
            "stdout F port 1 Err(ErrorCode::ConnectionRefused)",
        ]
    );
    assert_eq!(exited.code, 0, "{}", exited.message);
    let (_, log) = ran(&["udp"], |spec| spec.network = pod(2)).await.unwrap();
    assert_eq!(
        log,
        [
            "stdout F from 127.0.0.1, its own port true: over udp",
            "stdout F unbound Err(ErrorCode::InvalidState)",
        ]
    );
}

#[tokio::test]
async fn what_listens_on_the_machines_loopback_is_out_of_reach() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let args = ["fetch", at.as_str()];
    let fetched = ran(&args, |spec| spec.network = pod(3));
    let Some((_, log)) = fetched.await else {
        return;
    };
    assert_eq!(log, ["stdout F ErrorCode::ConnectionRefused"]);
    let nobody = listener.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn names_are_looked_up_in_the_containers_hosts_file() {
    let host = Host::new();
    let Some((mut spec, fds)) = guest(&host, &["lookup", "db"]) else {
        return;
    };
    spec.network = pod(4);
    fs::create_dir_all(host.path("root/etc")).unwrap();
    fs::write(host.path("root/etc/hosts"), "10.1.2.3 db\n").unwrap();
    let exited = host.run((spec, fds)).await;
    assert_eq!(host.log(&exited.id), ["stdout F 10.1.2.3"]);
    let (_, log) = ran(&["lookup", "no-such-name.invalid"], |_| {})
        .await
        .unwrap();
    assert_eq!(log, ["stdout F ErrorCode::NameUnresolvable"]);
}

#[tokio::test]
async fn its_own_requests_go_where_it_may() {
    let listener = std::net::TcpListener::bind((any_pod(5), 0)).unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let read = stream.read(&mut head).unwrap();
        stream
            .write_all(b"HTTP/1.1 418 x\r\ncontent-length: 3\r\n\r\ntea")
            .unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let args = ["fetch", at.as_str()];
    let fetched = ran(&args, |spec| spec.network = pod(6));
    let Some((_, log)) = fetched.await else {
        return;
    };
    assert_eq!(log, ["stdout F 418 tea"]);
    assert!(answering.join().unwrap().starts_with("GET / HTTP/1.1\r\n"));
    let denied = ran(&args, |spec| {
        spec.outgoing.allowed = Some(Vec::new());
    });
    let (_, log) = denied.await.unwrap();
    assert_eq!(log, ["stdout F ErrorCode::HttpRequestDenied"]);
}

fn any_pod(number: u32) -> IpAddr {
    crate::Network::local_pod(60_000 + number)
}

#[tokio::test]
async fn its_memory_is_the_containers() {
    let ended = ran(&["hello"], |spec| {
        spec.limits.memory_bytes = Some(512 << 10)
    });
    let Some((exited, _)) = ended.await else {
        return;
    };
    assert_eq!(exited.code, 137, "{}", exited.message);
    assert_eq!(exited.kind, ExitKind::OomKilled);
}

#[tokio::test]
async fn one_that_waits_can_be_stopped() {
    let host = Host::new();
    let Some((spec, mut fds)) = guest(&host, &["echo"]) else {
        return;
    };
    let (input, give) = std::io::pipe().unwrap();
    fds.stdin = Some(input.into());
    let id = host.start((spec, fds)).await;
    host.local
        .stop(&id, std::time::Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(host.end(&id).await.kind, ExitKind::Stopped);
    drop(give);
}

#[tokio::test]
async fn code_of_one_engine_is_none_of_the_others() {
    let host = Host::new();
    let Some((spec, fds)) = guest(&host, &["hello"]) else {
        return;
    };
    let engine = crate::engine::guests(Calls::Sequential).unwrap();
    let programs = crate::program::Programs::new(engine, Calls::Sequential).unwrap();
    let refused = programs.load(fds.code).map(drop).unwrap_err();
    assert!(matches!(refused, StartError::Code { .. }), "{refused}");
    drop(spec);
}
