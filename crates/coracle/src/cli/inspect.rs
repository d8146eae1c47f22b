//! `coracle inspect`: all that is known of pods.

use serde_json::json;

use super::output::{self, Format};
use super::place::Root;
use super::ps::object;
use crate::local::find;

/// What `coracle inspect` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle inspect web              the Pod with its status, as kubectl get pod -o yaml shows it
  coracle inspect -o json web db   a List of two")]
pub(crate) struct Args {
    /// NAME, NAMESPACE/NAME, or the beginning of a UID
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
    /// In another form
    #[arg(short, long, value_name = "FORM", default_value = "yaml")]
    output: Text,
    #[command(flatten)]
    root: Root,
}

/// The forms that hold everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Text {
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Prints pods.
///
/// # Errors
/// When one can't be found.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let found = find::each(&args.root.open()?, &args.pods)?;
    let mut objects: Vec<_> = found.iter().map(|it| object(&it.record.pod)).collect();
    let value = match objects.len() {
        1 => objects.remove(0),
        _ => json!({"apiVersion": "v1", "kind": "List", "items": objects}),
    };
    let form = match args.output {
        Text::Json => Format::Json,
        Text::Yaml => Format::Yaml,
    };
    output::print(Some(form), &value, Default::default, Vec::new)?;
    Ok(0)
}
