//! Compresses rotated files, apart from the writer.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::civil::DateTime;
use rustix::fs::OFlags;

use crate::files::Files;

/// What a writer and its compression share.
pub(crate) struct Shared {
    pub(crate) files: Files,
    /// Held while the set of rotated files changes, so that nothing that was pruned comes back.
    names: Mutex<()>,
    busy: AtomicBool,
}

impl Shared {
    pub(crate) fn new(files: Files) -> Shared {
        Shared {
            files,
            names: Mutex::new(()),
            busy: AtomicBool::new(false),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work for a thread that may be slow: compress what was rotated, but for the newest file, which a
/// log shipper may still be reading. At most one is there for each writer; dropping it is harmless.
#[must_use = "rotated files stay uncompressed until this runs"]
pub struct Compress(Arc<Shared>);

impl Compress {
    pub(crate) fn new(shared: &Arc<Shared>) -> Option<Compress> {
        (!shared.busy.swap(true, Ordering::AcqRel)).then(|| Compress(Arc::clone(shared)))
    }

    /// Compresses until nothing is left to compress. Blocks.
    ///
    /// # Errors
    /// A file could not be compressed, as on a full disk: it stays as it was, and is tried again
    /// after the next rotation.
    pub fn run(self) -> io::Result<()> {
        while self.step()? {}
        Ok(())
    }

    /// Compresses one file, the oldest; false if there was none. For who has several logs to
    /// compress, of which one may be flooded. Blocks.
    ///
    /// # Errors
    /// As [`Compress::run`].
    pub fn step(&self) -> io::Result<bool> {
        let Some(name) = self.candidate()? else {
            return Ok(false);
        };
        let done = compress(&self.0, name);
        if done.is_err() {
            // The first error is the one to tell; a leftover is removed at the next open.
            let _ = self.0.files.remove(&self.0.files.temporary(name));
        }
        done.map(|()| true)
    }

    fn candidate(&self) -> io::Result<Option<DateTime>> {
        let listing = self.0.files.list()?;
        let older = listing.rotated.iter().rev().skip(1);
        Ok(older
            .filter(|(_, forms)| forms.plain && !forms.gz)
            .map(|(name, _)| *name)
            .next_back())
    }
}

impl Drop for Compress {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

fn compress(shared: &Shared, name: DateTime) -> io::Result<()> {
    let files = &shared.files;
    let (plain, temporary, gz) = (files.plain(name), files.temporary(name), files.gz(name));
    let mut from = match files.open(&plain, OFlags::RDONLY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()), // pruned meanwhile
        other => other?,
    };
    let to = files.open(&temporary, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
    let mut encoder = GzEncoder::new(to, Compression::fast());
    io::copy(&mut from, &mut encoder)?;
    // The plain file goes next: a power cut must not leave neither.
    encoder.finish()?.sync_data()?;
    let _names = shared.lock();
    if files
        .list()?
        .rotated
        .get(&name)
        .is_none_or(|forms| !forms.plain)
    {
        return files.remove(&temporary);
    }
    files.rename(&temporary, &gz)?;
    files.remove(&plain)
}
