//! How other commands reach a session: its socket, in a folder that only its user may enter.
//!
//! A connection carries one request, a line of JSON with the descriptors that belong to it, and then
//! answers, a line of JSON each. Who asks keeps the connection open for as long as it wants answers.
//! Fields that are not known are passed over, on both sides; a call that is not known is told.

mod client;
mod protocol;
mod server;
mod wire;

pub(crate) use client::{Client, ClientError};
pub(crate) use protocol::{Answer, Call, Sample};
pub(super) use server::listen;
