//! A bare real control plane for tests: etcd, kube-apiserver and kubectl, built from Go modules and started on loopback.
//!
//! No controller-manager and no scheduler, unless they are asked for: a test binds its pods itself (`spec.nodeName`). The Node authorizer and
//! NodeRestriction are on, as in any real cluster; service accounts are off, since nobody would make them.
//!
//! - [`programs`] builds the Go programs once, into the user's cache.
//! - [`ControlPlane`] starts them; [`ControlPlane::shared`] gives all tests of one process the same one.
//! - [`Cluster`] is a whole one in network namespaces: hosts with real kubelets, and the scheduler and controllers.
//! - [`Registry`] is a real registry on loopback, filled by buildah; with TLS and a password if wanted.
//! - [`Audit`] is what nodes wrote to it.
//! - [`Kwok`] is a node that runs nothing, and [`bench`] measures a real one beside it.
//! - [`NodeProcess`] runs a node binary against it, and ends it.

mod audit;
pub mod bench;
mod binary;
mod child;
pub mod cluster;
mod controlplane;
mod kwok;
mod launch;
mod node;
mod pki;
pub mod programs;
mod registry;

pub use audit::{Audit, Write};
pub use binary::binary;
pub use cluster::{Cluster, push_module_to};
pub use controlplane::{ControlPlane, Guard};
pub use kwok::Kwok;
pub use node::NodeProcess;
pub use pki::Identity;
pub use registry::{Registry, Visitor};
