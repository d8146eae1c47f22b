//! Real pods on this machine: what a person sees first.

use std::path::Path;
use std::process::Command;

use ::guests::{Guest, Missing};
use anyhow::{Context as _, Result, bail};

use crate::context::Context;
use crate::{guests, process, setup};

/// Sets everything up and runs a Rust hello, a Go program, a C program and CPython.
///
/// # Errors
/// When something can't be built, or a pod does not say what it must.
pub(crate) fn run(context: &mut Context) -> Result<()> {
    context.say("set-up");
    setup::for_guests(context)?;
    guests::build(context)?;
    context.say("coracle: several minutes the first time");
    process::run(
        &mut context.cargo(&["build", "--package", "coracle"]),
        "coracle does not compile",
    )?;
    let coracle = context.target().join("debug/coracle");

    let module = |guest| ::guests::path(guest).map(|path| path.display().to_string());
    let image = ::guests::python_image().map(|path| format!("oci-archive:{}", path.display()));
    let pods: [(&str, Result<String, Missing>, &[&str]); 4] = [
        (
            "a Rust program",
            module(Guest::RustHello),
            &["hello from Rust\n"],
        ),
        (
            "a Go program",
            module(Guest::GoInspect),
            &["args: ", "\n/: "],
        ),
        ("a C program", module(Guest::CHello), &["hello from C\n"]),
        (
            "CPython, from an image that buildah built",
            image,
            &["Python 3.12", "'main.py'", "'python3.wasm'"],
        ),
    ];
    for (what, image, expected) in pods {
        match image {
            Ok(image) => pod(context, &coracle, what, &image, expected)?,
            // The guests' build has told of it already, or failed.
            Err(Missing::LeftOut { reason, .. }) => {
                context.say(&format!("no pod of {what}: {reason}"))
            }
            Err(missing) => return Err(missing.into()),
        }
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the demo shows what its pods say")]
fn pod(
    context: &Context,
    coracle: &Path,
    what: &str,
    image: &str,
    expected: &[&str],
) -> Result<()> {
    context.say(&format!("a pod: {what}"));
    println!("$ coracle run {image}");
    let output = process::output(Command::new(coracle).args(["run", image]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}{}", String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!(
            "the pod of {what} ended with {}; its own words are above",
            output.status
        );
    }
    let missing = expected.iter().find(|part| !text.contains(**part));
    missing
        .map_or(Ok(()), |part| {
            bail!("the pod of {what} did not say {part:?}")
        })
        .with_context(|| {
            format!("`coracle run {image}` came to its end, but not to what this program does")
        })
}
