//! The real binary as a node of a real API server: images from a real registry, kubectl, real guests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod agents;
mod clock;
mod pods;
mod scene;
mod statics;

use std::path::Path;

use e2e::{ControlPlane, NodeProcess};
use guests::Guest;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;

use scene::{NODE_IP, Scene, container_id, module, state};
