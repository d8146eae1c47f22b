//! `simulator --histories N --seed S`: histories of whole nodes; the first rule that does not hold
//! ends it, with the history made small and its last steps told.

use std::process::ExitCode;

use clap::Parser;
use simulator::{Coverage, ENOUGH, Scenario, Violation, run, shrink, traced};

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
    /// Name what was reached, and how often
    #[arg(long)]
    coverage: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut coverage = Coverage::default();
    let begun = Clock::begin();
    for number in arguments.from..arguments.histories {
        let scenario = Scenario::of(arguments.seed.wrapping_add(number));
        if let Some(violation) = run(&scenario, &mut coverage).violation {
            explain(&scenario, &violation);
            return ExitCode::FAILURE;
        }
        if (number + 1) % LINE == 0 {
            let rate = begun.rate(number + 1 - arguments.from);
            eprintln!(
                "{} of {} histories, {rate:.0} a second",
                number + 1,
                arguments.histories
            );
        }
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
