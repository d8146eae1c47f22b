//! The file-system layer: one tree a container, which preview1 and preview2 both stand on.
//!
//! A [`Root`] is what a `chroot` with mounts would be: `/` is the container's root, absolute
//! links start there, `..` never leaves it, and a [`Mount`] covers what lies below its mount
//! point. It is built from descriptors alone, needs no mount namespace and no privilege, and
//! each step of a resolution is confined by the kernel (`openat2`, or an `openat` of one
//! component that doesn't follow), so a race can make a resolution miss, never leave the tree.
//!
//! Every function here may wait for a disk: call it through [`crate::Blocking`].
//!
//! This module must not know of WASI, of Wasmtime, or of tokio. Its errors are the kernel's
//! ([`Errno`]), which both worlds translate.

mod dir;
mod file;
mod mount;
mod open;
mod ops;
mod resolve;
mod stat;
mod tree;
mod walk;

#[cfg(test)]
mod mount_tests;
#[cfg(test)]
mod ops_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod resolve_tests;

pub use dir::{Dir, DirEntry};
pub use file::{Advice, File, SeekFrom};
pub use mount::{Mount, MountError};
pub use open::{OpenOptions, Opened};
pub use rustix::io::Errno;
pub use stat::{FileKind, SetTime, Stat, Time};
pub use tree::Root;

/// A result whose error is the kernel's own.
pub type Result<T> = std::result::Result<T, Errno>;

/// The longest path a guest may hand over, in bytes: Linux' `PATH_MAX` without its NUL.
pub const PATH_BYTES: usize = 4095;

/// The longest name of one entry, in bytes: Linux' `NAME_MAX`.
pub const NAME_BYTES: usize = 255;

/// Symbolic links followed in one resolution before it is `ELOOP`, as in Linux (path_resolution(7)).
pub const LINKS: u32 = 40;

/// Folders that one resolution by components may hold open. The kernel's own walk holds none, so
/// this bounds only paths through links out of a folder, or through mounts: `ENAMETOOLONG` past it.
pub const DEPTH: usize = 256;

/// The most bytes that one read, write or listing moves, and so what the host allocates for it.
/// Callers loop.
pub const IO_BYTES: usize = 128 * 1024;
