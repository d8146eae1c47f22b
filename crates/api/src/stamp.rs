//! Whether a file has changed since it was read.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What of a file changes with it. A Secret's volume swaps a link, and then the inode differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file that a path leads to now.
    pub(crate) fn of(path: &Path) -> io::Result<Stamp> {
        let about = std::fs::metadata(path)?;
        Ok(Stamp {
            device: about.dev(),
            inode: about.ino(),
            length: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }
}
