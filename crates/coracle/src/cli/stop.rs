//! `coracle stop` and `coracle rm`: the end of pods.

use anyhow::bail;

use super::output;
use super::place::Root;
use crate::dirs::Dirs;
use crate::local::alive;
use crate::local::control::{Call, ClientError};
use crate::local::end;
use crate::local::find::{self, Found};
use crate::program::sentence;

/// What `coracle stop` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle stop web           within the pod's own grace
  coracle stop -t 2 web db   within two seconds each

A pod that was stopped is kept until coracle rm, if it was started with -d.")]
pub(crate) struct StopArgs {
    /// NAME, NAMESPACE/NAME, or the beginning of a UID
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
    /// Seconds that guests may take to end; the pod's own if left out
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u32>,
    #[command(flatten)]
    root: Root,
}

/// What `coracle rm` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coracle rm web             its record and its logs, once it has ended
  coracle rm -f web          also if it runs: it is ended first
  coracle rm -f --all")]
pub(crate) struct RmArgs {
    /// NAME, NAMESPACE/NAME, or the beginning of a UID
    #[arg(required_unless_present = "all", value_name = "POD")]
    pods: Vec<String>,
    /// End what runs, at once
    #[arg(short, long)]
    force: bool,
    /// All pods; without -f all that have ended
    #[arg(short, long, conflicts_with = "pods")]
    all: bool,
    #[command(flatten)]
    root: Root,
}

/// With `rm -f` a guest has as good as no time: the least that a deletion can give.
const AT_ONCE: i64 = 1;

/// Stops pods, all at once, and prints each as it has ended.
///
/// # Errors
/// When one can't be found, or its session does not answer.
pub(crate) fn stop(args: &StopArgs) -> anyhow::Result<u8> {
    let found = find::each(&args.root.open()?, &args.pods)?;
    let call = |it: &Found| {
        let call = Call::Stop {
            uid: it.record.uid().to_owned(),
            grace: args.time.map(i64::from),
        };
        settle(it, call)?;
        if !it.record.kept {
            // Nothing of it stays: its name is free once its session has ended.
            find::ended(&it.site);
        }
        Ok(())
    };
    each(&found, call)
}

/// Removes pods, all at once, and prints each as it is gone.
///
/// # Errors
/// When one can't be found, runs, or can't be removed.
pub(crate) fn rm(args: &RmArgs) -> anyhow::Result<u8> {
    let dirs = args.root.open()?;
    let mut found = match args.all {
        true => find::all(&dirs),
        false => find::each(&dirs, &args.pods)?,
    };
    if args.all && !args.force {
        found.retain(|it| !runs(it));
    }
    each(&found, |it| remove(&dirs, it, args.force))
}

fn runs(found: &Found) -> bool {
    let status = found.record.pod.status.as_ref();
    found.alive && !status.is_some_and(end::is_terminal)
}

/// Removes a pod; with `force` also one that runs.
///
/// # Errors
/// When it runs, or can't be removed.
pub(crate) fn remove(dirs: &Dirs, found: &Found, force: bool) -> anyhow::Result<()> {
    if runs(found) && !force {
        bail!(
            "pod {} runs: end it with `coracle stop`, or remove it with `coracle rm -f`",
            found.name()
        );
    }
    let uid = found.record.uid();
    if found.alive {
        let call = Call::Remove {
            uid: uid.to_owned(),
            grace: Some(AT_ONCE),
        };
        settle(found, call)?;
    }
    if !found.site.lives() {
        alive::remove(dirs, &found.site, uid)?;
    }
    Ok(())
}

/// Waits for the session to have done it. One that ends has let go of its pods, and then of its
/// folder: who comes next is to find neither.
fn settle(found: &Found, call: Call) -> anyhow::Result<()> {
    let answered = found.call(call).and_then(|client| {
        let mut client = client.patient();
        while client.next()?.is_some() {}
        Ok(())
    });
    match answered {
        Ok(()) => Ok(()),
        Err(ClientError::Ended) => {
            find::ended(&found.site);
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Does it for all pods at once; prints the name of each that it was done for.
fn each(found: &[Found], act: impl Fn(&Found) -> anyhow::Result<()> + Sync) -> anyhow::Result<u8> {
    let outcomes: Vec<(String, anyhow::Result<()>)> = std::thread::scope(|scope| {
        let act = &act;
        let running: Vec<_> = found
            .iter()
            .map(|it| (it.name(), scope.spawn(move || act(it))))
            .collect();
        let ended = |(name, thread): (String, std::thread::ScopedJoinHandle<'_, _>)| {
            let outcome = thread.join();
            (
                name,
                outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))),
            )
        };
        running.into_iter().map(ended).collect()
    });
    let mut failed = false;
    for (name, outcome) in outcomes {
        match outcome {
            Ok(()) => output::out(format!("{name}\n").as_bytes())?,
            Err(error) => {
                failed = true;
                eprintln!("coracle: pod {name}: {}", sentence(error.as_ref()));
            }
        }
    }
    Ok(if failed { crate::FAILED } else { 0 })
}
