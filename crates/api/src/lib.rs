//! The kubelet's HTTPS API: who may ask, what is asked, and the answers.
//!
//! A request comes over TLS ([`Serving`] holds the certificate), is authenticated by the client's certificate
//! ([`ClientCa`]) or a token, authorised by the API server ([`Reviews`]), and answered from a [`Backend`]. The order is
//! the kubelet's (`pkg/kubelet/server/server.go`), and so are paths, codes and texts: its clients know them by heart.
//!
//! Must not know: Wasmtime, how the API server is reached, where anything lies on disk but certificates, and what
//! decides a pod's status.

mod authn;
mod authority;
mod authz;
mod backend;
mod body;
mod cache;
mod health;
mod io;
mod logs;
mod options;
mod route;
mod server;
mod service;
mod stamp;
mod tls;

pub use authority::{CaSource, ClientCa, ClientCaError};
pub use backend::{Backend, LogError, ReviewError, Reviews};
pub use health::{Check, Health, Verdict};
pub use server::{BindError, Handle, Limits, bind, serve, serve_health};
pub use service::Api;
pub use tls::{Serving, TlsError};

#[cfg(test)]
mod tests;
