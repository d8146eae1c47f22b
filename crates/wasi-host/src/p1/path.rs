//! What is done by paths.

use super::file::size;
use super::memory::{as_usize, path};
use super::table::{Descriptor, OpenFile};
use super::types::{Fd, Fdflags, Filestat, Lookupflags, Oflags, Rights, Size};
use super::{Ctx, Result};
use crate::fs::{self, Dir, OpenOptions, Opened, Root, SetTime};
use std::path::{Path, PathBuf};
use wiggle::{GuestMemory, GuestPtr};

pub(super) fn follows(flags: Lookupflags) -> bool {
    flags.contains(Lookupflags::SYMLINK_FOLLOW)
}

impl Ctx {
    /// Does `work` on a thread that may block, with the folder at `fd` and a path of the guest's.
    pub(super) async fn on_path<R: Send + 'static>(
        &self,
        memory: &GuestMemory<'_>,
        fd: Fd,
        at: GuestPtr<str>,
        work: impl FnOnce(&Root, &Dir, &Path) -> fs::Result<R> + Send + 'static,
    ) -> Result<R> {
        let (root, dir, path) = (
            self.root.clone(),
            self.table.dir(fd)?.clone(),
            path(memory, at)?,
        );
        Ok(self
            .blocking()
            .run(move || work(&root, &dir, &path))
            .await??)
    }

    /// As [`Ctx::on_path`], with two of each.
    pub(super) async fn on_paths(
        &self,
        memory: &GuestMemory<'_>,
        (from_fd, from): (Fd, GuestPtr<str>),
        (to_fd, to): (Fd, GuestPtr<str>),
        work: impl FnOnce(&Root, (&Dir, &Path), (&Dir, &Path)) -> fs::Result<()> + Send + 'static,
    ) -> Result<()> {
        let root = self.root.clone();
        let (from_dir, from) = (self.table.dir(from_fd)?.clone(), path(memory, from)?);
        let (to_dir, to) = (self.table.dir(to_fd)?.clone(), path(memory, to)?);
        let work = move || work(&root, (&from_dir, &from), (&to_dir, &to));
        Ok(self.blocking().run(work).await??)
    }

    pub(super) async fn open(
        &mut self,
        memory: &GuestMemory<'_>,
        fd: Fd,
        at: GuestPtr<str>,
        options: OpenOptions,
        flags: Fdflags,
    ) -> Result<Fd> {
        // Before, since an open can make or cut a file.
        self.table.check_room()?;
        let opened = self
            .on_path(memory, fd, at, move |root, dir, path| {
                root.open(dir, path, options)
            })
            .await?;
        let descriptor = match opened {
            Opened::Dir(dir) => Descriptor::Dir { dir, preopen: None },
            Opened::File(file) => Descriptor::File(OpenFile { file, flags }),
        };
        self.table.insert(descriptor).map(Fd::from)
    }

    pub(super) async fn path_stat(
        &self,
        memory: &GuestMemory<'_>,
        fd: Fd,
        flags: Lookupflags,
        at: GuestPtr<str>,
    ) -> Result<Filestat> {
        let follow = follows(flags);
        let stat = move |root: &Root, dir: &Dir, path: &Path| root.stat(dir, path, follow);
        self.on_path(memory, fd, at, stat).await.map(Filestat::from)
    }

    pub(super) async fn path_set_times(
        &self,
        memory: &GuestMemory<'_>,
        fd: Fd,
        flags: Lookupflags,
        at: GuestPtr<str>,
        (accessed, modified): (SetTime, SetTime),
    ) -> Result<()> {
        let follow = follows(flags);
        self.on_path(memory, fd, at, move |root, dir, path| {
            root.set_times(dir, path, follow, accessed, modified)
        })
        .await
    }

    /// As much of the link's target as there is room for, as in POSIX.
    pub(super) async fn read_link(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        at: GuestPtr<str>,
        buffer: GuestPtr<u8>,
        length: Size,
    ) -> Result<Size> {
        let target = self
            .on_path(memory, fd, at, |root, dir, path| root.read_link(dir, path))
            .await?;
        let piece = target.get(..as_usize(length)).unwrap_or(&target);
        let count = size(piece.len())?;
        memory.copy_from_slice(piece, buffer.as_array(count))?;
        Ok(count)
    }

    pub(super) async fn make_symlink(
        &self,
        memory: &GuestMemory<'_>,
        target: GuestPtr<str>,
        fd: Fd,
        at: GuestPtr<str>,
    ) -> Result<()> {
        let target: PathBuf = path(memory, target)?;
        self.on_path(memory, fd, at, move |root, dir, path| {
            root.symlink(dir, path, &target)
        })
        .await
    }
}

/// How preview1 asks for an open, in the layer's terms.
pub(super) fn open_options(
    lookup: Lookupflags,
    oflags: Oflags,
    rights: Rights,
    flags: Fdflags,
) -> OpenOptions {
    let directory = oflags.contains(Oflags::DIRECTORY);
    OpenOptions {
        read: rights.contains(Rights::FD_READ),
        // A guest that asks for all rights on a folder doesn't mean to write it.
        write: rights.contains(Rights::FD_WRITE) && !directory,
        append: flags.contains(Fdflags::APPEND),
        create: oflags.contains(Oflags::CREAT),
        exclusive: oflags.contains(Oflags::EXCL),
        truncate: oflags.contains(Oflags::TRUNC),
        directory,
        data_sync: flags.contains(Fdflags::DSYNC),
        sync: flags.intersects(Fdflags::SYNC | Fdflags::RSYNC),
        follow: follows(lookup),
    }
}
