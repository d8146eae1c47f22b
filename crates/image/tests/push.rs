//! Pushes, to a registry in this process that does as it likes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::Place;
use image::{
    Build, BuildFile, Credentials, Delivery, Digest, Error, PullOptions, Pushed, Reference, Sending,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Larger than what is sent in one request.
const LARGE: usize = 3 << 20;

/// What the registry does wrong.
#[derive(Clone, Debug, Default)]
struct Faults {
    /// Breaks the first PATCH off after so many bytes.
    cut_after: Option<usize>,
    /// Forgets sessions when it is asked for them.
    forgets: bool,
    /// Never answers a PATCH.
    hangs: bool,
    /// Answers every POST with this.
    refuses: Option<u16>,
    /// Has blobs of other repositories.
    mounts: bool,
    /// Asks for a name and password.
    secret: bool,
    /// Wants bytes at this address.
    elsewhere: Option<SocketAddr>,
}

#[derive(Default)]
struct State {
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, Vec<u8>>,
    sessions: Vec<Vec<u8>>,
    /// `METHOD path`, and whether credentials came along.
    asked: Vec<(String, bool)>,
    received: usize,
    cut: bool,
}

struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct Head {
    method: String,
    path: String,
    headers: HashMap<String, String>,
}

impl Registry {
    async fn start(faults: Faults) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, faults) = (shared.clone(), faults.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while serve(&mut stream, &state, &faults).await.is_some() {}
                });
            }
        });
        Registry { address, state }
    }

    fn name(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.address).parse().unwrap()
    }

    fn asked(&self, method: &str) -> usize {
        let state = self.state.lock().unwrap();
        state
            .asked
            .iter()
            .filter(|(a, _)| a.starts_with(method) && a.contains("/blobs/"))
            .count()
    }

    /// Everything that the image names is there, and is what it says.
    fn assert_has(&self, place: &Place, pushed: &Pushed, tag: &str) {
        let state = self.state.lock().unwrap();
        let manifest = &state.manifests[tag];
        assert_eq!(Digest::of(manifest), pushed.digest);
        let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter();
        for blob in layers.chain([&manifest["config"]]) {
            let digest = blob["digest"].as_str().unwrap();
            let hex = digest.strip_prefix("sha256:").unwrap();
            let stored = std::fs::read(place.path(&format!("store/blobs/sha256/{hex}"))).unwrap();
            assert!(state.blobs[digest] == stored, "{digest} differs");
        }
    }
}

async fn serve(
    stream: &mut BufReader<TcpStream>,
    state: &Mutex<State>,
    faults: &Faults,
) -> Option<()> {
    let head = head(stream).await?;
    let known = head.headers.contains_key("authorization");
    state
        .lock()
        .unwrap()
        .asked
        .push((format!("{} {}", head.method, head.path), known));
    let length: usize = head
        .headers
        .get("content-length")
        .map_or(0, |l| l.parse().unwrap());
    if head.method == "PATCH" {
        if faults.hangs {
            std::future::pending::<()>().await;
        }
        return patch(stream, state, faults, &head, length).await;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let (status, headers) = if faults.secret && !known && !head.path.contains("/session/") {
        (401, "WWW-Authenticate: Basic realm=\"r\"\r\n".to_owned())
    } else {
        answer(&mut state.lock().unwrap(), faults, &head, body)
    };
    reply(stream, status, &headers).await
}

async fn head(stream: &mut BufReader<TcpStream>) -> Option<Head> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Some(Head {
        method,
        path,
        headers,
    })
}

async fn reply(stream: &mut BufReader<TcpStream>, status: u16, headers: &str) -> Option<()> {
    let text = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: 0\r\n\r\n");
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.flush().await.ok()
}

async fn patch(
    stream: &mut BufReader<TcpStream>,
    state: &Mutex<State>,
    faults: &Faults,
    head: &Head,
    length: usize,
) -> Option<()> {
    let session: usize = head
        .path
        .split('?')
        .next()?
        .rsplit('/')
        .next()?
        .parse()
        .ok()?;
    let has = state.lock().unwrap().sessions[session].len();
    if let Some(range) = head.headers.get("content-range") {
        assert_eq!(range, &format!("{has}-{}", has + length - 1));
    }
    let cut = {
        let mut state = state.lock().unwrap();
        let first = !state.cut;
        state.cut = true;
        faults.cut_after.filter(|_| first)
    };
    let mut body = vec![0; cut.unwrap_or(length).min(length)];
    stream.read_exact(&mut body).await.ok()?;
    {
        let mut state = state.lock().unwrap();
        state.received += body.len();
        state.sessions[session].extend_from_slice(&body);
    }
    if cut.is_some() {
        return None;
    }
    reply(stream, 202, &format!("Location: {}\r\n", head.path)).await
}

fn answer(state: &mut State, faults: &Faults, head: &Head, body: Vec<u8>) -> (u16, String) {
    let path = head.path.split('?').next().unwrap();
    let query: HashMap<&str, String> = head
        .path
        .split_once('?')
        .map(|(_, q)| {
            q.split('&')
                .filter_map(|p| p.split_once('='))
                .map(|(k, v)| (k, v.replace("%3A", ":")))
                .collect()
        })
        .unwrap_or_default();
    let last = path.rsplit('/').next().unwrap();
    match head.method.as_str() {
        "HEAD" if state.blobs.contains_key(last) => (200, String::new()),
        "HEAD" => (404, String::new()),
        "POST" if faults.refuses.is_some() => (faults.refuses.unwrap(), String::new()),
        "POST" if faults.mounts && query.contains_key("mount") => {
            let digest = query["mount"].clone();
            // From the repository that has it.
            assert_eq!(query["from"], "other");
            state.blobs.insert(digest, b"mounted".to_vec());
            (201, String::new())
        }
        "POST" => {
            state.sessions.push(Vec::new());
            let host = faults
                .elsewhere
                .map_or_else(String::new, |a| format!("http://{a}"));
            (
                202,
                format!("Location: {host}/session/{}\r\n", state.sessions.len() - 1),
            )
        }
        // Whether it speaks TLS is what a client asks first.
        "GET" if !path.contains("/session/") => (200, String::new()),
        "GET" if faults.forgets => (404, String::new()),
        "GET" => {
            let has = state.sessions[last.parse::<usize>().unwrap()].len();
            (
                204,
                format!(
                    "Range: 0-{}\r\nLocation: {}\r\n",
                    has.saturating_sub(1),
                    head.path
                ),
            )
        }
        "PUT" if path.contains("/manifests/") => {
            state.manifests.insert(last.to_owned(), body);
            (201, String::new())
        }
        "PUT" => {
            let session = last.parse::<usize>().unwrap();
            if session >= state.sessions.len() {
                state.sessions.resize(session + 1, Vec::new());
            }
            let mut bytes = std::mem::take(&mut state.sessions[session]);
            bytes.extend_from_slice(&body);
            if Digest::of(&bytes).to_string() != query["digest"] {
                return (400, String::new());
            }
            state.blobs.insert(query["digest"].clone(), bytes);
            (201, String::new())
        }
        _ => (405, String::new()),
    }
}

/// An image with a large layer: bytes that no compressor makes small.
fn large(place: &Place, name: &Reference) {
    let mut seed = 1_u64;
    let bytes: Vec<u8> = (0..LARGE)
        .map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        })
        .collect();
    std::fs::write(place.path("noise"), bytes).unwrap();
    std::fs::write(place.path("app.wasm"), common::WASM).unwrap();
    let build = Build {
        module: place.path("app.wasm"),
        files: vec![BuildFile {
            source: place.path("noise"),
            guest: "/noise".to_owned(),
        }],
        ..Build::default()
    };
    place
        .store
        .build(&build, std::slice::from_ref(name))
        .unwrap();
}

fn options() -> PullOptions {
    PullOptions {
        backoff: Duration::from_millis(1),
        ..PullOptions::default()
    }
}

type Events = Arc<Mutex<Vec<Sending>>>;

async fn push(
    place: &Place,
    name: &Reference,
    options: &PullOptions,
) -> (Result<Pushed, Error>, Vec<Sending>) {
    let events: Events = Arc::default();
    let told = events.clone();
    let told = Arc::new(move |sending| told.lock().unwrap().push(sending));
    let pushed = place.store.push(name, name, options, told).await;
    let events = events.lock().unwrap().clone();
    (pushed, events)
}

fn sent(events: &[Sending]) -> u64 {
    let bytes = |e: &Sending| match e {
        Sending::Sent { bytes } => *bytes,
        _ => 0,
    };
    events.iter().map(bytes).sum()
}

#[tokio::test]
async fn an_image_arrives_whole_and_is_sent_once() {
    let place = Place::new();
    let registry = Registry::start(Faults::default()).await;
    let name = registry.name("app:v1");
    large(&place, &name);
    let (pushed, events) = push(&place, &name, &options()).await;
    let pushed = pushed.unwrap();
    registry.assert_has(&place, &pushed, "v1");
    let Sending::Begun { bytes, blobs: 2 } = events[0] else {
        panic!("{events:?}");
    };
    assert_eq!(sent(&events), bytes);
    let before = registry.asked("P");
    let (again, events) = push(&place, &name, &options()).await;
    assert_eq!(again.unwrap(), pushed);
    assert_eq!(registry.asked("P"), before);
    assert_eq!(sent(&events), 0);
    let present = |e: &&Sending| {
        matches!(
            e,
            Sending::Done {
                how: Delivery::Present,
                ..
            }
        )
    };
    assert_eq!(events.iter().filter(present).count(), 2);
}

#[tokio::test]
async fn a_cut_upload_goes_on_where_it_was() {
    let place = Place::new();
    let registry = Registry::start(Faults {
        cut_after: Some(1 << 20),
        ..Faults::default()
    })
    .await;
    let name = registry.name("app:v1");
    large(&place, &name);
    let (pushed, events) = push(&place, &name, &options()).await;
    registry.assert_has(&place, &pushed.unwrap(), "v1");
    let Sending::Begun { bytes, .. } = events[0] else {
        panic!("{events:?}");
    };
    assert_eq!(sent(&events), bytes, "what came twice is told twice");
    let received = registry.state.lock().unwrap().received;
    let layer = registry
        .state
        .lock()
        .unwrap()
        .blobs
        .values()
        .map(Vec::len)
        .max()
        .unwrap();
    assert_eq!(received, layer, "a byte was sent twice");
}

#[tokio::test]
async fn a_lost_session_is_begun_anew() {
    let place = Place::new();
    let faults = Faults {
        cut_after: Some(1 << 20),
        forgets: true,
        ..Faults::default()
    };
    let registry = Registry::start(faults).await;
    let name = registry.name("app:v1");
    large(&place, &name);
    let (pushed, _) = push(&place, &name, &options()).await;
    registry.assert_has(&place, &pushed.unwrap(), "v1");
}

#[tokio::test]
async fn a_registry_that_hangs_is_given_up() {
    let place = Place::new();
    let registry = Registry::start(Faults {
        hangs: true,
        ..Faults::default()
    })
    .await;
    let name = registry.name("app:v1");
    large(&place, &name);
    let options = PullOptions {
        stall: Duration::from_millis(500),
        attempts: 1,
        ..options()
    };
    let (pushed, _) = push(&place, &name, &options).await;
    assert!(
        matches!(pushed, Err(Error::Unavailable { .. })),
        "{pushed:?}"
    );
    assert!(registry.state.lock().unwrap().manifests.is_empty());
}

#[tokio::test]
async fn refusals_are_told_and_nothing_is_named() {
    for (status, word) in [
        (401, "401"),
        (403, "403"),
        (405, "405"),
        (429, "429"),
        (503, "503"),
    ] {
        let place = Place::new();
        let registry = Registry::start(Faults {
            refuses: Some(status),
            ..Faults::default()
        })
        .await;
        let name = registry.name("app:v1");
        large(&place, &name);
        let (pushed, _) = push(&place, &name, &options()).await;
        let error = pushed.unwrap_err().to_string();
        assert!(
            error.contains(word) && error.contains("127.0.0.1"),
            "{error}"
        );
        assert!(registry.state.lock().unwrap().manifests.is_empty());
    }
}

#[tokio::test]
async fn blobs_of_another_repository_are_mounted() {
    let place = Place::new();
    let registry = Registry::start(Faults {
        mounts: true,
        ..Faults::default()
    })
    .await;
    let name = registry.name("app:v1");
    large(&place, &name);
    place
        .store
        .tag(&name, &[registry.name("other:v2")])
        .unwrap();
    let (pushed, events) = push(&place, &name, &options()).await;
    pushed.unwrap();
    assert_eq!(sent(&events), 0);
    let from = |e: &&Sending| matches!(e, Sending::Done { how: Delivery::Mounted { from }, .. } if from == "other");
    assert_eq!(events.iter().filter(from).count(), 2, "{events:?}");
}

#[tokio::test]
async fn a_password_is_shown_to_the_registry_and_nobody_else() {
    let place = Place::new();
    let storage = Registry::start(Faults::default()).await;
    let faults = Faults {
        secret: true,
        elsewhere: Some(storage.address),
        ..Faults::default()
    };
    let registry = Registry::start(faults).await;
    let name = registry.name("app:v1");
    large(&place, &name);
    storage.state.lock().unwrap().sessions = vec![Vec::new(); 4];
    let options = PullOptions {
        credentials: Credentials::Basic("user".to_owned(), "word".to_owned()),
        ..options()
    };
    let (pushed, _) = push(&place, &name, &options).await;
    pushed.unwrap();
    let state = storage.state.lock().unwrap();
    assert!(state.asked.len() >= 3, "{:?}", state.asked);
    assert!(
        state.asked.iter().all(|(_, known)| !known),
        "{:?}",
        state.asked
    );
    assert!(
        registry
            .state
            .lock()
            .unwrap()
            .asked
            .iter()
            .any(|(_, known)| *known)
    );
}

#[tokio::test]
async fn what_is_not_there_is_not_pushed() {
    let place = Place::new();
    let registry = Registry::start(Faults::default()).await;
    let name = registry.name("app:v1");
    let (absent, _) = push(&place, &name, &options()).await;
    assert!(matches!(absent, Err(Error::NotPresent(_))), "{absent:?}");
    large(&place, &name);
    let layer = std::fs::read_dir(place.path("store/blobs/sha256"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .max_by_key(|p| p.metadata().unwrap().len())
        .unwrap();
    std::fs::remove_file(layer).unwrap();
    let (missing, _) = push(&place, &name, &options()).await;
    let missing = missing.unwrap_err().to_string();
    assert!(missing.contains("not in the store"), "{missing}");
    let pinned = name.pinned(Digest::of(b"other"));
    let told = Arc::new(|_| ());
    assert!(
        place
            .store
            .push(&name, &pinned, &options(), told)
            .await
            .is_err()
    );
}
