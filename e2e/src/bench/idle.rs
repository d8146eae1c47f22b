//! Pods that do nothing: what the node's processes have and take meanwhile, and what it writes.

use std::time::{Duration, Instant};

use anyhow::Result;
use measure::memory::{Held, cpu_time};
use measure::report;

use super::Args;
use super::scene::{Scene, Side};
use super::writes::Tally;

/// How much memory the agent may have, KiB, with 1,000 pods.
const AGENT_KIB: u64 = 150 << 10;

/// How much of a core the agent may take.
const AGENT_CPU: f64 = 0.02;

/// The seconds between two renewals of a lease, at the least.
const RENEWAL: u64 = 10;

/// The seconds between two reports of a Node that does not change, at the least.
const REPORT: u64 = 300;

pub(super) async fn measure(scene: &mut Scene, args: &Args) -> Result<()> {
    scene.quiet().await?;
    let agent = scene.coracle.id();
    let guests = scene.coracle.children();
    let held = Held::by(agent)?;
    let (before, of_guests) = (cpu_time(agent)?, sum(&guests)?);
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(args.idle)).await;
    let seconds = begun.elapsed().as_secs_f64();
    let share = |more: Duration| more.as_secs_f64() / seconds;
    let used = share(cpu_time(agent)?.saturating_sub(before));
    let used_by_guests = share(sum(&guests)?.saturating_sub(of_guests));
    let written = Tally::of(&scene.written()?, Side::Coracle);
    report::verdict(
        &format!("the agent's memory, {} idle pods", args.pods),
        format!("{} KiB + {} KiB of page tables", held.pss, held.tables),
        &format!("at most {AGENT_KIB} KiB"),
        held.memory() <= AGENT_KIB,
    );
    for guest_host in &guests {
        let held = Held::by(*guest_host)?;
        report::row(
            "   the guest host's",
            format!(
                "{} KiB + {} KiB of page tables, {:.1} % of a core",
                held.pss,
                held.tables,
                used_by_guests * 100.0
            ),
        );
    }
    report::verdict(
        &format!("CPU of the agent over {} s", args.idle),
        format!("{:.2} % of a core", used * 100.0),
        "under 2 %",
        used < AGENT_CPU,
    );
    let leases = written.count("update", "leases") + written.count("patch", "leases");
    let reports = written.count("patch", "nodes/status");
    report::verdict(
        &format!("what the node wrote over {} s", args.idle),
        &written,
        "leases every 10 s, the Node's status every 5 minutes",
        leases <= usize::try_from(args.idle / RENEWAL + 1)?
            && reports <= usize::try_from(args.idle / REPORT + 1)?
            && written.but_for(&["leases", "nodes/status"]) == 0,
    );
    Ok(())
}

fn sum(processes: &[u32]) -> Result<Duration> {
    processes.iter().map(|process| cpu_time(*process)).sum()
}
