//! Who is let in, and to what.

use std::sync::atomic::Ordering;

use rcgen::ExtendedKeyUsagePurpose;

use super::bench::{Bench, Ca, NOW, Who};
use crate::authn::TOKEN_TTL;
use crate::authz::{ALLOWED_TTL, DENIED_TTL};
use crate::{CaSource, Limits};

const OK: (u16, &str) = (200, "ok");
const NOBODY: (u16, &str) = (401, "Unauthorized");

fn said(answer: &(u16, String)) -> (u16, &str) {
    (answer.0, answer.1.as_str())
}

#[tokio::test]
async fn a_certificate_of_the_ca_names_its_user_and_groups() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    let mut client = bench.client(Some(admin)).await;
    assert_eq!(said(&client.get("/healthz").await), OK);
    let asked = bench.word.asked.lock().unwrap().remove(0);
    assert_eq!(asked.user.as_deref(), Some("admin"));
    let groups = asked.groups.unwrap();
    assert_eq!(groups, ["masters", "system:authenticated"]);
    let credential = &asked.extra.unwrap()["authentication.kubernetes.io/credential-id"];
    assert!(credential[0].starts_with("X509SHA256="), "{credential:?}");
    let about = asked.resource_attributes.unwrap();
    assert_eq!(about.resource.as_deref(), Some("nodes"));
    assert_eq!(about.name.as_deref(), Some("wasm-1"));
    assert_eq!(about.subresource.as_deref(), Some("healthz"));
    assert_eq!(about.namespace, None);
}

#[tokio::test]
async fn who_shows_nothing_or_the_wrong_thing_is_nobody() {
    let bench = Bench::new().await;
    bench.admin();
    let other = Ca::new("clients"); // Of the same name, and not of the same key.
    let wrong = [
        None,
        Some(other.signs(&Who("admin", &[], NOW))),
        Some(bench.ca.signs(&Who("admin", &[], [-7200, -3600]))),
        Some(bench.ca.signs(&Who("admin", &[], [3600, 7200]))),
        Some(bench.ca.signs(&Who("", &["masters"], NOW))),
        Some(
            bench
                .ca
                .signs_for(&Who("admin", &[], NOW), ExtendedKeyUsagePurpose::ServerAuth),
        ),
    ];
    for (number, identity) in wrong.into_iter().enumerate() {
        let mut client = bench.client(identity).await;
        assert_eq!(said(&client.get("/healthz").await), NOBODY, "{number}");
    }
    assert!(bench.word.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_wrong_certificate_falls_through_to_a_token() {
    let bench = Bench::new().await;
    let wrong = Ca::new("strangers").signs(&Who("admin", &[], NOW));
    let tokens = &bench.word.tokens;
    tokens.lock().unwrap().insert("t0ken".into(), "ann".into());
    bench.word.allow("ann get healthz");
    let mut client = bench.client(Some(wrong)).await;
    assert_eq!(said(&client.get_as("/healthz", Some("t0ken")).await), OK);
}

#[tokio::test]
async fn the_word_on_a_token_is_kept_and_a_bad_one_is_refused() {
    let bench = Bench::new().await;
    let tokens = &bench.word.tokens;
    tokens.lock().unwrap().insert("good".into(), "ann".into());
    bench.word.allow("ann get healthz");
    for (token, expected) in [("good", OK), ("bad", NOBODY)] {
        for _ in 0..3 {
            let mut client = bench.client(None).await;
            assert_eq!(
                said(&client.get_as("/healthz", Some(token)).await),
                expected
            );
        }
    }
    assert_eq!(bench.word.token_reviews.load(Ordering::SeqCst), 2);
    tokens.lock().unwrap().clear();
    tokio::time::pause();
    tokio::time::advance(TOKEN_TTL).await;
    tokio::time::resume();
    let mut client = bench.client(None).await;
    assert_eq!(said(&client.get_as("/healthz", Some("good")).await), NOBODY);
}

#[tokio::test]
async fn who_may_not_is_told_so_in_the_kubelets_words() {
    let bench = Bench::new().await;
    let ann = || bench.ca.signs(&Who("ann", &[], NOW));
    let mut client = bench.client(Some(ann())).await;
    let denied = "Forbidden (user=ann, verb=get, resource=nodes, subresource(s)=[pods proxy])\n";
    for _ in 0..2 {
        assert_eq!(said(&client.get("/pods").await), (403, denied));
    }
    // Both subresources were asked for, once.
    assert_eq!(bench.word.asked.lock().unwrap().len(), 2);
    let post = client.send(http::Method::POST, "/exec/a/b/c", None);
    let post = super::bench::whole(post.await.unwrap()).await;
    let denied = "Forbidden (user=ann, verb=create, resource=nodes, subresource(s)=[proxy])\n";
    assert_eq!(said(&post), (403, denied), "and nothing of what is there");
    // The coarse right is enough, once the no is forgotten.
    bench.word.allow("ann get proxy");
    tokio::time::pause();
    tokio::time::advance(DENIED_TTL).await;
    tokio::time::resume();
    let mut client = bench.client(Some(ann())).await;
    assert_eq!(client.get("/pods").await.0, 200);
    bench.word.allowed.lock().unwrap().clear();
    assert_eq!(client.get("/pods").await.0, 200, "a yes is kept");
    tokio::time::pause();
    tokio::time::advance(ALLOWED_TTL).await;
    tokio::time::resume();
    let mut client = bench.client(Some(ann())).await;
    assert_eq!(client.get("/pods").await.0, 403);
}

#[tokio::test]
async fn without_the_api_server_nobody_gets_in() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    bench.word.gone.store(true, Ordering::SeqCst);
    let mut client = bench.client(Some(admin)).await;
    let error = "Authorization error (user=admin, verb=get, resource=nodes, subresource=healthz)";
    assert_eq!(said(&client.get("/healthz").await), (500, error));
    let mut client = bench.client(None).await;
    let answer = client.get_as("/healthz", Some("good")).await;
    assert_eq!(said(&answer), NOBODY);
    // It is not remembered: what it says when it is back counts.
    bench.word.gone.store(false, Ordering::SeqCst);
    let admin = bench.admin();
    let mut client = bench.client(Some(admin)).await;
    assert_eq!(said(&client.get("/healthz").await), OK);
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    let mut client = bench.client(Some(admin)).await;
    bench.word.busy.store(2, Ordering::SeqCst);
    assert_eq!(said(&client.get("/healthz").await), OK);
    assert_eq!(bench.word.asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn another_ca_in_the_file_counts_at_once_and_rubbish_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    std::fs::write(&file, old.pem()).unwrap();
    let source = CaSource::File(file.clone());
    let bench = Bench::of(old, source, Limits::default()).await;
    bench.word.allow("ann get healthz");
    let who = Who("ann", &[], NOW);
    let mut client = bench.client(Some(bench.ca.signs(&who))).await;
    assert_eq!(said(&client.get("/healthz").await), OK);
    for rubbish in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        std::fs::write(&file, rubbish).unwrap();
        assert_eq!(said(&client.get("/healthz").await), OK, "{rubbish:?}");
    }
    std::fs::write(&file, new.pem()).unwrap();
    assert_eq!(said(&client.get("/healthz").await), NOBODY);
    let mut client = bench.client(Some(new.signs(&who))).await;
    assert_eq!(said(&client.get("/healthz").await), OK);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(said(&client.get("/healthz").await), OK);
}
