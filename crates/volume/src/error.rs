//! What can go wrong, and whether trying again can help.

use std::io;
use std::path::{Path, PathBuf};

/// A failure to make or remove a root or a volume.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be made, read or removed. A full disk ends here.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was being done, e.g. `create`.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// An overlay was asked for, and there is none to be had.
    #[error("overlayfs can't be used: {0}")]
    Overlay(String),
    /// The image has something else where a folder or file has to be.
    #[error("can't put a {wanted} at {} in the container: the image has {found} there", path.display())]
    InTheWay {
        /// The path in the container.
        path: PathBuf,
        /// `folder` or `file`.
        wanted: &'static str,
        /// What is there.
        found: String,
    },
    /// A mount path that can't be one.
    #[error("mount path {path:?}: {reason}")]
    MountPath {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A hostPath that is not as its type says. The words are the kubelet's.
    #[error("hostPath type check failed: {} is not a {wanted}", path.display())]
    HostPathType {
        /// The path on this machine.
        path: PathBuf,
        /// `directory` or `file`.
        wanted: &'static str,
    },
    /// A hostPath that can't be one, or of a type that Wasm guests have no use for.
    #[error("invalid HostPath `{}`: {reason}", path.display())]
    HostPath {
        /// The path on this machine.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file's path in a volume that can't be one.
    #[error("the path {path:?} in a volume: {reason}")]
    Projection {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A subPath that leads to nothing that can be mounted.
    #[error("subPath {path:?}: {reason}")]
    SubPath {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no memory to be had for a folder.
    #[error("no folder in memory can be had for {}: {reason}; that takes the privilege to mount: start coracle as root, or remove emptyDir.medium, which keeps the files on disk", path.display())]
    Memory {
        /// Where it was to be.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Something is mounted inside a folder that is to be removed.
    #[error("won't remove {}: another file system is mounted there", .0.display())]
    Mounted(PathBuf),
}

impl Error {
    /// Whether the same request can succeed later with nothing changed in the pod.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Error::Io { .. }
                | Error::HostPathType { .. }
                | Error::SubPath { .. }
                | Error::Mounted(_)
        )
    }

    /// Whether the disk, or a quota on it, is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Error::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// Adds what was done to which file to an I/O error.
pub(crate) trait IoContext<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|e| Error::Io {
            what,
            path: path.to_owned(),
            source: e.into(),
        })
    }
}
