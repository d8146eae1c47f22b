//! One worker a pod: it waits for a fact, a new spec or a time, lets [`lifecycle::step`] decide,
//! checkpoints, and then executes through [`Hands`] and tells through [`Outlet`].
//!
//! The worker's mind is the [`Ledger`], which knows no clockwork; the rest is [`Agent`]. Must not
//! know: Wasmtime, HTTP, kube, where images, volumes and guests are.

mod agent;
pub mod clock;
mod ledger;
mod node;
mod orphans;
mod ports;
mod slot;
pub mod store;
mod worker;

pub use agent::{Agent, ApplyError, Config};
pub use clock::{Clock, TokioClock};
pub use ledger::{Effects, Ledger, News, Ticket, Turn};
pub use ports::{Boundless, Guest, Hands, Machine, Outlet, Ports, Subject};
pub use store::{Checkpoints, Folder, Loaded, StoreError, Volatile};
