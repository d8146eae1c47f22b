//! Ten thousand probes on one node beside a bare loop that makes the same requests of the same
//! server: what is more is what the agent takes to know when which is due, and what of it.
//!
//! The server is another process, whose CPU time counts for nobody.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent::Volatile;
use anyhow::{Context, ensure};
use tokio::time::Instant;

use crate::memory::cpu;
use crate::node::{self, Seen};
use crate::report;

/// How many times the CPU time of its requests a probed node may take.
const TARGET: f64 = 1.25;
/// Seconds between two probes of a pod.
const PERIOD: u32 = 10;
/// The bare loop asks as an agent does: as the time of each comes.
const TICK: Duration = Duration::from_millis(10);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many pods with a probe, each asked every ten seconds
    #[arg(long, default_value_t = 10_000)]
    probes: u32,
    /// For how many periods CPU time is counted, each time
    #[arg(long, default_value_t = 2)]
    periods: u32,
}

impl Default for Args {
    fn default() -> Args {
        Args {
            probes: 10_000,
            periods: 2,
        }
    }
}

pub(crate) fn measure(args: &Args) -> anyhow::Result<()> {
    report::heading("probes: a node full of them, beside their requests alone");
    let server = Server::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(compare(args, server.port))
}

/// CPU time a request, over a run of them.
#[derive(Clone, Copy)]
struct Cost {
    requests: u64,
    cpu: Duration,
}

impl Cost {
    fn each(self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / (self.requests.max(1) as f64)
    }
}

async fn compare(args: &Args, port: u16) -> anyhow::Result<()> {
    let first = bare(args, port).await?;
    let node = probed(args, port).await?;
    let second = bare(args, port).await?;
    let bare = Cost {
        requests: first.requests + second.requests,
        cpu: first.cpu + second.cpu,
    };
    let rate = f64::from(args.probes) / f64::from(PERIOD);
    report::row("requests a second", format!("{rate:.0}"));
    let shown = |cost: Cost| format!("{:.1} µs ({} requests)", cost.each(), cost.requests);
    report::row("CPU of a probe of the node", shown(node));
    report::row("CPU of a bare request, before", shown(first));
    report::row("CPU of a bare request, after", shown(second));
    let ratio = node.each() / bare.each();
    let (shown, asked) = (format!("{ratio:.2} x"), format!("at most {TARGET} x"));
    report::verdict("CPU of probes to requests", shown, &asked, ratio <= TARGET);
    Ok(())
}

/// Pods that came over one period, and are probed each at its time.
async fn probed(args: &Args, port: u16) -> anyhow::Result<Cost> {
    let seen = Seen::new();
    let agent = node::agent(&seen, Arc::new(Volatile)).await?;
    let mut ticks = ticks();
    let mut number = 0;
    for share in shares(args.probes) {
        ticks.tick().await;
        for _ in 0..share {
            agent.apply(node::pod(number, Some(port))?)?;
            number += 1;
        }
    }
    seen.until_started(usize::try_from(args.probes)?).await?;
    // The first probe of each makes it ready, which is told; the next ones tell nothing.
    tokio::time::sleep(Duration::from_secs(PERIOD.into())).await;
    let before = (seen.probed.load(Ordering::Relaxed), cpu()?);
    tokio::time::sleep(Duration::from_secs((PERIOD * args.periods).into())).await;
    let after = (seen.probed.load(Ordering::Relaxed), cpu()?);
    let failed = seen.failed.load(Ordering::Relaxed);
    ensure!(
        failed == 0,
        "{failed} probes failed: the machine is too busy"
    );
    drop(agent);
    Ok(Cost {
        requests: after.0 - before.0,
        cpu: after.1.saturating_sub(before.1),
    })
}

/// The same requests at the same pace, and nothing else.
async fn bare(args: &Args, port: u16) -> anyhow::Result<Cost> {
    let mut requests = 0;
    let before = cpu()?;
    let mut ticks = ticks();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..args.periods {
        for share in shares(args.probes) {
            ticks.tick().await;
            for _ in 0..share {
                let get = node::get(port);
                running.spawn(async move { probe::http(&get, Duration::from_secs(10)).await });
                requests += 1;
            }
            while let Some(done) = running.try_join_next() {
                answered(&done?)?;
            }
        }
    }
    while let Some(done) = running.join_next().await {
        answered(&done?)?;
    }
    let cpu = cpu()?.saturating_sub(before);
    Ok(Cost { requests, cpu })
}

fn answered<E: std::fmt::Debug>(outcome: &Result<probe::Outcome, E>) -> anyhow::Result<()> {
    let well = matches!(outcome, Ok(probe::Outcome::Success(_)));
    ensure!(well, "a request was not answered: {outcome:?}");
    Ok(())
}

fn ticks() -> tokio::time::Interval {
    tokio::time::interval_at(Instant::now(), TICK)
}

/// How many of them are due in each tick of a period.
fn shares(all: u32) -> impl Iterator<Item = u32> {
    let ticks = PERIOD * 100;
    (0..ticks).map(move |tick| {
        let until = |tick: u32| u64::from(all) * u64::from(tick) / u64::from(ticks);
        u32::try_from(until(tick + 1) - until(tick)).unwrap_or(u32::MAX)
    })
}

/// A process that answers, and ends with its input.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> anyhow::Result<Server> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("answer")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        let port = line.trim().parse()?;
        Ok(Server { child, port })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says on which port it answers each request with 200, until its input ends.
pub(crate) fn answer() -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // One that breaks is the client's to tell.
            let _ = answer_one(connection);
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn answer_one(mut connection: std::net::TcpStream) -> std::io::Result<()> {
    let mut request = [0; 4096];
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    let read = connection.read(&mut request)?;
    if read == 0 {
        return Ok(());
    }
    connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}
