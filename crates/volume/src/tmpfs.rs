//! Folders that are in memory alone: a tmpfs mounted at a volume's path, so that it outlives the
//! agent as the guests that use it do.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use crate::error::{Error, IoContext};
use crate::memory;
use crate::source::empty_dir;

/// Makes and opens a folder that is in memory alone and holds at most `bytes`, by default half of the machine's memory.
/// Again, it is the same folder.
///
/// # Errors
/// `Memory` where this process may not mount; `Io`.
pub fn memory_dir(path: &Path, bytes: Option<u64>) -> Result<OwnedFd, Error> {
    drop(empty_dir(path)?);
    if !is_mounted(path) {
        let refused = |reason: String| Error::Memory {
            path: path.to_owned(),
            reason,
        };
        let mounted = memory::mount(bytes, "0777").map_err(refused)?;
        move_mount(
            &mounted,
            "",
            CWD,
            path,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .map_err(|error| refused(format!("mounting a tmpfs: {error}")))?;
    }
    crate::root::open_folder(path)
}

/// Whether something is mounted at a path: it is of another file system than the folder above it.
fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| {
        std::fs::symlink_metadata(path)
            .ok()
            .map(|found| found.dev())
    };
    path.parent()
        .is_some_and(|parent| device(parent) != device(path))
}

/// Unmounts what is mounted right below a folder, so that it can be removed. Guests that still have it open keep it
/// until they end.
///
/// # Errors
/// `Io`.
pub fn unmount_below(folder: &Path) -> Result<(), Error> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).at("read", folder),
    };
    for entry in entries {
        let path = entry.at("read", folder)?.path();
        if is_mounted(&path) {
            unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).at("unmount", &path)?;
        }
    }
    Ok(())
}
