//! Carries TCP connections to a pod.

use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How many connections are carried at once for one mapping; more wait to be accepted.
const CONNECTIONS: usize = 4096;

/// What is held of a connection in each direction, bytes: what one side does not take, the other
/// can't send.
const BUFFER: usize = 16 << 10;

/// How long a guest may take to listen, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(50);

/// After a failure to accept that is the machine's (no descriptors, no memory).
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts for ever, and carries each connection to `to`.
pub(super) async fn forward(listener: StdListener, to: SocketAddr) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, %to, "a published port can't be waited for"),
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut carried = tokio::task::JoinSet::new();
    loop {
        // Nobody closes it.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // So that what has ended is let go of.
            Some(_) = carried.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                carried.spawn(async move {
                    carry(stream, to).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, %to, "a connection was not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Copies both ways until both sides have ended; each side's end is told to the other at once.
async fn carry(mut outer: TcpStream, to: SocketAddr) {
    // A peer that is gone without a word is found out.
    let _ = sockopt::set_socket_keepalive(&outer, true);
    let _ = outer.set_nodelay(true);
    let mut inner = match connect(to).await {
        Ok(inner) => inner,
        Err(error) => {
            tracing::debug!(%error, %to, "the pod does not listen");
            return reset(&outer);
        }
    };
    let _ = inner.set_nodelay(true);
    let copied =
        tokio::io::copy_bidirectional_with_sizes(&mut outer, &mut inner, BUFFER, BUFFER).await;
    if copied.is_err() {
        // One side broke off: the other must not take that for an end.
        reset(&outer);
        reset(&inner);
    }
}

/// Connects to a guest that may be about to listen.
async fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let until = Instant::now() + PATIENCE;
    loop {
        match connect_once(to).await {
            Err(error)
                if error.kind() == std::io::ErrorKind::ConnectionRefused
                    && Instant::now() < until =>
            {
                tokio::time::sleep(RETRY).await;
            }
            result => return result,
        }
    }
}

async fn connect_once(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = match to.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(source) = super::source(to.ip()) {
        socket.bind(source)?;
    }
    socket.connect(to).await
}

/// Closing it will be a reset.
fn reset(stream: &TcpStream) {
    let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn localhost() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }

    /// Where nobody listens: no other test uses the address.
    fn nobody(number: u32) -> SocketAddr {
        let place = StdListener::bind((runtime::Network::local_pod(number), 0)).unwrap();
        place.local_addr().unwrap()
    }

    /// A forwarder to `to`: where it listens.
    fn forwarder(to: SocketAddr) -> SocketAddr {
        let listener = StdListener::bind(localhost()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(forward(listener, to));
        at
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_each_end_alone() {
        let inner = TcpListener::bind(localhost()).await.unwrap();
        let at = forwarder(inner.local_addr().unwrap());
        let mut client = TcpStream::connect(at).await.unwrap();
        let (mut server, _) = inner.accept().await.unwrap();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let upload = sent.clone();
        let (mut from, mut to) = client.split();
        let uploads = async {
            to.write_all(&upload).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        tokio::join!(uploads, async {
            server.read_to_end(&mut got).await.unwrap();
        });
        assert_eq!(got, sent);
        // The client's side has ended, the server's has not.
        server.write_all(b"after the end").await.unwrap();
        drop(server);
        let mut answer = String::new();
        from.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "after the end");
    }

    #[tokio::test]
    async fn a_guest_that_listens_later_is_waited_for() {
        let to = nobody(4_000_010);
        let at = forwarder(to);
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(b"early").await.unwrap();
        let inner = TcpListener::bind(to).await.unwrap();
        let (mut server, _) = inner.accept().await.unwrap();
        let mut word = [0; 5];
        server.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"early");
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_never_listens_is_a_reset() {
        let to = nobody(4_000_011);
        let (client, server) = {
            let listener = TcpListener::bind(localhost()).await.unwrap();
            let at = listener.local_addr().unwrap();
            tokio::join!(TcpStream::connect(at), listener.accept())
        };
        carry(server.unwrap().0, to).await;
        let error = client.unwrap().read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_reset_inside_is_one_outside() {
        let inner = TcpListener::bind(localhost()).await.unwrap();
        let at = forwarder(inner.local_addr().unwrap());
        let mut client = TcpStream::connect(at).await.unwrap();
        let (server, _) = inner.accept().await.unwrap();
        reset(&server);
        drop(server);
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
