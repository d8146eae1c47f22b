//! Tests against real clusters: what they need is built, then they run; or a person gets a cluster to play with.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::context::Context;
use crate::test::LIMIT;
use crate::{guests, process, setup};

/// The suites that need a control plane, or a registry.
const SUITES: [&str; 7] = [
    "cluster",
    "binary",
    "kubelet",
    "transitions",
    "images",
    "identity",
    "heartbeat",
];

/// The suite of whole clusters. Its tests wait more than they work: many may run side by side.
const HOSTS: &str = "hosts";
const BESIDE: &str = "--test-threads=8";

/// What helps when tests fail.
const MEND: &str = "mend the tests that failed above";

/// Tests in real clusters.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Leave the folders of clusters where they are: logs, certificates, data
    #[arg(long)]
    keep: bool,
    /// Instead of tests: a cluster of two hosts with a Wasm node each, and a shell in it
    #[arg(long)]
    shell: bool,
    /// Only the tests of whole clusters, in the cluster of $KUBECONFIG or kind's ($KIND_CLUSTER_NAME), where Wasm nodes
    /// are Ready. Their images are pushed to $CORACLE_E2E_REGISTRY [default: 127.0.0.1:5000], from where its nodes have
    /// to have them
    #[arg(long, value_enum, conflicts_with = "shell")]
    cluster: Option<Which>,
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// A cluster that is there already.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Which {
    /// That of the kubeconfig
    Current,
    /// One that `kind create cluster` has made
    Kind,
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
    if let Some(which) = arguments.cluster {
        return visit(context, arguments, which);
    }
    // All are run, whatever becomes of the first.
    let others = tests(context, arguments, &SUITES, None);
    tests(context, arguments, &[HOSTS], Some(BESIDE)).and(others)
}

/// Runs the tests of whole clusters in one that is there already.
fn visit(context: &Context, arguments: &Arguments, which: Which) -> Result<()> {
    let kubeconfig = match which {
        Which::Current => None,
        Which::Kind => Some(kubeconfig_of_kind()?),
    };
    let mut tests = command(context, arguments, &[HOSTS], Some(BESIDE));
    tests.env("CORACLE_E2E_CLUSTER", "current");
    if let Some(kubeconfig) = &kubeconfig {
        tests.env("KUBECONFIG", kubeconfig.path());
    }
    process::run(&mut tests, MEND)
}

/// What kind knows of its cluster, in a file of ours: the person's own may name another.
fn kubeconfig_of_kind() -> Result<tempfile::NamedTempFile> {
    ensure!(
        process::has("kind"),
        "kind is not on PATH: install it, or name a cluster by KUBECONFIG and --cluster current"
    );
    let text = process::text(Command::new("kind").args(["get", "kubeconfig"]));
    let text = text.context(
        "make the cluster with `kind create cluster`, and let a Wasm node join it (README, \"Join a cluster\")",
    )?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    Ok(file)
}

/// Runs the tests of whole clusters; what they need is built.
///
/// # Errors
/// When one fails.
pub(crate) fn hosts(context: &Context) -> Result<()> {
    let mut tests = command(context, &Arguments::default(), &[HOSTS], Some(BESIDE));
    process::run_within(LIMIT, &mut tests, MEND)
}

fn tests(
    context: &Context,
    arguments: &Arguments,
    suites: &[&str],
    threads: Option<&str>,
) -> Result<()> {
    process::run(&mut command(context, arguments, suites, threads), MEND)
}

fn command(
    context: &Context,
    arguments: &Arguments,
    suites: &[&str],
    threads: Option<&str>,
) -> Command {
    let mut words = vec!["test", "--workspace", "--no-fail-fast"];
    words.extend(suites.iter().flat_map(|suite| ["--test", suite]));
    words.extend(arguments.filter.as_deref());
    words.extend(threads.iter().flat_map(|threads| ["--", threads]));
    let mut tests = context.cargo(&words);
    tests.env("CORACLE", context.target().join("debug/coracle"));
    if arguments.keep {
        tests.env("CORACLE_E2E_KEEP", "1");
    }
    tests
}
