//! Images from registries and to them, with the credentials and certificates of whoever asks.

use anyhow::{Context, bail};
use image::{PullOptions, Reference};

use super::Images;
use crate::cli::output;
use crate::progress::Reporter;

/// Pulls an image, and prints what docker prints of it.
///
/// # Errors
/// When the registry does not give it, it can't run here, or is not of the `platform` that was asked for.
pub(crate) fn pull(
    images: &Images,
    name: &Reference,
    platform: Option<&str>,
    quiet: bool,
) -> anyhow::Result<u8> {
    let before = images.store.details(name)?.map(|d| d.summary.digest);
    let progress = Reporter::with_lines(!quiet).pull(&name.to_string());
    let options = PullOptions {
        progress: progress.reports(),
        ..PullOptions::default()
    };
    let image = runtime()?.block_on(images.store.pull(name, &options))?;
    drop(progress);
    if let Some(platform) = platform {
        let details = images.store.details(name)?;
        let found = details.map_or_else(String::new, |d| d.summary.platform);
        if found != platform {
            bail!(
                "{name} is for {found}, not {platform}; leave --platform out to take what there is"
            );
        }
    }
    let mut lines = Vec::new();
    if !quiet {
        lines.push(format!("Digest: {}", image.digest));
        lines.push(match before == Some(image.digest) {
            true => format!("Status: Image is up to date for {name}"),
            false => format!("Status: Downloaded newer image for {name}"),
        });
    }
    lines.push(name.to_string());
    output::out(output::lines(&lines).as_bytes())?;
    Ok(0)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime for network requests")
}
