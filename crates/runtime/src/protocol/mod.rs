//! How processes of this binary speak over Unix sockets: frames of JSON with descriptors.
//!
//! It must not know how guests are run: it carries values.

pub(crate) mod blocking;
pub(crate) mod descriptors;
pub(crate) mod frame;
pub(crate) mod message;
pub(crate) mod stream;

#[cfg(test)]
mod tests;
