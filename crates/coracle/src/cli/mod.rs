//! The command line: what a user may type, and what each command does with it.
//!
//! Decides nothing about pods: a command turns its arguments into a Pod or a configuration and
//! hands it on.

pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod output;
pub(crate) mod place;
pub(crate) mod play;
pub(crate) mod pressure;
pub(crate) mod ps;
pub(crate) mod quantity;
pub(crate) mod run;
pub(crate) mod shell;
pub(crate) mod stats;
pub(crate) mod stdio;
pub(crate) mod stop;
pub(crate) mod wait;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A Kubernetes node for WebAssembly pods.
#[derive(Debug, Parser)]
#[command(name = "coracle", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one image or module on this machine, with no cluster
    Run(Box<run::Args>),
    /// Run the pods of YAML files on this machine, with no cluster
    Play(play::Args),
    /// List the pods of this machine
    Ps(ps::Args),
    /// Print what the guests of a pod said
    Logs(logs::Args),
    /// Run a command in a container that runs
    Exec(exec::Args),
    /// Print what containers use
    Stats(stats::Args),
    /// Print what was told of pods
    Events(events::Args),
    /// Wait until pods have ended, or are ready
    Wait(wait::Args),
    /// End pods, gracefully
    Stop(stop::StopArgs),
    /// Remove pods, their records and their logs
    Rm(stop::RmArgs),
    /// Print all that is known of pods
    Inspect(inspect::Args),
    /// Join a cluster as a node, and run the pods that are bound to it
    Node(Box<node::Args>),
    /// Make, move, list and remove images
    Image(Box<image::Args>),
    /// Fetch an image from its registry, as coracle image pull
    Pull(image::registry::Pull),
    /// Send an image to its registry, as coracle image push
    Push(image::registry::Push),
    /// List the images of the store, as coracle image ls
    Images(image::ls::Args),
    /// Print what makes a shell complete coracle's words
    Completion(shell::Completion),
    /// Print manual pages, or write them into a folder
    Man(shell::Man),
    /// What coracle runs of itself; not for people
    #[command(hide = true, subcommand)]
    Internal(Internal),
}

/// Coracle's own child processes.
#[derive(Debug, Subcommand)]
pub(crate) enum Internal {
    /// Compile one module; speaks through inherited descriptors
    Compile,
    /// Hold pods in the background; speaks through inherited descriptors
    Session,
    /// Hold the pods of files in the background; speaks through inherited descriptors
    Play,
    /// Run guests for an agent; speaks through inherited descriptors
    GuestHost {
        /// The root folder that it serves
        root: PathBuf,
    },
}

/// The folder in which `coracle run` keeps images and code: `$CORACLE_ROOT`, else
/// `$XDG_DATA_HOME/coracle`, else `~/.local/share/coracle`.
///
/// # Errors
/// When none of these variables is set.
pub(crate) fn user_root() -> anyhow::Result<PathBuf> {
    let var = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    var("CORACLE_ROOT")
        .or_else(|| var("XDG_DATA_HOME").map(|d| d.join("coracle")))
        .or_else(|| var("HOME").map(|d| d.join(".local/share/coracle")))
        .ok_or_else(|| {
            anyhow::anyhow!("no folder to keep images in: set CORACLE_ROOT, XDG_DATA_HOME or HOME")
        })
}
