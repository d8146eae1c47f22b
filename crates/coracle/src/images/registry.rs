//! Images from registries and to them, with the credentials and certificates of whoever asks.

use anyhow::Context;
use image::{Auth, Certificates, PullOptions, Reference};

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
    let runtime = runtime()?;
    // Before the bar: a helper may ask a person for a word on the terminal.
    let access = runtime.block_on(access(name))?;
    let progress = Reporter::with_lines(!quiet).pull(&name.to_string());
    let options = PullOptions {
        progress: progress.reports(),
        platform: platform.map(str::to_owned),
        ..access
    };
    let image = runtime.block_on(images.store.pull(name, &options))?;
    drop(progress);
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

/// Pushes an image, to where its name says or to `destination`, and prints what docker prints of it.
///
/// # Errors
/// When it is not in the store, or the registry does not take it.
pub(crate) fn push(
    images: &Images,
    word: &str,
    destination: Option<&Reference>,
    quiet: bool,
) -> anyhow::Result<u8> {
    let name = images.find(word)?.reference;
    let to = destination.unwrap_or(&name);
    let runtime = runtime()?;
    let access = runtime.block_on(access(to))?;
    let progress = Reporter::with_lines(!quiet).push(&to.to_string());
    let options = PullOptions {
        progress: progress.reports(),
        ..access
    };
    let pushed = runtime.block_on(images.store.push(&name, to, &options, progress.sends()))?;
    drop(progress);
    let line = match quiet {
        true => to.to_string(),
        false => {
            let tag = to.tag().unwrap_or("<none>");
            format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size)
        }
    };
    output::out(output::lines(&[line]).as_bytes())?;
    Ok(0)
}

/// Who asks the registry, and whom it believes.
async fn access(name: &Reference) -> anyhow::Result<PullOptions> {
    Ok(PullOptions {
        credentials: Auth::of_environment().credentials(name).await?,
        certificates: Certificates::of_machine(name)?,
        ..PullOptions::default()
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime for network requests")
}
