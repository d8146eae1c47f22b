//! How requests, and the server, come to an end.

use super::*;
use crate::spec::{ExitKind, Phase};

#[tokio::test]
async fn one_that_traps_is_told_so_and_the_log_says_where() {
    let Some(served) = serve(|_| ()).await else {
        return;
    };
    let (status, text) = served.get("/trap").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.contains("the container's log says why"), "{text}");
    served.says("asked for").await;
    served
        .says("coracle: default/pod/main: GET /trap: wasm trap")
        .await;
    served.says("wasm backtrace:").await;
    for (path, why) in [
        ("/none", "GET /none: it ended without an answer"),
        ("/exit", "GET /exit: the guest exited with code 1"),
    ] {
        assert_eq!(served.get(path).await.0, StatusCode::INTERNAL_SERVER_ERROR);
        served.says(why).await;
    }
    assert_eq!(served.get("/").await.0, StatusCode::OK, "others go on");
}

#[tokio::test]
async fn one_that_traps_half_way_breaks_off() {
    let Some(served) = serve(|_| ()).await else {
        return;
    };
    let mut client = served.client().await;
    let response = client.ask(get("/trap-late")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().collect().await.unwrap_err();
    served.says("GET /trap-late: wasm trap").await;
    let mut sender = h2c(served.address).await;
    let uri = format!("http://{}/trap-late", served.address);
    let response = sender.send_request(get(&uri)).await;
    // Its stream is reset: before or after its head was sent.
    if let Ok(response) = response {
        response.into_body().collect().await.unwrap_err();
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_instance_with_it() {
    let Some(served) = serve(|spec| {
        spec.http.as_mut().unwrap().max_concurrent = 1;
    })
    .await
    else {
        return;
    };
    let stream = TcpStream::connect(served.address).await.unwrap();
    let request = b"GET /spin HTTP/1.1\r\nhost: a\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut { stream }, request)
        .await
        .unwrap();
    // The one place is free again, or this would wait until it is turned away.
    assert_eq!(served.get("/").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_ends_with_nothing() {
    let Some(served) = serve(|_| ()).await else {
        return;
    };
    let mut idle = served.client().await;
    read(idle.ask(get("/")).await.unwrap()).await;
    let echo = Echo::begun(served.address, "one").await;
    let stop = served.stop(GUARD);
    tokio::pin!(stop);
    // It takes no more, and waits for the one that is being answered.
    while TcpStream::connect(served.address).await.is_ok() {
        assert!(futures::poll!(&mut stop).is_pending(), "it has its grace");
    }
    assert_eq!(echo.end().await.to_bytes(), "one");
    let exited = stop.await;
    assert_eq!(
        (exited.code, exited.kind),
        (0, ExitKind::Exited),
        "{exited:?}"
    );
    TcpStream::connect(served.address).await.unwrap_err();
    assert_eq!(served.host.local.stats(&served.id).unwrap().memory_bytes, 0);
}

#[tokio::test]
async fn a_request_that_outlasts_the_grace_ends_with_it() {
    let Some(served) = serve(|_| ()).await else {
        return;
    };
    let mut client = served.client().await;
    let asked = tokio::spawn(async move { client.ask(get("/spin")).await.map(drop) });
    let used = || served.host.local.stats(&served.id).unwrap().memory_bytes;
    until("answering", || used() >= 1 << 20).await;
    let exited = served.stop(Duration::from_millis(50)).await;
    assert_eq!((exited.code, exited.kind), (137, ExitKind::Stopped));
    asked.await.unwrap().unwrap_err();
    assert_eq!(served.host.local.stats(&served.id).unwrap().memory_bytes, 0);
}

#[tokio::test]
async fn what_is_no_server_or_has_no_listener_is_refused() {
    let host = Host::new();
    let Some((spec, fds, _)) = guest(&host) else {
        return;
    };
    let mut mute = GuestFds {
        listeners: vec![],
        ..fds
    };
    let error = host.refused((spec.clone(), mute)).await;
    assert!(error.to_string().contains("listeners"), "{error}");
    mute = guest(&host).unwrap().1;
    let mut none = spec.clone();
    none.http.as_mut().unwrap().max_concurrent = 0;
    let error = host.refused((none, mute)).await;
    assert!(error.to_string().contains("http.maxConcurrent"), "{error}");
    let command = crate::tests::compiled(&crate::tests::command(r#"(func (export "_start"))"#));
    let fds = GuestFds {
        code: command,
        ..guest(&host).unwrap().1
    };
    let error = host.refused((spec.clone(), fds)).await;
    assert!(
        error.to_string().contains("wasi:http/incoming-handler"),
        "{error}"
    );
    assert!(
        !host
            .local
            .list()
            .iter()
            .any(|guest| guest.phase == Phase::Running)
    );
}
