//! `coracle image rm` and `prune`.

use std::io::{BufRead, IsTerminal};

use anyhow::bail;

use super::{open, say};
use crate::cli::output;
use crate::cli::place::Root;
use crate::images::remove;

/// What `coracle image rm` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle image rm localhost:5000/app:1     forget a name, and the image with its last one
  coracle image rm app:1 app:2 3f5a         several, by name or by the beginning of their id
  coracle image rm $(coracle image ls -q)   all of them

Exit codes: 1 where there is no such image, 2 where one is in use, 125 for anything else.")]
pub(crate) struct Args {
    /// Also where the image is in use or has other names; a pod that uses it keeps its files
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    root: Root,
    /// The images, by name or id
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// What `coracle image prune` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle image prune         what no tag names any more
  coracle image prune -a -f   all images that nothing uses, without a question")]
pub(crate) struct Prune {
    /// All images that nothing uses, also those with a tag
    #[arg(short, long)]
    all: bool,
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    root: Root,
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let images = open(&args.root)?;
    let removed = remove::images(&images, &args.images, args.force);
    output::out(output::lines(&removed.lines).as_bytes())?;
    for error in &removed.errors {
        say(false, &format!("coracle: {error}"));
    }
    Ok(removed.code)
}

pub(super) fn prune(args: &Prune) -> anyhow::Result<u8> {
    let images = open(&args.root)?;
    if !args.force && !agreed(args.all)? {
        return Ok(0);
    }
    let pruned = remove::prune(&images, args.all)?;
    let mut lines = pruned.lines;
    lines.push(format!(
        "Total reclaimed space: {}",
        output::bytes(pruned.freed)
    ));
    output::out(output::lines(&lines).as_bytes())?;
    Ok(0)
}

/// Asks, as docker does.
fn agreed(all: bool) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("there is nobody to ask whether to remove images; say -f to remove them unasked");
    }
    let what = match all {
        true => "all images that nothing uses",
        false => "all images that no tag names",
    };
    say(
        false,
        &format!("This will remove {what}.\nAre you sure you want to continue? [y/N] "),
    );
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
