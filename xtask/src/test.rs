//! Every test, from cheap to dear; simulated histories; benchmarks.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::context::Context;
use crate::{check, e2e, guests, process, setup};

/// How many histories of simulated nodes the tests run.
const HISTORIES: u64 = 20_000;

/// What tests that are compiled may take, all of one command together: many times what they do.
pub(crate) const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Seeded histories of simulated nodes.
#[derive(Debug, clap::Args)]
pub(crate) struct Simulate {
    /// How many histories to run
    #[arg(long, default_value_t = HISTORIES)]
    histories: u64,
    /// The seed of the first; each next one has the next seed, so that a failure replays alone
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Sets everything up and runs everything.
///
/// # Errors
/// When a check or a test fails.
pub(crate) fn run(context: &mut Context) -> Result<()> {
    context.say("set-up");
    setup::everything(context)?;
    guests::build(context)?;
    check::run(context)?;

    // One selection of packages throughout: another would settle other features, and compile
    // Wasmtime and the API's types once more.
    context.say("compiling every crate, its programs and its tests");
    let all = ["build", "--workspace", "--bins", "--tests"];
    process::run(&mut context.cargo(&all), "it does not compile; see above")?;

    e2e::programs(context)?;

    context.say(&format!("{HISTORIES} simulated histories"));
    let mut simulator = context.built("simulator");
    simulator.args(["--histories", &HISTORIES.to_string(), "--seed", "1"]);
    process::run(
        &mut simulator,
        "replay the seed that it names with `cargo xtask simulate`",
    )?;

    context.say("tests of every crate, then of the whole against a real control plane");
    let mut tests = context.cargo(&["test", "--workspace", "--no-fail-fast"]);
    tests.env("CORACLE", context.target().join("debug/coracle"));
    let most = process::run_within(LIMIT, &mut tests, "mend the tests that failed above");
    // All are run, whatever becomes of the first.
    context.say("tests of whole clusters, side by side");
    e2e::hosts(context).and(most)
}

/// Runs simulated histories.
///
/// # Errors
/// When an invariant does not hold in one; the simulator says which seed replays it.
pub(crate) fn simulate(context: &Context, wanted: &Simulate) -> Result<()> {
    let (histories, seed) = (wanted.histories.to_string(), wanted.seed.to_string());
    context.say(&format!("{histories} simulated histories from seed {seed}"));
    let run = [
        "run",
        "--quiet",
        "--package",
        "simulator",
        "--",
        "--histories",
        &histories,
        "--seed",
        &seed,
    ];
    process::run(
        &mut context.cargo(&run),
        "replay the seed that it names with `cargo xtask simulate`",
    )
}

/// Runs the benchmarks.
///
/// # Errors
/// When they can't be built or fail.
pub(crate) fn bench(context: &Context, arguments: &[String]) -> Result<()> {
    context.say("benchmarks, in release");
    // One selection of packages: of another, dependencies would be compiled for other features.
    let all = [
        "build",
        "--release",
        "--package=coracle",
        "--package=simulator",
        "--package=bench",
        "--package=e2e",
    ];
    process::run(&mut context.cargo(&all), "a benchmark does not compile")?;
    // Whoever speaks to a cluster is another program: the one that measures engines must not know Kubernetes.
    let in_a_cluster = arguments.first().is_some_and(|word| word == "cluster");
    let (program, words): (_, &[&str]) = match in_a_cluster {
        true => ("e2e-build", &["bench"]),
        false => ("bench", &[]),
    };
    let mut bench = Command::new(context.target().join("release").join(program));
    let rest = arguments.iter().skip(usize::from(in_a_cluster));
    bench.current_dir(&context.root).args(words).args(rest);
    process::run(&mut bench, "see the message above")
}
