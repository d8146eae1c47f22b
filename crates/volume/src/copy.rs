//! A root without privilege: the layers' files, put into one tree. Blocks are shared with the layers where the file
//! system can (reflinks), so that the cost is one inode a file.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::{Error, IoContext};
use crate::remove::{names, remove_at};
use crate::root::{Cost, LayerSpec};

struct Copier<'a> {
    layer: &'a LayerSpec,
    target: &'a Path,
    root: BorrowedFd<'a>,
    reflinks: bool,
    cost: Cost,
    /// Of this layer, files with several names: where the first one was put.
    linked: HashMap<(u64, u64), PathBuf>,
}

/// Puts `layers` (lowest first) into the empty folder `target`.
pub(crate) fn copy_layers(layers: &[LayerSpec], target: &Path) -> Result<Cost, Error> {
    let root = open_folder(rustix::fs::CWD, target.as_os_str()).at("open", target)?;
    let (mut cost, mut reflinks) = (Cost::default(), true);
    for layer in layers {
        let root = root.as_fd();
        let mut copier = Copier {
            layer,
            target,
            root,
            reflinks,
            cost,
            linked: HashMap::new(),
        };
        copier.apply()?;
        (cost, reflinks) = (copier.cost, copier.reflinks);
    }
    Ok(cost)
}

impl Copier<'_> {
    fn apply(&mut self) -> Result<(), Error> {
        for path in &self.layer.removed {
            self.take_away(path)?;
        }
        for path in &self.layer.opaque {
            let kept = self.below(path);
            match kept {
                Ok(folder) => self.empty(&folder, path)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(e).at("open", &self.target.join(path)),
            }
        }
        let source = open_folder(rustix::fs::CWD, self.layer.path.as_os_str())
            .at("open", &self.layer.path)?;
        let root = self.root;
        self.folder(source, root, Path::new(""))
    }

    /// A folder of the tree, by a path with no links in it.
    fn below(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(
            self.root,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
    }

    fn take_away(&self, path: &Path) -> Result<(), Error> {
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        match self.below(path.parent().unwrap_or(Path::new(""))) {
            Ok(parent) => remove_at(parent.as_fd(), name, &self.target.join(path)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(e) => Err(e).at("open", &self.target.join(path)),
        }
    }

    fn empty(&self, folder: &OwnedFd, path: &Path) -> Result<(), Error> {
        for name in names(folder.as_fd()).at("read", &self.target.join(path))? {
            remove_at(folder.as_fd(), &name, &self.target.join(path).join(&name))?;
        }
        Ok(())
    }

    fn folder(
        &mut self,
        source: OwnedFd,
        target: BorrowedFd<'_>,
        path: &Path,
    ) -> Result<(), Error> {
        let here = self.layer.path.join(path);
        for name in names(source.as_fd()).at("read", &here)? {
            let stat = rustix::fs::statat(&source, &name, AtFlags::SYMLINK_NOFOLLOW)
                .at("read", &here.join(&name))?;
            self.entry(source.as_fd(), target, &path.join(&name), &name, &stat)?;
        }
        let stat = rustix::fs::fstat(&source).at("read", &here)?;
        rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o1777))
            .at("chmod", &self.target.join(path))?;
        rustix::fs::futimens(target, &times(&stat)).at("set the times of", &self.target.join(path))
    }

    fn entry(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        path: &Path,
        name: &OsStr,
        stat: &Stat,
    ) -> Result<(), Error> {
        let to = self.target.join(path);
        let kind = FileType::from_raw_mode(stat.st_mode);
        let there = match rustix::fs::statat(target, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode)),
            Err(Errno::NOENT) => None,
            Err(e) => return Err(e).at("read", &to),
        };
        match kind {
            FileType::Directory => {
                if there.is_some_and(|k| k != FileType::Directory) {
                    remove_at(target, name, &to)?;
                }
                if there != Some(FileType::Directory) {
                    rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700))
                        .at("create", &to)?;
                    self.cost.files += 1;
                }
                let from = open_folder(source, name).at("open", &self.layer.path.join(path))?;
                let into = open_folder(target, name).at("open", &to)?;
                return self.folder(from, into.as_fd(), path);
            }
            FileType::RegularFile | FileType::Symlink => {
                if there.is_some() {
                    remove_at(target, name, &to)?;
                }
            }
            // Marks of overlayfs, which the lists say again.
            _ => return Ok(()),
        }
        self.cost.files += 1;
        if kind == FileType::Symlink {
            let link = rustix::fs::readlinkat(source, name, Vec::new())
                .at("read", &self.layer.path.join(path))?;
            rustix::fs::symlinkat(link, target, name).at("create", &to)?;
            return rustix::fs::utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
                .at("set the times of", &to);
        }
        self.file(source, target, path, name, stat)
    }

    fn file(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        path: &Path,
        name: &OsStr,
        stat: &Stat,
    ) -> Result<(), Error> {
        let to = self.target.join(path);
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1
            && let Some(first) = self.linked.get(&identity)
        {
            return rustix::fs::linkat(self.root, first, target, name, AtFlags::empty())
                .at("link", &to);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let from = rustix::fs::openat(source, name, flags, Mode::empty())
            .at("open", &self.layer.path.join(path))?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let into = rustix::fs::openat(target, name, flags, Mode::from_raw_mode(0o600))
            .at("create", &to)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let into = self
            .content(File::from(from), File::from(into), size)
            .at("copy to", &to)?;
        rustix::fs::fchmod(&into, Mode::from_raw_mode(stat.st_mode & 0o777)).at("chmod", &to)?;
        rustix::fs::futimens(&into, &times(stat)).at("set the times of", &to)?;
        if stat.st_nlink > 1 {
            self.linked.insert(identity, path.to_owned());
        }
        Ok(())
    }

    fn content(&mut self, mut from: File, mut into: File, size: u64) -> std::io::Result<File> {
        if self.reflinks && size > 0 {
            match rustix::fs::ioctl_ficlone(&into, &from) {
                Ok(()) => {
                    self.cost.shared += size;
                    return Ok(into);
                }
                Err(
                    Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS,
                ) => self.reflinks = false,
                Err(e) => return Err(e.into()),
            }
        }
        // Uses copy_file_range where the kernel can.
        self.cost.copied += std::io::copy(&mut from, &mut into)?;
        Ok(into)
    }
}

fn open_folder(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn times(stat: &Stat) -> Timestamps {
    let at = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec as _,
    };
    Timestamps {
        last_access: at,
        last_modification: at,
    }
}
