//! How figures are taken of processes and of series, and how they are shown: for `bench` and for `e2e`, which measure
//! different things alike. Must not know what is measured.

pub mod memory;
pub mod report;
pub mod stats;

/// A guest that waits for ever in `poll_oneoff`, and has one page of memory: text of Wasm.
pub const TINY: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    ;; One subscription at 0: the monotonic clock, in so many nanoseconds that it never comes.
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 0x3fffffffffffffff))
    (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
    unreachable))"#;
