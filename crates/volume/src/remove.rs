//! Removes trees that guests have made: of any depth, with any modes, never following a link, never into a mount.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, IoContext};

/// Levels walked with a descriptor each. What lies deeper is moved up and walked anew, since a guest can nest folders
/// deeper than this process may have descriptors.
const LEVELS: usize = 64;

/// Removes a folder (or file) and all in it. What is not there is removed already.
///
/// # Errors
/// `Mounted` where another file system is mounted in it; `Io`.
pub fn remove(path: &Path) -> Result<(), Error> {
    let Some(name) = path.file_name() else {
        return Err(Error::Io {
            what: "remove",
            path: path.to_owned(),
            source: Errno::INVAL.into(),
        });
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(parent) => remove_at(parent.as_fd(), name, path),
        Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e).at("open", parent),
    }
}

/// As [`remove`], for a name in an open folder; `path` names it in errors.
pub(crate) fn remove_at(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), Error> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(e) => return Err(e).at("remove", path),
    }
    let top = open(parent, name, path)?;
    let mut remover = Remover {
        top: top.as_fd(),
        path,
        moved: 0,
    };
    loop {
        let before = remover.moved;
        remover.empty(top.as_fd(), 0)?;
        if remover.moved == before {
            break;
        }
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::BUSY) => Err(Error::Mounted(path.to_owned())),
        Err(e) => Err(e).at("remove", path),
    }
}

struct Remover<'a> {
    top: BorrowedFd<'a>,
    path: &'a Path,
    moved: u64,
}

impl Remover<'_> {
    fn empty(&mut self, folder: BorrowedFd<'_>, level: usize) -> Result<(), Error> {
        for name in names(folder).at("read", self.path)? {
            match rustix::fs::unlinkat(folder, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => self.subfolder(folder, &name, level)?,
                Err(Errno::BUSY) => return Err(Error::Mounted(self.path.join(name))),
                Err(e) => return Err(e).at("remove", &self.path.join(name)),
            }
        }
        Ok(())
    }

    fn subfolder(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        level: usize,
    ) -> Result<(), Error> {
        let child = open(folder, name, &self.path.join(name))?;
        if level >= LEVELS {
            drop(child);
            return self.move_up(folder, name);
        }
        self.empty(child.as_fd(), level + 1)?;
        match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::BUSY) => Err(Error::Mounted(self.path.join(name))),
            Err(e) => Err(e).at("remove", &self.path.join(name)),
        }
    }

    /// To a name at the top that nothing has: the next round takes it.
    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
        loop {
            self.moved += 1;
            let new = format!(".removed-{}", self.moved);
            match rustix::fs::renameat_with(
                folder,
                name,
                self.top,
                &new,
                rustix::fs::RenameFlags::NOREPLACE,
            ) {
                Err(Errno::EXIST) => {}
                other => return other.at("move", &self.path.join(name)),
            }
        }
    }
}

/// Opens a folder to empty it, whatever its mode is.
fn open(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<OwnedFd, Error> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let attempt = || rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve);
    let opened = match attempt() {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty()).at("chmod", path)?;
            attempt()
        }
        other => other,
    };
    match opened {
        Err(Errno::XDEV) => Err(Error::Mounted(path.to_owned())),
        other => {
            let folder = other.at("open", path)?;
            let mode = rustix::fs::fstat(&folder).at("read", path)?.st_mode;
            if mode & 0o700 != 0o700 {
                rustix::fs::fchmod(&folder, Mode::RWXU).at("chmod", path)?;
            }
            Ok(folder)
        }
    }
}

/// What is in a folder, in the disk's order.
pub(crate) fn names(folder: BorrowedFd<'_>) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.push(OsStr::from_bytes(&name).to_owned());
        }
    }
    Ok(names)
}
