//! Peers that are not our own client: broken, hostile, or of another release.

use serde_json::json;
use tokio::net::UnixStream;

use super::*;
use crate::protocol::frame::encode;
use crate::protocol::message::{Hello, Told};
use crate::protocol::stream::{Reader, write};

/// A server of this process, and what a raw peer needs to speak to it.
struct Raw {
    socket: std::sync::Arc<UnixStream>,
    reader: Reader,
}

impl Raw {
    async fn connect(path: &Path) -> Raw {
        let socket = std::sync::Arc::new(UnixStream::connect(path).await.unwrap());
        let reader = Reader::new(std::sync::Arc::clone(&socket));
        Raw { socket, reader }
    }

    async fn say(&self, message: &serde_json::Value) {
        let bytes = encode(message, 0).unwrap();
        write(&self.socket, &bytes, &[]).await.unwrap();
    }

    async fn greet(path: &Path) -> Raw {
        let mut raw = Raw::connect(path).await;
        raw.say(&serde_json::to_value(Hello::ours()).unwrap()).await;
        raw.reader
            .frame()
            .await
            .unwrap()
            .unwrap()
            .message::<Hello>()
            .unwrap();
        raw
    }

    /// Whether the server has hung up.
    async fn hung_up(mut self) -> bool {
        matches!(self.reader.frame().await, Ok(None) | Err(_))
    }
}

fn server(folder: &Folder) -> PathBuf {
    let path = folder.socket();
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let config = LocalConfig {
        workers: Some(1),
        ..LocalConfig::default()
    };
    let local = std::sync::Arc::new(Local::new(config).unwrap());
    tokio::spawn(crate::serve::serve(local, listener, std::future::pending()));
    path
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_its_own_connection_alone() {
    let folder = Folder::new();
    let path = server(&folder);
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 8],
        b"\x02\0\0\0\0\0\0\0{]",
    ] {
        let raw = Raw::connect(&path).await;
        write(&raw.socket, garbage, &[]).await.unwrap();
        assert!(raw.hung_up().await);
    }
    let raw = Raw::greet(&path).await;
    raw.say(&json!("no request")).await;
    assert!(raw.hung_up().await);
    // One that dies inside a frame.
    let raw = Raw::greet(&path).await;
    write(&raw.socket, &[9, 0, 0, 0, 0], &[]).await.unwrap();
    drop(raw);
    let remote = Remote::over(UnixStream::connect(&path).await.unwrap())
        .await
        .unwrap();
    assert!(remote.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_call_of_the_future_spoils_only_itself() {
    let folder = Folder::new();
    let mut raw = Raw::greet(&server(&folder)).await;
    raw.say(&json!({"id": 1, "call": {"Levitate": {"height": 3}}, "urgent": true}))
        .await;
    let told: Told = raw
        .reader
        .frame()
        .await
        .unwrap()
        .unwrap()
        .message()
        .unwrap();
    assert_eq!(told.id, 1);
    assert!(told.answer.unwrap().get("NotUnderstood").is_some());
    raw.say(&json!({"id": 2, "call": "List"})).await;
    let told: Told = raw
        .reader
        .frame()
        .await
        .unwrap()
        .unwrap()
        .message()
        .unwrap();
    assert_eq!((told.id, told.answer.unwrap()), (2, json!({"Guests": []})));
}

#[tokio::test]
async fn a_start_without_its_descriptors_is_answered() {
    let folder = Folder::new();
    let mut raw = Raw::greet(&server(&folder)).await;
    let (spec, fds) = folder.guest(0, SEVEN);
    let (layout, _) = crate::protocol::message::Layout::of(fds);
    raw.say(&json!({"id": 1, "call": {"Start": {"spec": spec, "fds": layout}}}))
        .await;
    let told: Told = raw
        .reader
        .frame()
        .await
        .unwrap()
        .unwrap()
        .message()
        .unwrap();
    assert!(told.answer.unwrap().get("NotUnderstood").is_some());
}

#[tokio::test]
async fn a_protocol_too_far_away_is_a_clear_error() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let future = json!({"oldest": 7, "newest": 9, "binary": "7.0.0", "pid": 42});
    write(&theirs, &encode(&future, 0).unwrap(), &[])
        .await
        .unwrap();
    let error = Remote::over(ours).await.err().unwrap();
    let RemoteError::Version {
        pid: 42, theirs, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(theirs, "7 to 9 (version 7.0.0)");
}

#[tokio::test]
async fn a_shutdown_is_answered_when_nobody_can_connect_any_more() {
    for _ in 0..20 {
        let folder = Folder::new();
        let path = server(&folder);
        let (one, two) = tokio::join!(UnixStream::connect(&path), UnixStream::connect(&path));
        let one = Remote::over(one.unwrap()).await.unwrap();
        let two = Remote::over(two.unwrap()).await.unwrap();
        let (first, second) = tokio::join!(one.shutdown(), two.shutdown());
        first.unwrap();
        // The other call may have come when the connections were closed already.
        assert!(
            matches!(second, Ok(()) | Err(HostError::Gone(_))),
            "{second:?}"
        );
        let refused = UnixStream::connect(&path).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
