//! Local storage: a pod that takes more of it than it may has to go.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::place::Place;

/// Writes 1 MiB to its standard output, and then waits for an hour.
const CHATTY: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start") (local $n i32)
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.const 65536))
    (memory.fill (i32.const 65536) (i32.const 120) (i32.const 65536))
    (loop $again
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 16))))
    (i32.store (i32.const 32) (i32.const 1))
    (i64.store (i32.const 40) (i64.const 3600000000000))
    (drop (call $poll (i32.const 16) (i32.const 128) (i32.const 1) (i32.const 8)))))"#;

#[test]
fn a_pod_whose_logs_pass_its_limit_is_evicted() {
    let place = Place::new();
    place.write("chatty.wat", CHATTY);
    let pod = "apiVersion: v1
kind: Pod
metadata: {name: chatty}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: file:chatty.wat
    resources: {limits: {ephemeral-storage: 512Ki}}
";
    place.write("pod.yaml", pod);
    let ended = place.coracle(&["play", "pod.yaml"]);
    let said = "Pod ephemeral local storage usage exceeds the total limit of containers 512Ki.";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    assert_ne!(ended.code, Some(0));
}
