//! Pulls from a registry that is well behaved, or isn't.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]
mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::registry::{Registry, Reply, Request, is_blob};
use common::{Made, Place, Tar, WASM, artifact, compat, descriptor, gzip, wasi};
use image::{Credentials, Digest, Error, Image, Progress, PullOptions};
use serde_json::json;

fn quick() -> PullOptions {
    PullOptions {
        backoff: Duration::from_millis(1),
        attempts: 3,
        ..PullOptions::default()
    }
}

fn app() -> Made {
    let noise: Vec<u8> = (0..200_000u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    wasi(&[
        Tar::default().file("app.wasm", WASM).bytes(),
        Tar::default().file("data", &noise).bytes(),
    ])
}

async fn pull(
    registry: &Registry,
    rest: &str,
    options: &PullOptions,
) -> (Place, Result<Image, Error>) {
    let place = Place::new();
    let result = place.store.pull(&registry.reference(rest), options).await;
    (place, result)
}

async fn fails(
    behaviour: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    words: &[&str],
) -> (Registry, Error) {
    let registry = Registry::start(&app(), behaviour).await;
    let (place, result) = pull(&registry, "app:v1", &quick()).await;
    let error = result.unwrap_err();
    let text = error.to_string();
    assert!(
        words.iter().all(|w| text.contains(w)),
        "{text:?} lacks one of {words:?}"
    );
    // Other layers of a failed pull may still be on their way out: the collector waits for them.
    place.store.collect(&[]).unwrap();
    place.assert_clean();
    assert_eq!(place.store.list().unwrap(), []);
    (registry, error)
}

#[tokio::test]
async fn a_good_registry() {
    let made = app();
    let registry = Registry::start(&made, |_| None).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let progress: Arc<dyn Fn(Progress) + Send + Sync> =
        Arc::new(move |p| log.lock().unwrap().push(p));
    let (place, result) = pull(
        &registry,
        "app:v1",
        &PullOptions {
            progress: Some(progress),
            ..quick()
        },
    )
    .await;
    let image = result.unwrap();
    assert_eq!(image.digest, Digest::of(&made.manifest));
    assert_eq!(image.module("app").unwrap().digest, Digest::of(WASM));
    let layers: u64 = made.blobs[..2].iter().map(|b| b.len() as u64).sum();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(
        seen[0],
        Progress::Resolved {
            digest: image.digest,
            bytes: layers,
            layers: 2
        }
    );
    let fetched: u64 = seen
        .iter()
        .map(|p| {
            if let Progress::Fetched { bytes } = p {
                *bytes
            } else {
                0
            }
        })
        .sum();
    assert_eq!(fetched, layers);

    let pinned = registry.reference(&format!("app:ignored@{}", image.digest));
    assert_eq!(
        place.store.get(&pinned).unwrap().unwrap().digest,
        image.digest
    );
    let again = place
        .store
        .pull(&registry.reference("app:v1"), &quick())
        .await
        .unwrap();
    assert_eq!((again.id, registry.asked("/blobs/")), (image.id, 3));
    place.assert_clean();
}

#[tokio::test]
async fn an_artifact_and_an_index() {
    let mut made = artifact(WASM);
    made.blobs.push(made.manifest.clone());
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &made.manifest);
    entry["platform"] = json!({"os": "wasip1", "architecture": "wasm"});
    let mut linux = descriptor(
        "application/vnd.oci.image.manifest.v1+json",
        b"never fetched",
    );
    linux["platform"] = json!({"os": "linux", "architecture": "amd64"});
    made.manifest = json!({"schemaVersion": 2, "manifests": [linux, entry]})
        .to_string()
        .into_bytes();
    let registry = Registry::start(&made, |_| None).await;
    let (_place, result) = pull(&registry, "app:v1", &quick()).await;
    let image = result.unwrap();
    assert_eq!(image.digest, Digest::of(&made.manifest));
    assert_eq!(image.module("main.wasm").unwrap().digest, Digest::of(WASM));

    made.manifest = json!({"schemaVersion": 2, "manifests": [linux, linux]})
        .to_string()
        .into_bytes();
    let registry = Registry::start(&made, |_| None).await;
    let error = pull(&registry, "app:v1", &quick()).await.1.unwrap_err();
    assert!(
        error.to_string().contains("linux/amd64, linux/amd64"),
        "{error}"
    );
}

#[tokio::test]
async fn a_platform_is_chosen_before_anything_of_another_is_fetched() {
    let (one, two) = (artifact(WASM), artifact(b"\0asm\x0d\0\x01\0"));
    let entry = |made: &Made, os: &str| {
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &made.manifest);
        entry["platform"] = json!({"os": os, "architecture": "wasm"});
        entry
    };
    let manifests = [entry(&one, "wasip1"), entry(&two, "wasip2")];
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    let mut made = Made {
        manifest: index.to_string().into_bytes(),
        blobs: [one.blobs, two.blobs].concat(),
    };
    made.blobs
        .extend([one.manifest.clone(), two.manifest.clone()]);
    let registry = Registry::start(&made, |_| None).await;
    let only = |platform: &str| PullOptions {
        platform: Some(platform.to_owned()),
        ..quick()
    };

    let (place, result) = pull(&registry, "app:v1", &only("wasip2/wasm")).await;
    assert_eq!(result.unwrap().digest, Digest::of(&two.manifest));
    let name = registry.reference("app:v1");
    let kept = place.store.get(&name).unwrap().unwrap();
    assert_eq!(kept.digest, Digest::of(&two.manifest));
    // What an index has first, it stands for: the name stays the index's.
    let (_place, result) = pull(&registry, "app:v1", &only("wasip1/wasm")).await;
    assert_eq!(result.unwrap().digest, Digest::of(&made.manifest));

    let asked = registry.asked("/blobs/");
    let error = pull(&registry, "app:v1", &only("wasi/wasm")).await.1;
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("not for wasi/wasm, but for wasip1/wasm, wasip2/wasm"),
        "{text}"
    );
    assert_eq!(registry.asked("/blobs/"), asked);

    // Without an index the configuration says it, and no layer is fetched.
    let registry = Registry::start(&app(), |_| None).await;
    let error = pull(&registry, "app:v1", &only("wasip2/wasm")).await.1;
    let text = error.unwrap_err().to_string();
    assert!(text.contains("not for wasip2/wasm, but for "), "{text}");
    assert_eq!(registry.asked("/blobs/"), 1);
}

#[tokio::test]
async fn answers_that_no_retry_helps() {
    let refuse = |status| move |_: &Request| Some(Reply::Answer(status, vec![], vec![]));
    for (status, word) in [
        (401, "401 Unauthorized"),
        (403, "403 Forbidden"),
        (418, "unexpected answer 418"),
    ] {
        let (registry, error) = fails(refuse(status), &[word, "127.0.0.1"]).await;
        assert!(!error.retryable() && error.reason() == "ErrImagePull");
        // With nothing to show, a second request would be the same.
        assert_eq!(registry.asked("/manifests/"), 1);
    }
    let registry = Registry::start(&app(), |_| None).await;
    for (name, words) in [
        ("app:v2", ["tag \"v2\"", "which has v1"]),
        ("other:v1", ["no repository \"other\"", "manifest unknown"]),
    ] {
        let error = pull(&registry, name, &quick()).await.1.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::NotFound { .. }), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
    let (_, error) = fails(
        |r| is_blob(r).then(|| Reply::Answer(404, vec![], vec![])),
        &["blob sha256:"],
    )
    .await;
    assert!(matches!(error, Error::NotFound { .. }));
    fails(
        |_| {
            Some(Reply::Answer(
                302,
                vec![("Location", "http://192.0.2.1/x".into())],
                vec![],
            ))
        },
        &["plain HTTP"],
    )
    .await;
    fails(
        |_| Some(Reply::Answer(200, vec![], vec![b' '; 5 << 20])),
        &["4194304 bytes"],
    )
    .await;
    fails(
        |_| Some(Reply::Answer(200, vec![], b"<html>".to_vec())),
        &["the manifest of", "expected value"],
    )
    .await;
}

#[tokio::test]
async fn bytes_that_are_not_those_promised() {
    let lie = |r: &Request| is_blob(r).then(|| Reply::Answer(200, vec![], b"{}".to_vec()));
    fails(lie, &["size of", "2 bytes"]).await;
    let made = app();
    let (layer, length) = (Digest::of(&made.blobs[0]), made.blobs[0].len());
    let path = format!("/v2/app/blobs/{layer}");
    let other = Digest::of(&vec![7; length]);
    let same_size =
        move |r: &Request| (r.path == path).then(|| Reply::Answer(200, vec![], vec![7; length]));
    fails(same_size, &[&layer.to_string(), &other.to_string()]).await;
    let path = format!("/v2/app/blobs/{layer}");
    let longer = move |r: &Request| {
        (r.path == path).then(|| Reply::Answer(200, vec![], vec![7; length + 1]))
    };
    fails(longer, &["size of layer", "more"]).await;

    let registry = Registry::start(&made, |_| None).await;
    let wrong = Digest::of(b"something else");
    let manifest = made.manifest.clone();
    let liar = Registry::start(&made, move |r| {
        r.path
            .contains("/manifests/")
            .then(|| Reply::Answer(200, vec![], manifest.clone()))
    });
    let error = pull(&liar.await, &format!("app@{wrong}"), &quick())
        .await
        .1
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&wrong.to_string())
            && error.contains(&Digest::of(&made.manifest).to_string()),
        "{error}"
    );
    drop(registry);
}

#[tokio::test]
async fn failures_that_pass() {
    for flaw in ["429", "500", "cut", "cut-at-once"] {
        let made = app();
        let blob = made.blobs[1].clone();
        let path = format!("/v2/app/blobs/{}", Digest::of(&blob));
        let registry = Registry::start(&made, move |r| {
            (r.path == path && r.before < 2).then(|| match flaw {
                "429" => Reply::Answer(429, vec![("Retry-After", "0".into())], vec![]),
                "500" => Reply::Answer(500, vec![], vec![]),
                "cut" if r.before == 0 => Reply::Cut(blob[..1000].to_vec(), blob.len()),
                // After a cut, a registry that knows no ranges.
                "cut" => Reply::Answer(200, vec![], blob.clone()),
                _ => Reply::Cut(vec![], blob.len()),
            })
        })
        .await;
        let (place, result) = pull(&registry, "app:v1", &quick()).await;
        result.unwrap_or_else(|e| panic!("{flaw}: {e}"));
        place.assert_clean();
    }
}

#[tokio::test]
async fn failures_that_stay() {
    let (registry, error) = fails(
        |_| Some(Reply::Answer(503, vec![], vec![])),
        &["unavailable", "503"],
    )
    .await;
    assert!(error.retryable() && error.reason() == "RegistryUnavailable");
    assert_eq!(registry.asked("/manifests/"), 3);
    let busy = |_: &Request| {
        Some(Reply::Answer(
            429,
            vec![("Retry-After", "3600".into())],
            vec![],
        ))
    };
    let (registry, error) = fails(busy, &["429"]).await;
    assert!(
        matches!(error, Error::Throttled { retry_after: Some(after), .. } if after.as_secs() == 3600)
    );
    assert_eq!(registry.asked("/manifests/"), 1);
    fails(
        |r| is_blob(r).then(|| Reply::Cut(vec![], 10)),
        &["unavailable"],
    )
    .await;

    let silent = Registry::start(&app(), |r| is_blob(r).then_some(Reply::Hang)).await;
    let options = PullOptions {
        stall: Duration::from_millis(50),
        attempts: 1,
        ..quick()
    };
    let error = pull(&silent, "app:v1", &options).await.1.unwrap_err();
    assert!(error.to_string().contains("timed out"), "{error}");

    // Bound, so that nobody else gets the port, and not listened at.
    let gone = tokio::net::TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let registry = Registry::at(gone.local_addr().unwrap());
    let error = pull(&registry, "app:v1", &quick()).await.1.unwrap_err();
    assert!(
        error.retryable() && error.to_string().contains("refused"),
        "{error}"
    );
}

#[tokio::test]
async fn credentials_are_shown_when_asked_for() {
    for scheme in ["basic", "bearer"] {
        let address = Arc::new(Mutex::new(String::new()));
        let realm = Arc::clone(&address);
        let registry = Registry::start(&app(), move |r| {
            let shown = r.headers.get("authorization").map(String::as_str);
            // "me:secret" in base64.
            let user = shown == Some("Basic bWU6c2VjcmV0");
            if r.path.starts_with("/token") {
                return Some(match user {
                    true => Reply::Answer(200, vec![], br#"{"token":"abc"}"#.to_vec()),
                    false => Reply::Answer(
                        401,
                        vec![],
                        br#"{"errors":[{"code":"DENIED","message":"bad password"}]}"#.to_vec(),
                    ),
                });
            }
            let challenge = match scheme {
                "basic" => "Basic realm=\"r\"".to_owned(),
                _ => format!(
                    "Bearer realm=\"http://{}/token\",service=\"s\"",
                    realm.lock().unwrap()
                ),
            };
            let right = if scheme == "basic" {
                user
            } else {
                shown == Some("Bearer abc")
            };
            (!right).then(|| Reply::Answer(401, vec![("WWW-Authenticate", challenge)], vec![]))
        })
        .await;
        *address.lock().unwrap() = registry.address.to_string();
        let with = |password: &str| PullOptions {
            credentials: Credentials::Basic("me".into(), password.into()),
            ..quick()
        };
        pull(&registry, "app:v1", &with("secret")).await.1.unwrap();
        let error = pull(&registry, "app:v1", &with("wrong"))
            .await
            .1
            .unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert!(!format!("{error:?} {:?}", with("wrong")).contains("wrong"));
        let error = pull(&registry, "app:v1", &quick()).await.1.unwrap_err();
        assert!(
            error.to_string().contains("no credentials were given"),
            "{error}"
        );
        let bearer = PullOptions {
            credentials: Credentials::Bearer("abc".into()),
            ..quick()
        };
        assert_eq!(
            pull(&registry, "app:v1", &bearer).await.1.is_ok(),
            scheme == "bearer"
        );
    }
}

#[tokio::test]
async fn many_at_once_fetch_each_blob_once() {
    let registry = Arc::new(Registry::start(&app(), |_| None).await);
    let place = Place::new();
    let pulls = (0..8).map(|_| {
        let (registry, dir) = (Arc::clone(&registry), place.path("store"));
        tokio::spawn(async move {
            // As another process would: a store of its own on the same folder.
            let store = image::Store::open(&dir).unwrap();
            store
                .pull(&registry.reference("app:v1"), &quick())
                .await
                .unwrap()
                .layers
        })
    });
    let layers: Vec<_> = futures::future::join_all(pulls)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(layers.iter().all(|l| *l == layers[0]));
    // The configuration is a small document, which anyone may fetch; the layers are not.
    let manifest: serde_json::Value = serde_json::from_slice(&app().manifest).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        assert_eq!(registry.asked(layer["digest"].as_str().unwrap()), 1);
    }
    place.assert_clean();
}

#[tokio::test]
async fn a_dropped_pull_leaves_nothing() {
    let registry = Registry::start(&app(), |r| is_blob(r).then_some(Reply::Hang)).await;
    let place = Place::new();
    let reference = registry.reference("app:v1");
    let options = quick();
    tokio::select! {
        result = place.store.pull(&reference, &options) => panic!("{result:?}"),
        () = async { while registry.asked("/blobs/") == 0 { tokio::task::yield_now().await } } => {}
    }
    // The collector waits for the pull's lock, which its threads hold to their end.
    place.store.collect(&[]).unwrap();
    place.assert_clean();
}

#[tokio::test]
async fn a_linux_image_costs_no_layer() {
    let tar = Tar::default().bytes();
    let made = compat(
        &[(tar.clone(), gzip(&tar))],
        json!({"Cmd": ["sh"]}),
        ("linux", "arm64"),
    );
    let registry = Registry::start(&made, |_| None).await;
    let error = pull(&registry, "app:v1", &quick()).await.1.unwrap_err();
    assert!(
        matches!(error, Error::Platform { .. }) && error.to_string().contains("linux/arm64"),
        "{error}"
    );
    assert_eq!(registry.asked(&Digest::of(&made.blobs[0]).to_string()), 0);
}
