//! OCI images: names, pulls, a content-addressed store, unpacked layers, and the module a container starts.
//!
//! ```text
//! Store::open(dir) ─┬─ get(&Reference) ───────────────┐
//!                   ├─ pull(&Reference, &PullOptions) ─┼─► Image { config, layers, … } ─► Image::module(entrypoint) ─► Module
//!                   ├─ import(&Source, name) ──────────┤
//!                   ├─ build(&Build, names) ───────────┘ ◄── push, save, tag
//!                   └─ import_module(path) ─────────────────────────────────────────────────────────────────────► Module
//! ```
//!
//! What a container needs of an image is plain data: its configuration, the folders of its layers (lowest first)
//! with how they mark removed files, and the digest of its module's bytes.
//!
//! # What this crate must not know
//! Kubernetes (it gives reasons as words, it never sees a Pod), Wasmtime (a module is bytes with a digest), and
//! how a root is made of layers.

mod answer;
mod archive;
mod auth;
mod below;
mod blob;
mod build;
mod bundle;
mod certificates;
mod challenge;
mod client;
mod credentials;
mod decompress;
mod digest;
mod error;
mod gc;
mod http;
mod image;
mod import;
mod kind;
mod layer;
mod lease;
mod listing;
mod load;
mod lock;
mod lookup;
mod manifest;
mod module;
mod push;
mod reference;
mod registry;
mod save;
mod source;
mod store;
mod summary;
mod tarball;
mod temp;
mod token;
mod transfer;
mod unpack;
mod upload;
mod wasm;

pub use auth::Auth;
pub use build::{Build, BuildFile};
pub use certificates::Certificates;
pub use credentials::Credentials;
pub use digest::{Digest, DigestError};
pub use error::Error;
pub use gc::{Damage, Freed};
pub use image::{Config, Image, Kind};
pub use import::Source;
pub use layer::{Layer, Limits, Whiteouts};
pub use module::Module;
pub use push::{Delivery, Pushed, Sending, Told};
pub use reference::{Reference, ReferenceError};
pub use registry::{Progress, PullOptions};
pub use save::Format;
pub use store::{Named, Store};
pub use summary::{Details, Summary};
