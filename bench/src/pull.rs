//! A large layer from a registry of this machine: fetched and verified beside `skopeo copy` to an OCI layout, and
//! unpacked beside `tar`.
//!
//! Ours is a process of its own for each measurement, so that its peak of memory is the pull's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use image::{PullOptions, Reference, Store};

use crate::layer::{self, Layer};
use crate::report;
use crate::serve::Server;
use crate::stats::Series;

/// How many times its peer's time each may take.
const TARGET: f64 = 1.2;
/// The most memory a pull may ever have, MiB.
const MEMORY: u64 = 64;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The layer's size, compressed, in MiB
    #[arg(long, default_value_t = 500)]
    size: u64,
    /// How many times each is measured, in turns
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

impl Default for Args {
    fn default() -> Args {
        Args {
            size: 500,
            rounds: 5,
        }
    }
}

/// What one process of ours does.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Work {
    /// Pulls an image.
    Pull,
    /// Unpacks the layers of one that is there.
    Unpack,
}

#[derive(clap::Args)]
pub(crate) struct OnceArgs {
    work: Work,
    /// The store's folder.
    store: PathBuf,
    /// The image.
    name: Reference,
}

#[derive(Default)]
struct Times {
    fetch: Vec<Duration>,
    skopeo: Vec<Duration>,
    unpack: Vec<Duration>,
    tar: Vec<Duration>,
    whole: Vec<Duration>,
    /// KiB.
    peak: u64,
}

pub(crate) fn measure(args: &Args) -> anyhow::Result<()> {
    report::heading("pull: a layer from a registry of this machine");
    let has_skopeo = match skopeo() {
        Ok(()) => true,
        Err(reason) => {
            report::row("skopeo copy", format!("left out: {reason:#}"));
            false
        }
    };
    let folder = tempfile::tempdir()?;
    let layer = layer::make(folder.path(), args.size << 20)?;
    report::row(
        "the layer",
        format!(
            "{} MiB, of {} MiB of tar",
            layer.size >> 20,
            layer.tar_size >> 20
        ),
    );
    let server = Server::start(&layer)?;
    let mut times = Times::default();
    for _ in 0..args.rounds {
        round(folder.path(), &layer, &server, has_skopeo, &mut times)?;
    }
    show(times, has_skopeo);
    Ok(())
}

fn round(
    folder: &Path,
    layer: &Layer,
    server: &Server,
    has_skopeo: bool,
    times: &mut Times,
) -> anyhow::Result<()> {
    let blob = format!("{}/blob:v1", server.address);
    if has_skopeo {
        let target = fresh(&folder.join("skopeo"))?;
        let (from, to) = (
            format!("docker://{blob}"),
            format!("oci:{}:v1", target.display()),
        );
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--src-tls-verify=false", &from, &to]);
        times.skopeo.push(run(&mut command)?);
    }
    let store = fresh(&folder.join("store"))?;
    times
        .fetch
        .push(once("pull", &store, &blob, &mut times.peak)?);

    let store = fresh(&folder.join("store"))?;
    let files = format!("{}/files:v1", server.address);
    times
        .whole
        .push(once("pull", &store, &files, &mut times.peak)?);
    std::fs::remove_dir_all(store.join("layers"))?;
    std::fs::create_dir(store.join("layers"))?;
    times
        .unpack
        .push(once("unpack", &store, &files, &mut times.peak)?);
    fresh(&store)?;

    let target = fresh(&folder.join("tar"))?;
    let mut command = Command::new("tar");
    command.arg("-xzf").arg(&layer.path).arg("-C").arg(&target);
    times.tar.push(run(&mut command)?);
    fresh(&target)?;
    Ok(())
}

fn show(times: Times, has_skopeo: bool) {
    let held = |name: &str, ours: &Series, theirs: &Series| {
        let ratio = ours.ratio(theirs);
        let shown = format!("{ratio:.2} x");
        report::verdict(name, shown, "at most 1.2 x", ratio <= TARGET);
    };
    let (fetch, unpack) = (Series::of(times.fetch), Series::of(times.unpack));
    let (skopeo, tar) = (Series::of(times.skopeo), Series::of(times.tar));
    report::row("ours: fetched and verified", &fetch);
    if has_skopeo {
        report::row("skopeo copy to an OCI layout", &skopeo);
        held("fetch, ratio", &fetch, &skopeo);
    }
    report::row("ours: unpacked", &unpack);
    report::row("tar -xzf", &tar);
    held("unpack, ratio", &unpack, &tar);
    report::row(
        "ours: fetched, verified and unpacked",
        Series::of(times.whole),
    );
    let mib = times.peak.div_ceil(1024);
    report::verdict(
        "peak memory of a pull",
        format!("{mib} MiB"),
        &format!("at most {MEMORY} MiB"),
        mib <= MEMORY,
    );
}

/// Is there, or is installed where that is possible.
fn skopeo() -> anyhow::Result<()> {
    let found = || Command::new("skopeo").arg("--version").output();
    if found().is_ok() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!("it is not installed (apt-get install skopeo), and only root can");
    }
    let install = [
        "install",
        "--yes",
        "--quiet",
        "--no-install-recommends",
        "skopeo",
    ];
    run(Command::new("apt-get").args(install)).context("it is not installed, and can't be")?;
    found().map(|_| ()).context("it is not there")
}

/// An empty folder in place of whatever is there.
fn fresh(folder: &Path) -> anyhow::Result<PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir(folder)?;
    Ok(folder.to_owned())
}

/// Runs a peer to its end.
fn run(command: &mut Command) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{command:?}"))?;
    let took = begin.elapsed();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        said.trim()
    );
    Ok(took)
}

/// Runs ours to its end, and takes over its peak of memory.
fn once(work: &str, store: &Path, name: &str, peak: &mut u64) -> anyhow::Result<Duration> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["pull-once", work]).arg(store).arg(name);
    let begin = Instant::now();
    let output = command.stderr(Stdio::inherit()).output()?;
    let took = begin.elapsed();
    ensure!(
        output.status.success(),
        "{command:?} ended with {}",
        output.status
    );
    let said = String::from_utf8(output.stdout)?;
    *peak = (*peak).max(said.trim().parse().context("no figure of memory")?);
    Ok(took)
}

/// The process of [`once`]: does its work and says its peak of memory, KiB.
pub(crate) fn process(args: &OnceArgs) -> anyhow::Result<()> {
    let store = Store::open(&args.store)?;
    match args.work {
        Work::Pull => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(store.pull(&args.name, &PullOptions::default()))?;
        }
        Work::Unpack => {
            let image = store.get(&args.name)?;
            image.context("the store has no such image")?;
        }
    }
    println!("{}", crate::memory::peak(std::process::id())?);
    Ok(())
}
