//! A part of a volume, opened so that no link leads out of it (`pkg/volume/util/subpath`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, IoContext};
use crate::root::MountKind;
use crate::source::Mounted;

/// Opens `sub` in a volume. With `make` folders that are not there are made, with the volume's own mode. A link is
/// followed as long as it stays in the volume, also while somebody changes it.
///
/// # Errors
/// `SubPath` for a path that is none, leads out of the volume, or is not there; `Io`.
pub fn sub_path(volume: &OwnedFd, sub: &str, make: bool) -> Result<Mounted, Error> {
    let wrong = |reason| Error::SubPath {
        path: sub.to_owned(),
        reason,
    };
    let normal = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    if sub.contains('\0') || !Path::new(sub).components().all(normal) {
        return Err(wrong("it must be relative, without '..'"));
    }
    let opened = match open(volume.as_fd(), Path::new(sub)) {
        Err(Errno::NOENT) if make => made(volume, sub)?,
        other => other,
    };
    let fd = match opened {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Err(wrong("the volume does not have it")),
        Err(Errno::XDEV) => return Err(wrong("a link in it leads out of the volume")),
        Err(Errno::NOTDIR) => return Err(wrong("a file is at the place of one of its folders")),
        Err(error) => return Err(error).at("open", Path::new(sub)),
    };
    let stat = rustix::fs::fstat(&fd).at("read", Path::new(sub))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => MountKind::Folder,
        FileType::RegularFile => MountKind::File,
        _ => return Err(wrong("it is neither a file nor a folder")),
    };
    Ok(Mounted { fd, kind })
}

/// Makes the folders on the way that are not there, and opens the last.
fn made(volume: &OwnedFd, sub: &str) -> Result<rustix::io::Result<OwnedFd>, Error> {
    let mode = rustix::fs::fstat(volume)
        .at("read", Path::new(sub))?
        .st_mode
        & 0o777;
    let mut below = PathBuf::new();
    let mut folder = volume
        .as_fd()
        .try_clone_to_owned()
        .at("open", Path::new("."))?;
    for component in Path::new(sub).components() {
        below.push(component);
        match rustix::fs::mkdirat(&folder, component.as_os_str(), Mode::from_raw_mode(mode)) {
            Ok(()) => rustix::fs::chmodat(
                &folder,
                component.as_os_str(),
                Mode::from_raw_mode(mode),
                rustix::fs::AtFlags::empty(),
            )
            .at("chmod", &below)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error).at("create", &below),
        }
        // From the volume's root again: what was there may be a link, and stays below it.
        folder = match open(volume.as_fd(), &below) {
            Ok(folder) => folder,
            refused => return Ok(refused),
        };
    }
    Ok(Ok(folder))
}

fn open(volume: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    loop {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match rustix::fs::openat2(volume, path, flags, Mode::empty(), resolve) {
            // Something was renamed meanwhile and the kernel can't vouch for the result.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}
