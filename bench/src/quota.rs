//! CPU quotas: what spinning containers take of a core, beside what they were given. One process of
//! a container spins on one core at most, so that quotas above a core have execs beside the guest.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guests::Guest;
use runtime::{ExecFds, ExecSpec, GuestId, Local, LocalConfig};

use crate::{host, report};

/// How far off a container may be, over all of the time.
const TOLERANCE: f64 = 0.10;

/// Quotas in thousandths of a core, each with how many processes spin on it.
const QUOTAS: [(u32, u32); 6] = [(50, 1), (100, 1), (250, 1), (250, 4), (500, 2), (1500, 3)];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long each container spins, seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

impl Default for Args {
    fn default() -> Args {
        Args { seconds: 5 }
    }
}

pub(crate) fn measure(args: &Args) -> anyhow::Result<()> {
    report::heading("quota: CPU time that spinning containers take of what they were given");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let folder = tempfile::tempdir()?;
    let module = host::module(Guest::RustSpinner)?;
    let code = runtime.block_on(host::compile(&folder.path().join("code"), &module))?;
    let local = Arc::new(Local::new(LocalConfig::default())?);
    let cores = std::thread::available_parallelism()?.get();
    for (number, (milli, processes)) in (0..).zip(QUOTAS) {
        if milli as usize > cores * 1000 {
            report::row(
                &format!("{milli}m"),
                format!("left out: there are {cores} cores"),
            );
            continue;
        }
        let root = folder.path().join(format!("root-{number}"));
        let taken = spin(
            &local,
            &code,
            number,
            &root,
            (milli, processes),
            args.seconds,
        );
        let taken = runtime.block_on(taken)?;
        let asked = f64::from(milli) / 1000.0;
        report::verdict(
            &format!("{milli}m, {processes} spinning"),
            format!("{:.1} % of what it was given", taken / asked * 100.0),
            "90 to 110 %",
            (taken / asked - 1.0).abs() <= TOLERANCE,
        );
    }
    Ok(())
}

/// The part of a core that a container took while it spun.
async fn spin(
    local: &Arc<Local>,
    code: &OwnedFd,
    number: u32,
    root: &Path,
    (milli, processes): (u32, u32),
    seconds: u64,
) -> anyhow::Result<f64> {
    let mut spec = host::spec(number);
    spec.limits.cpu_milli = Some(milli);
    let id = spec.id.clone();
    local
        .start(spec, host::fds(code, host::root(root)?)?)
        .await?;
    let mut others = tokio::task::JoinSet::new();
    for _ in 1..processes {
        let (local, (spec, fds)) = (Arc::clone(local), beside(code, &id)?);
        others.spawn(async move { local.exec(spec, fds).await });
    }
    // What the starts took is not what it is about.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (begin, before) = (Instant::now(), local.stats(&id)?.cpu_nanos);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (took, after) = (begin.elapsed(), local.stats(&id)?.cpu_nanos);
    local.stop(&id, Duration::ZERO).await?;
    local.forget(&id)?;
    while let Some(ended) = others.join_next().await {
        ended??;
    }
    let cpu = Duration::from_nanos(after.saturating_sub(before));
    Ok(cpu.as_secs_f64() / took.as_secs_f64())
}

/// Another process of a container, which spins as well.
fn beside(code: &OwnedFd, id: &GuestId) -> anyhow::Result<(ExecSpec, ExecFds)> {
    let spec = ExecSpec {
        id: id.clone(),
        export: None,
        args: vec!["spinner".to_owned()],
        env: Vec::new(),
        cwd: None,
        tty: false,
    };
    let fds = ExecFds {
        code: code.try_clone()?,
        stdin: None,
        stdout: None,
        stderr: None,
    };
    Ok((spec, fds))
}
