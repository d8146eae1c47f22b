//! Preview1: `wasi_snapshot_preview1` with one table of descriptors.
//!
//! Where the interface leaves room, it behaves as Linux does in a container: the root is `/`,
//! absolute paths start there, errors are the kernel's, and descriptors are the lowest free ones.
//! A pointer out of the guest's memory, and a value that is none of its type's, are traps; what a
//! guest asks for is never what the host allocates (see [`memory`]).
//!
//! This module must not know how a guest is run, limited or logged.

mod clock;
mod ctx;
mod dir;
mod errno;
mod fdstat;
mod file;
mod host;
mod memory;
mod path;
mod poll;
mod sock;
mod table;
mod turn;

#[cfg(test)]
mod tests;

pub use ctx::Ctx;

use wasmtime::Linker;

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wiggle::from_witx!({
        witx: ["witx/wasi_snapshot_preview1.witx"],
        async: {
            wasi_snapshot_preview1::{
                fd_advise, fd_allocate, fd_close, fd_datasync, fd_filestat_get,
                fd_filestat_set_size, fd_filestat_set_times, fd_pread, fd_pwrite, fd_read,
                fd_readdir, fd_renumber, fd_seek, fd_sync, fd_write, path_create_directory,
                path_filestat_get, path_filestat_set_times, path_link, path_open, path_readlink,
                path_remove_directory, path_rename, path_symlink, path_unlink_file, poll_oneoff,
                random_get, sock_accept, sock_recv, sock_send
            }
        },
        errors: { errno => trappable Error },
    });

    impl wiggle::GuestErrorType for types::Errno {
        fn success() -> Self {
            Self::Success
        }
    }
}

use bindings::{types, wasi_snapshot_preview1};

/// A result whose error is an errno for the guest, or a trap.
type Result<T, E = types::Error> = std::result::Result<T, E>;

/// Adds all of `wasi_snapshot_preview1` to `linker`. `get` finds the guest's [`Ctx`] in its store.
///
/// A guest that exits returns the error [`crate::Exit`] from its call.
///
/// # Errors
/// A function of that name is in `linker` already.
pub fn add_p1<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: impl Fn(&mut T) -> &mut Ctx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    wasi_snapshot_preview1::add_to_linker(linker, get)
}
