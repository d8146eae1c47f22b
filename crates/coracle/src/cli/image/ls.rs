//! `coracle image ls` and `inspect`.

use super::open;
use crate::cli::output::{self, Format};
use crate::cli::place::Root;
use crate::images::list;

/// What `coracle image ls` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle image ls                       all images
  coracle image ls localhost:5000/app    those of one repository
  coracle image ls -q                    their ids alone
  coracle image ls -o json

The size is that of the image's blobs, as they are stored and moved.")]
pub(crate) struct Args {
    /// Their ids alone
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
    /// Also what no tag names
    #[arg(short, long)]
    all: bool,
    /// Ids in full
    #[arg(long)]
    no_trunc: bool,
    /// In another form
    #[arg(short, long, value_name = "FORM")]
    output: Option<Format>,
    #[command(flatten)]
    root: Root,
    /// A repository, or an image's name
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// What `coracle image inspect` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle image inspect localhost:5000/app:1
  coracle image inspect app | jq '.[0].Config.Entrypoint'")]
pub(crate) struct Inspect {
    #[command(flatten)]
    root: Root,
    /// The images, by name or id
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Lists.
///
/// # Errors
/// When the store can't be read.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let images = open(&args.root)?;
    let rows = list::rows(&images, args.name.as_deref(), args.all)?;
    if args.quiet {
        output::out(output::lines(&list::ids(&rows, args.no_trunc)).as_bytes())?;
        return Ok(0);
    }
    output::print(
        args.output,
        &rows,
        || list::table(&rows, args.no_trunc),
        || list::names(&rows),
    )?;
    Ok(0)
}

pub(super) fn inspect(args: &Inspect) -> anyhow::Result<u8> {
    let images = open(&args.root)?;
    let details = list::inspect(&images, &args.images)?;
    output::out(output::json(&details)?.as_bytes())?;
    Ok(0)
}
