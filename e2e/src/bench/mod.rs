//! A Coracle node beside a KWOK node, on one control plane and in one run, in turns: `cargo xtask bench cluster`.
//!
//! KWOK only writes what a node must write, so what it reaches is what the control plane can take on this machine. Must
//! not know how a node does what is measured: it sees the API, the audit log, and processes as their kernel counts them.

mod idle;
mod pace;
mod pods;
mod scale;
mod scene;
mod writes;

use anyhow::Result;
use measure::report;

use scale::Rates;
use scene::{Scene, Side};

/// How much of KWOK's rate is asked for, both ways.
const SHARE: f64 = 0.8;

/// So many pods are started and ended before anything is counted: the image is pulled and compiled by them.
const WARM_UP: usize = 20;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many pods the Deployment has
    #[arg(long, default_value_t = 1000)]
    pub pods: usize,
    /// How often each node starts and ends them, in turns
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// How many pods are made at 20 a second, for what each takes and writes
    #[arg(long, default_value_t = 200)]
    pub paced: usize,
    /// Over how many seconds idle pods are watched
    #[arg(long, default_value_t = 30)]
    pub idle: u64,
    /// Leave KWOK out, and so all that is compared
    #[arg(long)]
    pub without_kwok: bool,
}

/// Measures, and says each figure beside what is asked.
///
/// # Errors
/// If the cluster can't be had, or a pod does not become what it must.
pub async fn measure(args: &Args) -> Result<()> {
    let mut scene = Scene::set(args).await?;
    report::heading(&format!(
        "cluster: a Deployment from 0 to {} Ready pods and back",
        args.pods
    ));
    for side in scene.sides() {
        scale::round(&mut scene, side, WARM_UP).await?;
    }
    let (mut ours, mut theirs) = (Rates::default(), Rates::default());
    for round in 0..args.rounds {
        let mut turns = scene.sides();
        if round % 2 == 1 {
            turns.reverse();
        }
        for side in turns {
            let rates = match side {
                Side::Coracle => &mut ours,
                Side::Kwok => &mut theirs,
            };
            rates.up(&mut scene, side, args.pods).await?;
            if side == Side::Coracle && round + 1 == args.rounds {
                idle::measure(&mut scene, args).await?;
            }
            rates.down(&mut scene, side).await?;
        }
    }
    compare(&ours, &theirs, args);
    for side in scene.sides() {
        pace::measure(&mut scene, side, args.paced).await?;
    }
    Ok(())
}

fn compare(ours: &Rates, theirs: &Rates, args: &Args) {
    if args.without_kwok {
        return;
    }
    for (way, ratio) in [
        ("0 to all Ready", ours.ratio_up(theirs)),
        ("back to none", ours.ratio_down(theirs)),
    ] {
        report::verdict(
            &format!("{way}, Coracle to KWOK"),
            format!("{ratio:.2} x (medians of {})", args.rounds),
            &format!("at least {SHARE} x"),
            ratio >= SHARE,
        );
    }
}
