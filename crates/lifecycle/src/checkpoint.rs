//! The checkpoint: what a restarted agent needs to go on with a pod, as versioned JSON.
//!
//! Must not know: folders, renames, or when it is written.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::memory::Memory;

/// The version that [`Checkpoint::encode`] writes and the newest that [`Checkpoint::decode`] reads.
pub const VERSION: u32 = 1;

/// A pod and what is remembered of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// [`VERSION`] at the time of writing.
    pub version: u32,
    /// The Pod as last seen.
    pub pod: Arc<Pod>,
    /// What `step` remembered.
    pub memory: Memory,
}

/// Why bytes are no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not JSON, cut short, or not of this shape.
    #[error("the checkpoint is not readable; remove the file to treat the pod as new")]
    Malformed(#[source] serde_json::Error),
    /// Written by a newer (or no) version.
    #[error(
        "the checkpoint has version {found}, and this build reads {VERSION}; run the version that \
         wrote it, or remove the file to treat the pod as new"
    )]
    Version {
        /// What it says.
        found: u32,
    },
    /// It could not be written as JSON.
    #[error("the checkpoint of the pod can't be written as JSON")]
    Unwritable(#[source] serde_json::Error),
}

impl Checkpoint {
    /// Of a pod, at the current version, without what only counts.
    pub fn new(pod: impl Into<Arc<Pod>>, mut memory: Memory) -> Checkpoint {
        memory.take_counts(&Memory::default());
        Checkpoint {
            version: VERSION,
            pod: pod.into(),
            memory,
        }
    }

    /// As bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CheckpointError> {
        serde_json::to_vec(self).map_err(CheckpointError::Unwritable)
    }

    /// From bytes. What does not read because it has a newer shape is an error that says so.
    pub fn decode(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let read: Result<Checkpoint, _> = serde_json::from_slice(bytes);
        let version = match &read {
            Ok(checkpoint) => Some(checkpoint.version),
            Err(_) => {
                let versioned: Option<Versioned> = serde_json::from_slice(bytes).ok();
                versioned.map(|one| one.version)
            }
        };
        match version.filter(|version| *version != VERSION) {
            Some(found) => Err(CheckpointError::Version { found }),
            None => read.map_err(CheckpointError::Malformed),
        }
    }
}
