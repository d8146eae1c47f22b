//! Where the binary is that the tests run.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The binary: `$CORACLE`, else beside the running test's own.
///
/// # Errors
/// There is none; says how to get one.
pub fn binary() -> Result<PathBuf> {
    let found = match std::env::var_os("CORACLE") {
        Some(path) => PathBuf::from(path),
        None => folder()?.join("coracle"),
    };
    if !found.is_file() {
        bail!(
            "there is no {}: run `cargo build -p coracle` first, or name the binary in CORACLE",
            found.display()
        );
    }
    Ok(found)
}

/// A program of this workspace beside the running test's own.
pub(crate) fn beside(name: &str) -> Result<PathBuf> {
    let found = folder()?.join(name);
    if !found.is_file() {
        bail!(
            "there is no {}: run `cargo build -p e2e` first",
            found.display()
        );
    }
    Ok(found)
}

/// Where cargo puts programs: a test's own file is in a folder below it.
fn folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own file is not known")?;
    let folder = own.parent().context("this program's file has no folder")?;
    let above = folder.parent().filter(|_| folder.ends_with("deps"));
    Ok(above.unwrap_or(folder).to_owned())
}
