//! `coracle image …`: what a user may say of images. Each command turns its arguments into a call of `images`.

pub(crate) mod archive;
pub(crate) mod build;
pub(crate) mod ls;
pub(crate) mod registry;
pub(crate) mod rm;

use clap::Subcommand;

use super::place::Root;
use crate::images::{self, Images};

/// What `coracle image` takes.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  coracle image build -t localhost:5000/app:1 app.wasm --copy data:/data
  coracle image push localhost:5000/app:1
  coracle image pull localhost:5000/app:1
  coracle image ls
  coracle image save -o app.tar localhost:5000/app:1
  coracle image rm localhost:5000/app:1

An image is named as docker names it: app is docker.io/library/app:latest. Where an image is in the
store already, the beginning of its id names it too."
)]
pub(crate) struct Args {
    /// The command
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an image of a module and files
    Build(Box<build::Args>),
    /// Show all that is known of images, as JSON
    Inspect(ls::Inspect),
    /// Take the images of an archive into the store
    Load(archive::Load),
    /// List the images of the store
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Remove what no tag names and nobody uses
    Prune(rm::Prune),
    /// Fetch an image from its registry
    Pull(registry::Pull),
    /// Send an image to its registry
    Push(registry::Push),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Write images into an archive
    Save(archive::Save),
    /// Give an image another name
    Tag(archive::Tag),
}

/// The images of a root folder.
fn open(root: &Root) -> anyhow::Result<Images> {
    Images::open(&root.open()?)
}

/// Runs the command; gives the exit code.
///
/// # Errors
/// Whatever keeps it from being done.
pub(crate) fn run(args: Args) -> anyhow::Result<u8> {
    match args.command {
        Command::Build(args) => build::run(*args),
        Command::Inspect(args) => ls::inspect(&args),
        Command::Load(args) => archive::load(&args),
        Command::Ls(args) => ls::run(&args),
        Command::Prune(args) => rm::prune(&args),
        Command::Pull(args) => registry::pull(&args),
        Command::Push(args) => registry::push(&args),
        Command::Rm(args) => rm::run(&args),
        Command::Save(args) => archive::save(&args),
        Command::Tag(args) => archive::tag(&args),
    }
}

/// Reads an image's name.
fn name(text: &str) -> Result<image::Reference, String> {
    text.parse()
        .map_err(|e: image::ReferenceError| e.to_string())
}

/// Reads `NAME=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!(
            "{text:?} has no name or no value; write NAME=VALUE"
        )),
    }
}

/// Says on standard error what was done, unless that is not wanted.
fn say(quiet: bool, text: &str) {
    if !quiet {
        images::tell(text);
    }
}
