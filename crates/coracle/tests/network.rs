//! Pods' addresses and published ports, through the binary: what is reached and what is not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use common::{Root, Running, built};
use guests::Guest;
use rustix::process::Signal;

/// What takes longer hangs.
const GUARD: Duration = Duration::from_secs(120);

/// An address and a port of this machine that nothing else here uses.
fn free() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 128 | (high & 63), low, number);
    let listener = TcpListener::bind((ip, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn guest() -> Option<PathBuf> {
    built(Guest::RustNetworkP2)
}

/// `coracle run` of a guest, with options of coracle's.
fn start(options: &[&str], module: &std::path::Path, args: &[&str]) -> Running {
    let module = module.to_str().unwrap();
    Root::shared().start([options, &[module], args].concat())
}

/// Says something over TCP and gives what comes back until the end.
fn ask(at: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The addresses of a line `A came to B` or `A went to B`.
fn ends(line: &str) -> (SocketAddr, SocketAddr) {
    let words: Vec<&str> = line.split(' ').collect();
    let address = |at: usize| words[at].parse().unwrap_or_else(|_| panic!("{line}"));
    (address(0), address(3))
}

fn is_of_pods(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 127 && ip.octets()[1] & 0xc0 == 0x40)
}

/// A pod that echoes at a port: itself, the port of this machine that leads there, its address.
fn server(module: &std::path::Path) -> (Running, SocketAddr, SocketAddr) {
    let host = free();
    let port = host.port();
    let published = format!("{host}:{port}");
    let at = format!("0.0.0.0:{port}");
    let mut pod = start(&["-p", &published], module, &["tcp", "serve", &at]);
    assert_eq!(pod.line(), format!("listening at {at}"));
    assert_eq!(ask(host, "hello"), "hello");
    let (from, to) = ends(&pod.line());
    assert!(is_of_pods(from.ip()) && is_of_pods(to.ip()), "{from} {to}");
    assert_ne!(
        from.ip(),
        to.ip(),
        "what comes from outside is not the pod itself"
    );
    (pod, host, to)
}

#[test]
fn a_published_server_answers_until_it_ends() {
    let Some(module) = guest() else { return };
    let (pod, host, _) = server(&module);
    let long = "text ".repeat(400_000);
    assert_eq!(ask(host, &long), long);
    pod.signal(Signal::TERM);
    assert_eq!(pod.end().code, Some(143));
    assert!(TcpStream::connect(host).is_err(), "the port is given back");
}

#[test]
fn a_port_that_is_taken_is_named_before_anything_starts() {
    let Some(module) = guest() else { return };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = taken.local_addr().unwrap();
    let published = format!("{host}:80");
    let ended = start(&["-p", &published], &module, &["self"]).end();
    ended.refuses(&[
        &format!("port {}/tcp of {} is taken", host.port(), host.ip()),
        "publish another port",
    ]);
    let elsewhere = start(&["-p", "192.0.2.1:8080:80"], &module, &["self"]).end();
    elsewhere.refuses(&["192.0.2.1 is not an address of this machine"]);
}

#[test]
fn a_port_that_is_none_is_refused_with_the_way_to_write_it() {
    for (published, words) in [
        ("80:x", "port \"x\" is not a number from 1 to 65535"),
        ("8000-8010:80", "is a range of ports"),
        ("localhost:80:80", "\"localhost\" is not an IP address"),
        ("80/sctp", "protocol \"sctp\" can't be published"),
    ] {
        let ended = Root::shared().run(["-p", published, "none.wasm"]);
        assert_eq!(ended.code, Some(125), "{ended:#?}");
        assert!(ended.stderr.contains(words), "{ended:#?}");
    }
}

#[test]
fn pods_have_addresses_of_their_own_and_reach_each_other_there() {
    let Some(module) = guest() else { return };
    let (mut one, _, at) = server(&module);
    // The same port at another address: nothing is taken.
    let any = format!("0.0.0.0:{}", at.port());
    let mut other = start(&[], &module, &["tcp", "serve", &any]);
    assert_eq!(other.line(), format!("listening at {any}"));

    let asked = start(&[], &module, &["tcp", "ask", &at.to_string(), "hello"]).end();
    assert_eq!(asked.code, Some(0), "{asked:#?}");
    let (went, to) = ends(asked.stdout.lines().next().unwrap());
    assert_eq!(to, at);
    assert!(asked.stdout.ends_with("answer: hello\n"), "{asked:#?}");
    // Who came is told by the address of its pod.
    let (came, _) = ends(&one.line());
    assert_eq!(came, went);
    assert!(is_of_pods(came.ip()) && came.ip() != at.ip());
}

#[test]
fn what_the_machine_listens_to_on_its_loopback_is_not_reached() {
    let Some(module) = guest() else { return };
    let secret = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    secret.set_nonblocking(true).unwrap();
    let port = secret.local_addr().unwrap().port();
    for name in ["127.0.0.1", "localhost", "127.1.2.3"] {
        let at = format!("{name}:{port}");
        let ended = start(&[], &module, &["tcp", "ask", &at, "secret"]).end();
        ended.is(1, "failed: ConnectionRefused\n", "");
    }
    let error = secret.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn datagrams_are_published_and_answered() {
    let Some(module) = guest() else { return };
    let host = free();
    let port = host.port();
    let published = format!("{host}:{port}/udp");
    let at = format!("0.0.0.0:{port}");
    let mut pod = start(&["-p", &published], &module, &["udp", "serve", &at]);
    assert_eq!(pod.line(), format!("listening at {at}"));
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.connect(host).unwrap();
    client.set_read_timeout(Some(GUARD)).unwrap();
    for text in ["one", "two"] {
        client.send(text.as_bytes()).unwrap();
        let mut answer = [0; 16];
        let length = client.recv(&mut answer).unwrap();
        assert_eq!(&answer[..length], text.as_bytes());
    }
}

#[test]
fn go_serves_http_on_the_sockets_that_it_is_given() {
    let Some(module) = built(Guest::GoListen) else {
        return;
    };
    let (host, second) = (free(), free());
    let options = [
        "-p",
        &format!("{host}:8080"),
        "-p",
        &format!("{second}:9090"),
    ];
    let mut pod = start(&options, &module, &[]);
    assert_eq!(pod.line(), "serving 2");
    for (at, port) in [(host, 8080), (second, 9090)] {
        let answer = ask(at, "GET /a/path HTTP/1.0\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.0 200 OK\r\n")
                && answer.ends_with(&format!("GET /a/path by {port}\n")),
            "{answer}"
        );
    }
}
