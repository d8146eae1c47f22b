//! What was measured of the machine and of the pods, as facts. Must not know how.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

/// What thresholds are of: `pkg/kubelet/eviction/api`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Memory of the machine.
    MemoryAvailable,
    /// Memory of the share of the machine that pods have together.
    AllocatableMemoryAvailable,
    /// Bytes of the disk with the root folder.
    NodeFsAvailable,
    /// Inodes of it.
    NodeFsInodesFree,
    /// Bytes of the disk with the images.
    ImageFsAvailable,
    /// Inodes of it.
    ImageFsInodesFree,
    /// Process numbers of the machine.
    PidAvailable,
}

/// How much there is of something, and how much of that is free: bytes, inodes, numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// In all.
    pub capacity: u64,
    /// Free.
    pub available: u64,
}

/// A measurement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// When it was begun.
    pub at: Timestamp,
    /// What could be measured.
    pub levels: BTreeMap<Signal, Level>,
    /// Images are on a disk of their own.
    pub images_apart: bool,
    /// By UID; each pod that is here has an entry.
    pub pods: BTreeMap<String, PodUsage>,
    /// The images of the store, if they were asked for.
    pub images: Option<Vec<ImageView>>,
}

/// What a pod uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodUsage {
    /// By name.
    pub containers: BTreeMap<String, ContainerUsage>,
    /// What its volumes hold on local disk, by name, if its disk was looked at.
    pub volumes: BTreeMap<String, Disk>,
    /// Its disk was looked at.
    pub looked: bool,
}

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    /// Bytes of memory; 0 if none of it runs.
    pub memory: u64,
    /// What it wrote to its root.
    pub root: Disk,
    /// Its logs.
    pub logs: Disk,
}

/// A use of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Allocated bytes.
    pub bytes: u64,
    /// Files and folders.
    pub inodes: u64,
}

/// An image of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageView {
    /// What names it for its removal.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// A pod's container has it, or somebody holds it.
    pub used: bool,
}

/// What to measure next, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Not before.
    pub at: Timestamp,
    /// The UIDs of the pods whose disk is to be looked at, which costs a walk of their folders.
    pub disk: BTreeSet<String>,
    /// List the images, too.
    pub images: bool,
}

impl Disk {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Disk) -> Disk {
        Disk {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }
}

impl PodUsage {
    /// Bytes of memory of all its containers.
    pub(super) fn memory(&self) -> u64 {
        self.containers
            .values()
            .fold(0, |sum, one| sum.saturating_add(one.memory))
    }

    /// All its local disk: roots, logs and volumes.
    pub(super) fn disk(&self) -> Disk {
        let containers = self.containers.values();
        let own = containers.fold(Disk::default(), |sum, one| {
            sum.plus(one.root).plus(one.logs)
        });
        self.volumes.values().fold(own, |sum, one| sum.plus(*one))
    }
}
