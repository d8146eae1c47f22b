//! Whether a file is still the file it was, and the machine on the same boot.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What changes with a file, its owner's `utimes` apart: nobody sets the ctime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) size: u64,
    mtime: (i64, u64),
    ctime: (i64, u64),
}

impl Stamp {
    #[allow(
        clippy::unnecessary_cast,
        reason = "the fields' types differ from one architecture to the next"
    )]
    pub(super) fn of(stat: &Stat) -> Stamp {
        Stamp {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: stat.st_size as u64,
            mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
        }
    }
}

/// The kernel's name for this boot; `None` where /proc does not tell.
pub(super) fn boot_id() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    BOOT.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned())
    })
    .as_deref()
}

/// Names a compiler on this machine: the binary, how it is called, and the boot, since the machine
/// may come back with another CPU. The same identity computes the same key.
pub(super) fn identity(exe: &Path, args: &[OsString]) -> io::Result<String> {
    let stamp = Stamp::of(&rustix::fs::stat(exe)?);
    let mut hasher = Sha256::new();
    hasher.update(serde_json::to_vec(&(stamp, boot_id()))?);
    for arg in args {
        hasher.update((arg.len() as u64).to_le_bytes());
        hasher.update(arg.as_bytes());
    }
    Ok(hex::encode(hasher.finalize()))
}
