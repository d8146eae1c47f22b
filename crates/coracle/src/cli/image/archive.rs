//! `coracle image save`, `load` and `tag`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{ValueEnum, ValueHint};
use image::{Format, Reference};

use super::{name, open};
use crate::cli::output;
use crate::cli::place::Root;
use crate::images::archive as archives;

/// What `coracle image save` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle image save -o app.tar localhost:5000/app:1
  coracle image save app:1 app:2 | ssh host coracle image load
  coracle image save --format docker-archive -o app.tar app   for tools that read docker's alone")]
pub(crate) struct Save {
    /// The archive; left out, standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// What the archive looks like inside
    #[arg(long, value_name = "FORMAT", default_value = "oci-archive")]
    format: Form,
    #[command(flatten)]
    root: Root,
    /// The images, by name or id
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// podman's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// An OCI layout in a tar, which podman, docker, containerd and skopeo read
    OciArchive,
    /// What `docker save` wrote of old
    DockerArchive,
}

/// What `coracle image load` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle image load -i app.tar     an oci-archive, or what docker save or podman save wrote
  gunzip -c app.tar.gz | coracle image load")]
pub(crate) struct Load {
    /// The archive, or the folder of an OCI layout; left out, standard input
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    input: Option<PathBuf>,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    root: Root,
}

/// What `coracle image tag` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle image tag app:1 localhost:5000/app:1
  coracle image tag 3f5a app:latest app:stable")]
pub(crate) struct Tag {
    #[command(flatten)]
    root: Root,
    /// The image, by name or id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Its new names; what had one of them loses it
    #[arg(value_name = "NAME", required = true, value_parser = name)]
    names: Vec<Reference>,
}

pub(super) fn save(args: &Save) -> anyhow::Result<u8> {
    let format = match args.format {
        Form::OciArchive => Format::OciArchive,
        Form::DockerArchive => Format::DockerArchive,
    };
    let images = open(&args.root)?;
    match &args.output {
        Some(path) if path != Path::new("-") => {
            archives::save(&images, &args.images, format, path)?
        }
        _ if std::io::stdout().is_terminal() => {
            bail!("an archive is nothing for a terminal; say -o FILE, or redirect the output")
        }
        _ => archives::save_to_stdout(&images, &args.images, format)?,
    }
    Ok(0)
}

pub(super) fn load(args: &Load) -> anyhow::Result<u8> {
    let input = args.input.as_deref().filter(|path| *path != Path::new("-"));
    if input.is_none() && std::io::stdin().is_terminal() {
        bail!("no archive; say -i FILE, or redirect the input");
    }
    let loaded = archives::load(&open(&args.root)?, input)?;
    let lines: Vec<String> = loaded
        .iter()
        .map(|image| format!("Loaded image: {}", image.name))
        .collect();
    if !args.quiet {
        output::out(output::lines(&lines).as_bytes())?;
    }
    Ok(0)
}

pub(super) fn tag(args: &Tag) -> anyhow::Result<u8> {
    let images = open(&args.root)?;
    let found = images.find(&args.image)?;
    images.store.tag(&found.reference, &args.names)?;
    Ok(0)
}
