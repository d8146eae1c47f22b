//! An open regular file.

use super::stat::timestamps;
use super::{Errno, IO_BYTES, OpenOptions, Result, SetTime, Stat};
use crate::opened::OpenOne;
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::ReadWriteFlags;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

pub use rustix::fs::{Advice, SeekFrom};

/// An open regular file. Cheap to clone; all clones are one descriptor with one position.
#[derive(Clone, Debug)]
pub struct File {
    fd: Arc<OwnedFd>,
    readable: bool,
    writable: bool,
    read_only: bool,
    /// After the descriptor, which has to be closed first.
    _one: Option<Arc<OpenOne>>,
}

impl File {
    pub(super) fn new(fd: OwnedFd, options: OpenOptions, read_only: bool) -> Self {
        let readable = options.read || !options.write;
        Self {
            fd: Arc::new(fd),
            readable,
            writable: options.write,
            read_only,
            _one: None,
        }
    }

    /// The same file, holding on to what it is counted by.
    pub(super) fn counted(self, one: OpenOne) -> Self {
        Self {
            _one: Some(Arc::new(one)),
            ..self
        }
    }

    /// Whether it was opened for reading.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether it was opened for writing.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Reads up to `length` bytes, at most [`IO_BYTES`], at the position, which moves on.
    /// Nothing is the end of the file.
    ///
    /// # Errors
    /// What `read(2)` gives.
    pub fn read(&self, length: usize) -> Result<Vec<u8>> {
        let mut buffer = Vec::with_capacity(length.min(IO_BYTES));
        if buffer.capacity() > 0 {
            retry(|| rustix::io::read(&self.fd, rustix::buffer::spare_capacity(&mut buffer)))?;
        }
        Ok(buffer)
    }

    /// As [`File::read`], at `offset`; the position stays.
    ///
    /// # Errors
    /// What `pread(2)` gives.
    pub fn read_at(&self, length: usize, offset: u64) -> Result<Vec<u8>> {
        let mut buffer = Vec::with_capacity(length.min(IO_BYTES));
        if buffer.capacity() > 0 {
            retry(|| {
                rustix::io::pread(
                    &self.fd,
                    rustix::buffer::spare_capacity(&mut buffer),
                    offset,
                )
            })?;
        }
        Ok(buffer)
    }

    /// Writes at the position, or at the end if it was opened so; gives how much was written.
    ///
    /// # Errors
    /// What `write(2)` gives, `ENOSPC` and `EDQUOT` among them.
    pub fn write(&self, bytes: &[u8]) -> Result<usize> {
        retry(|| rustix::io::write(&self.fd, bytes))
    }

    /// Writes at `offset`; the position stays. At the end if it was opened for appending, as in Linux.
    ///
    /// # Errors
    /// What `pwrite(2)` gives.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        retry(|| rustix::io::pwrite(&self.fd, bytes, offset))
    }

    /// Writes at the end, however it was opened.
    ///
    /// # Errors
    /// What `pwritev2(2)` gives.
    pub fn append(&self, bytes: &[u8]) -> Result<usize> {
        let slices = [std::io::IoSlice::new(bytes)];
        retry(|| rustix::io::pwritev2(&self.fd, &slices, u64::MAX, ReadWriteFlags::APPEND))
    }

    /// Moves the position and gives it.
    ///
    /// # Errors
    /// What `lseek(2)` gives.
    pub fn seek(&self, to: SeekFrom) -> Result<u64> {
        rustix::fs::seek(&self.fd, to)
    }

    /// What is known of it.
    ///
    /// # Errors
    /// What `fstat(2)` gives.
    pub fn stat(&self) -> Result<Stat> {
        Stat::of(self.fd.as_fd())
    }

    /// Sets its times.
    ///
    /// # Errors
    /// What `futimens(2)` gives.
    pub fn set_times(&self, accessed: SetTime, modified: SetTime) -> Result<()> {
        if self.read_only {
            return Err(Errno::ROFS);
        }
        rustix::fs::futimens(&self.fd, &timestamps(accessed, modified))
    }

    /// Cuts it, or makes it longer by a hole.
    ///
    /// # Errors
    /// What `ftruncate(2)` gives.
    pub fn set_size(&self, size: u64) -> Result<()> {
        retry(|| rustix::fs::ftruncate(&self.fd, size))
    }

    /// Reserves `length` bytes at `offset`; the file grows to hold them.
    ///
    /// # Errors
    /// What `fallocate(2)` gives.
    pub fn allocate(&self, offset: u64, length: u64) -> Result<()> {
        retry(|| rustix::fs::fallocate(&self.fd, FallocateFlags::empty(), offset, length))
    }

    /// Tells the kernel how `length` bytes at `offset` will be used; 0 is to the end.
    ///
    /// # Errors
    /// What `posix_fadvise(2)` gives.
    pub fn advise(&self, offset: u64, length: u64, advice: Advice) -> Result<()> {
        rustix::fs::fadvise(&self.fd, offset, NonZeroU64::new(length), advice)
    }

    /// Waits until its contents and what is known of it are on the disk.
    ///
    /// # Errors
    /// What `fsync(2)` gives.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd)
    }

    /// Waits until its contents are on the disk.
    ///
    /// # Errors
    /// What `fdatasync(2)` gives.
    pub fn sync_data(&self) -> Result<()> {
        rustix::fs::fdatasync(&self.fd)
    }

    /// Whether each write goes to the end.
    ///
    /// # Errors
    /// What `fcntl(2)` gives.
    pub fn is_appending(&self) -> Result<bool> {
        Ok(rustix::fs::fcntl_getfl(&self.fd)?.contains(OFlags::APPEND))
    }

    /// Sets whether each write goes to the end.
    ///
    /// # Errors
    /// What `fcntl(2)` gives.
    pub fn set_appending(&self, appending: bool) -> Result<()> {
        let mut flags = rustix::fs::fcntl_getfl(&self.fd)?;
        flags.set(OFlags::APPEND, appending);
        rustix::fs::fcntl_setfl(&self.fd, flags)
    }
}

/// A signal to the host's process is nothing that a guest should see.
fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
