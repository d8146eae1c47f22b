//! `coracle image pull` and `push`.

use image::Reference;

use super::{name, open};
use crate::cli::place::Root;
use crate::images::registry;

/// What `coracle image pull` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle image pull ghcr.io/user/app:1           from a registry, over HTTPS
  coracle image pull localhost:5000/app:1         from this machine, over HTTPS or plain HTTP
  coracle image pull --platform wasip2/wasm r.example.org/app@sha256:…

Credentials are docker's and podman's: docker login, podman login, and credential helpers. Of an image
for several platforms, that for Wasm is fetched.")]
pub(crate) struct Pull {
    /// Print the image's name alone
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The Wasm platform that the image must be for
    #[arg(long, value_name = "OS/ARCH", value_parser = platform)]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) root: Root,
    /// The image
    #[arg(value_name = "IMAGE", value_parser = name)]
    pub(crate) image: Reference,
}

/// What `coracle image push` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle image push localhost:5000/app:1            to the registry that its name says
  coracle image push app ghcr.io/user/app:1          to another place than its name says

What the registry has already is not sent again. Credentials are docker's and podman's.")]
pub(crate) struct Push {
    /// Print the image's name alone
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) root: Root,
    /// The image, by name or id
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Where it goes; left out, where its name says
    #[arg(value_name = "DESTINATION", value_parser = name)]
    pub(crate) destination: Option<Reference>,
}

/// Only platforms of Wasm can be had: anything else would be fetched in vain.
fn platform(text: &str) -> Result<String, String> {
    const KNOWN: [&str; 4] = ["wasi/wasm", "wasi/wasm32", "wasip1/wasm", "wasip2/wasm"];
    match KNOWN.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{text:?} does not run here, only Wasm does: {}",
            KNOWN.join(", ")
        )),
    }
}

/// Pulls.
///
/// # Errors
/// When the registry does not give the image, or it can't run here.
pub(crate) fn pull(args: &Pull) -> anyhow::Result<u8> {
    registry::pull(
        &open(&args.root)?,
        &args.image,
        args.platform.as_deref(),
        args.quiet,
    )
}

/// Pushes.
///
/// # Errors
/// When the image is not in the store, or the registry does not take it.
pub(crate) fn push(args: &Push) -> anyhow::Result<u8> {
    registry::push(
        &open(&args.root)?,
        &args.image,
        args.destination.as_ref(),
        args.quiet,
    )
}
