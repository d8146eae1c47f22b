//! A detached tmpfs: a folder that is in memory alone, and gone with its last descriptor.

use std::os::fd::OwnedFd;

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::mount::{fsconfig_create, fsconfig_set_string, fsmount, fsopen};

/// Makes one that holds so many bytes, by default half of the machine's memory; its root has the octal `mode`, whatever
/// the umask is.
///
/// # Errors
/// In words, why there can be none: most likely that it takes privilege.
pub(crate) fn mount(bytes: Option<u64>, mode: &str) -> Result<OwnedFd, String> {
    let failed = |error| format!("mounting a tmpfs: {error}");
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
    fsconfig_set_string(&context, "source", "coracle").map_err(failed)?;
    fsconfig_set_string(&context, "mode", mode).map_err(failed)?;
    if let Some(bytes) = bytes {
        fsconfig_set_string(&context, "size", bytes.to_string()).map_err(failed)?;
    }
    fsconfig_create(&context).map_err(failed)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed)
}
