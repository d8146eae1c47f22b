//! The API over loopback: real TLS, certificates of rcgen, real logs; the API server's word is a table.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod access;
mod answers;
mod bench;
mod following;
mod limits;
