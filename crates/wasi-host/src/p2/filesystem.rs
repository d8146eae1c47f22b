//! `wasi:filesystem` but for its descriptors: the one preopen, and errors.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{FsError, FsResult};

use super::{HostView, convert, descriptor};
use crate::fs::{Errno, Root};

impl preopens::Host for HostView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<types::Descriptor>, String)>> {
        let dir = self.host.root.dir().map_err(std::io::Error::from)?;
        let resource = self.table.push(descriptor::Descriptor::Dir(dir))?;
        Ok(vec![(descriptor::to_wasi(&resource), "/".to_owned())])
    }
}

impl types::Host for HostView<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<types::ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<types::ErrorCode>> {
        let error = self.table.get(&error)?;
        Ok(error
            .downcast_ref::<std::io::Error>()
            .map(types::ErrorCode::from))
    }
}

impl HostView<'_> {
    /// Does on a thread that may block what may wait for a disk.
    pub(super) fn work<R, F>(&self, work: F) -> impl Future<Output = FsResult<R>> + Send + use<R, F>
    where
        R: Send + 'static,
        F: FnOnce(&Root) -> Result<R, Errno> + Send + 'static,
    {
        let root = self.host.root.clone();
        let blocking = self.host.work.blocking.clone();
        async move {
            match blocking.run(move || work(&root)).await {
                Ok(result) => result.map_err(convert::error),
                Err(unfinished) => Err(FsError::trap(unfinished)),
            }
        }
    }
}
