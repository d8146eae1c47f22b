//! `descriptor`: an open file or folder.

use std::path::PathBuf;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, Filesize, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsResult};

use super::streams::{FileInput, FileOutput, Position};
use super::{HostView, convert, entries};
use crate::fs::{Dir, Errno, File, OpenOptions, Opened, Stat};

/// What a guest's descriptor is.
#[derive(Clone, Debug)]
pub(crate) enum Descriptor {
    /// A folder.
    Dir(Dir),
    /// A regular file.
    File(File),
}

/// The bindings name wasmtime-wasi's type; the table knows by the index what it holds.
pub(super) fn to_wasi(resource: &Resource<Descriptor>) -> Resource<types::Descriptor> {
    Resource::new_own(resource.rep())
}

fn from_wasi(resource: &Resource<types::Descriptor>) -> Resource<Descriptor> {
    Resource::new_own(resource.rep())
}

impl Descriptor {
    pub(crate) fn stat(&self) -> Result<Stat, Errno> {
        match self {
            Descriptor::Dir(dir) => dir.stat(),
            Descriptor::File(file) => file.stat(),
        }
    }
}

impl HostView<'_> {
    fn descriptor(&self, fd: &Resource<types::Descriptor>) -> FsResult<Descriptor> {
        Ok(self.table.get(&from_wasi(fd))?.clone())
    }

    fn file(&self, fd: &Resource<types::Descriptor>) -> FsResult<File> {
        match self.descriptor(fd)? {
            Descriptor::File(file) => Ok(file),
            Descriptor::Dir(_) => Err(convert::error(Errno::ISDIR)),
        }
    }

    fn dir(&self, fd: &Resource<types::Descriptor>) -> FsResult<Dir> {
        match self.descriptor(fd)? {
            Descriptor::Dir(dir) => Ok(dir),
            Descriptor::File(_) => Err(convert::error(Errno::NOTDIR)),
        }
    }

    fn writer(
        &mut self,
        fd: &Resource<types::Descriptor>,
        position: Position,
    ) -> FsResult<Resource<DynOutputStream>> {
        let file = self.file(fd)?;
        if !file.is_writable() {
            return Err(convert::error(Errno::BADF));
        }
        let work = self.host.work.clone();
        let stream: DynOutputStream = Box::new(FileOutput::new(file, position, work));
        Ok(self.table.push(stream)?)
    }
}

fn follows(flags: PathFlags) -> bool {
    flags.contains(PathFlags::SYMLINK_FOLLOW)
}

/// Paths of preview2 are relative to a descriptor; an absolute one is `not-permitted`, as the
/// interface says (`wasi:filesystem/types`, "permits only relative paths").
fn relative(path: String) -> FsResult<PathBuf> {
    if path.starts_with('/') {
        return Err(convert::error(Errno::PERM));
    }
    Ok(PathBuf::from(path))
}

fn options(path: PathFlags, open: OpenFlags, flags: DescriptorFlags) -> OpenOptions {
    OpenOptions {
        read: flags.contains(DescriptorFlags::READ),
        write: flags.contains(DescriptorFlags::WRITE),
        append: false,
        create: open.contains(OpenFlags::CREATE),
        exclusive: open.contains(OpenFlags::EXCLUSIVE),
        truncate: open.contains(OpenFlags::TRUNCATE),
        directory: open.contains(OpenFlags::DIRECTORY),
        data_sync: flags.contains(DescriptorFlags::DATA_INTEGRITY_SYNC),
        sync: flags.contains(DescriptorFlags::FILE_INTEGRITY_SYNC)
            || flags.contains(DescriptorFlags::REQUESTED_WRITE_SYNC),
        follow: follows(path),
    }
}

impl types::HostDescriptor for HostView<'_> {
    fn read_via_stream(
        &mut self,
        fd: Resource<types::Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let file = self.file(&fd)?;
        if !file.is_readable() {
            return Err(convert::error(Errno::BADF));
        }
        let work = self.host.work.clone();
        let stream: DynInputStream = Box::new(FileInput::new(file, offset, work));
        Ok(self.table.push(stream)?)
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<types::Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&fd, Position::At(offset))
    }

    fn append_via_stream(
        &mut self,
        fd: Resource<types::Descriptor>,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&fd, Position::End)
    }

    async fn advise(
        &mut self,
        fd: Resource<types::Descriptor>,
        offset: Filesize,
        length: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        let file = self.file(&fd)?;
        self.work(move |_| file.advise(offset, length, convert::advice(advice)))
            .await
    }

    async fn sync_data(&mut self, fd: Resource<types::Descriptor>) -> FsResult<()> {
        let descriptor = self.descriptor(&fd)?;
        self.work(move |_| match descriptor {
            Descriptor::Dir(dir) => dir.sync(),
            Descriptor::File(file) => file.sync_data(),
        })
        .await
    }

    async fn sync(&mut self, fd: Resource<types::Descriptor>) -> FsResult<()> {
        let descriptor = self.descriptor(&fd)?;
        self.work(move |_| match descriptor {
            Descriptor::Dir(dir) => dir.sync(),
            Descriptor::File(file) => file.sync(),
        })
        .await
    }

    async fn get_flags(&mut self, fd: Resource<types::Descriptor>) -> FsResult<DescriptorFlags> {
        let mut flags = DescriptorFlags::empty();
        match self.descriptor(&fd)? {
            Descriptor::Dir(dir) => {
                flags |= DescriptorFlags::READ;
                flags.set_if(DescriptorFlags::MUTATE_DIRECTORY, !dir.is_read_only());
            }
            Descriptor::File(file) => {
                flags.set_if(DescriptorFlags::READ, file.is_readable());
                flags.set_if(DescriptorFlags::WRITE, file.is_writable());
            }
        }
        Ok(flags)
    }

    async fn get_type(&mut self, fd: Resource<types::Descriptor>) -> FsResult<DescriptorType> {
        Ok(match self.descriptor(&fd)? {
            Descriptor::Dir(_) => DescriptorType::Directory,
            Descriptor::File(_) => DescriptorType::RegularFile,
        })
    }

    async fn set_size(&mut self, fd: Resource<types::Descriptor>, size: Filesize) -> FsResult<()> {
        let file = self.file(&fd)?;
        self.work(move |_| file.set_size(size)).await
    }

    async fn set_times(
        &mut self,
        fd: Resource<types::Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let descriptor = self.descriptor(&fd)?;
        let accessed = convert::set_time(accessed).map_err(convert::error)?;
        let modified = convert::set_time(modified).map_err(convert::error)?;
        self.work(move |_| match descriptor {
            Descriptor::Dir(dir) => dir.set_times(accessed, modified),
            Descriptor::File(file) => file.set_times(accessed, modified),
        })
        .await
    }

    async fn read(
        &mut self,
        fd: Resource<types::Descriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        let file = self.file(&fd)?;
        // The layer bounds what is read at once, and so what is allocated for a guest's wish.
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        let bytes = self.work(move |_| file.read_at(wanted, offset)).await?;
        let end = bytes.is_empty() && wanted > 0;
        Ok((bytes, end))
    }

    async fn write(
        &mut self,
        fd: Resource<types::Descriptor>,
        bytes: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        let file = self.file(&fd)?;
        let written = self.work(move |_| file.write_at(&bytes, offset)).await?;
        Ok(Filesize::try_from(written).unwrap_or(Filesize::MAX))
    }

    async fn read_directory(
        &mut self,
        fd: Resource<types::Descriptor>,
    ) -> FsResult<Resource<types::DirectoryEntryStream>> {
        // A descriptor of its own, so that two listings of one folder don't move each other on.
        let dir = self.dir(&fd)?;
        let options = OpenOptions {
            read: true,
            directory: true,
            ..OpenOptions::default()
        };
        let opened = self
            .work(move |root| root.open(&dir, ".".as_ref(), options))
            .await?;
        let Opened::Dir(dir) = opened else {
            return Err(convert::error(Errno::NOTDIR));
        };
        let resource = self.table.push(entries::Entries::new(dir))?;
        Ok(entries::to_wasi(&resource))
    }

    async fn create_directory_at(
        &mut self,
        fd: Resource<types::Descriptor>,
        path: String,
    ) -> FsResult<()> {
        let (dir, path) = (self.dir(&fd)?, relative(path)?);
        self.work(move |root| root.create_dir(&dir, &path)).await
    }

    async fn stat(&mut self, fd: Resource<types::Descriptor>) -> FsResult<DescriptorStat> {
        let descriptor = self.descriptor(&fd)?;
        let stat = self.work(move |_| descriptor.stat()).await?;
        Ok(convert::stat(&stat))
    }

    async fn stat_at(
        &mut self,
        fd: Resource<types::Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        let (dir, path) = (self.dir(&fd)?, relative(path)?);
        let stat = self
            .work(move |root| root.stat(&dir, &path, follows(flags)))
            .await?;
        Ok(convert::stat(&stat))
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<types::Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let (dir, path) = (self.dir(&fd)?, relative(path)?);
        let accessed = convert::set_time(accessed).map_err(convert::error)?;
        let modified = convert::set_time(modified).map_err(convert::error)?;
        self.work(move |root| root.set_times(&dir, &path, follows(flags), accessed, modified))
            .await
    }

    async fn link_at(
        &mut self,
        fd: Resource<types::Descriptor>,
        flags: PathFlags,
        from: String,
        to_fd: Resource<types::Descriptor>,
        to: String,
    ) -> FsResult<()> {
        let (from_dir, from) = (self.dir(&fd)?, relative(from)?);
        let (to_dir, to) = (self.dir(&to_fd)?, relative(to)?);
        self.work(move |root| root.link(&from_dir, &from, follows(flags), &to_dir, &to))
            .await
    }

    async fn open_at(
        &mut self,
        fd: Resource<types::Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<types::Descriptor>> {
        let (dir, path) = (self.dir(&fd)?, relative(path)?);
        let options = options(path_flags, open_flags, flags);
        let opened = self
            .work(move |root| root.open(&dir, &path, options))
            .await?;
        let resource = self.table.push(match opened {
            Opened::Dir(dir) => Descriptor::Dir(dir),
            Opened::File(file) => Descriptor::File(file),
        })?;
        Ok(to_wasi(&resource))
    }

    fn drop(&mut self, fd: Resource<types::Descriptor>) -> wasmtime::Result<()> {
        // The last close of a file can wait for a disk (NFS, quotas): not on this thread.
        let descriptor = self.table.delete(from_wasi(&fd))?;
        let blocking = self.host.work.blocking.clone();
        tokio::spawn(async move { blocking.run(move || drop(descriptor)).await });
        Ok(())
    }

    async fn readlink_at(
        &mut self,
        fd: Resource<types::Descriptor>,
        path: String,
    ) -> FsResult<String> {
        let (dir, path) = (self.dir(&fd)?, relative(path)?);
        let target = self.work(move |root| root.read_link(&dir, &path)).await?;
        String::from_utf8(target).map_err(|_| convert::error(Errno::ILSEQ))
    }

    async fn remove_directory_at(
        &mut self,
        fd: Resource<types::Descriptor>,
        path: String,
    ) -> FsResult<()> {
        let (dir, path) = (self.dir(&fd)?, relative(path)?);
        self.work(move |root| root.remove_dir(&dir, &path)).await
    }

    async fn rename_at(
        &mut self,
        fd: Resource<types::Descriptor>,
        from: String,
        to_fd: Resource<types::Descriptor>,
        to: String,
    ) -> FsResult<()> {
        let (from_dir, from) = (self.dir(&fd)?, relative(from)?);
        let (to_dir, to) = (self.dir(&to_fd)?, relative(to)?);
        self.work(move |root| root.rename(&from_dir, &from, &to_dir, &to))
            .await
    }

    async fn symlink_at(
        &mut self,
        fd: Resource<types::Descriptor>,
        target: String,
        path: String,
    ) -> FsResult<()> {
        let (dir, path) = (self.dir(&fd)?, relative(path)?);
        // What a link says may be absolute: it starts at the container's root, as in a container.
        self.work(move |root| root.symlink(&dir, &path, target.as_ref()))
            .await
    }

    async fn unlink_file_at(
        &mut self,
        fd: Resource<types::Descriptor>,
        path: String,
    ) -> FsResult<()> {
        let (dir, path) = (self.dir(&fd)?, relative(path)?);
        self.work(move |root| root.unlink(&dir, &path)).await
    }

    async fn is_same_object(
        &mut self,
        a: Resource<types::Descriptor>,
        b: Resource<types::Descriptor>,
    ) -> wasmtime::Result<bool> {
        let a = self.table.get(&from_wasi(&a))?.clone();
        let b = self.table.get(&from_wasi(&b))?.clone();
        let same = self
            .work(move |_| {
                let (a, b) = (a.stat()?, b.stat()?);
                Ok((a.dev, a.ino) == (b.dev, b.ino))
            })
            .await;
        // There is no error to give here; what can't be looked at is the same as nothing.
        Ok(same.unwrap_or(false))
    }

    async fn metadata_hash(
        &mut self,
        fd: Resource<types::Descriptor>,
    ) -> FsResult<MetadataHashValue> {
        let descriptor = self.descriptor(&fd)?;
        let stat = self.work(move |_| descriptor.stat()).await?;
        Ok(convert::hash(&stat))
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<types::Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let (dir, path) = (self.dir(&fd)?, relative(path)?);
        let stat = self
            .work(move |root| root.stat(&dir, &path, follows(flags)))
            .await?;
        Ok(convert::hash(&stat))
    }
}

/// `set` of flags that can only be added.
trait SetIf {
    fn set_if(&mut self, flag: Self, on: bool);
}

impl SetIf for DescriptorFlags {
    fn set_if(&mut self, flag: DescriptorFlags, on: bool) {
        if on {
            *self |= flag;
        }
    }
}
