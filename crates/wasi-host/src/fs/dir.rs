//! An open folder.

use super::stat::timestamps;
use super::tree::{Place, open_to_list};
use super::{Errno, FileKind, IO_BYTES, Result, SetTime, Stat};
use crate::opened::OpenOne;
use rustix::fs::{AtFlags, RawDir, SeekFrom};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// How much of a listing is read at once, in bytes.
const BATCH_BYTES: usize = IO_BYTES / 4;

/// An open folder, which paths can be relative to. Cheap to clone; all clones are one descriptor.
#[derive(Clone, Debug)]
pub struct Dir {
    place: Place,
    read_only: bool,
    listing: Arc<Listing>,
    /// After the descriptors, which have to be closed first.
    _one: Option<Arc<OpenOne>>,
}

/// What all clones share.
#[derive(Debug, Default)]
struct Listing {
    batch: Mutex<Batch>,
    /// Present if the place's own descriptor is for paths alone; filled when it is first listed.
    own: Option<OnceLock<OwnedFd>>,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name, as the file system has it.
    pub name: Vec<u8>,
    /// What it is. Of a mount point: of what it covers, as in Linux.
    pub kind: FileKind,
    /// Its number.
    pub ino: u64,
    /// The cookie of the entry after it.
    pub next: u64,
}

/// What was last read of the listing, so that small reads don't cost one listing each.
#[derive(Debug, Default)]
struct Batch {
    /// The cookie of the first of `entries`.
    start: u64,
    entries: Vec<DirEntry>,
    /// Where the descriptor stands.
    position: u64,
}

impl Dir {
    /// A folder whose descriptor is open to read.
    pub(super) fn new(place: Place, read_only: bool) -> Self {
        Self {
            place,
            read_only,
            listing: Arc::default(),
            _one: None,
        }
    }

    /// The same folder, holding on to what it is counted by.
    pub(super) fn counted(self, one: OpenOne) -> Self {
        Self {
            _one: Some(Arc::new(one)),
            ..self
        }
    }

    /// A folder whose descriptor may be for paths alone, and shared. It gets one of its own when it
    /// is first listed: most guests never list their root, and a process has so many descriptors.
    pub(super) fn unopened(place: Place, read_only: bool) -> Self {
        let listing = Listing {
            own: Some(OnceLock::new()),
            ..Listing::default()
        };
        Self {
            place,
            read_only,
            listing: Arc::new(listing),
            _one: None,
        }
    }

    /// A descriptor that is open to read.
    fn readable(&self) -> Result<BorrowedFd<'_>> {
        let Some(own) = &self.listing.own else {
            return Ok(self.place.as_fd());
        };
        if let Some(fd) = own.get() {
            return Ok(fd.as_fd());
        }
        let fd = open_to_list(self.place.as_fd())?;
        Ok(own.get_or_init(|| fd).as_fd())
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// What is known of it.
    ///
    /// # Errors
    /// What `fstat(2)` gives.
    pub fn stat(&self) -> Result<Stat> {
        Stat::of(self.place.as_fd())
    }

    /// Whether nothing in it may be changed.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Sets its times.
    ///
    /// # Errors
    /// What `futimens(2)` gives.
    pub fn set_times(&self, accessed: SetTime, modified: SetTime) -> Result<()> {
        if self.read_only {
            return Err(Errno::ROFS);
        }
        rustix::fs::futimens(self.readable()?, &timestamps(accessed, modified))
    }

    /// Waits until its entries are on the disk.
    ///
    /// # Errors
    /// What `fsync(2)` gives.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(self.readable()?)
    }

    /// Some entries from `cookie` on (0 is the beginning), `.` and `..` included; none at the end.
    /// At most a fixed number of bytes of names, whatever the folder's size.
    ///
    /// A cookie stays good while entries come and go, as far as the file system's own do.
    ///
    /// # Errors
    /// What `getdents(2)` gives; `EINVAL` for a cookie that was never given.
    pub fn entries(&self, cookie: u64) -> Result<Vec<DirEntry>> {
        let listing = &self.listing;
        let mut batch = listing.batch.lock().unwrap_or_else(PoisonError::into_inner);
        // From the beginning means anew: a guest that rewinds wants to see what changed.
        if cookie != 0
            && let Some(entries) = batch.from(cookie)
        {
            return Ok(entries);
        }
        self.read_batch(&mut batch, cookie)?;
        Ok(batch.entries.clone())
    }

    fn read_batch(&self, batch: &mut Batch, cookie: u64) -> Result<()> {
        let fd = self.readable()?;
        batch.entries.clear();
        if cookie == 0 || cookie != batch.position {
            rustix::fs::seek(fd, SeekFrom::Start(cookie))?;
        }
        batch.start = cookie;
        batch.position = cookie;
        let mut buffer = vec![MaybeUninit::uninit(); BATCH_BYTES];
        let mut raw = RawDir::new(fd, &mut buffer);
        while let Some(entry) = raw.next() {
            let entry = entry?;
            let name = entry.file_name();
            batch.position = entry.next_entry_cookie();
            batch.entries.push(DirEntry {
                name: name.to_bytes().to_vec(),
                kind: kind(fd, name, entry.file_type().into()),
                ino: entry.ino(),
                next: batch.position,
            });
            if raw.is_buffer_empty() {
                break;
            }
        }
        Ok(())
    }
}

impl Batch {
    /// The entries from `cookie` on, if they are here.
    fn from(&self, cookie: u64) -> Option<Vec<DirEntry>> {
        if cookie == self.start && !self.entries.is_empty() {
            return Some(self.entries.clone());
        }
        let at = self.entries.iter().position(|entry| entry.next == cookie)?;
        let rest = self.entries.get(at + 1..)?;
        (!rest.is_empty()).then(|| rest.to_vec())
    }
}

/// File systems that don't tell the kind in a listing are asked for each.
fn kind(fd: impl AsFd, name: &CStr, listed: FileKind) -> FileKind {
    if listed != FileKind::Unknown {
        return listed;
    }
    match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Stat::from(stat).kind,
        Err(_) => FileKind::Unknown,
    }
}
