//! Where the binary is that the tests run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The binary: `$CORACLE`, else beside the running test's own.
///
/// # Errors
/// There is none; says how to get one.
pub fn binary() -> Result<PathBuf> {
    let binary = match std::env::var_os("CORACLE") {
        Some(path) => PathBuf::from(path),
        None => {
            let test = std::env::current_exe().context("this test's own file is not known")?;
            let folder = test.parent().and_then(Path::parent);
            folder
                .context("this test's file has no folder above its own")?
                .join("coracle")
        }
    };
    if !binary.is_file() {
        bail!(
            "there is no {}: run `cargo build -p coracle` first, or name the binary in CORACLE",
            binary.display()
        );
    }
    Ok(binary)
}
