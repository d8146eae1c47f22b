//! A guest's standard streams: what comes in from a host's descriptor, and where output goes.
//!
//! This module must not know of logs, of WASI, or of what a terminal looks like.

mod input;
mod output;

pub use crate::pollable::StdioError;
pub use input::Stdin;
pub use output::{HostSink, NullSink, OutSink};
