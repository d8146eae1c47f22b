//! Wasm nodes in a real cluster: two hosts, each with a real kubelet, containerd, CNI and kube-proxy, and a Wasm node
//! beside them; the real scheduler and controllers. Each test has a namespace of its own, and they run side by side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod crowds;
mod draining;
mod faults;
mod jobs;
mod objects;
mod phases;
mod private;
mod scene;
mod services;
mod space;
mod workloads;
