//! A detached overlay mount: made by `fsopen`, `fsconfig` and `fsmount`, and attached nowhere.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::error::{Error, IoContext};
use crate::root::{LayerSpec, set_open_mode};

/// Why there is no mount.
#[derive(Debug)]
pub(crate) enum Failure {
    /// This machine, file system or process can't have one: another way may do.
    Impossible(String),
    /// Something else failed, and would fail any other way.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

/// Lays a fresh folder in `dir` over `layers` (lowest first).
pub(crate) fn mount(layers: &[LayerSpec], dir: &Path) -> Result<OwnedFd, Failure> {
    let unmarked = layers
        .iter()
        .find(|l| !(l.marked || l.removed.is_empty() && l.opaque.is_empty()));
    if let Some(layer) = unmarked {
        let reason = "was unpacked without privilege and removes files of lower layers";
        return Err(Failure::Impossible(format!(
            "layer {} {reason}",
            layer.path.display()
        )));
    }
    // Asked first, since it is the usual obstacle and needs no folders.
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|e| Failure::Impossible(format!("opening overlayfs: {e}")))?;
    let upper = folder(&dir.join("upper"))?;
    let work = folder(&dir.join("work"))?;
    let lowers = layers
        .iter()
        .rev()
        .map(|l| open(&l.path))
        .collect::<Result<Vec<_>, _>>()?;
    configure(&context, &lowers, &upper, &work).map_err(|e| {
        let log = complaints(&context);
        Failure::Impossible(format!(
            "mounting overlayfs over {} layers: {e}{log}",
            layers.len()
        ))
    })?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|e| Failure::Impossible(format!("mounting overlayfs: {e}")))
}

fn configure(
    context: &OwnedFd,
    lowers: &[OwnedFd],
    upper: &OwnedFd,
    work: &OwnedFd,
) -> rustix::io::Result<()> {
    use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string};
    let set = |key: &str, value: &str| fsconfig_set_string(context, key, value);
    set("source", "coracle")?;
    add_lowers(context, lowers)?;
    set("upperdir", &by_descriptor(upper))?;
    set("workdir", &by_descriptor(work))?;
    // A guest renames folders of its image as on any file system. The attribute behind this is `trusted`, and no
    // attribute of an image is unpacked, so none can be forged.
    set("redirect_dir", "on")?;
    // A root is gone with its container: syncing it, at an fsync of the guest or when the mount ends, is for nothing.
    match fsconfig_set_flag(context, "volatile") {
        Err(Errno::INVAL) => {}
        other => other?,
    }
    fsconfig_create(context)
}

/// Since Linux 6.7 each lower folder is an option of its own, topmost first; before, they stand in one, which may have
/// 255 characters.
fn add_lowers(context: &OwnedFd, lowers: &[OwnedFd]) -> rustix::io::Result<()> {
    use rustix::mount::fsconfig_set_string;
    for (n, lower) in lowers.iter().enumerate() {
        match fsconfig_set_string(context, "lowerdir+", by_descriptor(lower)) {
            Err(Errno::INVAL) if n == 0 => {
                let all: Vec<String> = lowers.iter().map(by_descriptor).collect();
                return fsconfig_set_string(context, "lowerdir", all.join(":"));
            }
            other => other?,
        }
    }
    Ok(())
}

/// A path with no colon, comma or link of anyone else's in it.
fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// What the kernel wrote about the failure: one message a read.
fn complaints(context: &OwnedFd) -> String {
    let mut text = String::new();
    let mut buffer = [0u8; 1024];
    while let Ok(n) = rustix::io::read(context, &mut buffer) {
        if n == 0 {
            break;
        }
        text.push_str("; ");
        text.push_str(String::from_utf8_lossy(buffer.get(..n).unwrap_or_default()).trim());
    }
    text
}

fn folder(path: &Path) -> Result<OwnedFd, Error> {
    std::fs::create_dir(path).at("create", path)?;
    set_open_mode(path)?;
    open(path)
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).at("open", path)
}
