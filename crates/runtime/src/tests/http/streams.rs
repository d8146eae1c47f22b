//! What goes in and out.

use super::*;

#[tokio::test]
async fn requests_are_answered_by_either_protocol_and_on_one_connection() {
    let Some(served) = serve(|spec| spec.env = vec![("GREETING".into(), "hi".into())]).await else {
        return;
    };
    let hello = (StatusCode::OK, "hello from Rust\n".to_owned());
    let mut client = served.client().await;
    for _ in 0..3 {
        assert_eq!(read(client.ask(get("/")).await.unwrap()).await, hello);
    }
    let env = read(client.ask(get("/env")).await.unwrap()).await;
    assert_eq!(env, (StatusCode::OK, "GREETING=hi\n".to_owned()));
    let mut sender = h2c(served.address).await;
    let uri = |path: &str| format!("http://{}{path}", served.address);
    let asked: Vec<_> = (0..10)
        .map(|_| sender.send_request(get(&uri("/"))))
        .collect();
    for answer in asked {
        assert_eq!(read(answer.await.unwrap()).await, hello);
    }
    let unknown = served.get("/nowhere").await;
    assert_eq!(unknown.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_printed_is_logged_and_each_request_has_an_instance_of_its_own() {
    let Some(served) = serve(|_| ()).await else {
        return;
    };
    for word in ["one", "two"] {
        assert_eq!(served.get(&format!("/log?{word}")).await.1, "logged\n");
        served.says(&format!("stdout F {word}")).await;
        served.says(&format!("stderr F {word}, as an error")).await;
    }
    let used = served.host.local.stats(&served.id).unwrap();
    assert!(used.cpu_nanos > 0);
}

#[tokio::test]
async fn a_body_is_given_back_while_it_comes_and_its_trailers_at_the_end() {
    let Some(served) = serve(|_| ()).await else {
        return;
    };
    let mut echo = Echo::begun(served.address, "one").await;
    assert_eq!(echo.back().await, "one");
    // Each piece comes back before the next is sent.
    for text in ["two", "three"] {
        echo.send(Frame::data(text.into())).await;
        assert_eq!(echo.back().await, text);
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "3".parse().unwrap());
    echo.send(Frame::trailers(trailers)).await;
    let rest = echo.end().await;
    assert_eq!(rest.trailers().unwrap()["x-sum"], "3");
    assert!(rest.to_bytes().is_empty());
}

#[tokio::test]
async fn an_instance_goes_no_faster_than_its_client_reads() {
    let Some(served) = serve(|_| ()).await else {
        return;
    };
    // Far more than sockets hold, from a guest with little memory.
    let mut client = served.client().await;
    let response = client.ask(get("/stream?65536")).await.unwrap();
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(served.host.local.stats(&served.id).unwrap().memory_bytes < 16 << 20);
    let rest = body.collect().await.unwrap().to_bytes();
    assert_eq!(first.len() + rest.len(), 64 << 20);
}

#[tokio::test]
async fn requests_that_are_none_are_told_so() {
    let Some(served) = serve(|_| ()).await else {
        return;
    };
    let exchange = |text: &'static str| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(GUARD, read).await.unwrap().unwrap();
        answer
    };
    for (request, status) in [
        ("GET / HTTP/1.0\r\n\r\n", "200 OK"),
        (
            "GET / HTTP/1.1\r\nconnection: close\r\n\r\n",
            "400 Bad Request",
        ),
        (
            "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\nconnection: close\r\n\r\n",
            "501 Not Implemented",
        ),
        ("GARBAGE\r\n\r\n", "400 Bad Request"),
    ] {
        let answer = exchange(request).await;
        let line = answer.lines().next().unwrap_or_default();
        assert!(line.ends_with(status), "{request:?}: {answer:?}");
    }
    assert_eq!(served.get("/").await.0, StatusCode::OK);
}
