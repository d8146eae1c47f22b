//! `coracle run` of a cached guest, process start to exit.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use guests::Guest;

use crate::stats::Series;
use crate::{bare, host, report};

/// How many times the bare engine's time a run may take.
const TARGET: f64 = 2.0;

/// What is not counted: the first of each reads files from the disk.
const WARM_UP: u32 = 5;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many pairs of processes
    #[arg(long, default_value_t = 100)]
    pairs: u32,
}

impl Default for Args {
    fn default() -> Args {
        Args { pairs: 100 }
    }
}

pub(crate) fn measure(args: &Args) -> anyhow::Result<()> {
    report::heading("run: process start to exit");
    for (name, guest) in [
        ("tiny (WAT hello)", Guest::WatHello),
        ("Rust hello", Guest::RustHello),
    ] {
        compare(name, &guests::path(guest)?, args.pairs)?;
    }
    Ok(())
}

fn compare(name: &str, module: &Path, pairs: u32) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let code = folder.path().join("bare.cwasm");
    bare::precompile(module, &code)?;
    let root = folder.path().join("root");
    let (coracle, bench) = (host::sibling("coracle")?, std::env::current_exe()?);
    let ours = |command: &mut Command| {
        command
            .args(["run", "--quiet", "--root-dir"])
            .arg(&root)
            .arg(module);
    };
    let theirs = |command: &mut Command| {
        command.arg("bare-run").arg(&code);
    };
    let (mut of_ours, mut of_theirs) = (Vec::new(), Vec::new());
    for pair in 0..pairs + WARM_UP {
        let (one, other) = (once(&coracle, ours)?, once(&bench, theirs)?);
        if pair >= WARM_UP {
            of_ours.push(one);
            of_theirs.push(other);
        }
    }
    let (of_ours, of_theirs) = (Series::of(of_ours), Series::of(of_theirs));
    report::row(&format!("{name}, coracle run"), &of_ours);
    report::row(&format!("{name}, the bare engine"), &of_theirs);
    let ratio = of_ours.ratio(&of_theirs);
    let shown = format!("{ratio:.2} x");
    report::verdict(
        &format!("{name}, ratio"),
        shown,
        "at most 2 x",
        ratio <= TARGET,
    );
    Ok(())
}

/// Runs a process to its end, its output thrown away.
fn once(program: &PathBuf, arguments: impl Fn(&mut Command)) -> anyhow::Result<Duration> {
    let mut command = Command::new(program);
    arguments(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let begin = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("{}", program.display()))?;
    let took = begin.elapsed();
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(took)
}
