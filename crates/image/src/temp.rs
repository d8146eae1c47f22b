//! Half-made files: each process makes them in a folder of its own, which it holds a lock on while it lives, and
//! renames what is whole to its place. A folder whose lock is free belonged to a process that died, and goes.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, IoContext};

/// This process's folder for half-made things.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
    next: AtomicU64,
    _lock: File,
}

/// The name of a half-made file or folder, removed when dropped unless it was renamed away.
#[derive(Debug)]
pub(crate) struct Temp(PathBuf);

impl Scratch {
    /// Makes the folder in `parent` and locks it.
    pub(crate) fn create(parent: &Path) -> Result<Scratch, Error> {
        loop {
            let dir = parent.join(unique());
            std::fs::create_dir(&dir).at("create", &dir)?;
            let lock = match File::open(&dir) {
                // A cleaner took it between its creation and its lock.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                other => other.at("open", &dir)?,
            };
            flock(&lock, FlockOperation::LockExclusive).at("lock", &dir)?;
            if still_there(&lock, &dir) {
                return Ok(Scratch {
                    dir,
                    next: AtomicU64::new(0),
                    _lock: lock,
                });
            }
        }
    }

    /// A name that nobody else uses; nothing is made there yet.
    pub(crate) fn name(&self, kind: &str) -> Temp {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        Temp(self.dir.join(format!("{kind}-{n}")))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Temp {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let gone = match std::fs::symlink_metadata(&self.0) {
            Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(&self.0),
            Ok(_) => std::fs::remove_file(&self.0),
            Err(_) => return,
        };
        if let Err(error) = gone {
            tracing::warn!(path = %self.0.display(), %error, "a half-made file stays behind until the store is next opened");
        }
    }
}

/// Removes the folders in `parent` whose owners are dead.
pub(crate) fn clean(parent: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(parent).at("read", parent)? {
        let path = entry.at("read", parent)?.path();
        let Ok(lock) = File::open(&path) else {
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err()
            || !still_there(&lock, &path)
        {
            continue;
        }
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "can't remove what a dead process left");
            }
            _ => {}
        }
    }
    Ok(())
}

fn still_there(open: &File, path: &Path) -> bool {
    match (open.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// A name that no process of any PID namespace shares.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    format!(
        "{}-{now:x}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_dead_are_cleaned() {
        let dir = tempfile::tempdir().unwrap();
        let alive = Scratch::create(dir.path()).unwrap();
        std::fs::write(alive.name("blob").path(), b"x").unwrap();
        let dead = dir.path().join("77-0-0");
        std::fs::create_dir_all(dead.join("deep/er")).unwrap();
        clean(dir.path()).unwrap();
        assert!(!dead.exists());
        assert!(alive.dir.exists());
        drop(alive);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_dropped_name_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(dir.path()).unwrap();
        let (file, folder, never) = (scratch.name("f"), scratch.name("d"), scratch.name("n"));
        std::fs::write(file.path(), b"x").unwrap();
        std::fs::create_dir_all(folder.path().join("a")).unwrap();
        drop((file, folder, never));
        assert_eq!(std::fs::read_dir(&scratch.dir).unwrap().count(), 0);
    }
}
