//! Root and network ready -> the guest's first instruction, in this process, from the file of the
//! code: nothing of it is loaded.
//!
//! The first instruction itself can't be seen from outside. What is seen is the start's answer,
//! before it, and the first byte of output, after it; for Go that is after its runtime has set
//! itself up. The figure asked for lies between, and the later of the two is held to it.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use guests::Guest;
use runtime::{Events, GuestFds, Local, LocalConfig};
use tokio::runtime::Runtime;

use crate::bare::{self, Bare};
use crate::stats::Series;
use crate::{host, report};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many starts of each
    #[arg(long, default_value_t = 300)]
    starts: u32,
}

impl Default for Args {
    fn default() -> Args {
        Args { starts: 300 }
    }
}

/// What one start took.
#[derive(Default)]
struct Times {
    started: Vec<Duration>,
    output: Vec<Duration>,
    ready: Vec<Duration>,
    whole: Vec<Duration>,
}

pub(crate) fn measure(args: &Args) -> anyhow::Result<()> {
    report::heading("start: all is ready -> the first output, code from its file");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let guests = [
        (
            "tiny (WAT hello)",
            Guest::WatHello,
            Duration::from_micros(500),
        ),
        ("Rust hello", Guest::RustHello, Duration::from_micros(500)),
        ("Go hello", Guest::GoHello, Duration::from_micros(1500)),
    ];
    for (name, guest, target) in guests {
        match guests::path(guest) {
            Ok(module) => {
                let times = compare(&runtime, &module, args.starts)?;
                show(name, times, target);
            }
            Err(missing) => report::row(name, missing),
        }
    }
    Ok(())
}

fn show(name: &str, times: Times, target: Duration) {
    let of = |what, times| report::row(&format!("{name}, {what}"), Series::of(times));
    of("ours: answered as started", times.started);
    of("bare: loaded and instantiated", times.ready);
    let (ours, theirs) = (Series::of(times.output), Series::of(times.whole));
    report::row(&format!("{name}, ours: first output"), &ours);
    report::row(&format!("{name}, bare: at its end"), &theirs);
    let shown = format!("{:.3?} ({:.2} x)", ours.median(), ours.ratio(&theirs));
    let reached = ours.median() <= target;
    report::verdict(
        &format!("{name}, first output"),
        shown,
        &format!("at most {target:?}"),
        reached,
    );
}

fn compare(runtime: &Runtime, module: &Path, starts: u32) -> anyhow::Result<Times> {
    let folder = tempfile::tempdir()?;
    let (bare_code, bare) = (folder.path().join("bare.cwasm"), Bare::new()?);
    bare::precompile(module, &bare_code)?;
    let bytes = std::fs::read(module).with_context(|| format!("{}", module.display()))?;
    let code = runtime.block_on(host::compile(&folder.path().join("code"), &bytes))?;
    let local = Local::new(LocalConfig::default())?;
    let mut ends = local.events();
    let mut times = Times::default();
    for number in 0..starts {
        let root = host::root(&folder.path().join(number.to_string()))?;
        let fds = host::fds(&code, root)?;
        runtime.block_on(ours(&local, &mut ends, number, fds, &mut times))?;
        // Outside of the runtime: it has one of its own to write with.
        let (_reader, writer) = std::io::pipe()?;
        let took = bare.run(&bare_code, Some(OwnedFd::from(writer).into()))?;
        times.ready.push(took.ready);
        times.whole.push(took.whole);
    }
    Ok(times)
}

async fn ours(
    local: &Local,
    ends: &mut Events,
    number: u32,
    mut fds: GuestFds,
    times: &mut Times,
) -> anyhow::Result<()> {
    let (mut reader, writer) = std::io::pipe()?;
    fds.stdout = Some(writer.into());
    let spec = host::spec(number);
    let id = spec.id.clone();
    let begin = Instant::now();
    local.start(spec, fds).await?;
    times.started.push(begin.elapsed());
    let mut first = [0];
    // On this thread: nothing else of it has anything to do.
    ensure!(reader.read(&mut first)? == 1, "the guest said nothing");
    times.output.push(begin.elapsed());
    let end = ends.next().await.context("the guest host has ended")?;
    ensure!(
        end.code == 0,
        "the guest ended with {}: {}",
        end.code,
        end.message
    );
    Ok(local.forget(&id)?)
}
