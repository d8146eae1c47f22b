//! What a start waits for its checkpoints: the agent writes what it means to do before it does it.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::{Checkpoints, Folder, Loaded, StoreError, Volatile};
use anyhow::Context;
use lifecycle::Checkpoint;

use crate::node::{self, Seen};
use crate::report;
use crate::stats::Series;

/// How long one checkpoint may hold up a start.
const TARGET: Duration = Duration::from_millis(1);
/// What is not counted: the first of each fills caches.
const WARM_UP: u32 = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many pods are started one after the other, each with checkpoints and without
    #[arg(long, default_value_t = 500)]
    pods: u32,
    /// The folder of the checkpoints; a temporary one by default
    #[arg(long)]
    folder: Option<std::path::PathBuf>,
}

impl Default for Args {
    fn default() -> Args {
        Args {
            pods: 500,
            folder: None,
        }
    }
}

pub(crate) fn measure(args: &Args) -> anyhow::Result<()> {
    report::heading("checkpoint: what a start waits for what is written before it");
    let temporary = tempfile::tempdir()?;
    let folder = args.folder.as_deref().unwrap_or(temporary.path());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(starts(folder, args.pods))
}

/// A folder that notes how long the agent's calls take.
struct Timed {
    folder: Folder,
    took: std::sync::Mutex<Vec<(Duration, Vec<u8>)>>,
}

impl Timed {
    fn taken(&self) -> Vec<(Duration, Vec<u8>)> {
        let mut took = self.took.lock().unwrap_or_else(|error| error.into_inner());
        std::mem::take(&mut took)
    }
}

impl Checkpoints for Timed {
    fn load(&self) -> Result<Loaded, StoreError> {
        self.folder.load()
    }

    fn read(&self, uid: &str) -> Result<Option<Checkpoint>, StoreError> {
        self.folder.read(uid)
    }

    fn save(&self, uid: &str, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let begin = Instant::now();
        let saved = self.folder.save(uid, checkpoint);
        let took = begin.elapsed();
        let bytes = checkpoint.encode().unwrap_or_default();
        let mut all = self.took.lock().unwrap_or_else(|error| error.into_inner());
        all.push((took, bytes));
        saved
    }

    fn remove(&self, uid: &str) -> Result<(), StoreError> {
        self.folder.remove(uid)
    }
}

async fn starts(folder: &Path, pods: u32) -> anyhow::Result<()> {
    let store = Arc::new(Timed {
        folder: Folder::open(folder.join("pods"))?,
        took: std::sync::Mutex::default(),
    });
    let plain = folder.join("plain");
    std::fs::create_dir_all(&plain)?;
    let (kept, volatile) = (Seen::new(), Seen::new());
    let with = node::agent(&kept, store.clone()).await?;
    let without = node::agent(&volatile, Arc::new(Volatile)).await?;
    let (mut of_with, mut of_without) = (Vec::new(), Vec::new());
    let (mut of_saves, mut of_plain, mut bytes) = (Vec::new(), Vec::new(), 0);
    for number in 0..pods + WARM_UP {
        let of_kept = start(&with, &kept, number).await?;
        // What was written until the guest was started, and what follows it.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let saves = store.taken();
        let of_volatile = start(&without, &volatile, number).await?;
        let path = plain.join(number.to_string());
        for (took, content) in saves {
            let bare = write(&path, &content)?;
            if number >= WARM_UP {
                of_saves.push(took);
                of_plain.push(bare);
                bytes += content.len();
            }
        }
        if number >= WARM_UP {
            of_with.push(of_kept);
            of_without.push(of_volatile);
        }
    }
    let count = of_saves.len();
    let saves = Series::of(of_saves);
    report::row("one write", &saves);
    report::row("plain write and rename of its bytes", Series::of(of_plain));
    let each = count as f64 / f64::from(pods);
    let size = bytes / count.max(1);
    report::row(
        "writes of a pod, and bytes of each",
        format!("{each:.1}, {size}"),
    );
    let (with, without) = (Series::of(of_with), Series::of(of_without));
    report::row("applied to started, with checkpoints", &with);
    report::row("the same, without", &without);
    let p99 = saves.percentile(99.0);
    let shown = format!("{p99:.3?}");
    report::verdict("one write, p99", shown, "at most 1 ms", p99 <= TARGET);
    let more = with.median().saturating_sub(without.median());
    let shown = format!("{more:.3?}");
    report::verdict(
        "a start later by, median",
        shown,
        "at most 1 ms",
        more <= TARGET,
    );
    Ok(())
}

/// From when the agent is given the pod to when its guest is started.
async fn start(agent: &agent::Agent, seen: &Seen, number: u32) -> anyhow::Result<Duration> {
    let pod = node::pod(number, None)?;
    let begin = Instant::now();
    agent.apply(pod)?;
    seen.until_started(usize::try_from(number)? + 1).await?;
    let end = seen.last_start().context("nothing was started")?;
    Ok(end.saturating_duration_since(begin))
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let beside = path.with_extension("tmp");
    std::fs::File::create(&beside)?.write_all(bytes)?;
    std::fs::rename(&beside, path)?;
    Ok(begin.elapsed())
}
