//! UDP sockets against the machine's own.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::udp_socket::{DATAGRAM, Refusal, Socket};
use crate::{Network, Share};

fn pod(number: u32) -> (Network, IpAddr) {
    let ip = Network::local_pod(number);
    (Network::Pod { ip }, ip)
}

async fn bound(network: Network, at: &str) -> Socket {
    let mut socket = Socket::new(network, true, Share::default()).await.unwrap();
    socket.bind(at.parse().unwrap()).unwrap().unwrap();
    socket
}

async fn next(socket: &Socket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        match socket.ends.receive(&mut buffer) {
            Ok((length, from)) => {
                buffer.truncate(length);
                return (buffer, from);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.ends.readable().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_pod_speaks_to_itself_by_loopback_and_to_others_by_its_own_address() {
    let (network, ip) = pod(3_000_001);
    let server = bound(network, "0.0.0.0:0").await;
    let at = server.ends.inside.local_addr().unwrap();
    assert_eq!(at.ip(), ip);
    assert_eq!(
        server.local_address().unwrap(),
        SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), at.port())
    );
    let client = bound(network, "127.0.0.1:0").await;
    let to = client
        .meant(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), at.port()))
        .unwrap();
    client.ends.send(b"hello", to, false).unwrap();
    let (bytes, from) = next(&server).await;
    assert_eq!((bytes.as_slice(), from.ip()), (&b"hello"[..], ip));

    let (other, other_ip) = pod(3_000_002);
    let stranger = bound(other, "0.0.0.0:0").await;
    stranger.ends.send(b"from afar", at, false).unwrap();
    let (bytes, from) = next(&server).await;
    assert_eq!((bytes.as_slice(), from.ip()), (&b"from afar"[..], other_ip));
}

#[tokio::test]
async fn what_leaves_the_machine_has_an_end_of_its_own() {
    let (network, _) = pod(3_000_003);
    let socket = bound(network, "0.0.0.0:0").await;
    let outside = socket
        .ends
        .towards("192.0.2.1:53".parse().unwrap())
        .unwrap();
    assert!(outside.local_addr().unwrap().ip().is_unspecified());
    // What comes to that end is received as well.
    let to = SocketAddr::new(
        Ipv4Addr::LOCALHOST.into(),
        outside.local_addr().unwrap().port(),
    );
    let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.send_to(b"answer", to).unwrap();
    assert_eq!(next(&socket).await.0, b"answer");
}

#[tokio::test]
async fn the_machines_loopback_and_nowhere_are_no_destinations() {
    let (network, ip) = pod(3_000_004);
    let socket = bound(network, "0.0.0.0:0").await;
    for nowhere in ["0.0.0.0:1", "127.0.0.1:0", "[::1]:1"] {
        let meant = socket.meant(nowhere.parse().unwrap());
        assert!(matches!(meant, Err(Refusal::Invalid)), "{nowhere}");
    }
    let meant = socket.meant("127.0.0.1:53".parse().unwrap()).unwrap();
    assert_eq!(meant, SocketAddr::new(ip, 53));
    let on_the_node = bound(Network::Node, "127.0.0.1:0").await;
    let meant = on_the_node.meant("127.0.0.1:53".parse().unwrap());
    assert!(matches!(meant, Err(Refusal::Denied)));
    let mut elsewhere = Socket::new(network, true, Share::default()).await.unwrap();
    assert!(elsewhere.bind("192.0.2.1:0".parse().unwrap()).is_none());
}

#[tokio::test]
async fn a_connected_socket_has_an_address() {
    let (network, ip) = pod(3_000_005);
    let mut socket = bound(network, "0.0.0.0:0").await;
    socket
        .connect(Some("127.0.0.1:9".parse().unwrap()))
        .unwrap();
    assert_eq!(
        socket.local_address().unwrap().ip(),
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    );
    socket
        .connect(Some(SocketAddr::new(Network::local_pod(3_000_006), 9)))
        .unwrap();
    assert_eq!(socket.local_address().unwrap().ip(), ip);
}

#[tokio::test]
async fn each_end_is_counted_until_it_is_closed() {
    let (network, _) = pod(3_000_007);
    let share = Share::default().bounded(1);
    let socket = Socket::new(network, true, share.clone()).await.unwrap();
    let limit = |error: io::Error| error.raw_os_error() == Some(libc::EMFILE);
    let second = Socket::new(network, true, share.clone()).await;
    assert!(second.is_err_and(limit));
    let outside = socket.ends.towards("192.0.2.1:53".parse().unwrap());
    assert!(outside.is_err_and(limit));
    drop(socket);
    Socket::new(network, true, share).await.unwrap();
}
