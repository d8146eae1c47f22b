//! `coracle image build`: an image of a module and files.

use std::path::PathBuf;

use anyhow::bail;
use clap::ValueHint;
use image::{Build, BuildFile, Config, Reference};

use super::{name, open, pair, say};
use crate::cli::output;
use crate::cli::place::Root;

/// What `coracle image build` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle image build -t localhost:5000/app:1 app.wasm             the module, run as it is
  coracle image build -t app app.wasm --copy site:/srv -e PORT=80  a folder's files in /srv, a variable
  coracle image build -t app -w /srv app.wasm -- serve --verbose   arguments that a user may replace
  coracle image build -t app --artifact app.wasm                   a CNCF Wasm artifact: the module alone

The same input gives the same image to the bit: files get the time 1970-01-01 (or SOURCE_DATE_EPOCH),
owner 0, and the mode 0644, or 0755 where they are executable. Text modules (.wat) are assembled. The
image's platform is wasi/wasm, with the annotation module.wasm.image/variant=compat.")]
pub(crate) struct Args {
    /// A name for the image; may be given several times. Left out, it is localhost/MODULE:latest
    #[arg(short, long, value_name = "NAME", value_parser = name)]
    tag: Vec<Reference>,
    /// Put a file, or what is in a folder, into the image
    #[arg(long, value_name = "SRC:DEST", value_parser = copy, value_hint = ValueHint::AnyPath)]
    copy: Vec<BuildFile>,
    /// Set a variable
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Run this in place of the module; FILE.wasm#EXPORT calls an export
    #[arg(long, value_name = "WORD")]
    entrypoint: Option<String>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Who the guest is to be, as a number or name
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Set a label
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Set an annotation of the manifest
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    annotation: Vec<(String, String)>,
    /// Make a CNCF Wasm artifact: the module with no files or settings
    #[arg(long)]
    artifact: bool,
    /// The time that everything in the image gets, in seconds since 1970
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SOURCE_DATE_EPOCH",
        default_value_t = 0
    )]
    timestamp: u64,
    /// Print the image's id alone
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    root: Root,
    /// The module or component, binary or text
    #[arg(value_name = "MODULE", value_hint = ValueHint::FilePath)]
    module: PathBuf,
    /// What it gets for arguments where a user gives none
    #[arg(last = true, value_name = "ARG")]
    args: Vec<String>,
}

fn copy(text: &str) -> Result<BuildFile, String> {
    match text.rsplit_once(':') {
        Some((source, guest)) if !source.is_empty() && guest.starts_with('/') => Ok(BuildFile {
            source: source.into(),
            guest: guest.to_owned(),
        }),
        _ => Err(format!(
            "{text:?} has no absolute path in the image; write SRC:DEST, such as data:/data"
        )),
    }
}

/// Builds, and prints the image's id.
///
/// # Errors
/// When the module is none, a file can't be read, or the store can't be written.
pub(super) fn run(args: Args) -> anyhow::Result<u8> {
    let names = match args.tag.as_slice() {
        [] => vec![own_name(&args.module)?],
        names => names.to_vec(),
    };
    let build = Build {
        module: args.module,
        files: args.copy,
        config: Config {
            entrypoint: args.entrypoint.into_iter().collect(),
            cmd: args.args,
            env: args.env,
            working_dir: args.workdir.unwrap_or_default(),
            user: args.user.unwrap_or_default(),
            labels: args.label.into_iter().collect(),
        },
        annotations: args.annotation.into_iter().collect(),
        artifact: args.artifact,
        created: args.timestamp,
    };
    let built = open(&args.root)?.store.build(&build, &names)?;
    for name in &names {
        say(args.quiet, &format!("Successfully tagged {name}"));
    }
    output::out(format!("{}\n", built.id).as_bytes())?;
    Ok(0)
}

/// `localhost/` and the module's name, as an image name may have it.
fn own_name(module: &std::path::Path) -> anyhow::Result<Reference> {
    let stem = module
        .file_stem()
        .map(|s| s.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default();
    match format!("localhost/{stem}:latest").parse() {
        Ok(name) => Ok(name),
        Err(_) => bail!("{stem:?} can't be an image's name; give it one with -t NAME"),
    }
}
