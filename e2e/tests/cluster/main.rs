//! The `cluster` crate against a real API server: the Node authorizer, NodeRestriction and the real validation.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod bench;
mod identity;
mod mirror;
mod node;
mod outage;
mod pods;
