//! Installs what the other commands need. Each step looks first, and is quick when all is there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::context::Context;
use crate::process;

/// The version of cargo-deny that deny.toml is written for.
const CARGO_DENY: &str = "0.20.2";

/// The version of cargo-mutants whose options and files `mutants.rs` knows.
const CARGO_MUTANTS: &str = "27.1.0";

/// Installs everything.
///
/// # Errors
/// When something can't be installed; the sentence says what to do.
pub(crate) fn everything(context: &mut Context) -> Result<()> {
    for_guests(context)?;
    for_clusters(context)?;
    cargo_deny(context)
}

/// Installs what builds guests and images.
pub(crate) fn for_guests(context: &mut Context) -> Result<()> {
    debian_packages(context)?;
    go(context)
}

/// Installs what hosts of a cluster in network namespaces run.
pub(crate) fn for_clusters(context: &mut Context) -> Result<()> {
    let mut missing = lacking(CLUSTER_PACKAGES);
    if !Path::new("/usr/lib/cni/bridge").is_file() {
        missing.push("containernetworking-plugins");
    }
    install(context, missing)
}

/// Debian packages: a program that must be there, and the package that has it.
const CLUSTER_PACKAGES: &[(&str, &str)] = &[
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("sysctl", "procps"),
];

/// As [`CLUSTER_PACKAGES`].
const PACKAGES: &[(&str, &str)] = &[
    ("buildah", "buildah"),
    ("npm", "npm"),
    ("python3", "python3"),
    ("cc", "gcc"),
];

fn lacking(packages: &[(&str, &'static str)]) -> Vec<&'static str> {
    let missing = packages
        .iter()
        .filter(|(program, _)| !process::has(program));
    missing.map(|(_, package)| *package).collect()
}

fn debian_packages(context: &mut Context) -> Result<()> {
    let mut missing = lacking(PACKAGES);
    let venv = Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .output();
    if !venv.is_ok_and(|output| output.status.success()) {
        missing.push("python3-venv");
    }
    install(context, missing)
}

fn install(context: &mut Context, missing: Vec<&str>) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !rustix::process::geteuid().is_root() || !process::has("apt-get") {
        let reason =
            format!("install them (on Debian: `sudo apt-get install {names}`) and run this again");
        return context.leave_out(&format!("what needs {names}"), &reason);
    }
    context.say(&format!("Debian packages: {names}"));
    apt(&["update", "-q"], "is the package server reachable?")?;
    let mut install = vec!["install", "-q", "-y", "--no-install-recommends"];
    install.extend(missing);
    apt(
        &install,
        "see apt's own message above, and install them by hand",
    )
}

fn apt(arguments: &[&str], advice: &str) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    process::run(&mut command, advice)
}

fn go(context: &mut Context) -> Result<()> {
    if process::has("go") {
        return Ok(());
    }
    context.leave_out(
        "what needs Go",
        "install Go 1.26 or newer and put `go` on PATH",
    )
}

/// What became of the Rust targets for guests.
pub(crate) enum RustTargets {
    /// All are there.
    There,
    /// They are not, and why.
    LeftOut(String),
}

/// Installs the standard library for the Wasm targets.
///
/// # Errors
/// When that fails with CI=true for any reason but that rustup's server can't be reached.
pub(crate) fn rust_targets(context: &mut Context, targets: &[&str]) -> Result<RustTargets> {
    let missing: Vec<_> = targets
        .iter()
        .copied()
        .filter(|target| !has_target(target))
        .collect();
    if missing.is_empty() {
        return Ok(RustTargets::There);
    }
    let what = "the guests in Rust";
    if !process::has("rustup") {
        let reason = format!(
            "this Rust has no {} and there is no rustup to add it",
            missing.join(", ")
        );
        context.leave_out(what, &reason)?;
        return Ok(RustTargets::LeftOut(reason));
    }
    context.say(&format!("rustup target add {}", missing.join(" ")));
    let added = process::output(
        Command::new("rustup")
            .args(["target", "add"])
            .args(&missing),
    )?;
    if added.status.success() {
        return Ok(RustTargets::There);
    }
    let said = String::from_utf8_lossy(&added.stderr).trim().to_owned();
    let reason = format!("`rustup target add {}` failed: {said}", missing.join(" "));
    if unreachable(&said) {
        context.leave_out_even_in_ci(what, &reason);
    } else {
        context.leave_out(what, &reason)?;
    }
    Ok(RustTargets::LeftOut(reason))
}

/// Whether rustup says that it could not fetch, which no retry here can mend.
fn unreachable(said: &str) -> bool {
    [
        "could not download",
        "failed to download",
        "error sending request",
        "dns error",
        "timed out",
    ]
    .iter()
    .any(|words| said.contains(words))
}

fn has_target(target: &str) -> bool {
    let folder =
        process::text(Command::new("rustc").args(["--print", "target-libdir", "--target", target]));
    folder.is_ok_and(|folder| Path::new(&folder).is_dir())
}

/// The python that has zig as a C compiler.
///
/// # Errors
/// When it can't be installed.
pub(crate) fn zig(context: &Context) -> Result<PathBuf> {
    let works = ["python", "-m", "ziglang", "version"];
    let bin = from_pypi(context, "c", &works, "as a C compiler")?;
    Ok(bin.join("python"))
}

/// What makes components of programs in Python.
///
/// # Errors
/// When it can't be installed.
pub(crate) fn componentize_py(context: &Context) -> Result<PathBuf> {
    let works = ["componentize-py", "--version"];
    let bin = from_pypi(context, "python", &works, "which makes components")?;
    Ok(bin.join("componentize-py"))
}

/// The package of a language's `requirements.txt` in an environment of its own: the folder of its
/// programs. It is installed unless what `works` says is a success there.
fn from_pypi(context: &Context, language: &str, works: &[&str], what: &str) -> Result<PathBuf> {
    let guests = context.root.join("guests").join(language);
    let requirements = guests.join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)
        .with_context(|| format!("{} can't be read", requirements.display()))?;
    let folder = context.cache.join(wanted.trim().replace("==", "-"));
    let bin = folder.join("bin");
    let (program, arguments) = works.split_first().context("a program says if it works")?;
    let works = Command::new(bin.join(program)).args(arguments).output();
    if works.is_ok_and(|output| output.status.success()) {
        return Ok(bin);
    }
    context.say(&format!("PyPI's {}, {what}", wanted.trim()));
    let advice = "is PyPI reachable?";
    process::run(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
        advice,
    )?;
    process::run(
        Command::new(bin.join("python"))
            .args(["-m", "pip", "install", "--quiet", "-r"])
            .arg(&requirements),
        advice,
    )?;
    Ok(bin)
}

/// Installs cargo-deny into the cache, unless it is there.
///
/// # Errors
/// When it can't be built.
pub(crate) fn cargo_deny(context: &mut Context) -> Result<()> {
    cargo_tool(context, "cargo-deny", CARGO_DENY, &["--version"])
}

/// Installs cargo-mutants into the cache, unless it is there.
///
/// # Errors
/// When it can't be built.
pub(crate) fn cargo_mutants(context: &mut Context) -> Result<()> {
    let ask = ["mutants", "--version"];
    cargo_tool(context, "cargo-mutants", CARGO_MUTANTS, &ask)
}

/// Installs a program of crates.io into the cache, unless it is there in this version, as it answers to `ask`.
fn cargo_tool(context: &mut Context, name: &str, version: &str, ask: &[&str]) -> Result<()> {
    let program = tool(context, name);
    let found = Command::new(&program).args(ask).output();
    let wanted = format!("{name} {version}");
    if found.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).trim() == wanted) {
        return Ok(());
    }
    context.say(&format!("{wanted}, built once: some minutes"));
    let mut install =
        context.cargo(&["install", name, "--locked", "--force", "--version", version]);
    install
        .arg("--root")
        .arg(context.cache.join("tools"))
        .env("CARGO_TARGET_DIR", context.cache.join("tools/target"))
        // It runs for seconds: what it costs to optimise it never comes back.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_LTO", "off");
    process::run(&mut install, "is crates.io reachable?")?;
    if !program.is_file() {
        bail!("{name} was installed, but not as {}", program.display());
    }
    Ok(())
}

/// Where [`cargo_deny`] installs it.
pub(crate) fn cargo_deny_program(context: &Context) -> PathBuf {
    tool(context, "cargo-deny")
}

/// Where [`cargo_mutants`] installs it.
pub(crate) fn cargo_mutants_program(context: &Context) -> PathBuf {
    tool(context, "cargo-mutants")
}

fn tool(context: &Context, name: &str) -> PathBuf {
    context.cache.join("tools/bin").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_out_of_reach_counts_as_unreachable() {
        assert!(unreachable(
            "error: could not download file from 'https://…' to '/…'"
        ));
        assert!(!unreachable(
            "error: toolchain 'stable' does not support target 'wasm32-wasip9'"
        ));
    }
}
