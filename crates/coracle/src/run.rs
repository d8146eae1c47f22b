//! `coracle run`: one pod, in a session of this process until it ends, or of one in the background.

use std::path::PathBuf;

use anyhow::Context;

use crate::cli::output;
use crate::cli::run::Args;
use crate::cli::user_root;
use crate::hands::Streams;
use crate::local::detach::{self, Job};
use crate::local::{Options, Session, name_of};
use crate::program;

/// Runs the pod that `args` describe; gives the exit code.
///
/// # Errors
/// When no guest of it ran.
pub(crate) fn run(args: Args) -> anyhow::Result<u8> {
    if args.detach {
        return detached(&args);
    }
    program::log("warn");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(attached(&args));
    // The pod has let go of everything: nothing that a thread still does is waited for.
    runtime.shutdown_background();
    code
}

fn root(args: &Args) -> anyhow::Result<PathBuf> {
    match &args.root_dir {
        Some(root) => Ok(root.clone()),
        None => user_root(),
    }
}

async fn attached(args: &Args) -> anyhow::Result<u8> {
    let uid = program::uid();
    let mut pod = args.pod(&uid)?;
    let options = Options {
        id: uid,
        streams: Streams::Attached(args.attach()),
        kept: false,
        quiet: args.quiet,
        patient: false,
        // One guest runs on one thread at a time, and all there is is its own.
        workers: Some(1),
        ..Options::new(root(args)?)
    };
    let session = Session::open(options).await?;
    session.publish(&mut pod, &args.publish)?;
    session.apply(pod)?;
    session.until_done().await
}

/// Prints the pod's name once its guest has begun.
fn detached(args: &Args) -> anyhow::Result<u8> {
    let uid = program::uid();
    let pod = args.pod(&uid)?;
    let name = name_of(&pod).1.to_owned();
    let root = root(args)?;
    let job = Job {
        root: std::path::absolute(&root).with_context(|| format!("{}", root.display()))?,
        id: uid,
        pods: vec![pod],
        publish: args.publish.clone(),
        kept: !args.rm,
        quiet: args.quiet,
        command: std::env::args().collect(),
    };
    let code = detach::start("session", &job)?;
    if code == 0 {
        output::out(format!("{name}\n").as_bytes())?;
    }
    Ok(code)
}
