//! Tests against real clusters: what they need is built, then they run; or a person gets a cluster to play with.

use anyhow::Result;

use crate::context::Context;
use crate::{guests, process, setup};

/// The suites that need a cluster or a control plane.
const SUITES: [&str; 6] = [
    "cluster",
    "binary",
    "kubelet",
    "transitions",
    "images",
    "hosts",
];

/// Tests in real clusters.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave the folders of clusters where they are: logs, certificates, data
    #[arg(long)]
    keep: bool,
    /// Instead of tests: a cluster of two hosts with a Wasm node each, and a shell in it
    #[arg(long)]
    shell: bool,
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// Builds the programs of clusters.
///
/// # Errors
/// When Go can't.
pub(crate) fn programs(context: &Context) -> Result<()> {
    context.say("Kubernetes' programs, built once from Go modules: up to 20 minutes");
    let mut programs = context.built("e2e-build");
    process::run(programs.arg("build"), "is the Go module proxy reachable?")
}

/// Sets everything up, and runs the tests or the shell.
///
/// # Errors
/// When a test fails, or the cluster can't be had.
pub(crate) fn run(context: &mut Context, arguments: &Arguments) -> Result<()> {
    context.say("set-up");
    setup::for_guests(context)?;
    setup::for_clusters(context)?;
    guests::build(context)?;
    context.say("compiling coracle and the tests");
    // One selection of packages throughout, as the tests have it.
    let all = ["build", "--workspace", "--bins"];
    process::run(&mut context.cargo(&all), "it does not compile; see above")?;
    programs(context)?;
    let coracle = context.target().join("debug/coracle");
    if arguments.shell {
        context.say("a cluster of two hosts: half a minute");
        let mut shell = context.built("e2e-build");
        shell.arg("shell").env("CORACLE", coracle);
        return process::run(&mut shell, "see the message above");
    }
    context.say("tests in real clusters");
    let mut words = vec!["test", "--workspace", "--no-fail-fast"];
    words.extend(SUITES.iter().flat_map(|suite| ["--test", suite]));
    words.extend(arguments.filter.as_deref());
    let mut tests = context.cargo(&words);
    tests.env("CORACLE", coracle);
    if arguments.keep {
        tests.env("CORACLE_E2E_KEEP", "1");
    }
    process::run(&mut tests, "mend the tests that failed above")
}
