//! What the agent holds of pods that run and of which nothing is to be done.
//!
//! Real workers of a real agent, over ports of this process: what their guests hold is `density`'s.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent::Volatile;
use anyhow::ensure;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::memory::{Held, cpu, heap};
use crate::node::{self, Seen};
use crate::report;

/// KiB of a worker beside its Pod and status, and with them.
const BESIDE: f64 = 4.0;
const WITH: f64 = 24.0;
/// Over which CPU time is counted, and how much of a core there may be.
const IDLE: Duration = Duration::from_secs(10);
const IDLE_CPU: f64 = 0.001;
/// Nothing was published for so long: all are at rest.
const CALM: Duration = Duration::from_secs(1);
/// So many Pods and statuses are copied to see what one takes.
const COPIES: u32 = 1000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many pods
    #[arg(long, default_value_t = 10_000)]
    pods: u32,
}

impl Default for Args {
    fn default() -> Args {
        Args { pods: 10_000 }
    }
}

pub(crate) fn measure(args: &Args) -> anyhow::Result<()> {
    report::heading("worker: what the agent holds of a pod at rest");
    // On one thread, so that all of it is in one heap.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(at_rest(args.pods))
}

async fn at_rest(pods: u32) -> anyhow::Result<()> {
    let pid = std::process::id();
    let (heap_before, held_before) = (heap(), Held::by(pid)?);
    let seen = Seen::new();
    let agent = node::agent(&seen, Arc::new(Volatile)).await?;
    for number in 0..pods {
        agent.apply(node::pod(number, None)?)?;
        // As they come from a watch: one after the other, and not all before the first is begun.
        tokio::task::yield_now().await;
    }
    seen.until_started(usize::try_from(pods)?).await?;
    let mut published = 0;
    while seen.published.load(Ordering::Relaxed) > published {
        published = seen.published.load(Ordering::Relaxed);
        tokio::time::sleep(CALM).await;
    }
    let (heap_after, held_after) = (heap(), Held::by(pid)?);
    let before = cpu()?;
    tokio::time::sleep(IDLE).await;
    let idle = (cpu()? - before).as_secs_f64() / IDLE.as_secs_f64();

    let known = agent.statuses();
    let running = known
        .iter()
        .filter(|(_, status)| status.phase.as_deref() == Some("Running"))
        .count();
    ensure!(running == usize::try_from(pods)?, "only {running} run");
    let Some((pod, status)) = known.first().cloned() else {
        return Ok(());
    };
    drop(known);
    let each = |bytes: u64, count: u32| bytes as f64 / 1024.0 / f64::from(count);
    let pod = each(copies(|| Pod::clone(&pod)), COPIES);
    let status = each(copies(|| PodStatus::clone(&status)), COPIES);
    let with = each(heap_after.saturating_sub(heap_before), pods);
    let pss = held_after.pss.saturating_sub(held_before.pss);
    report::row(&format!("{pods} pods, heap of each"), kib(with));
    report::row("its Pod", kib(pod));
    report::row("its status", kib(status));
    let resident = each(pss * 1024, pods);
    report::row("memory of the process, each", kib(resident));
    let beside = with - pod - status;
    let asked = format!("at most {BESIDE} KiB");
    report::verdict(
        "beside Pod and status",
        kib(beside),
        &asked,
        beside <= BESIDE,
    );
    let asked = format!("at most {WITH} KiB");
    report::verdict("with them", kib(with), &asked, with <= WITH);
    let shown = format!("{:.3} % of a core", idle * 100.0);
    report::verdict("CPU of all, at rest", shown, "none", idle <= IDLE_CPU);
    drop(agent);
    Ok(())
}

/// Bytes of so many copies.
fn copies<T>(copy: impl Fn() -> T) -> u64 {
    let before = heap();
    let all: Vec<Arc<T>> = (0..COPIES).map(|_| Arc::new(copy())).collect();
    let bytes = heap().saturating_sub(before);
    drop(all);
    bytes
}

fn kib(kib: f64) -> String {
    format!("{kib:.2} KiB")
}
