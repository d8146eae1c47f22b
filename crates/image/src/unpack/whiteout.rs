//! What a layer removes from those below it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};

use super::{Marking, OPAQUE, OPAQUE_XATTR, Unpacker, WHITEOUT};
use crate::below::{Refusal, kind_of, make_whiteout, refuse};

/// Whether marks of overlayfs can be made in this folder by this process.
pub(crate) fn marking(folder: &Path) -> Marking {
    let probe = || -> rustix::io::Result<()> {
        let dir = rustix::fs::open(folder, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        make_whiteout(dir.as_fd(), OsStr::new(".probe"))?;
        rustix::fs::unlinkat(&dir, ".probe", AtFlags::empty())?;
        rustix::fs::fsetxattr(&dir, OPAQUE_XATTR, b"y", XattrFlags::empty())?;
        rustix::fs::fremovexattr(&dir, OPAQUE_XATTR)
    };
    if probe().is_ok() {
        Marking::Overlay
    } else {
        Marking::Lists
    }
}

impl Unpacker {
    pub(super) fn whiteout(
        &mut self,
        parent_path: &Path,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), Refusal> {
        let bytes = name.as_bytes();
        if bytes == OPAQUE {
            return self.set_opaque(parent_path);
        }
        if bytes.starts_with(b".wh..wh.") {
            // Notes of AUFS to itself.
            return Ok(());
        }
        let name = OsStr::from_bytes(bytes.get(WHITEOUT.len()..).unwrap_or_default());
        if matches!(name.as_bytes(), b"" | b"." | b"..") {
            return refuse("a whiteout of nothing");
        }
        let path = parent_path.join(name);
        match kind_of(parent, name)? {
            // Whiteouts are about lower layers: what this one has stays.
            Some(FileType::Directory) => self.set_opaque(&path),
            // This layer's own file, or the mark of the same whiteout before.
            Some(_) => Ok(()),
            None => {
                if self.marking == Marking::Overlay {
                    make_whiteout(parent, name)?;
                }
                self.removed.insert(self.real_name(&path)?);
                Ok(())
            }
        }
    }

    pub(super) fn set_opaque(&mut self, path: &Path) -> Result<(), Refusal> {
        if self.marking == Marking::Overlay {
            let folder = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            rustix::fs::fsetxattr(&folder, OPAQUE_XATTR, b"y", XattrFlags::empty())?;
        }
        self.opaque.insert(self.real(path)?);
        Ok(())
    }

    pub(super) fn is_whiteout(&self, parent: BorrowedFd<'_>, name: &OsStr) -> bool {
        self.marking == Marking::Overlay
            && kind_of(parent, name).is_ok_and(|k| k == Some(FileType::CharacterDevice))
    }
}
