//! Where things are, what has been left out, and how progress is told.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// One run of xtask.
#[derive(Debug)]
pub(crate) struct Context {
    /// The repository.
    pub(crate) root: PathBuf,
    /// What outlives a clone: `CORACLE_CACHE`, else `~/.cache/coracle`.
    pub(crate) cache: PathBuf,
    /// With `CI=true` nothing may be left out but for [`Context::leave_out_even_in_ci`].
    pub(crate) ci: bool,
    target: Option<PathBuf>,
    begun: Instant,
    left_out: Vec<String>,
}

impl Context {
    /// Reads the environment.
    pub(crate) fn of_environment() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask stands in the repository")?
            .to_owned();
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        let cache = match (set("CORACLE_CACHE"), set("HOME")) {
            (Some(cache), _) => PathBuf::from(cache),
            (None, Some(home)) => Path::new(&home).join(".cache/coracle"),
            (None, None) => {
                bail!("set CORACLE_CACHE to a folder for what is built once: HOME is not set")
            }
        };
        let ci = set("CI").is_some_and(|value| value == "true");
        let target = match set("CARGO_TARGET_DIR") {
            Some(target) => Some(PathBuf::from(target)),
            None => ci.then(|| cache.join("target")),
        };
        Ok(Self {
            root,
            cache,
            ci,
            target,
            begun: Instant::now(),
            left_out: Vec::new(),
        })
    }

    /// Says what is being done now.
    #[allow(
        clippy::print_stdout,
        reason = "progress is what a person and a CI log read"
    )]
    pub(crate) fn say(&self, what: &str) {
        println!("==> [{:>4} s] {what}", self.begun.elapsed().as_secs());
    }

    /// Leaves something out because this machine lacks what it takes; with `CI=true` an error.
    pub(crate) fn leave_out(&mut self, what: &str, reason: &str) -> Result<()> {
        if self.ci {
            bail!("{what} can't be left out with CI=true: {reason}");
        }
        self.leave_out_even_in_ci(what, reason);
        Ok(())
    }

    /// Leaves something out that CI can do without.
    pub(crate) fn leave_out_even_in_ci(&mut self, what: &str, reason: &str) {
        self.say(&format!("LEFT OUT: {what}: {reason}"));
        self.left_out.push(format!("{what}: {reason}"));
    }

    /// Says what was left out, and that all else is done.
    pub(crate) fn finish(&self) -> Result<()> {
        for what in &self.left_out {
            self.say(&format!("was left out on this machine: {what}"));
        }
        self.say("done");
        Ok(())
    }

    /// A cargo command in the repository.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments).current_dir(&self.root);
        if let Some(target) = &self.target {
            command.env("CARGO_TARGET_DIR", target);
        }
        command
    }

    /// A program of the workspace, as the last build for tests made it.
    pub(crate) fn built(&self, name: &str) -> Command {
        let mut command = Command::new(self.target().join("debug").join(name));
        command.current_dir(&self.root);
        command
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target(&self) -> PathBuf {
        // A relative CARGO_TARGET_DIR is relative to where cargo runs, which is the root.
        self.root
            .join(self.target.as_deref().unwrap_or(Path::new("target")))
    }
}
