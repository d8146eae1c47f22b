//! Measures Coracle beside the bare engine, on this machine, in this run: `cargo xtask bench`.
//!
//! Each figure stands beside what it is held against, with what is asked of it and whether that was
//! reached. What is compared is interleaved, so that a busy machine is busy for both.

mod bare;
mod bare_http;
mod checkpoint;
mod density;
mod echo;
mod flood;
mod host;
mod http;
mod layer;
mod node;
mod probes;
mod pull;
mod quota;
mod run;
mod serve;
mod simulator;
mod start;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use measure::{memory, report, stats};

/// Measures Coracle beside the bare engine.
#[derive(Parser)]
#[command(name = "cargo xtask bench", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// All of them, one after the other
    All,
    /// `coracle run` of a cached guest, process start to exit, beside the bare engine as a process
    Run(run::Args),
    /// Everything ready -> the guest's first output, in process, from the code's file
    Start(start::Args),
    /// Memory, descriptors and CPU time of idle pods in one guest host
    Density(density::Args),
    /// 100 bytes there and back beside spinning guests
    Echo(echo::Args),
    /// A guest that logs as fast as it can, beside plain writes of the same bytes
    Flood(flood::Args),
    /// A large layer from a registry of this machine, beside skopeo and tar
    Pull(pull::Args),
    /// CPU time that spinning containers take of what they were given
    Quota(quota::Args),
    /// Requests a second of a server, beside the bare engine with a pool
    Http(http::Args),
    /// What a start waits for its checkpoints, beside plain writes of the same bytes
    Checkpoint(checkpoint::Args),
    /// Memory and CPU time of the agent's workers at rest
    Worker(worker::Args),
    /// CPU time of a node full of probes, beside that of their requests alone
    Probes(probes::Args),
    /// Histories of simulated nodes a second
    Simulator(simulator::Args),
    /// Answer probes, on a port that it says
    #[command(hide = true)]
    Answer,
    /// Pull or unpack once, and say the peak of memory
    #[command(hide = true)]
    PullOnce(pull::OnceArgs),
    /// Run a precompiled module as the bare engine does and nothing else
    #[command(hide = true)]
    BareRun {
        /// What `precompile` wrote.
        code: PathBuf,
    },
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command.unwrap_or(Command::All)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::All => {
            run::measure(&run::Args::default())?;
            start::measure(&start::Args::default())?;
            density::measure(&density::Args::default())?;
            echo::measure(&echo::Args::default())?;
            http::measure(&http::Args::default())?;
            flood::measure(&flood::Args::default())?;
            quota::measure(&quota::Args::default())?;
            checkpoint::measure(&checkpoint::Args::default())?;
            worker::measure(&worker::Args::default())?;
            probes::measure(&probes::Args::default())?;
            simulator::measure(&simulator::Args::default())?;
            pull::measure(&pull::Args::default())?;
        }
        Command::Run(args) => run::measure(&args)?,
        Command::Start(args) => start::measure(&args)?,
        Command::Density(args) => density::measure(&args)?,
        Command::Echo(args) => echo::measure(&args)?,
        Command::Flood(args) => flood::measure(&args)?,
        Command::Quota(args) => quota::measure(&args)?,
        Command::Pull(args) => pull::measure(&args)?,
        Command::PullOnce(args) => pull::process(&args)?,
        Command::Http(args) => http::measure(&args)?,
        Command::Checkpoint(args) => checkpoint::measure(&args)?,
        Command::Worker(args) => worker::measure(&args)?,
        Command::Probes(args) => probes::measure(&args)?,
        Command::Answer => probes::answer()?,
        Command::Simulator(args) => simulator::measure(&args)?,
        Command::BareRun { code } => return bare::process(&code),
    }
    Ok(ExitCode::SUCCESS)
}
