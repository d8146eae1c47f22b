//! `directory-entry-stream`: a folder's entries, one at a time, read in batches.

use std::collections::VecDeque;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::filesystem::types;

use super::{HostView, convert};
use crate::fs::{Dir, DirEntry, Errno};
use crate::held::Held;

/// A listing under way.
#[derive(Debug)]
pub(super) struct Entries {
    dir: Dir,
    cookie: u64,
    read: VecDeque<DirEntry>,
    held: Option<Held>,
}

impl Entries {
    pub(super) fn new(dir: Dir) -> Entries {
        Entries {
            dir,
            cookie: 0,
            read: VecDeque::new(),
            held: None,
        }
    }
}

pub(super) fn to_wasi(resource: &Resource<Entries>) -> Resource<types::DirectoryEntryStream> {
    Resource::new_own(resource.rep())
}

fn from_wasi(resource: &Resource<types::DirectoryEntryStream>) -> Resource<Entries> {
    Resource::new_own(resource.rep())
}

impl types::HostDirectoryEntryStream for HostView<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        let stream = from_wasi(&stream);
        loop {
            if let Some(entry) = self.table.get_mut(&stream)?.read.pop_front() {
                self.table.get_mut(&stream)?.cookie = entry.next;
                if entry.name == b"." || entry.name == b".." {
                    continue;
                }
                let name =
                    String::from_utf8(entry.name).map_err(|_| convert::error(Errno::ILSEQ))?;
                return Ok(Some(types::DirectoryEntry {
                    type_: convert::kind(entry.kind),
                    name,
                }));
            }
            let Entries { dir, cookie, .. } = self.table.get(&stream)?;
            let (dir, cookie) = (dir.clone(), *cookie);
            let batch = self.work(move |_| dir.entries(cookie)).await?;
            if batch.is_empty() {
                return Ok(None);
            }
            let bytes: usize = batch
                .iter()
                .map(|e| size_of::<DirEntry>() + e.name.len())
                .sum();
            let entries = self.table.get_mut(&stream)?;
            // What was held for the batch before goes first.
            entries.held = None;
            let held = self.host.work.charge.hold(bytes, "a listing");
            entries.held = Some(held.map_err(convert::error)?);
            entries.read = batch.into();
        }
    }

    fn drop(&mut self, stream: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.table.delete(from_wasi(&stream))?;
        Ok(())
    }
}
