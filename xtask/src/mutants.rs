//! Mutants of `lifecycle`: small changes of its code that its tests are to notice (cargo-mutants).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::context::Context;
use crate::{process, setup};

/// Of the mutants that compile so many in a hundred may survive, and no more.
const MAY_SURVIVE: usize = 5;

/// How many cases a property tries, which is 256 otherwise. With all of them a mutant's tests take four
/// times as long, and what fewer don't notice is a survivor too many, never one too few. None is
/// shrunk: nobody reads it.
const CASES: &str = "64";

/// Which mutants.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which part of all mutants: with the same code the same seed gives the same ones
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Into how many parts all mutants are dealt, of which one is run
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    of: u64,
    /// Only mutants of lines that differ from this commit; of all of them, if --seed is left out
    #[arg(long, value_name = "COMMIT", conflicts_with_all = ["seed", "of"])]
    in_diff: Option<String>,
    /// How many at once
    #[arg(long, default_value_t = 1)]
    jobs: usize,
}

/// Runs them, and fails when too many survive.
///
/// # Errors
/// When the tool can't be installed, the tests fail without any change, or too many survive.
pub(crate) fn run(context: &mut Context, wanted: &Arguments) -> Result<()> {
    setup::cargo_mutants(context)?;
    let out = context.target().join("mutants");
    std::fs::create_dir_all(&out)?;
    let mut mutants = Command::new(setup::cargo_mutants_program(context));
    mutants
        .args([
            "mutants",
            "--package",
            "lifecycle",
            "--no-shuffle",
            "--profile",
            "mutants",
        ])
        // All its tests are the library's: without this the library is built twice, and its
        // documentation is asked for tests that it has not.
        .arg("--cargo-arg=--lib")
        .args(["--jobs", &wanted.jobs.to_string()])
        .arg("--output")
        .arg(&out)
        .env("PROPTEST_CASES", CASES)
        .env("PROPTEST_MAX_SHRINK_ITERS", "0")
        .current_dir(&context.root);
    if wanted.jobs > 1 {
        // One target folder would have them wait for each other.
        mutants.env_remove("CARGO_TARGET_DIR");
    }
    match &wanted.in_diff {
        Some(commit) => {
            let diff = out.join("change.diff");
            std::fs::write(&diff, changes(context, commit)?)?;
            mutants.arg("--in-diff").arg(diff);
        }
        None => {
            let part = format!("{}/{}", wanted.seed % wanted.of, wanted.of);
            mutants.args(["--sharding", "round-robin", "--shard", &part]);
        }
    }
    context.say("mutants of lifecycle, a build and its tests for each");
    let results = out.join("mutants.out");
    // What an earlier run has left must not pass for this one's.
    if results.exists() {
        std::fs::remove_dir_all(&results)?;
    }
    let status = process::status(&mut mutants)?;
    // 2: some survived; 3: some did not end. Anything else is no result.
    ensure!(
        matches!(status.code(), Some(0 | 2 | 3)),
        "cargo-mutants ended with {status}; see above"
    );
    judge(&Counts::read(&results)?)
}

/// What differs from `commit`, with what is not committed.
fn changes(context: &Context, commit: &str) -> Result<String> {
    let mut git = Command::new("git");
    git.args(["diff", commit, "--", "crates/lifecycle"])
        .current_dir(&context.root);
    process::text(&mut git)
}

/// What became of the mutants.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    caught: usize,
    timeout: usize,
    survivors: Vec<String>,
}

impl Counts {
    /// Of the folder that cargo-mutants writes. Without mutants there is none.
    fn read(results: &Path) -> Result<Counts> {
        if !results.exists() {
            return Ok(Counts::default());
        }
        Ok(Counts {
            caught: lines(results.join("caught.txt"))?.len(),
            timeout: lines(results.join("timeout.txt"))?.len(),
            survivors: lines(results.join("missed.txt"))?,
        })
    }
}

fn lines(path: PathBuf) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn judge(counts: &Counts) -> Result<()> {
    let survived = counts.survivors.len();
    let viable = counts.caught + counts.timeout + survived;
    println!("{survived} of {viable} viable mutants survived");
    if survived * 100 >= viable * MAY_SURVIVE && survived > 0 {
        let all = counts.survivors.join("\n");
        bail!("{MAY_SURVIVE} in 100 or more survived; write tests that notice these:\n{all}");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn counts(caught: usize, survived: usize) -> Counts {
        Counts {
            caught,
            timeout: 1,
            survivors: vec!["a.rs:1: replace + with -".to_owned(); survived],
        }
    }

    #[test]
    fn fewer_than_five_in_a_hundred_may_survive() {
        assert!(judge(&counts(0, 0)).is_ok());
        assert!(judge(&counts(95, 4)).is_ok());
        let error = judge(&counts(94, 5)).unwrap_err().to_string();
        assert!(error.contains("a.rs:1"), "{error}");
    }

    #[test]
    fn results_are_read_and_a_torn_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let results = dir.path().join("mutants.out");
        assert_eq!(Counts::read(&results).unwrap(), Counts::default());
        std::fs::create_dir(&results).unwrap();
        for (name, text) in [
            ("caught.txt", "a\nb\n"),
            ("timeout.txt", ""),
            ("missed.txt", "c\n"),
        ] {
            std::fs::write(results.join(name), text).unwrap();
        }
        let read = Counts::read(&results).unwrap();
        assert_eq!((read.caught, read.timeout, read.survivors.len()), (2, 0, 1));
        std::fs::remove_file(results.join("missed.txt")).unwrap();
        assert!(Counts::read(&results).is_err());
    }
}
