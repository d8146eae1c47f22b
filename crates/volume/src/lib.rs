//! A container's root, made of the layers of its image; and the folders and files that are mounted into it.
//!
//! [`assemble`] gives one descriptor, which is all that a guest host needs: with privilege a *detached* overlay mount,
//! which is nowhere in any namespace and gone when the last copy of the descriptor is closed; without, a copied tree.
//! Nothing of the machine shows through: every name below the root is resolved with `RESOLVE_IN_ROOT`.
//!
//! # What this crate must not know
//! Where layers come from, what runs in a root, Wasmtime, and the API's types: specifications are plain data.

mod copy;
mod error;
mod hosts;
mod inside;
mod memory;
mod overlay;
mod project;
mod remove;
mod root;
mod source;
mod subpath;
mod tmpfs;
mod used;

pub use error::Error;
pub use hosts::{HostAlias, managed_hosts};
pub use project::{FileContent, project};
pub use remove::remove;
pub use root::{Cost, Etc, LayerSpec, Method, MountKind, MountPoint, Root, RootSpec, assemble};
pub use source::{HostPathType, Mounted, empty_dir, host_path};
pub use subpath::sub_path;
pub use tmpfs::{memory_dir, unmount_below};
pub use used::{Used, used};
