//! `wasi:filesystem` but for what descriptors do: how they are reached, the one preopen, and errors.

use wasmtime::component::{Accessor, Resource};
use wasmtime_wasi::p3::bindings::filesystem::preopens;
use wasmtime_wasi::p3::bindings::filesystem::types::{self, ErrorCode};
use wasmtime_wasi::p3::filesystem::{FilesystemError, FilesystemResult};

use super::convert;
use crate::fs::{Dir, Errno, File, Root};
use crate::p2::{Descriptor, HasHost, HostView};

/// A guest's descriptor, in the bindings' words.
pub(super) type Fd = Resource<types::Descriptor>;

/// The bindings name wasmtime-wasi's type; the table knows by the index what it holds.
fn ours(fd: &Fd) -> Resource<Descriptor> {
    Resource::new_own(fd.rep())
}

impl HostView<'_> {
    pub(super) fn given(&self, fd: &Fd) -> FilesystemResult<Descriptor> {
        let found = self.table.get(&ours(fd));
        Ok(found.map_err(FilesystemError::trap)?.clone())
    }

    pub(super) fn give(&mut self, descriptor: Descriptor) -> FilesystemResult<Fd> {
        let pushed = self.table.push(descriptor);
        Ok(Resource::new_own(
            pushed.map_err(FilesystemError::trap)?.rep(),
        ))
    }

    pub(super) fn file_at(&self, fd: &Fd) -> FilesystemResult<File> {
        file(self.given(fd)?)
    }
}

fn file(descriptor: Descriptor) -> FilesystemResult<File> {
    match descriptor {
        Descriptor::File(file) => Ok(file),
        Descriptor::Dir(_) => Err(convert::error(Errno::ISDIR)),
    }
}

/// A host function's way to what it works on, between which others run.
pub(super) trait Reach {
    fn descriptor(&self, fd: &Fd) -> FilesystemResult<Descriptor>;

    fn file(&self, fd: &Fd) -> FilesystemResult<File> {
        file(self.descriptor(fd)?)
    }

    fn dir(&self, fd: &Fd) -> FilesystemResult<Dir> {
        match self.descriptor(fd)? {
            Descriptor::Dir(dir) => Ok(dir),
            Descriptor::File(_) => Err(convert::error(Errno::NOTDIR)),
        }
    }

    /// Does on a thread that may block what may wait for a disk.
    fn work<R, F>(&self, work: F) -> impl Future<Output = FilesystemResult<R>> + Send
    where
        R: Send + 'static,
        F: FnOnce(&Root) -> Result<R, Errno> + Send + 'static;
}

impl<T: 'static> Reach for Accessor<T, HasHost> {
    fn descriptor(&self, fd: &Fd) -> FilesystemResult<Descriptor> {
        self.with(|mut store| store.get().given(fd))
    }

    fn work<R, F>(&self, work: F) -> impl Future<Output = FilesystemResult<R>> + Send
    where
        R: Send + 'static,
        F: FnOnce(&Root) -> Result<R, Errno> + Send + 'static,
    {
        let (root, blocking) = self.with(|mut store| {
            let host = store.get().host;
            (host.root.clone(), host.work.blocking.clone())
        });
        async move {
            match blocking.run(move || work(&root)).await {
                Ok(result) => result.map_err(convert::error),
                Err(unfinished) => Err(FilesystemError::trap(unfinished)),
            }
        }
    }
}

impl types::Host for HostView<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }
}

impl types::HostDescriptor for HostView<'_> {
    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        // The last close of a file can wait for a disk (NFS, quotas): not on this thread.
        let descriptor = self.table.delete(ours(&fd))?;
        let blocking = self.host.work.blocking.clone();
        tokio::spawn(async move { blocking.run(move || drop(descriptor)).await });
        Ok(())
    }
}

impl preopens::Host for HostView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        let dir = self.host.root.dir().map_err(std::io::Error::from)?;
        let fd = self.table.push(Descriptor::Dir(dir))?;
        Ok(vec![(Resource::new_own(fd.rep()), "/".to_owned())])
    }
}
