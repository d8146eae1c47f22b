//! What is answered, once it is known who asks.

use http::Method;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use logs::Stream;

use super::bench::{Bench, say, tls, whole};

#[tokio::test]
async fn every_path_has_its_answer() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    let mut client = bench.client(Some(admin)).await;
    let verbose = client.get("/healthz?verbose").await;
    let lines = "[+]ping ok\n[+]syncloop ok\nhealthz check passed\n";
    assert_eq!(verbose, (200, lines.to_owned()));
    assert_eq!(client.get("/healthz/syncloop").await, (200, "ok".into()));
    assert_eq!(client.get("/healthz/none").await.0, 404);

    let (code, pods) = client.get("/pods").await;
    let pods: serde_json::Value = serde_json::from_str(&pods).unwrap();
    assert_eq!(
        (code, &pods["kind"], &pods["apiVersion"]),
        (200, &"PodList".into(), &"v1".into())
    );
    assert_eq!(pods["items"][0]["status"]["phase"], "Running");
    let (_, pods) = client.get("/runningpods/").await;
    let pods: serde_json::Value = serde_json::from_str(&pods).unwrap();
    assert_eq!(pods["items"][0]["spec"]["containers"][0]["name"], "main");
    assert!(pods["items"][0].get("status").is_none(), "{pods}");

    let (_, configuration) = client.get("/configz").await;
    assert_eq!(configuration, r#"{"kubeletconfig":{"maxPods":7}}"#);
    for path in [
        "/metrics",
        "/metrics/resource",
        "/stats/summary",
        "/exec/a/b/c",
        "/portForward/a/b",
    ] {
        let (code, text) = client.get(path).await;
        assert_eq!(code, 501, "{path}");
        assert!(
            text.contains("not supported by this version of coracle: "),
            "{text}"
        );
    }
    assert_eq!(
        client.get("/logs/").await,
        (405, "logs endpoint is disabled.\n".into())
    );
    assert_eq!(
        client.get("/nothing").await,
        (404, "404: Page Not Found".into())
    );
    let post = client.send(Method::POST, "/pods", None).await.unwrap();
    assert_eq!(post.headers()["allow"], "GET");
    assert_eq!(whole(post).await.0, 405);
}

#[tokio::test]
async fn logs_are_read_by_their_options() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    let mut before = bench.node.writer(0);
    say(&mut before, "before\n");
    let mut now = bench.node.writer(1);
    say(&mut now, "one\ntwo\n");
    now.write(Stream::Stderr, b"three\n").unwrap();
    let mut client = bench.client(Some(admin)).await;
    for (query, expected) in [
        ("", "one\ntwo\nthree\n"),
        ("?previous=true", "before\n"),
        ("?previous=true&follow=true", "before\n"),
        ("?tailLines=1", "three\n"),
        ("?tailLines=0", ""),
        ("?limitBytes=5", "one\nt"),
        ("?stream=Stderr", "three\n"),
        ("?stream=Stdout", "one\ntwo\n"),
        ("?sinceSeconds=3600&tailLines=2", "two\nthree\n"),
        ("?sinceTime=2999-01-01T00:00:00Z", ""),
    ] {
        let path = format!("/containerLogs/default/web/main{query}");
        assert_eq!(
            client.get(&path).await,
            (200, expected.to_owned()),
            "{query}"
        );
    }
    let (_, stamped) = client
        .get("/containerLogs/default/web/main?timestamps=true&tailLines=1")
        .await;
    let (time, text) = stamped.split_once(' ').unwrap();
    time.parse::<jiff::Timestamp>().unwrap();
    assert_eq!(text, "three\n");
}

#[tokio::test]
async fn what_is_no_log_says_why_as_the_kubelet_does() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    let mut client = bench.client(Some(admin)).await;
    for (path, code, text) in [
        ("default//main", 400, r#"{"message": "Missing podID."}"#),
        (
            "default/web/",
            400,
            r#"{"message": "Missing container name."}"#,
        ),
        ("/web/main", 400, r#"{"message": "Missing podNamespace."}"#),
        (
            "default/web/main?tailLines=x",
            400,
            r#"{"message": "Unable to decode query."}"#,
        ),
        (
            "default/web/main?limitBytes=0",
            422,
            r#"{"message": "Invalid request."}"#,
        ),
        ("default/none/main", 404, "pod \"none\" does not exist"),
        ("other/web/main", 404, "pod \"web\" does not exist"),
        (
            "default/web/none",
            404,
            "container \"none\" not found in pod \"web\"",
        ),
        (
            "default/web/early",
            400,
            "container \"early\" in pod \"web\" is not available",
        ),
        (
            "default/web/main",
            400,
            "unable to retrieve container logs for c_1",
        ),
    ] {
        let answer = client.get(&format!("/containerLogs/{path}")).await;
        assert_eq!(answer, (code, text.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn http_2_is_spoken_with_who_prefers_it() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    let stream = tls(bench.at, Some(admin), &[b"h2", b"http/1.1"])
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = TokioIo::new(stream);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (mut send, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let asked = || {
        let request = http::Request::get("https://wasm-1/healthz");
        request.body(Empty::<bytes::Bytes>::new()).unwrap()
    };
    for _ in 0..3 {
        let answer = send.send_request(asked()).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
    }
}
