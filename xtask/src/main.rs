//! The project's own commands: `cargo xtask demo`, `cargo xtask test` and what they are made of.
//!
//! Each installs or builds what it needs, says what it is doing, and fails with a sentence that says
//! what to do. It must not know how Coracle works inside: it runs cargo, and the tools that
//! [`setup`] installs.

mod boundaries;
mod check;
mod context;
mod demo;
mod e2e;
mod guests;
mod mutants;
mod process;
mod python;
mod setup;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use context::Context;

/// Coracle's set-up, tests, checks and demo.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set everything up and run real pods: Rust, Go and CPython
    Demo,
    /// Set everything up and run every check and test
    Test,
    /// Install what the other commands need; quick when it is there
    Setup,
    /// Build the Wasm programs that tests and examples run, and CPython's image
    Guests,
    /// Run the tests of a real cluster, which is made in network namespaces
    E2e(e2e::Arguments),
    /// Check formatting, lints, licences and the boundaries between crates
    Check,
    /// Run seeded histories of simulated nodes
    Simulate(test::Simulate),
    /// Change lifecycle's code here and there, and see whether its tests notice
    Mutants(mutants::Arguments),
    /// Measure Coracle beside the bare engine, or with `cluster` a node beside KWOK, in release
    Bench {
        /// Passed on to the benchmarks
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    process::end_children_with_us()?;
    let mut context = Context::of_environment()?;
    match command {
        Command::Demo => demo::run(&mut context)?,
        Command::Test => test::run(&mut context)?,
        Command::Setup => setup::everything(&mut context)?,
        Command::Guests => {
            setup::for_guests(&mut context)?;
            guests::build(&mut context)?;
        }
        Command::E2e(arguments) => e2e::run(&mut context, &arguments)?,
        Command::Check => {
            setup::cargo_deny(&mut context)?;
            check::run(&mut context)?;
        }
        Command::Simulate(arguments) => test::simulate(&context, &arguments)?,
        Command::Mutants(arguments) => mutants::run(&mut context, &arguments)?,
        Command::Bench { args } => test::bench(&context, &args)?,
    }
    context.finish()
}
