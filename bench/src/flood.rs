//! A guest that writes to its log as fast as it can, 64 KiB at a write, beside plain `write(2)` of
//! the same bytes to a file in the same folder. The log is formatted, rotated and compressed as
//! `coracle node` has it; the file is none of it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use guests::Guest;
use runtime::{Local, LocalConfig};

use crate::stats::Series;
use crate::{host, report};

/// Bytes of a second that are asked for.
const TARGET: f64 = 200e6;

/// Bytes of one write.
const BLOCK: usize = 64 << 10;

/// Bytes of a line, as the guest has them.
const LINE: usize = 1024;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// MiB that are written in each round
    #[arg(long, default_value_t = 512)]
    mib: u32,
    /// How many rounds of each, interleaved
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

impl Default for Args {
    fn default() -> Args {
        Args {
            mib: 512,
            rounds: 5,
        }
    }
}

pub(crate) fn measure(args: &Args) -> anyhow::Result<()> {
    report::heading("flood: a guest that logs as fast as it can, 64 KiB at a write");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let folder = tempfile::tempdir()?;
    let module = host::module(Guest::RustFlooder)?;
    let code = runtime.block_on(host::compile(&folder.path().join("code"), &module))?;
    let local = Local::new(LocalConfig::default())?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..args.rounds.max(1) {
        let place = folder.path().join(round.to_string());
        std::fs::create_dir(&place)?;
        theirs.push(plain(&place, args.mib)?);
        ours.push(runtime.block_on(logged(&local, &code, round, &place, args.mib))?);
        std::fs::remove_dir_all(&place)?;
    }
    let (ours, theirs) = (Series::of(ours), Series::of(theirs));
    let speed =
        |series: &Series| f64::from(args.mib) * f64::from(1 << 20) / series.median().as_secs_f64();
    report::row(
        "plain write(2) to a file",
        format!("{:.0} MB/s", speed(&theirs) / 1e6),
    );
    report::verdict(
        "a flooding guest's log",
        format!("{:.0} MB/s", speed(&ours) / 1e6),
        "at least 200 MB/s",
        speed(&ours) >= TARGET,
    );
    Ok(())
}

/// From the guest's start to its end, by when all of it is in the page cache.
async fn logged(
    local: &Local,
    code: &std::os::fd::OwnedFd,
    round: u32,
    place: &Path,
    mib: u32,
) -> anyhow::Result<Duration> {
    let mut spec = host::spec(round);
    spec.args = vec!["flooder".to_owned(), mib.to_string(), "64".to_owned()];
    spec.log = Some(host::log());
    let mut fds = host::fds(code, host::root(&place.join("root"))?)?;
    let logs = place.join("logs");
    std::fs::create_dir(&logs)?;
    fds.log_dir = Some(host::folder(&logs)?);
    let id = spec.id.clone();
    let mut events = local.events();
    let begin = Instant::now();
    local.start(spec, fds).await?;
    let exited = events.next().await.context("the guest host is gone")?;
    let took = begin.elapsed();
    ensure!(
        exited.id == id && exited.code == 0,
        "the flooder ended with {}: {}",
        exited.code,
        exited.message
    );
    local.forget(&id)?;
    Ok(took)
}

/// The same bytes, by the plainest of programs.
fn plain(place: &Path, mib: u32) -> anyhow::Result<Duration> {
    let mut line = vec![b'.'; LINE - 1];
    line.push(b'\n');
    let block = line.repeat(BLOCK / LINE);
    let mut file = File::create(place.join("plain"))?;
    let begin = Instant::now();
    for _ in 0..(mib as usize * ((1 << 20) / BLOCK)) {
        file.write_all(&block)?;
    }
    Ok(begin.elapsed())
}
