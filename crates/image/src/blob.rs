//! Blobs on their way into the store: hashed as they are written, renamed to their digest when whole.

use std::fs::File;
use std::io::{Read, Write};

use crate::digest::{Digest, Hashing};
use crate::error::{Error, IoContext};
use crate::store::Store;
use crate::temp::Temp;

const CHUNK: usize = 128 << 10;

/// What the bytes have to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
}

/// A blob being written. Dropped before its commit, it leaves nothing.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    store: Store,
    file: Hashing<File>,
    temp: Temp,
    what: String,
    expected: Option<Expected>,
}

impl BlobWriter {
    /// Begins a blob. `what` names it in errors, e.g. `layer sha256:…`.
    pub(crate) fn create(
        store: &Store,
        what: &str,
        expected: Option<Expected>,
    ) -> Result<BlobWriter, Error> {
        let temp = store.temp("blob")?;
        let file = File::create_new(temp.path()).at("create", temp.path())?;
        Ok(BlobWriter {
            store: store.clone(),
            file: Hashing::new(file),
            temp,
            what: what.to_owned(),
            expected,
        })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// `Mismatch` as soon as there are more bytes than promised; `Io` for a full disk.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let after = self.file.count() + bytes.len() as u64;
        if let Some(expected) = self.expected.filter(|e| after > e.size) {
            return Err(Error::Mismatch {
                what: format!("size of {}", self.what),
                expected: format!("{} bytes", expected.size),
                actual: "more".to_owned(),
            });
        }
        self.file.write_all(bytes).at("write", self.temp.path())
    }

    /// Appends all that `reader` has. `path` names the reader's file in errors.
    pub(crate) fn copy(
        &mut self,
        reader: &mut dyn Read,
        path: &std::path::Path,
    ) -> Result<(), Error> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = match reader.read(&mut buffer) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.at("read", path)?,
            };
            match buffer.get(..n) {
                Some(read) if n > 0 => self.write(read)?,
                _ => return Ok(()),
            }
        }
    }

    /// Checks size and digest, makes the bytes durable and visible.
    pub(crate) fn commit(self) -> Result<Expected, Error> {
        let (file, digest, size) = self.file.finish();
        if let Some(expected) = self.expected {
            if size != expected.size {
                return Err(Error::size(
                    format!("size of {}", self.what),
                    expected.size,
                    size,
                ));
            }
            if digest != expected.digest {
                return Err(Error::digest(
                    format!("digest of {}", self.what),
                    expected.digest,
                    digest,
                ));
            }
        }
        // A crash of the machine must not leave a name without its bytes: names are trusted ever after.
        file.sync_data().at("sync", self.temp.path())?;
        let path = self.store.blob_path(digest);
        std::fs::rename(self.temp.path(), &path).at("rename", &path)?;
        Ok(Expected { digest, size })
    }
}

impl Store {
    /// Stores bytes that are at hand.
    pub(crate) fn put(&self, what: &str, bytes: &[u8]) -> Result<Expected, Error> {
        let expected = Expected {
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
        };
        if self.has_blob(expected) {
            return Ok(expected);
        }
        let mut writer = BlobWriter::create(self, what, Some(expected))?;
        writer.write(bytes)?;
        writer.commit()
    }

    /// Whether the blob is there, by name and size.
    pub(crate) fn has_blob(&self, expected: Expected) -> bool {
        std::fs::metadata(self.blob_path(expected.digest))
            .is_ok_and(|m| m.is_file() && m.len() == expected.size)
    }
}
