//! `wasi:http` components, served: an instance for each request, all of them one container.
//!
//! [`server`] has the listeners and the connections, [`request`] lets a request in and answers it,
//! [`instance`] runs the guest's part of it, which [`proxy`] calls in the words of its preview, and
//! [`body`] carries what goes in and out. Instances of preview2 come from a [`pool`]. Every bound of time is outside the instances: one that spins, sleeps or
//! waits in the host is ended like any other.
//!
//! It must not know where a listener is bound, nor why.

mod activity;
mod admission;
mod body;
mod instance;
mod io;
mod pool;
mod proxy;
mod request;
mod server;
mod spec;

pub(crate) use pool::Pool;
pub(crate) use proxy::Proxy;
pub(crate) use server::{Parts, Server};
pub use spec::HttpSpec;
