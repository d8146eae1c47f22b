//! Builds the guests, a language at a time, into folders named after their sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use guests::{Guest, LEFT_OUT, Language, World};
use tempfile::TempDir;

use crate::context::Context;
use crate::{process, python, setup};

/// In a folder that is whole: which compiler it was built by.
const STAMP: &str = "built-by.txt";

/// What the name of a folder that is being filled begins with.
const NEW: &str = ".new-";

/// What building one language's guests came to.
pub(crate) enum Built {
    /// All are there.
    All,
    /// Some or all are not, for this reason.
    LeftOut(String),
}

/// Builds the guests that are not built of these sources by these compilers.
///
/// # Errors
/// When a guest does not compile, or what compiles it is missing with CI=true.
pub(crate) fn build(context: &mut Context) -> Result<()> {
    forget_interrupted()?;
    for language in Language::ALL {
        build_language(context, *language)
            .with_context(|| format!("the guests in {language:?} were not built"))?;
    }
    Ok(())
}

fn build_language(context: &mut Context, language: Language) -> Result<()> {
    let folder = language.built()?;
    let compiler = compiler(context, language)?;
    if fs::read_to_string(folder.join(STAMP)).is_ok_and(|stamp| stamp == compiler) {
        return Ok(());
    }
    context.say(&format!("guests in {language:?}"));
    let parent = folder.parent().context("guests are built in a folder")?;
    fs::create_dir_all(parent)?;
    let new = TempDir::with_prefix_in(NEW, parent)?;
    let built = match language {
        Language::Rust => rust(context, new.path())?,
        Language::Go => go(context, new.path())?,
        Language::C => c(context, new.path())?,
        Language::Wat => copy(language, new.path())?,
        Language::Python => python::build(context, new.path())?,
    };
    match built {
        Built::All => {
            expect_all(language, new.path())?;
            fs::write(new.path().join(STAMP), compiler)?;
        }
        Built::LeftOut(reason) => fs::write(new.path().join(LEFT_OUT), reason)?,
    }
    replace(new, &folder)?;
    forget_old(&folder)
}

/// Where cargo builds guests and what is kept of other languages' builds.
fn scratch(context: &Context, name: &str) -> PathBuf {
    context.cache.join("guests-build").join(name)
}

/// What the result depends on beside the sources.
fn compiler(context: &Context, language: Language) -> Result<String> {
    match language {
        Language::Rust => process::text(Command::new("rustc").arg("--version")),
        Language::Go if process::has("go") => process::text(Command::new("go").arg("version")),
        Language::Go => Ok("no go".to_owned()),
        // Their versions stand in the sources.
        Language::C | Language::Wat => Ok(String::new()),
        Language::Python => Ok(python::RECIPE.to_owned()),
    }
    .with_context(|| format!("in {}", context.root.display()))
}

pub(crate) fn of(language: Language) -> impl Iterator<Item = Guest> {
    Guest::ALL
        .iter()
        .copied()
        .filter(move |guest| guest.language() == language)
}

fn rust(context: &mut Context, out: &Path) -> Result<Built> {
    let worlds = [
        (World::P1, "wasm32-wasip1", "--bin", ""),
        (World::P2, "wasm32-wasip2", "--bin", ""),
        (World::Http, "wasm32-wasip2", "--example", "examples"),
        // Preview 3 has no target of its own: what speaks it imports both.
        (World::P3, "wasm32-wasip2", "--example", "examples"),
        (World::Http3, "wasm32-wasip2", "--example", "examples"),
    ];
    let targets = ["wasm32-wasip1", "wasm32-wasip2"];
    if let setup::RustTargets::LeftOut(reason) = setup::rust_targets(context, &targets)? {
        return Ok(Built::LeftOut(reason));
    }
    let target_dir = scratch(context, "rust");
    for (world, target, kind, folder) in worlds {
        let guests: Vec<_> = of(Language::Rust)
            .filter(|guest| guest.world() == world)
            .collect();
        let mut cargo = context.cargo(&[
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--target",
            target,
        ]);
        cargo.args(guests.iter().flat_map(|guest| [kind, guest.name()]));
        // The host's flags are not for them.
        cargo
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        cargo
            .current_dir(Language::Rust.sources())
            .env("CARGO_TARGET_DIR", &target_dir);
        process::run(&mut cargo, "a guest in guests/rust does not compile")?;
        for guest in guests {
            let built = target_dir
                .join(target)
                .join("release")
                .join(folder)
                .join(format!("{}.wasm", guest.name()));
            fs::copy(&built, out.join(guest.file()))
                .with_context(|| built.display().to_string())?;
        }
    }
    Ok(Built::All)
}

fn go(context: &mut Context, out: &Path) -> Result<Built> {
    if !process::has("go") {
        let reason = "there is no `go` on PATH";
        context.leave_out("the guests in Go", reason)?;
        return Ok(Built::LeftOut(reason.to_owned()));
    }
    for guest in of(Language::Go) {
        let mut command = Command::new("go");
        command
            .args(["build", "-trimpath", "-buildvcs=false", "-o"])
            .arg(out.join(guest.file()))
            .arg(format!("./{}", guest.name()))
            .current_dir(Language::Go.sources())
            .envs([
                ("GOOS", "wasip1"),
                ("GOARCH", "wasm"),
                ("GOFLAGS", ""),
                ("GOWORK", "off"),
            ]);
        process::run(
            &mut command,
            "a guest in guests/go does not compile, or Go is older than its go.mod",
        )?;
    }
    Ok(Built::All)
}

fn c(context: &mut Context, out: &Path) -> Result<Built> {
    if !process::has("python3") {
        let reason = "there is no `python3` on PATH to install zig with";
        context.leave_out("the guests in C", reason)?;
        return Ok(Built::LeftOut(reason.to_owned()));
    }
    let python = setup::zig(context)?;
    for guest in of(Language::C) {
        let mut command = Command::new(&python);
        command.args([
            "-m",
            "ziglang",
            "cc",
            "-target",
            "wasm32-wasi",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
        ]);
        // The one whose backtraces are to show lines.
        let debug = if guest == Guest::CTrap {
            "-g"
        } else {
            "-Wl,--strip-debug"
        };
        command
            .args([debug, "-o"])
            .arg(out.join(guest.file()))
            .arg(format!("{}.c", guest.name()))
            .current_dir(Language::C.sources())
            .env("ZIG_GLOBAL_CACHE_DIR", scratch(context, "zig"));
        process::run(&mut command, "a guest in guests/c does not compile")?;
    }
    Ok(Built::All)
}

fn copy(language: Language, out: &Path) -> Result<Built> {
    for guest in of(language) {
        fs::copy(
            language.sources().join(guest.file()),
            out.join(guest.file()),
        )?;
    }
    Ok(Built::All)
}

fn expect_all(language: Language, folder: &Path) -> Result<()> {
    for guest in of(language) {
        if !folder.join(guest.file()).is_file() {
            bail!("{guest:?} was built, but {} is not there", guest.file());
        }
    }
    Ok(())
}

/// Puts a whole folder in its place. Whoever looks sees the old one, none, or the new one.
fn replace(new: TempDir, folder: &Path) -> Result<()> {
    let new = new.keep();
    // mkdtemp makes a folder for its owner alone.
    rustix::fs::chmod(&new, rustix::fs::Mode::from_raw_mode(0o755))?;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::rename(&new, folder).with_context(|| {
        format!(
            "{} can't be put in place: does another xtask build it? Run this again",
            folder.display()
        )
    })
}

/// What a build that was interrupted left behind; a younger one may still be at work.
fn forget_interrupted() -> Result<()> {
    const AGE: Duration = Duration::from_secs(60 * 60);
    let Ok(entries) = fs::read_dir(::guests::root()?) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        let old = entry
            .metadata()?
            .modified()?
            .elapsed()
            .is_ok_and(|age| age > AGE);
        if old
            && entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(NEW.as_bytes())
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Of each language only the newest few builds are kept.
fn forget_old(folder: &Path) -> Result<()> {
    const KEPT: usize = 4;
    let name = folder
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    let (Some(parent), Some((language, _))) = (folder.parent(), name.split_once('-')) else {
        return Ok(());
    };
    let mut builds = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let name = entry.file_name();
        let of_language = name
            .to_str()
            .and_then(|n| n.split_once('-'))
            .is_some_and(|(l, _)| l == language);
        if of_language && entry.path() != folder {
            builds.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    builds.sort();
    builds.reverse();
    for (_, old) in builds.into_iter().skip(KEPT - 1) {
        fs::remove_dir_all(&old).with_context(|| format!("{} can't be removed", old.display()))?;
    }
    Ok(())
}
