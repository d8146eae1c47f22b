//! Histories of simulated nodes a second.

use std::process::Command;
use std::time::Instant;

use anyhow::ensure;

use crate::{host, report};

/// So many are asked for a second.
const TARGET: f64 = 500.0;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many histories
    #[arg(long, default_value_t = 20_000)]
    histories: u32,
    /// The seed of the first
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Default for Args {
    fn default() -> Args {
        Args {
            histories: 20_000,
            seed: 1,
        }
    }
}

pub(crate) fn measure(args: &Args) -> anyhow::Result<()> {
    report::heading("simulator: histories of whole nodes");
    let (one, _) = rate(args, &["--jobs", "1"])?;
    report::row("on one thread", format!("{one:.0} a second"));
    let (all, told) = rate(args, &[])?;
    report::row("it says", told.trim());
    let shown = format!("{all:.0} a second");
    let asked = format!("at least {TARGET} a second");
    report::verdict("on all processors", shown, &asked, all >= TARGET);
    Ok(())
}

/// Histories a second, and what the simulator says of them.
fn rate(args: &Args, words: &[&str]) -> anyhow::Result<(f64, String)> {
    let mut command = Command::new(host::sibling("simulator")?);
    command
        .args(["--histories", &args.histories.to_string()])
        .args(["--seed", &args.seed.to_string()])
        .args(words);
    let begin = Instant::now();
    let output = command.output()?;
    let rate = f64::from(args.histories) / begin.elapsed().as_secs_f64();
    ensure!(
        output.status.success(),
        "a history broke a rule: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((rate, told))
}
