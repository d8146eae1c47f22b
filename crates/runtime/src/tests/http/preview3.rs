//! Services of preview3, served as those of preview2 are.

use super::*;
use crate::spec::ExitKind;
use crate::tests::preview3::precompiled;

/// Starts the guest `service`; `change` may change its spec.
async fn serve(change: impl FnOnce(&mut GuestSpec)) -> Option<Served> {
    static CODE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let host = Host::with(LocalConfig {
        workers: Some(1),
        room: None,
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (mut spec, mut fds) = host.guest("(module)");
    fds.code = precompiled(Guest::RustService, &CODE)?;
    fds.listeners = vec![listener.into()];
    spec.http = Some(HttpSpec::default());
    change(&mut spec);
    let id = host.start((spec, fds)).await;
    Some(Served { host, id, address })
}

#[tokio::test]
async fn requests_are_answered_each_by_an_instance() {
    let Some(served) = serve(|_| {}).await else {
        return;
    };
    for _ in 0..3 {
        let answer = served.get("/").await;
        assert_eq!(
            answer,
            (StatusCode::OK, "hello from preview 3\n".to_owned())
        );
    }
    assert_eq!(served.get("/nowhere").await.0, StatusCode::NOT_FOUND);
    let (_, text) = served.get("/stream?3000").await;
    assert_eq!(text.len(), 3000 << 10);
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let Some(served) = serve(|_| {}).await else {
        return;
    };
    let text: Bytes = vec![b'y'; 700_000].into();
    let mut client = served.client().await;
    let body = Full::new(text.clone()).boxed();
    let request = Request::post("/echo")
        .header("host", "h")
        .body(body)
        .unwrap();
    let (status, answer) = read(client.ask(request).await.unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(answer.as_bytes() == text, "what came back differs");
}

#[tokio::test]
async fn what_goes_wrong_ends_the_request_and_no_other() {
    let Some(served) = serve(|spec| spec.http.as_mut().unwrap().request_timeout_ms = 500).await
    else {
        return;
    };
    for (path, status) in [
        ("/trap", StatusCode::INTERNAL_SERVER_ERROR),
        ("/fail", StatusCode::INTERNAL_SERVER_ERROR),
        ("/spin", StatusCode::GATEWAY_TIMEOUT),
        ("/sleep?100000000", StatusCode::GATEWAY_TIMEOUT),
    ] {
        assert_eq!(served.get(path).await.0, status, "{path}");
        assert_eq!(served.get("/").await.0, StatusCode::OK);
    }
    served.says("GET /fail: it answered with an error").await;
    served
        .says("GET /spin: it gave no answer within 500ms")
        .await;
}

#[tokio::test]
async fn all_its_instances_are_in_one_budget() {
    let Some(served) = serve(|spec| spec.limits.memory_bytes = Some(32 << 20)).await else {
        return;
    };
    let mut client = served.client().await;
    assert!(client.ask(get("/hog")).await.is_err());
    assert_eq!(served.host.end(&served.id).await.kind, ExitKind::OomKilled);
}
