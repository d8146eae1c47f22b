//! Standard streams, sockets and waiting.

use super::{BUFFER, CREAT, Guest, Kept, READ, WRITE};
use crate::stdio::{HostSink, Stdin};
use crate::{Blocking, Tty};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

const NONBLOCK: i64 = 4;
const ABSTIME: u16 = 1;

impl Guest {
    /// Puts a subscription to a clock as number `at` at BUFFER.
    fn subscribe_clock(&mut self, at: u32, clock: u32, timeout: u64, flags: u16) {
        let mut bytes = [0; 48];
        bytes[..8].copy_from_slice(&u64::from(100 + at).to_le_bytes());
        bytes[16..20].copy_from_slice(&clock.to_le_bytes());
        bytes[24..32].copy_from_slice(&timeout.to_le_bytes());
        bytes[40..42].copy_from_slice(&flags.to_le_bytes());
        self.put(BUFFER + 48 * at, &bytes);
    }

    /// Puts a subscription to a descriptor's reading or writing as number `at` at BUFFER.
    fn subscribe_fd(&mut self, at: u32, fd: u32, write: bool) {
        let mut bytes = [0; 48];
        bytes[..8].copy_from_slice(&u64::from(100 + at).to_le_bytes());
        bytes[8] = 1 + u8::from(write);
        bytes[16..20].copy_from_slice(&fd.to_le_bytes());
        self.put(BUFFER + 48 * at, &bytes);
    }

    /// The events: number of the subscription, errno, bytes.
    async fn poll(&mut self, count: i64) -> Vec<(u64, u8, u64)> {
        let events = BUFFER + 4096;
        self.ok(
            "poll_oneoff",
            &[i64::from(BUFFER), i64::from(events), count, 0],
        )
        .await;
        (0..self.u32(0))
            .map(|n| {
                let at = events + 32 * n;
                (
                    self.u64(at) - 100,
                    self.take(at + 8, 1)[0],
                    self.u64(at + 16),
                )
            })
            .collect()
    }
}

#[tokio::test]
async fn output_goes_to_its_sinks() {
    let (out, err) = (Kept::default(), Kept::default());
    let mut guest = Guest::with(|world| {
        world.stdout = Arc::new(out.clone());
        world.stderr = Arc::new(err.clone());
    })
    .await;
    assert_eq!(guest.write(1, b"out").await, Ok(3));
    assert_eq!(guest.write(2, b"err").await, Ok(3));
    assert_eq!(guest.write(1, b"").await, Ok(0));
    assert_eq!(guest.write(0, b"x").await, Err("Badf".into()));
    assert_eq!(guest.read(1, 1).await, Err("Badf".into()));
    assert_eq!((out.text().as_str(), err.text().as_str()), ("out", "err"));
    assert_eq!(guest.call("fd_seek", &[1, 0, 0, 0]).await, "Spipe");
    guest.iovec(1);
    assert_eq!(guest.call("fd_pwrite", &[1, 8, 1, 0, 0]).await, "Spipe");
    // Nothing comes in.
    assert_eq!(guest.read(0, 10).await.unwrap(), b"");
}

#[tokio::test]
async fn input_is_waited_for_unless_nonblocking() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut guest = Guest::with(|world| world.stdin = Stdin::from_fd(reader.into()).unwrap()).await;
    guest.ok("fd_fdstat_set_flags", &[0, NONBLOCK]).await;
    assert_eq!(guest.read(0, 10).await, Err("Again".into()));
    writer.write_all(b"abc").unwrap();
    assert_eq!(guest.read(0, 2).await.unwrap(), b"ab");
    assert_eq!(guest.read(0, 2).await.unwrap(), b"c");
    guest.ok("fd_fdstat_set_flags", &[0, 0]).await;
    let late = std::thread::spawn(move || {
        writer.write_all(b"late").unwrap();
        writer
    });
    assert_eq!(guest.read(0, 10).await.unwrap(), b"late");
    drop(late.join().unwrap());
    assert_eq!(guest.read(0, 10).await.unwrap(), b"");
}

#[tokio::test]
async fn a_full_pipe_holds_the_writer_and_a_gone_reader_is_told() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut guest = Guest::with(|world| {
        world.stdout = Arc::new(HostSink::new(writer.into(), Blocking::new(1)).unwrap());
    })
    .await;
    guest.ok("fd_fdstat_set_flags", &[1, NONBLOCK]).await;
    let big = vec![b'x'; 500_000];
    let first = guest.write(1, &big).await.unwrap();
    assert!(first < 500_000);
    assert_eq!(guest.write(1, b"more").await, Err("Again".into()));
    guest.ok("fd_fdstat_set_flags", &[1, 0]).await;
    let drain = std::thread::spawn(move || {
        let mut read = vec![0; 500_000 + first as usize];
        reader.read_exact(&mut read).unwrap();
    });
    assert_eq!(guest.write(1, &big).await, Ok(500_000));
    drain.join().unwrap();
    assert_eq!(guest.write(1, b"x").await, Err("Pipe".into()));
}

#[tokio::test]
async fn a_terminal_looks_like_one() {
    let mut guest = Guest::with(|world| {
        world.tty = Tty {
            stdout: true,
            ..Tty::default()
        }
    })
    .await;
    let seek_and_tell = (1 << 2) | (1 << 5);
    guest.ok("fd_fdstat_get", &[1, 64]).await;
    assert_eq!(
        (guest.take(64, 1)[0], guest.u64(72) & seek_and_tell),
        (2, 0)
    );
    guest.ok("fd_fdstat_get", &[2, 64]).await;
    assert_ne!(guest.take(64, 1)[0], 2);
}

#[tokio::test]
async fn clocks_ring() {
    let mut guest = Guest::new().await;
    for (clock, flags) in [(0, 0), (1, 0), (0, ABSTIME), (1, ABSTIME)] {
        let begun = Instant::now();
        let base = if flags == ABSTIME {
            guest.ok("clock_time_get", &[i64::from(clock), 0, 64]).await;
            guest.u64(64)
        } else {
            0
        };
        guest.subscribe_clock(0, clock, base + 3_000_000, flags);
        guest.subscribe_clock(1, clock, u64::MAX, flags);
        assert_eq!(guest.poll(2).await, [(0, 0, 0)]);
        assert!(begun.elapsed().as_micros() >= 3000 || clock == 0);
    }
    // What is past rings at once, and a clock that never would is an error.
    guest.subscribe_clock(0, 0, 1, ABSTIME);
    guest.subscribe_clock(1, 2, 1, 0);
    assert_eq!(guest.poll(2).await, [(0, 0, 0), (1, 58, 0)]);
}

#[tokio::test]
async fn descriptors_are_waited_for() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut guest = Guest::with(|world| world.stdin = Stdin::from_fd(reader.into()).unwrap()).await;
    guest.subscribe_fd(0, 0, false);
    guest.subscribe_clock(1, 1, 1_000_000, 0);
    assert_eq!(guest.poll(2).await, [(1, 0, 0)]);
    guest.subscribe_clock(1, 1, u64::MAX, 0);
    let late = std::thread::spawn(move || {
        writer.write_all(b"12345").unwrap();
        writer
    });
    assert_eq!(guest.poll(2).await, [(0, 0, 5)]);
    let writer = late.join().unwrap();
    assert_eq!(guest.read(0, 10).await.unwrap(), b"12345");
    // What was ready isn't any more: the poll must wait again and not spin.
    guest.subscribe_fd(0, 0, false);
    guest.subscribe_clock(1, 1, 1_000_000, 0);
    assert_eq!(guest.poll(2).await, [(1, 0, 0)]);
    drop(writer);
    guest.subscribe_fd(0, 0, false);
    assert_eq!(guest.poll(1).await, [(0, 0, 0)]);
}

#[tokio::test]
async fn files_are_ready_and_bad_descriptors_say_so() {
    let mut guest = Guest::new().await;
    std::fs::write(guest.path("file"), "12345678").unwrap();
    let fd = guest.open("file", CREAT, READ | WRITE).await.unwrap() as u32;
    guest.read(i64::from(fd), 3).await.unwrap();
    guest.subscribe_fd(0, fd, false);
    guest.subscribe_fd(1, fd, true);
    guest.subscribe_fd(2, 99, false);
    guest.subscribe_fd(3, 1, true);
    let events = guest.poll(4).await;
    assert_eq!(events, [(0, 0, 5), (1, 0, 1), (2, 8, 0), (3, 0, 1)]);
}

async fn server() -> (Guest, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (
        Guest::with(|world| world.listeners.push(listener.into())).await,
        address,
    )
}

#[tokio::test]
async fn a_listener_accepts_and_its_connections_talk() {
    let (mut guest, address) = server().await;
    guest.ok("fd_fdstat_get", &[4, 64]).await;
    assert_eq!(guest.take(64, 1)[0], 6);
    guest.ok("fd_fdstat_set_flags", &[4, NONBLOCK]).await;
    assert_eq!(guest.call("sock_accept", &[4, 0, 0]).await, "Again");
    guest.ok("fd_fdstat_set_flags", &[4, 0]).await;
    let peer = std::thread::spawn(move || {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.write_all(b"hello").unwrap();
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).unwrap();
        answer
    });
    guest.subscribe_fd(0, 4, false);
    assert_eq!(guest.poll(1).await, [(0, 0, 1)]);
    guest.ok("sock_accept", &[4, 0, 0]).await;
    assert_eq!(guest.u32(0), 5);
    // Peek, then all of it in two kinds of read.
    guest.iovec(2);
    guest.ok("sock_recv", &[5, 8, 1, 1, 0, 4]).await;
    assert_eq!((guest.u32(0), guest.take(BUFFER, 2)), (2, b"he".to_vec()));
    guest.iovec(4);
    guest.ok("sock_recv", &[5, 8, 1, 2, 0, 4]).await;
    assert_eq!((guest.u32(0), guest.take(BUFFER, 4)), (4, b"hell".to_vec()));
    assert_eq!(guest.read(5, 10).await.unwrap(), b"o");
    guest.ok("fd_fdstat_set_flags", &[5, NONBLOCK]).await;
    assert_eq!(guest.read(5, 10).await, Err("Again".into()));
    guest.ok("fd_fdstat_set_flags", &[5, 0]).await;
    assert_eq!(guest.write(5, b"by write, ").await, Ok(10));
    guest.put(BUFFER, b"by send");
    guest.iovec(7);
    guest.ok("sock_send", &[5, 8, 1, 0, 0]).await;
    assert_eq!(guest.call("sock_send", &[5, 8, 1, 1, 0]).await, "Inval");
    guest.ok("sock_shutdown", &[5, 2]).await;
    assert_eq!(peer.join().unwrap(), b"by write, by send");
    assert_eq!(guest.read(5, 10).await.unwrap(), b"");
    guest.ok("fd_close", &[5]).await;
}

#[tokio::test]
async fn calls_for_sockets_want_sockets() {
    let (mut guest, _) = server().await;
    guest.iovec(1);
    assert_eq!(guest.call("sock_accept", &[3, 0, 0]).await, "Notsock");
    assert_eq!(
        guest.call("sock_recv", &[1, 8, 1, 0, 0, 4]).await,
        "Notsock"
    );
    assert_eq!(
        guest.call("sock_recv", &[4, 8, 1, 0, 0, 4]).await,
        "Notconn"
    );
    assert_eq!(guest.call("sock_shutdown", &[4, 1]).await, "Notconn");
    assert_eq!(guest.call("sock_accept", &[9, 0, 0]).await, "Badf");
    assert_eq!(guest.call("sock_accept", &[4, 1, 0]).await, "Inval");
    assert_eq!(guest.read(4, 1).await, Err("Notconn".into()));
}
