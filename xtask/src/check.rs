//! The checks that run nothing: formatting, lints, licences, boundaries.

use std::process::Command;

use anyhow::Result;

use crate::context::Context;
use crate::{boundaries, process, setup};

/// Runs them all.
///
/// # Errors
/// When one fails; the sentence says what to do.
pub(crate) fn run(context: &mut Context) -> Result<()> {
    context.say("boundaries between crates");
    boundaries::check(context)?;
    context.say("formatting");
    process::run(
        &mut context.cargo(&["fmt", "--all", "--check"]),
        "run `cargo fmt --all`",
    )?;
    let mut guests = context.cargo(&["fmt", "--check"]);
    guests.current_dir(context.root.join("guests/rust"));
    process::run(&mut guests, "run `cargo fmt` in guests/rust")?;
    context.say("licences, bans and sources of dependencies");
    deny(context)?;
    context.say("lints");
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ];
    process::run(&mut context.cargo(&lints), "mend what clippy says above")?;
    // No target that is run by itself is among all.
    let apart = [
        "clippy",
        "--workspace",
        "--test=hosts",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ];
    process::run(&mut context.cargo(&apart), "mend what clippy says above")
}

/// Advisories are left to those who can fetch their database: a check that needs a server would
/// fail for reasons that are not the code's.
fn deny(context: &Context) -> Result<()> {
    let mut deny = Command::new(setup::cargo_deny_program(context));
    deny.args([
        "--log-level=error",
        "--workspace",
        "--locked",
        "check",
        "bans",
        "licenses",
        "sources",
    ])
    .current_dir(&context.root);
    process::run(&mut deny, "deny.toml says why a dependency is not allowed")
}
