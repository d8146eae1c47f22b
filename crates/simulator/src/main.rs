//! `simulator --histories N --seed S`: histories of whole nodes; the first rule that does not hold
//! ends it, with the history made small and its last steps told.

use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use simulator::{Coverage, ENOUGH, Scenario, Violation, run, shrink, traced};

/// A history is little but small allocations, on each thread: the C library's took a third of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// So many histories are between two lines of progress.
const LINE: u64 = 2_000;

/// Simulated histories of nodes, held to the rules of a pod's life
#[derive(Parser)]
struct Arguments {
    /// How many histories to run
    #[arg(long, default_value_t = 1_000)]
    histories: u64,
    /// The seed of the first; each next one has the next seed, so that a failure replays alone
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Skip so many of them, to go on where another run ended
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many threads run histories; as many as there are processors by default
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
    /// Name what was reached, and how often
    #[arg(long)]
    coverage: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let begun = Clock::begin();
    let (coverage, failure) = all(&arguments, &begun);
    if let Some((number, violation)) = failure {
        let scenario = Scenario::of(arguments.seed.wrapping_add(number));
        explain(&scenario, &violation);
        return ExitCode::FAILURE;
    }
    let count = arguments.histories.saturating_sub(arguments.from);
    println!(
        "{count} histories with {} pods: no rule was broken; {:.0} histories and {:.0} pods a second; \
         {} steps, {} happenings; reached {} transitions and {} states of a pod",
        coverage.pods,
        begun.rate(count),
        begun.rate(coverage.pods),
        coverage.steps,
        coverage.happenings,
        coverage.transitions.len(),
        coverage.states.len(),
    );
    if arguments.coverage {
        list(&coverage);
    }
    let unreached = coverage.unreached();
    if count < ENOUGH || unreached.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("docs/lifecycle.md has transitions that no history has reached:");
    for (chart, from, to) in unreached {
        eprintln!("  {chart}: {from} -> {to}");
    }
    ExitCode::FAILURE
}

/// A history that broke a rule: its number, and what it broke.
type Failure = (u64, Violation);

/// Runs them on all threads. Histories know nothing of each other, so whoever is free takes the next. Of those that fail
/// the first is told, whichever thread was faster.
fn all(arguments: &Arguments, begun: &Clock) -> (Coverage, Option<Failure>) {
    let jobs = arguments.jobs.or(std::thread::available_parallelism().ok());
    let next = AtomicU64::new(arguments.from);
    let mut coverage = Coverage::default();
    let mut failures = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.map_or(1, NonZero::get))
            .map(|_| scope.spawn(|| some(arguments, begun, &next)))
            .collect();
        for thread in threads {
            match thread.join() {
                Ok((reached, failure)) => {
                    coverage.merge(reached);
                    failures.extend(failure);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let first = failures.into_iter().min_by_key(|(number, _)| *number);
    (coverage, first)
}

/// Those that one thread comes to.
fn some(arguments: &Arguments, begun: &Clock, next: &AtomicU64) -> (Coverage, Option<Failure>) {
    let mut coverage = Coverage::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= arguments.histories {
            return (coverage, None);
        }
        let scenario = Scenario::of(arguments.seed.wrapping_add(number));
        if let Some(violation) = run(&scenario, &mut coverage).violation {
            // Nobody begins another; those before it are under way.
            next.store(arguments.histories, Ordering::Relaxed);
            return (coverage, Some((number, violation)));
        }
        let done = number + 1 - arguments.from;
        if done.is_multiple_of(LINE) {
            let (all, rate) = (arguments.histories, begun.rate(done));
            eprintln!("{} of {all} histories, {rate:.0} a second", number + 1);
        }
    }
}

fn list(coverage: &Coverage) {
    for ((chart, from, to), times) in &coverage.transitions {
        println!("{chart}: {from} -> {to}: {times}");
    }
}

/// Tells a history that failed, made small.
fn explain(scenario: &Scenario, violation: &Violation) {
    eprintln!("{violation}");
    let small = shrink(scenario, violation.rule);
    let outcome = traced(&small);
    eprintln!("\nmade small, the history ends so (happening, seconds):");
    for line in &outcome.lines {
        eprintln!("{line}");
    }
    for planned in &small.pods {
        let spec = serde_json::to_string(&planned.pod.spec).unwrap_or_default();
        eprintln!("pod {} after {}: {spec}", planned.id, planned.after);
    }
    for fault in &small.faults {
        eprintln!("after {}: {:?}", fault.after, fault.what);
    }
    let (length, percent, calm) = (small.length, small.percent, small.calm);
    eprintln!("{length} happenings, {percent} % go wrong, {calm} s of calm");
    if let Some(violation) = outcome.violation {
        eprintln!("{violation}");
    }
    let seed = scenario.seed;
    eprintln!("\nreplay it with: cargo xtask simulate --histories 1 --seed {seed}");
}

/// Tells the rate of histories; no history sees it.
struct Clock(std::time::Instant);

impl Clock {
    #[allow(clippy::disallowed_methods)] // Of the run, not of a history.
    fn begin() -> Clock {
        Clock(std::time::Instant::now())
    }

    /// So many a second since it began.
    #[allow(clippy::cast_precision_loss)] // For a person to read.
    fn rate(&self, count: u64) -> f64 {
        count as f64 / self.0.elapsed().as_secs_f64().max(0.001)
    }
}
