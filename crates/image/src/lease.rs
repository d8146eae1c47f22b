//! Who has an image in hand: each process that does holds a shared lock on a file of the image, which the kernel lets
//! go of however the process ends. The collector leaves such images alone.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::digest::Digest;
use crate::error::{Error, IoContext};
use crate::store::Store;

const PREFIX: &str = "use-";

/// Held for as long as an image is in hand.
#[derive(Debug)]
pub(crate) struct Lease {
    _file: File,
}

impl Store {
    /// Takes an image into use. Waits while a collector runs, so that it sees either the lease or nobody.
    pub(crate) fn lease(&self, root: Digest) -> Result<Lease, Error> {
        let _lock = self.lock_against_collection()?;
        let path = self.lease_path(root);
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .at("open", &path)?;
            flock(&file, FlockOperation::LockShared).at("lock", &path)?;
            // One that was swept between its opening and its lock is not seen by anybody.
            if file.metadata().at("read", &path)?.nlink() > 0 {
                return Ok(Lease { _file: file });
            }
        }
    }

    /// Whether an image is in use by any process, this one included: the digest is that of [`crate::Image::digest`].
    ///
    /// # Errors
    /// `Io` where the store can't be read.
    pub fn in_use(&self, root: Digest) -> Result<bool, Error> {
        is_held(&self.lease_path(root))
    }

    /// The images in use. What nobody holds any more is swept; to be called by whoever keeps takers away.
    pub(crate) fn leased(&self) -> Result<Vec<Digest>, Error> {
        let folder = self.path("locks");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&folder).at("read", &folder)? {
            let entry = entry.at("read", &folder)?;
            let name = entry.file_name();
            let digest = name
                .to_str()
                .and_then(|n| n.strip_prefix(PREFIX))
                .and_then(|hex| Digest::from_hex(hex).ok());
            let Some(digest) = digest else {
                continue;
            };
            if is_held(&entry.path())? {
                found.push(digest);
            } else {
                std::fs::remove_file(entry.path()).at("remove", &entry.path())?;
            }
        }
        Ok(found)
    }

    fn lease_path(&self, root: Digest) -> std::path::PathBuf {
        self.path(&format!("locks/{PREFIX}{}", root.hex()))
    }
}

fn is_held(path: &Path) -> Result<bool, Error> {
    let file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.at("open", path)?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(e) => Err(e).at("lock", path),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_lease_is_seen_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (
            Store::open(dir.path()).unwrap(),
            Store::open(dir.path()).unwrap(),
        );
        let digest = Digest::of(b"image");
        assert!(!there.in_use(digest).unwrap());
        let (one, two) = (here.lease(digest).unwrap(), there.lease(digest).unwrap());
        drop(one);
        assert!(here.in_use(digest).unwrap());
        assert_eq!(here.leased().unwrap(), [digest]);
        drop(two);
        assert!(!here.in_use(digest).unwrap());
        assert_eq!(here.leased().unwrap(), []);
        assert!(!here.lease_path(digest).exists());
    }
}
