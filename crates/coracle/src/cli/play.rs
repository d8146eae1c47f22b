//! `coracle play`: the pods of YAML files, by the same way as any pod.

use std::path::PathBuf;

use clap::ValueHint;

/// What `coracle play` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle play web.yaml                      its pods, with their logs, until they end or Ctrl-C
  coracle play web.yaml settings.yaml        pods and the ConfigMaps that they refer to
  kubectl get configmap a -o yaml | coracle play web.yaml -
  coracle play -d web.yaml                   in the background; see ps, logs, stop, rm
  coracle play --replace web.yaml            in place of the pods of these names
  coracle play --watch pods/                 what the folder's files say, as they change
  coracle play --down web.yaml               the end of its pods, their records and their logs

Kinds: Pod, ConfigMap, Secret, Deployment (its template, replicas times) and List. Each pod is kept
until coracle rm. The code is 0 if all pods succeeded, else the first failing container's.")]
pub(crate) struct Args {
    /// YAML or JSON files; - for standard input
    #[arg(value_name = "FILE", required_unless_present = "watch", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// Play what this folder's files say, and follow their changes
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) watch: Option<PathBuf>,
    /// In the background; returns once the pods have begun, and prints their names
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Remove pods that have the names of these first, whatever they do
    #[arg(long)]
    pub(crate) replace: bool,
    /// Remove the pods of these files, with their records and logs
    #[arg(long, conflicts_with_all = ["detach", "replace", "watch"])]
    pub(crate) down: bool,
    /// Tell every event of the pods, not only warnings
    #[arg(long)]
    pub(crate) events: bool,
    /// Where images, code, logs and records are kept
    #[arg(long, value_name = "DIR", env = "CORACLE_ROOT", value_hint = ValueHint::DirPath)]
    pub(crate) root_dir: Option<PathBuf>,
    /// No progress of pulls and compiles
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
