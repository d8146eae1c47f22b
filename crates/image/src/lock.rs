//! Locks between processes and tasks: one `flock` on a file of its own, released by the kernel when its holder dies.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, IoContext};

/// A held lock; dropped, it is free.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "held for its drop")] File);

impl Lock {
    /// Waits for the lock for oneself. Blocks the thread.
    pub(crate) fn exclusive(path: &Path) -> Result<Lock, Error> {
        Lock::take(path, FlockOperation::LockExclusive)
    }

    /// Waits for a lock that others may share. Blocks the thread.
    pub(crate) fn shared(path: &Path) -> Result<Lock, Error> {
        Lock::take(path, FlockOperation::LockShared)
    }

    fn take(path: &Path, operation: FlockOperation) -> Result<Lock, Error> {
        let file = open(path)?;
        loop {
            match flock(&file, operation) {
                Err(rustix::io::Errno::INTR) => {}
                result => return result.at("lock", path).map(|()| Lock(file)),
            }
        }
    }
}

fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .at("open", path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Lock::exclusive(&path).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || {
            let _lock = Lock::exclusive(&path).unwrap();
            sender.send(()).unwrap();
        });
        assert!(receiver.try_recv().is_err());
        drop(held);
        receiver.recv().unwrap();
        waiter.join().unwrap();
    }
}
