//! Followers: they hear what comes, end with the container, and cost little, also those that don't listen.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use logs::Stream;

use super::bench::{Bench, hear, say};

const FOLLOW: &str = "/containerLogs/default/web/main?follow=true";

#[tokio::test]
async fn a_follower_hears_what_comes_and_ends_with_the_container() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    let mut writer = bench.node.writer(1);
    let mut client = bench.client(Some(admin)).await;
    let answer = client.send(Method::GET, FOLLOW, None).await.unwrap();
    assert_eq!(answer.status(), 200, "before anything is said");
    let mut body = answer.into_body();
    for text in ["one\n", "two\n", "no newline"] {
        say(&mut writer, text);
        hear(&mut body, text).await;
    }
    say(&mut writer, ", last words\n");
    bench.node.running.send_replace(false);
    hear(&mut body, ", last words\n").await;
    assert!(body.frame().await.is_none(), "it is whole");
    assert_eq!(
        client.get("/healthz").await.0,
        200,
        "and the connection serves on"
    );
}

#[tokio::test]
async fn a_follower_that_leaves_is_let_go() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    let _writer = bench.node.writer(1);
    let mut client = bench.client(Some(admin)).await;
    let answer = client.send(Method::GET, FOLLOW, None).await.unwrap();
    assert_eq!(bench.handle.connections(), 1);
    drop((answer, client));
    // Closed by the client, it is found closed by the server: nothing else ends it, as nothing is said.
    let let_go = async {
        while bench.handle.connections() > 0 {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(120);
    tokio::time::timeout(limit, let_go).await.unwrap();
}

/// Both ends of each connection are this process's.
fn all_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_follow_one_log() {
    all_descriptors();
    let bench = Bench::new().await;
    let mut writer = bench.node.writer(1);
    say(&mut writer, "begins\n");
    let mut followers = Vec::new();
    for _ in 0..1000 {
        let mut client = bench.client(Some(bench.admin())).await;
        let mut body = client
            .send(Method::GET, FOLLOW, None)
            .await
            .unwrap()
            .into_body();
        hear(&mut body, "begins\n").await;
        followers.push(tokio::spawn(async move {
            hear(&mut body, "goes on\n").await;
            assert!(body.frame().await.is_none());
            client
        }));
    }
    say(&mut writer, "goes on\n");
    bench.node.running.send_replace(false);
    for follower in followers {
        follower.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_holds_up_nobody_and_holds_little() {
    let bench = Arc::new(Bench::new().await);
    let mut writer = bench.node.writer(1);
    let mut slow = bench.client(Some(bench.admin())).await;
    let stuck = slow.send(Method::GET, FOLLOW, None).await.unwrap();
    let line = format!("{}\n", "x".repeat(1023));
    // Much more than all buffers on the way: the log is written on as if nobody read it.
    const LINES: usize = 8 << 10;
    for _ in 0..LINES {
        writer.write(Stream::Stdout, line.as_bytes()).unwrap();
    }
    let mut quick = bench.client(Some(bench.admin())).await;
    let last = "/containerLogs/default/web/main?tailLines=1";
    assert_eq!(quick.get(last).await, (200, line.clone()));
    bench.node.running.send_replace(false);
    // What the slow one then takes is all there, and in order.
    let all = stuck.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(all.len(), LINES * line.len());
}

#[tokio::test]
async fn the_end_of_the_node_is_not_taken_for_the_containers() {
    let bench = Bench::new().await;
    let admin = bench.admin();
    let mut writer = bench.node.writer(1);
    let mut client = bench.client(Some(admin)).await;
    let mut body = client
        .send(Method::GET, FOLLOW, None)
        .await
        .unwrap()
        .into_body();
    say(&mut writer, "one\n");
    hear(&mut body, "one\n").await;
    bench.handle.stop(Duration::from_secs(60)).await;
    body.frame().await.unwrap().unwrap_err();
    assert!(tokio::net::TcpStream::connect(bench.at).await.is_err());
}
