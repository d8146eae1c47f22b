//! Speaks to the API server as a node does: the Node and its lease, the pods bound to it, their status, deletions, events.
//!
//! Its vocabulary is the API's own objects. It must not know how a pod is run, what decides its status (`lifecycle`,
//! `agent`), Wasmtime, or where anything lies on disk but the kubeconfig.
//!
//! - [`Access`] reads the kubeconfig and makes the clients.
//! - [`csr::Request`] asks for certificates; [`Access::renew`] takes one into use.
//! - [`heartbeat::run`] registers the Node and keeps it alive, on a runtime of its own.
//! - [`pods::watch`] tells which pods are bound here.
//! - [`Publisher`] writes their status and finishes their deletion.
//! - [`Mirrors`] keeps the images of static pods in the API.
//! - [`Recorder`] writes events.
//! - [`Objects`] reads the ConfigMaps, Secrets and RuntimeClasses that they refer to.
//! - [`Services`] are those that containers are told of.
//! - [`Reviews`] asks who somebody is, and what they may.
//!
//! Nothing here ends because the API server is away: it is tried again for ever, and the log says what is waited for.

mod access;
mod backoff;
mod certificate;
pub mod check;
pub mod csr;
mod error;
pub mod events;
pub mod heartbeat;
mod lease;
pub mod machine;
pub mod mirror;
pub mod node;
mod objects;
mod outage;
pub mod pods;
pub mod publisher;
mod register;
mod reviews;
mod services;
mod status;
mod swap;

pub use access::{Access, AccessError};
pub use certificate::{CertificateError, Certified};
pub use error::{Call, CallError, Kind};
pub use events::Recorder;
pub use mirror::Mirrors;
pub use node::{Health, NodeDescription};
pub use objects::{Objects, Reader};
pub use pods::PodEvent;
pub use publisher::Publisher;
pub use reviews::Reviews;
pub use services::{NotRead, Services};
