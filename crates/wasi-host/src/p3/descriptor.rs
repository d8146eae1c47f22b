//! `descriptor`: an open file or folder, on the layer that preview2's are on.

use std::path::PathBuf;

use wasmtime::component::{Access, Accessor, FutureReader, StreamReader};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode,
    Filesize, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p3::filesystem::FilesystemResult;

use super::filesystem::{Fd, Reach};
use super::pipe::{self, Readable, Told};
use super::{convert, entries};
use crate::fs::{Errno, OpenOptions, Opened};
use crate::p2::{Descriptor, FileInput, FileOutput, HasHost, Position};

fn follows(flags: PathFlags) -> bool {
    flags.contains(PathFlags::SYMLINK_FOLLOW)
}

/// Paths are relative to a descriptor; an absolute one is `not-permitted`, as the interface says.
fn relative(path: String) -> FilesystemResult<PathBuf> {
    match path.starts_with('/') {
        true => Err(convert::error(Errno::PERM)),
        false => Ok(PathBuf::from(path)),
    }
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

/// Has a guest's stream written into a file.
fn write<T: 'static>(
    mut store: Access<'_, T, HasHost>,
    fd: &Fd,
    data: StreamReader<u8>,
    position: Position,
) -> wasmtime::Result<FutureReader<Told<ErrorCode>>> {
    let work = store.get().host.work.clone();
    match store.get().file_at(fd) {
        Ok(file) if file.is_writable() => {
            let output: DynOutputStream = Box::new(FileOutput::new(file, position, work.clone()));
            pipe::written(&mut store, data, output, &work)
        }
        Ok(_) => pipe::refused(&mut store, data, convert::code(Errno::BADF)),
        Err(error) => pipe::refused(&mut store, data, error.downcast()?),
    }
}

impl<T: Send + 'static> types::HostDescriptorWithStore<T> for HasHost {
    fn read_via_stream(
        mut store: Access<'_, T, Self>,
        fd: Fd,
        offset: Filesize,
    ) -> wasmtime::Result<Readable<ErrorCode>> {
        let work = store.get().host.work.clone();
        match store.get().file_at(&fd) {
            Ok(file) if file.is_readable() => {
                let input: DynInputStream = Box::new(FileInput::new(file, offset, work));
                pipe::readable(&mut store, input)
            }
            Ok(_) => pipe::nothing(&mut store, convert::code(Errno::BADF)),
            Err(error) => pipe::nothing(&mut store, error.downcast()?),
        }
    }

    fn write_via_stream(
        store: Access<'_, T, Self>,
        fd: Fd,
        data: StreamReader<u8>,
        offset: Filesize,
    ) -> wasmtime::Result<FutureReader<Told<ErrorCode>>> {
        write(store, &fd, data, Position::At(offset))
    }

    fn append_via_stream(
        store: Access<'_, T, Self>,
        fd: Fd,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<Told<ErrorCode>>> {
        write(store, &fd, data, Position::End)
    }

    fn read_directory(
        mut store: Access<'_, T, Self>,
        fd: Fd,
    ) -> wasmtime::Result<Readable<ErrorCode, DirectoryEntry>> {
        match store.get().given(&fd) {
            Ok(Descriptor::Dir(dir)) => {
                let host = store.get().host;
                let listing = entries::Listing::new(dir, host.root.clone(), host.work.clone());
                entries::stream(&mut store, listing)
            }
            Ok(Descriptor::File(_)) => pipe::nothing(&mut store, convert::code(Errno::NOTDIR)),
            Err(error) => pipe::nothing(&mut store, error.downcast()?),
        }
    }

    async fn advise(
        store: &Accessor<T, Self>,
        fd: Fd,
        offset: Filesize,
        length: Filesize,
        advice: Advice,
    ) -> FilesystemResult<()> {
        let file = store.file(&fd)?;
        store
            .work(move |_| file.advise(offset, length, convert::advice(advice)))
            .await
    }

    async fn sync_data(store: &Accessor<T, Self>, fd: Fd) -> FilesystemResult<()> {
        let descriptor = store.descriptor(&fd)?;
        store
            .work(move |_| match descriptor {
                Descriptor::Dir(dir) => dir.sync(),
                Descriptor::File(file) => file.sync_data(),
            })
            .await
    }

    async fn sync(store: &Accessor<T, Self>, fd: Fd) -> FilesystemResult<()> {
        let descriptor = store.descriptor(&fd)?;
        store
            .work(move |_| match descriptor {
                Descriptor::Dir(dir) => dir.sync(),
                Descriptor::File(file) => file.sync(),
            })
            .await
    }

    async fn get_flags(store: &Accessor<T, Self>, fd: Fd) -> FilesystemResult<DescriptorFlags> {
        let (readable, writable, of_writable) = match store.descriptor(&fd)? {
            Descriptor::Dir(dir) => (true, !dir.is_read_only(), DescriptorFlags::MUTATE_DIRECTORY),
            Descriptor::File(file) => (
                file.is_readable(),
                file.is_writable(),
                DescriptorFlags::WRITE,
            ),
        };
        let mut flags = DescriptorFlags::empty();
        if readable {
            flags |= DescriptorFlags::READ;
        }
        if writable {
            flags |= of_writable;
        }
        Ok(flags)
    }

    async fn get_type(store: &Accessor<T, Self>, fd: Fd) -> FilesystemResult<DescriptorType> {
        Ok(match store.descriptor(&fd)? {
            Descriptor::Dir(_) => DescriptorType::Directory,
            Descriptor::File(_) => DescriptorType::RegularFile,
        })
    }

    async fn set_size(store: &Accessor<T, Self>, fd: Fd, size: Filesize) -> FilesystemResult<()> {
        let file = store.file(&fd)?;
        store.work(move |_| file.set_size(size)).await
    }

    async fn set_times(
        store: &Accessor<T, Self>,
        fd: Fd,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FilesystemResult<()> {
        let descriptor = store.descriptor(&fd)?;
        let accessed = convert::set_time(accessed).map_err(convert::error)?;
        let modified = convert::set_time(modified).map_err(convert::error)?;
        store
            .work(move |_| match descriptor {
                Descriptor::Dir(dir) => dir.set_times(accessed, modified),
                Descriptor::File(file) => file.set_times(accessed, modified),
            })
            .await
    }

    async fn create_directory_at(
        store: &Accessor<T, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<()> {
        let (dir, path) = (store.dir(&fd)?, relative(path)?);
        store.work(move |root| root.create_dir(&dir, &path)).await
    }

    async fn stat(store: &Accessor<T, Self>, fd: Fd) -> FilesystemResult<DescriptorStat> {
        let descriptor = store.descriptor(&fd)?;
        let stat = store.work(move |_| descriptor.stat()).await?;
        Ok(convert::stat(&stat))
    }

    async fn stat_at(
        store: &Accessor<T, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
    ) -> FilesystemResult<DescriptorStat> {
        let (dir, path) = (store.dir(&fd)?, relative(path)?);
        let stat = store
            .work(move |root| root.stat(&dir, &path, follows(flags)))
            .await?;
        Ok(convert::stat(&stat))
    }

    async fn set_times_at(
        store: &Accessor<T, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FilesystemResult<()> {
        let (dir, path) = (store.dir(&fd)?, relative(path)?);
        let accessed = convert::set_time(accessed).map_err(convert::error)?;
        let modified = convert::set_time(modified).map_err(convert::error)?;
        store
            .work(move |root| root.set_times(&dir, &path, follows(flags), accessed, modified))
            .await
    }

    async fn link_at(
        store: &Accessor<T, Self>,
        fd: Fd,
        flags: PathFlags,
        from: String,
        to_fd: Fd,
        to: String,
    ) -> FilesystemResult<()> {
        let (from_dir, from) = (store.dir(&fd)?, relative(from)?);
        let (to_dir, to) = (store.dir(&to_fd)?, relative(to)?);
        store
            .work(move |root| root.link(&from_dir, &from, follows(flags), &to_dir, &to))
            .await
    }

    async fn open_at(
        store: &Accessor<T, Self>,
        fd: Fd,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FilesystemResult<Fd> {
        let (dir, path) = (store.dir(&fd)?, relative(path)?);
        let options = options(path_flags, open_flags, flags);
        let opened = store
            .work(move |root| root.open(&dir, &path, options))
            .await?;
        let descriptor = match opened {
            Opened::Dir(dir) => Descriptor::Dir(dir),
            Opened::File(file) => Descriptor::File(file),
        };
        store.with(|mut store| store.get().give(descriptor))
    }

    async fn readlink_at(
        store: &Accessor<T, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<String> {
        let (dir, path) = (store.dir(&fd)?, relative(path)?);
        let target = store.work(move |root| root.read_link(&dir, &path)).await?;
        String::from_utf8(target).map_err(|_| convert::error(Errno::ILSEQ))
    }

    async fn remove_directory_at(
        store: &Accessor<T, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<()> {
        let (dir, path) = (store.dir(&fd)?, relative(path)?);
        store.work(move |root| root.remove_dir(&dir, &path)).await
    }

    async fn rename_at(
        store: &Accessor<T, Self>,
        fd: Fd,
        from: String,
        to_fd: Fd,
        to: String,
    ) -> FilesystemResult<()> {
        let (from_dir, from) = (store.dir(&fd)?, relative(from)?);
        let (to_dir, to) = (store.dir(&to_fd)?, relative(to)?);
        store
            .work(move |root| root.rename(&from_dir, &from, &to_dir, &to))
            .await
    }

    async fn symlink_at(
        store: &Accessor<T, Self>,
        fd: Fd,
        target: String,
        path: String,
    ) -> FilesystemResult<()> {
        let (dir, path) = (store.dir(&fd)?, relative(path)?);
        // What a link says may be absolute: it starts at the container's root, as in a container.
        store
            .work(move |root| root.symlink(&dir, &path, target.as_ref()))
            .await
    }

    async fn unlink_file_at(
        store: &Accessor<T, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<()> {
        let (dir, path) = (store.dir(&fd)?, relative(path)?);
        store.work(move |root| root.unlink(&dir, &path)).await
    }

    async fn is_same_object(store: &Accessor<T, Self>, a: Fd, b: Fd) -> wasmtime::Result<bool> {
        let pair = |fd| store.descriptor(fd).map_err(wasmtime::Error::from);
        let (a, b) = (pair(&a)?, pair(&b)?);
        let same = store
            .work(move |_| {
                let (a, b) = (a.stat()?, b.stat()?);
                Ok((a.dev, a.ino) == (b.dev, b.ino))
            })
            .await;
        // There is no error to give here; what can't be looked at is the same as nothing.
        Ok(same.unwrap_or(false))
    }

    async fn metadata_hash(
        store: &Accessor<T, Self>,
        fd: Fd,
    ) -> FilesystemResult<MetadataHashValue> {
        let descriptor = store.descriptor(&fd)?;
        let stat = store.work(move |_| descriptor.stat()).await?;
        Ok(convert::hash(&stat))
    }

    async fn metadata_hash_at(
        store: &Accessor<T, Self>,
        fd: Fd,
        flags: PathFlags,
        path: String,
    ) -> FilesystemResult<MetadataHashValue> {
        let (dir, path) = (store.dir(&fd)?, relative(path)?);
        let stat = store
            .work(move |root| root.stat(&dir, &path, follows(flags)))
            .await?;
        Ok(convert::hash(&stat))
    }
}
