//! Preview3: the interfaces of `wasi:cli/command` and `wasi:http/service` 0.3 over a guest's
//! preview2 world, so that a component may mix both, and nothing that holds for one is otherwise for
//! the other: the container's root, its network, its budget, its blocking threads.
//!
//! What is new in preview3 are streams and futures of the component model; [`pipe`] makes them of
//! the streams that preview2 has. Clocks and random numbers are wasmtime-wasi's, HTTP's resources
//! wasmtime-wasi-http's, and a guest's own requests go by [`crate::http`].
//!
//! Must not know: whether preview3 is allowed, or which engine runs it.

mod cli;
mod convert;
mod descriptor;
mod entries;
mod filesystem;
mod link;
mod pipe;
mod sockets;

pub use link::add_p3;
