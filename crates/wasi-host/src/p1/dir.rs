//! Listing folders.

use super::file::size;
use super::memory::{as_usize, check};
use super::types::{Dircookie, Fd, Filetype, Size};
use super::{Ctx, Result};
use crate::fs::DirEntry;
use wiggle::{GuestMemory, GuestPtr};

/// The size of `dirent` in the guest's memory.
const DIRENT_BYTES: usize = 24;

impl Ctx {
    /// Fills `buffer` with entries; the last may be cut. Less than `length` is the end.
    pub(super) async fn readdir(
        &self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        buffer: GuestPtr<u8>,
        length: Size,
        cookie: Dircookie,
    ) -> Result<Size> {
        let dir = self.table.dir(fd)?;
        check(memory, buffer, length)?;
        let (mut cookie, mut used) = (cookie, 0_u32);
        while used < length {
            let dir = dir.clone();
            let entries = self.blocking().run(move || dir.entries(cookie)).await??;
            let Some(last) = entries.last() else { break };
            cookie = last.next;
            let bytes: Vec<u8> = entries.iter().flat_map(encode).collect();
            let room = as_usize(length - used);
            let piece = bytes.get(..room).unwrap_or(&bytes);
            let count = size(piece.len())?;
            memory.copy_from_slice(piece, buffer.add(used)?.as_array(count))?;
            used += count;
        }
        Ok(used)
    }
}

/// `dirent` and the name after it, as the interface lays them out.
fn encode(entry: &DirEntry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(DIRENT_BYTES + entry.name.len());
    bytes.extend_from_slice(&entry.next.to_le_bytes());
    bytes.extend_from_slice(&entry.ino.to_le_bytes());
    let length = u32::try_from(entry.name.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.push(Filetype::from(entry.kind) as u8);
    bytes.resize(DIRENT_BYTES, 0);
    bytes.extend_from_slice(&entry.name);
    bytes
}
