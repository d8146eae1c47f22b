//! Carries datagrams to a pod, and its answers back.
//!
//! Each peer has a socket of its own towards the pod, so that an answer is known to be its.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How many peers are known at once; the one that was silent longest makes room for another.
const PEERS: usize = 1024;

/// A peer is forgotten after so long a silence, as docker's proxy has it.
const SILENCE: Duration = Duration::from_secs(90);

/// The longest datagram.
const DATAGRAM: usize = 65_535;

struct Peer {
    inner: Arc<UdpSocket>,
    heard: Instant,
    answers: tokio::task::AbortHandle,
}

/// Carries datagrams for ever.
pub(super) async fn forward(socket: StdSocket, to: SocketAddr) {
    let socket = match UdpSocket::from_std(socket) {
        Ok(socket) => Arc::new(socket),
        Err(error) => return tracing::error!(%error, %to, "a published port can't be waited for"),
    };
    let mut peers: HashMap<SocketAddr, Peer> = HashMap::new();
    let mut answering = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            Some(ended) = answering.join_next() => {
                if let Ok(from) = ended {
                    peers.remove(&from);
                }
                continue;
            }
        };
        // An error is of a datagram that was sent before: there is nothing to do about it.
        let Ok((length, from)) = received else {
            continue;
        };
        let known = match peers.get_mut(&from) {
            Some(peer) => peer,
            None => match peer(&socket, from, to, &mut answering).await {
                Ok(peer) => {
                    make_room(&mut peers);
                    peers.entry(from).or_insert(peer)
                }
                Err(error) => {
                    tracing::debug!(%error, %to, "a datagram was lost");
                    continue;
                }
            },
        };
        known.heard = Instant::now();
        // One that can't be sent is lost, as datagrams are.
        if let Some(datagram) = buffer.get(..length) {
            let _ = known.inner.send(datagram).await;
        }
    }
}

fn make_room(peers: &mut HashMap<SocketAddr, Peer>) {
    if peers.len() < PEERS {
        return;
    }
    let oldest = peers.iter().min_by_key(|(_, peer)| peer.heard);
    let oldest = oldest.map(|(from, _)| *from);
    if let Some(peer) = oldest.and_then(|from| peers.remove(&from)) {
        peer.answers.abort();
    }
}

async fn peer(
    outer: &Arc<UdpSocket>,
    from: SocketAddr,
    to: SocketAddr,
    answering: &mut JoinSet<SocketAddr>,
) -> std::io::Result<Peer> {
    let any = SocketAddr::new(unspecified(to.ip()), 0);
    let inner = UdpSocket::bind(super::source(to.ip()).unwrap_or(any)).await?;
    inner.connect(to).await?;
    let inner = Arc::new(inner);
    let answers = answering.spawn(answers(Arc::clone(outer), from, Arc::clone(&inner)));
    Ok(Peer {
        inner,
        heard: Instant::now(),
        answers,
    })
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Carries a pod's answers to one peer, until there were none for long.
async fn answers(outer: Arc<UdpSocket>, from: SocketAddr, inner: Arc<UdpSocket>) -> SocketAddr {
    let mut buffer = vec![0; DATAGRAM];
    while let Ok(received) = tokio::time::timeout(SILENCE, inner.recv(&mut buffer)).await {
        // An error tells that the pod does not listen, which it may do later.
        if let Ok(datagram) = received.map(|length| buffer.get(..length).unwrap_or_default()) {
            let _ = outer.send_to(datagram, from).await;
        }
    }
    from
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn each_peer_gets_its_own_answers() {
        let localhost = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = UdpSocket::bind(localhost).await.unwrap();
        let to = server.local_addr().unwrap();
        let outer = StdSocket::bind(localhost).unwrap();
        outer.set_nonblocking(true).unwrap();
        let at = outer.local_addr().unwrap();
        tokio::spawn(forward(outer, to));
        let mut clients = Vec::new();
        for name in [b"one", b"two"] {
            let client = UdpSocket::bind(localhost).await.unwrap();
            client.connect(at).await.unwrap();
            client.send(name).await.unwrap();
            clients.push((client, name));
        }
        let mut buffer = [0; 16];
        for _ in 0..2 {
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            server.send_to(&buffer[..length], from).await.unwrap();
        }
        for (client, name) in clients {
            let length = client.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], name);
        }
    }
}
