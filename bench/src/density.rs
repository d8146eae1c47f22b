//! Idle pods in one guest host: a process of `coracle`, spoken to as the agent does, each pod with
//! a root and a log folder of its own.
//!
//! What is counted is the guest host's whole process, divided by the pods: its own code and threads
//! are theirs to pay. This process stands where an agent would and is not counted: what it holds
//! is not what an agent does.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use guests::Guest;
use measure::TINY;
use runtime::{GuestId, Remote, StartError};

use crate::memory::{Held, cpu_time};
use crate::{host, report};

/// Over which CPU time is counted.
const IDLE: Duration = Duration::from_secs(10);

/// How much of a core idle pods may take.
const IDLE_CPU: f64 = 0.01;

/// What an idle Go pod may have, KiB: its runtime's own tables and heap are most of it.
const GO_KIB: u64 = 750;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many pods, one figure after the other
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 5000])]
    pods: Vec<u32>,
    /// How many pods of a Go program that sleeps; 0 for none
    #[arg(long, default_value_t = 1000)]
    go: u32,
    /// The most that are tried when the last that fits is looked for
    #[arg(long, default_value_t = 20_000)]
    most: u32,
}

impl Default for Args {
    fn default() -> Args {
        Args {
            pods: vec![1000, 5000],
            go: 1000,
            most: 20_000,
        }
    }
}

pub(crate) fn measure(args: &Args) -> anyhow::Result<()> {
    report::heading("density: idle pods in one guest host");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for pods in &args.pods {
        let most = target(*pods);
        runtime.block_on(idle("tiny (WAT)", TINY.as_bytes(), *pods, most))?;
        let sleeper = host::module(Guest::RustSleeper)?;
        runtime.block_on(idle("Rust sleeper", &sleeper, *pods, most))?;
    }
    if args.go > 0 {
        let sleeper = host::module(Guest::GoSleep)?;
        runtime.block_on(idle("Go sleeper", &sleeper, args.go, GO_KIB))?;
    }
    runtime.block_on(one_too_many(args.most))
}

/// What so many pods may have, KiB each.
fn target(pods: u32) -> u64 {
    if pods >= 5000 { 64 } else { 80 }
}

/// A guest host and the folders of its pods, gone when this is dropped and it was ended.
struct Node {
    remote: Remote,
    code: OwnedFd,
    folder: tempfile::TempDir,
    alone: Held,
}

impl Node {
    async fn start(module: &[u8]) -> anyhow::Result<Node> {
        let folder = tempfile::tempdir()?;
        let code = host::compile(&folder.path().join("code"), module).await?;
        let args = ["internal".into(), "guest-host".into(), folder.path().into()];
        let exe = host::sibling("coracle")?;
        let remote = Remote::spawn_or_adopt(folder.path(), &exe, &args).await?;
        let alone = Held::by(remote.pid())?;
        Ok(Node {
            remote,
            code,
            folder,
            alone,
        })
    }

    /// Starts pod number `number`.
    async fn pod(&self, number: u32) -> anyhow::Result<Result<GuestId, StartError>> {
        let path = |kind: &str| self.folder.path().join(kind).join(number.to_string());
        let mut spec = host::spec(number);
        spec.log = Some(host::log());
        let mut fds = host::fds(&self.code, host::root(&path("roots"))?)?;
        let logs = path("logs");
        std::fs::create_dir_all(&logs)?;
        fds.log_dir = Some(host::folder(&logs)?);
        let id = spec.id.clone();
        Ok(self.remote.start(spec, fds).await.map(|_| id))
    }

    async fn end(self) -> anyhow::Result<()> {
        self.remote.shutdown().await?;
        self.remote.gone().await;
        Ok(())
    }
}

async fn idle(name: &str, module: &[u8], pods: u32, most: u64) -> anyhow::Result<()> {
    let node = Node::start(module).await?;
    let pid = node.remote.pid();
    let begin = Instant::now();
    for number in 0..pods {
        if let Err(refused) = node.pod(number).await? {
            report::verdict(
                &format!("{pods} x {name}, memory each"),
                format!("only {number} are let in: {refused}"),
                &format!("at most {most} KiB"),
                false,
            );
            return node.end().await;
        }
    }
    let took = begin.elapsed();
    settled(pid).await?;
    let held = Held::by(pid)?;
    let before = cpu_time(pid)?;
    let begin = Instant::now();
    tokio::time::sleep(IDLE).await;
    let used =
        (cpu_time(pid)?.saturating_sub(before)).as_secs_f64() / begin.elapsed().as_secs_f64();
    let running = node.remote.budget().await?.guests;
    ensure!(running == u64::from(pods), "of {pods} guests {running} run");
    tell(name, pods, most, &node.alone, &held, took);
    report::verdict(
        &format!("{pods} x {name}, CPU while idle"),
        format!("{:.1} % of a core", used * 100.0),
        "under 1 %",
        used < IDLE_CPU,
    );
    node.end().await
}

#[allow(clippy::cast_precision_loss)]
fn tell(name: &str, pods: u32, most: u64, alone: &Held, held: &Held, took: Duration) {
    let each = |count: u64| count as f64 / f64::from(pods);
    report::row(
        &format!("{pods} x {name}, started in"),
        format!(
            "{took:.2?}, {:.0} a second, folders included",
            f64::from(pods) / took.as_secs_f64()
        ),
    );
    report::row(
        &format!("{pods} x {name}, the guest host has"),
        format!(
            "{} KiB + {} KiB of page tables, {} mappings, {} descriptors, {} threads",
            held.pss, held.tables, held.mappings, held.descriptors, held.threads
        ),
    );
    let more = |of: fn(&Held) -> u64| of(held).saturating_sub(of(alone));
    report::row(
        &format!("{pods} x {name}, one pod more is"),
        format!(
            "{:.1} KiB + {:.1} KiB of page tables, {:.2} mappings, {:.2} descriptors",
            each(more(|held| held.pss)),
            each(more(|held| held.tables)),
            each(more(|held| held.mappings)),
            each(more(|held| held.descriptors))
        ),
    );
    report::verdict(
        &format!("{pods} x {name}, memory each"),
        format!("{:.1} KiB", each(held.memory())),
        &format!("at most {most} KiB"),
        held.memory() <= most * u64::from(pods),
    );
}

/// Waits until the process has done what it began: it takes no CPU time for a while.
async fn settled(pid: u32) -> anyhow::Result<()> {
    let mut last = cpu_time(pid)?;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = cpu_time(pid)?;
        if now == last {
            return Ok(());
        }
        last = now;
    }
    Ok(())
}

/// Starts pods until one is refused; the others live on, and one that ends makes room.
async fn one_too_many(most: u32) -> anyhow::Result<()> {
    let node = Node::start(TINY.as_bytes()).await?;
    let mut last = None;
    for number in 0..most {
        match node.pod(number).await? {
            Ok(id) => last = Some((number, id)),
            Err(error @ StartError::Budget { .. }) => {
                refused(&node, number, &error, last).await?;
                return node.end().await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    report::verdict(
        "a pod too many",
        format!("{most} all fit"),
        "refused",
        false,
    );
    node.end().await
}

async fn refused(
    node: &Node,
    number: u32,
    error: &StartError,
    last: Option<(u32, GuestId)>,
) -> anyhow::Result<()> {
    let budget = node.remote.budget().await?;
    let held = Held::by(node.remote.pid())?;
    report::row(&format!("pod {} is refused", number + 1), error);
    report::row(
        "promised, and what the kernel counts",
        format!(
            "{} and {} mappings, {} and {} descriptors",
            budget.mappings.used, held.mappings, budget.descriptors.used, held.descriptors
        ),
    );
    let (before, id) = last.context("no pod fits at all")?;
    node.remote.stop(&id, Duration::ZERO).await?;
    node.remote.forget(&id).await?;
    let again = node.pod(number + 1).await?;
    let reached = budget.guests == u64::from(before) + 1 && again.is_ok();
    let shown = format!(
        "{} live on, one that ends makes room: {}",
        budget.guests,
        again.is_ok()
    );
    report::verdict("a pod too many", shown, "refused with a reason", reached);
    Ok(())
}
