//! Time, memory, and how many at once.

use super::*;
use crate::spec::ExitKind;

/// A server with these bounds.
async fn within(change: impl FnOnce(&mut HttpSpec)) -> Option<Served> {
    serve(|spec| change(spec.http.as_mut().unwrap())).await
}

#[tokio::test]
async fn one_that_gives_no_answer_in_time_is_ended_whatever_it_does() {
    let Some(served) = within(|http| http.request_timeout_ms = 300).await else {
        return;
    };
    for path in ["/spin", "/sleep?100000000"] {
        let (status, text) = served.get(path).await;
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{path}: {text}");
    }
    served
        .says("GET /spin: it gave no answer within 300ms")
        .await;
    assert_eq!(served.get("/").await.0, StatusCode::OK);
}

#[tokio::test]
async fn too_many_are_turned_away_and_told_to_come_again() {
    let Some(served) = within(|http| {
        http.max_concurrent = 1;
        http.max_queued = 0;
    })
    .await
    else {
        return;
    };
    let one = Echo::begun(served.address, "one").await;
    // It has the one place until its body ends.
    let mut client = served.client().await;
    let response = client.ask(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    read(response).await;
    one.end().await;
    let come_again = async {
        // The place is given back a moment after the last byte was.
        while read(client.ask(get("/")).await.unwrap()).await.0 != StatusCode::OK {}
    };
    tokio::time::timeout(GUARD, come_again).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_does_nothing_or_begins_and_stops_is_closed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Some(served) = within(|http| {
        http.idle_timeout_ms = 200;
        http.header_timeout_ms = 200;
    })
    .await
    else {
        return;
    };
    for begun in ["", "GET / HTTP/1.1\r\nho", "PRI * HTTP"] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let end = tokio::time::timeout(GUARD, stream.read_to_end(&mut rest)).await;
        // A reset is an end as well.
        drop(end.unwrap_or_else(|_| panic!("{begun:?} is not closed")));
    }
    // One that was answered and is idle then.
    let mut client = served.client().await;
    read(client.ask(get("/")).await.unwrap()).await;
    until("closed", || client.0.is_closed()).await;
}

#[tokio::test]
async fn a_body_that_stands_still_breaks_off() {
    let Some(served) = within(|http| http.body_timeout_ms = 200).await else {
        return;
    };
    // Never a byte of the body that it announces.
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(GUARD, stream.read_to_end(&mut answer)).await;
    drop(end.unwrap());
    // Its answer stands still as well, since it gives back what comes.
    let either = [
        "the request breaks off",
        "POST /echo: its answer stood still",
    ];
    served.says_one_of(&either).await;
}

#[tokio::test]
async fn all_instances_have_one_memory_and_passing_it_ends_the_container() {
    let Some(served) = serve(|spec| spec.limits.memory_bytes = Some(48 << 20)).await else {
        return;
    };
    assert_eq!(served.get("/").await.0, StatusCode::OK);
    let mut client = served.client().await;
    client.ask(get("/hog")).await.unwrap_err();
    let exited = served.host.end(&served.id).await;
    assert_eq!((exited.code, exited.kind), (137, ExitKind::OomKilled));
    assert!(
        exited.message.contains("the limit is 48.0 MiB"),
        "{exited:?}"
    );
    assert_eq!(served.host.local.stats(&served.id).unwrap().memory_bytes, 0);
}

#[tokio::test]
async fn connections_that_there_is_no_memory_for_are_closed_and_end_nothing() {
    let Some(served) = serve(|spec| spec.limits.memory_bytes = Some(3 << 20)).await else {
        return;
    };
    let mut clients = Vec::new();
    for _ in 0..400 {
        clients.push(TcpStream::connect(served.address).await.unwrap());
    }
    // The last ones were closed at once; with the first ones gone there is room again.
    let mut byte = [0];
    let last = clients.last_mut().unwrap();
    let read = tokio::io::AsyncReadExt::read(last, &mut byte);
    assert!(!matches!(
        tokio::time::timeout(GUARD, read).await.unwrap(),
        Ok(1)
    ));
    drop(clients);
    let answered = async {
        loop {
            match served.client().await.0.send_request(get("/")).await {
                Ok(response) if response.status() == StatusCode::OK => break,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(GUARD, answered).await.unwrap();
}

#[tokio::test]
async fn the_quota_holds_for_all_instances_together() {
    let Some(served) = serve(|spec| {
        spec.limits.cpu_milli = Some(200);
        spec.http.as_mut().unwrap().request_timeout_ms = 2_000;
    })
    .await
    else {
        return;
    };
    let begun = std::time::Instant::now();
    let spinning = (0..4).map(|_| served.get("/spin"));
    for (status, _) in futures::future::join_all(spinning).await {
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    }
    let used = served.host.local.stats(&served.id).unwrap().cpu_nanos;
    let share = used as f64 / begun.elapsed().as_nanos() as f64;
    assert!(share < 0.3, "{share}");
}
