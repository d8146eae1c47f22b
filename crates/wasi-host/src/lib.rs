//! The WASI host: what a Wasm guest sees of the world, as a container would see it.
//!
//! [`fs`] is the file-system layer and [`stdio`] the standard streams; both worlds of WASI stand on
//! them: [`p1`] is preview1 with one table of descriptors for files, streams and sockets.
//! [`p2`] is preview2, and [`p3`] preview3 over it.
//!
//! This crate must not know of Kubernetes, of images, of logs, or of how a guest is compiled,
//! limited and scheduled: it gets a [`World`] of plain values and descriptors.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make and look at folders as the host does"
    )
)]

mod blocking;
pub mod fs;
mod held;
mod http;
mod names;
mod network;
mod opened;
pub mod p1;
pub mod p2;
pub mod p3;
mod pollable;
pub mod stdio;
mod world;

pub use blocking::{Blocking, CpuMeter, Unfinished};
pub use held::{Budget, Charge};
pub use http::{Destination, OutgoingHttp, Patience, WrongDestination};
pub use network::{Face, Network, is_of_local_pods};
pub use opened::{Descriptors, OpenOne, Share};
pub use p1::add_p1;
pub use p2::{P2, P2Host, P2Shared, add_p2};
pub use p3::add_p3;
pub use world::{CpuClock, Exit, Tty, World, WorldError};
