//! Container logs on disk, in the format and under the names that the kubelet uses.
//!
//! A container's folder holds `<attempt>.log` and what was rotated away from it:
//! `<attempt>.log.<YYYYMMDD-HHMMSS>`, the older ones as `….gz`. One line a record:
//! `<RFC3339Nano> stdout|stderr F|P <text>`; `P` marks text that its newline has not ended yet.
//!
//! The [`Writer`] is also the rotator, so no flood outruns it, and it works on nothing but a folder's
//! descriptor. It never buffers: when [`Writer::write`] returns, the bytes are in the page cache.
//! On a full disk the guest waits; nothing is dropped. The [`Reader`] reads across rotated files.
//!
//! Must not know: tokio, pods, what a guest is, where the folders are.

mod compress;
mod files;
mod lines;
mod reader;
mod record;
mod snapshot;
mod tail;
mod watch;
mod writer;

pub use compress::Compress;
pub use reader::{Next, Notes, Options, ReadError, Reader};
pub use record::Stream;
pub use watch::Ender;
pub use writer::{OpenError, Policy, WriteCause, WriteError, Writer};

/// Removes a run's log, with all that was rotated away from it. One that is not there is no error.
///
/// # Errors
/// The folder can't be read or a file in it can't be removed.
pub fn remove(dir: std::os::fd::OwnedFd, stem: &str) -> std::io::Result<()> {
    files::Files::new(dir, stem)?.remove_all()
}
