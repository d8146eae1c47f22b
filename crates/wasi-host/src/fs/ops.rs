//! What is done to names: make, remove, rename, link; and what is asked of them.

use super::resolve::{NoName, Spot};
use super::stat::timestamps;
use super::tree::{Root, Tree};
use super::walk::Last;
use super::{Dir, Errno, FileKind, PATH_BYTES, Result, SetTime, Stat};
use rustix::fs::{AtFlags, Mode};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn last(follow: bool) -> Last {
    if follow { Last::Follow } else { Last::Keep }
}

impl Root {
    /// What is known of `path`; of the link itself unless `follow`.
    ///
    /// # Errors
    /// What `stat(2)` gives.
    pub fn stat(&self, dir: &Dir, path: &Path, follow: bool) -> Result<Stat> {
        Stat::of(self.tree.pick(dir.place(), path, last(follow))?.as_fd())
    }

    /// Sets the times of `path`; of the link itself unless `follow`.
    ///
    /// # Errors
    /// What `utimensat(2)` gives.
    pub fn set_times(
        &self,
        dir: &Dir,
        path: &Path,
        follow: bool,
        accessed: SetTime,
        modified: SetTime,
    ) -> Result<()> {
        let picked = self.tree.pick(dir.place(), path, last(follow))?;
        self.tree.check_writable(picked.mount)?;
        let times = timestamps(accessed, modified);
        rustix::fs::utimensat(picked.as_fd(), c"", &times, AtFlags::EMPTY_PATH)
    }

    /// The target of the link at `path`, byte for byte.
    ///
    /// # Errors
    /// What `readlink(2)` gives; `EINVAL` for what is no link.
    pub fn read_link(&self, dir: &Dir, path: &Path) -> Result<Vec<u8>> {
        let picked = self.tree.pick(dir.place(), path, Last::Keep)?;
        match rustix::fs::readlinkat(picked.as_fd(), c"", Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            // The kernel says ENOENT of an empty path on what is no link.
            Err(Errno::NOENT) => Err(Errno::INVAL),
            Err(e) => Err(e),
        }
    }

    /// Makes a folder, with mode 0777 less the host's umask.
    ///
    /// # Errors
    /// What `mkdir(2)` gives.
    pub fn create_dir(&self, dir: &Dir, path: &Path) -> Result<()> {
        let spot = self
            .tree
            .spot(dir.place(), path)?
            .map_err(|_| Errno::EXIST)?;
        self.tree.check_free(&spot)?;
        rustix::fs::mkdirat(spot.parent.as_fd(), &spot.name, Mode::from_raw_mode(0o777))
    }

    /// Makes a link at `path` to `target`, which may be anything, `/` and `..` included.
    ///
    /// # Errors
    /// What `symlink(2)` gives.
    pub fn symlink(&self, dir: &Dir, path: &Path, target: &Path) -> Result<()> {
        let bytes = target.as_os_str().as_bytes();
        if bytes.len() > PATH_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
        if bytes.contains(&0) {
            return Err(Errno::INVAL);
        }
        let spot = self
            .tree
            .spot(dir.place(), path)?
            .map_err(|_| Errno::EXIST)?;
        self.tree.check_free(&spot)?;
        if spot.must_be_dir {
            return Err(Errno::NOENT);
        }
        rustix::fs::symlinkat(target, spot.parent.as_fd(), &spot.name)
    }

    /// Removes a name that is no folder's.
    ///
    /// # Errors
    /// What `unlink(2)` gives; `EBUSY` for a mount point.
    pub fn unlink(&self, dir: &Dir, path: &Path) -> Result<()> {
        let spot = self
            .tree
            .spot(dir.place(), path)?
            .map_err(|_| Errno::ISDIR)?;
        if let Some(id) = spot.node {
            let is_file = self.tree.node(id)?.is_file;
            return Err(if is_file { Errno::BUSY } else { Errno::ISDIR });
        }
        self.tree.check_changeable(&spot)?;
        if spot.must_be_dir {
            let is_dir = spot.kind()? == FileKind::Directory;
            return Err(if is_dir { Errno::ISDIR } else { Errno::NOTDIR });
        }
        rustix::fs::unlinkat(spot.parent.as_fd(), &spot.name, AtFlags::empty())
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// What `rmdir(2)` gives; `EBUSY` for `/` and a mount point.
    pub fn remove_dir(&self, dir: &Dir, path: &Path) -> Result<()> {
        let spot = self
            .tree
            .spot(dir.place(), path)?
            .map_err(|no_name| match no_name {
                NoName::Root => Errno::BUSY,
                NoName::Dot => Errno::INVAL,
                NoName::DotDot => Errno::NOTEMPTY,
            })?;
        if let Some(id) = spot.node {
            let node = self.tree.node(id)?;
            return Err(match (node.is_file, node.is_mount_point) {
                (true, _) => Errno::NOTDIR,
                (false, true) => Errno::BUSY,
                (false, false) => Errno::NOTEMPTY,
            });
        }
        self.tree.check_changeable(&spot)?;
        rustix::fs::unlinkat(spot.parent.as_fd(), &spot.name, AtFlags::REMOVEDIR)
    }

    /// Renames `from` to `to`, replacing what may be replaced.
    ///
    /// # Errors
    /// What `rename(2)` gives: `EXDEV` between mounts; `EBUSY` for a mount point, and here for a
    /// folder that holds one, which Linux would allow.
    pub fn rename(&self, from_dir: &Dir, from: &Path, to_dir: &Dir, to: &Path) -> Result<()> {
        let from = self
            .tree
            .spot(from_dir.place(), from)?
            .map_err(|_| Errno::BUSY)?;
        let to = self
            .tree
            .spot(to_dir.place(), to)?
            .map_err(|_| Errno::BUSY)?;
        if from.parent.mount != to.parent.mount {
            return Err(Errno::XDEV);
        }
        if from.node.is_some() || to.node.is_some() {
            return Err(Errno::BUSY);
        }
        self.tree.check_writable(from.parent.mount)?;
        if (from.must_be_dir || to.must_be_dir) && from.kind()? != FileKind::Directory {
            return Err(Errno::NOTDIR);
        }
        rustix::fs::renameat(from.parent.as_fd(), &from.name, to.parent.as_fd(), &to.name)
    }

    /// Gives the file at `from` a second name `to`; a link itself is linked unless `follow`.
    ///
    /// # Errors
    /// What `link(2)` gives: `EXDEV` between mounts, `EPERM` for a folder.
    pub fn link(
        &self,
        from_dir: &Dir,
        from: &Path,
        follow: bool,
        to_dir: &Dir,
        to: &Path,
    ) -> Result<()> {
        let source = self.tree.pick(from_dir.place(), from, last(follow))?;
        let to = self
            .tree
            .spot(to_dir.place(), to)?
            .map_err(|_| Errno::EXIST)?;
        if to.must_be_dir {
            return Err(Errno::NOENT);
        }
        if source.mount != to.parent.mount {
            return Err(Errno::XDEV);
        }
        self.tree.check_free(&to)?;
        if Stat::of(source.as_fd())?.kind == FileKind::Directory {
            return Err(Errno::PERM);
        }
        super::open::link_fd(source.as_fd(), to.parent.as_fd(), &to.name)
    }
}

impl Tree {
    /// Whether something new may be made at `spot`: `EEXIST` before `EROFS`, as in Linux.
    fn check_free(&self, spot: &Spot) -> Result<()> {
        if spot.node.is_some() {
            return Err(Errno::EXIST);
        }
        match self.check_writable(spot.parent.mount) {
            Err(read_only) => match spot.kind() {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => Err(read_only),
                Err(e) => Err(e),
            },
            Ok(()) => Ok(()),
        }
    }

    /// Whether what is at `spot` may be removed: `ENOENT` before `EROFS`, as in Linux.
    fn check_changeable(&self, spot: &Spot) -> Result<()> {
        match self.check_writable(spot.parent.mount) {
            Err(read_only) => spot.kind().and(Err(read_only)),
            Ok(()) => Ok(()),
        }
    }
}
