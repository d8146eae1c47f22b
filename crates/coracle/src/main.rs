//! The binary: command line, configuration, wiring. Knows every crate and decides nothing: what a
//! pod does next is `lifecycle`'s to say, how it is done the hands'.

mod addresses;
mod cli;
mod container;
mod dirs;
mod dns;
mod facts;
mod folder;
mod hands;
mod images;
mod local;
mod machine;
mod manifest;
mod node;
mod objects;
mod outlet;
mod play;
mod program;
mod progress;
mod publish;
mod run;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command, Internal};

/// docker's and podman's code for a failure of their own, which no guest's code is mistaken for as
/// easily as 1, or as the 2 that is usual for a wrong command line.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Where there is nobody to tell, the code tells.
            let _ = error.print();
            // --help and --version are answers, and not errors.
            return ExitCode::from(if error.use_stderr() { FAILED } else { 0 });
        }
    };
    match dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("coracle: {}", program::sentence(error.as_ref()));
            ExitCode::from(FAILED)
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        Command::Run(args) => run::run(*args),
        Command::Play(args) => play::run(&args),
        Command::Ps(args) => cli::ps::run(&args),
        Command::Logs(args) => cli::logs::run(&args),
        Command::Exec(args) => cli::exec::run(&args),
        Command::Stats(args) => cli::stats::run(&args),
        Command::Events(args) => cli::events::run(&args),
        Command::Wait(args) => cli::wait::run(&args),
        Command::Stop(args) => cli::stop::stop(&args),
        Command::Rm(args) => cli::stop::rm(&args),
        Command::Inspect(args) => cli::inspect::run(&args),
        Command::Node(args) => node::run(*args),
        Command::Image(args) => cli::image::run(*args),
        Command::Pull(args) => cli::image::registry::pull(&args),
        Command::Push(args) => cli::image::registry::push(&args),
        Command::Images(args) => cli::image::ls::run(&args),
        Command::Completion(args) => cli::shell::completion(&args),
        Command::Man(args) => cli::shell::man(&args),
        Command::Internal(Internal::Compile) => runtime::compile_child(),
        Command::Internal(Internal::Session) => local::detach::main(),
        Command::Internal(Internal::Play) => play::main(),
        Command::Internal(Internal::GuestHost { root: _ }) => {
            program::log("info");
            runtime::guest_host_main()
        }
    }
}
