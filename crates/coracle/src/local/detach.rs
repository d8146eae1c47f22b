//! A session in the background: coracle starts itself again, hands it the pods, and returns once they
//! have begun.
//!
//! Until then the session has the standard error of whoever asked, where progress and errors go, and
//! ends with them. Then it is on its own: no terminal, its own messages in its folder's `out.log`.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use super::{Options, Session};
use crate::program;
use crate::publish::PortMapping;

/// What a detached session is told, on its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The root folder, an absolute path.
    pub(crate) root: PathBuf,
    /// Names the session; with one pod its UID.
    pub(crate) id: String,
    /// What is to run.
    pub(crate) pods: Vec<Pod>,
    /// Ports to be published for the first pod's first container.
    pub(crate) publish: Vec<PortMapping>,
    /// See [`Options::kept`].
    pub(crate) kept: bool,
    /// See [`Options::quiet`].
    pub(crate) quiet: bool,
    /// See [`Options::command`].
    pub(crate) command: Vec<String>,
}

/// What the session says on its standard output when its pods have begun.
const BEGUN: &str = "begun\n";

/// Starts a session in the background; returns once a guest of each pod has begun.
///
/// The code is 0, or that with which the session ended, which has told why.
///
/// # Errors
/// When it can't be started.
pub(crate) fn start(subcommand: &str, job: &impl Serialize) -> anyhow::Result<u8> {
    let (exe, args) = program::child(subcommand);
    let mut child = Command::new(&exe)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .current_dir("/")
        .spawn()
        .with_context(|| format!("can't start {}", exe.display()))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
        bail!("the background session has no pipes");
    };
    let mut line = serde_json::to_vec(job)?;
    line.push(b'\n');
    // One that ended before it read all tells why itself.
    let _ = stdin.write_all(&line);
    let mut said = String::new();
    BufReader::new(stdout).read_line(&mut said)?;
    if said == BEGUN {
        return Ok(0);
    }
    let status = child.wait()?;
    match status.code() {
        Some(code) if code != 0 => Ok(u8::try_from(code).unwrap_or(crate::FAILED)),
        _ => bail!("the background session ended before the pod began: {status}"),
    }
}

/// The session's side of [`start`]: reads what it is to do. The rest of standard input is `Parent`.
///
/// # Errors
/// When it is none.
pub(crate) fn job<T: for<'a> Deserialize<'a>>() -> anyhow::Result<T> {
    // A group of its own, so that a Ctrl-C in the terminal is not for it.
    rustix::process::setsid().context("can't leave the terminal")?;
    let mut line = Vec::new();
    let mut stdin = std::io::stdin().lock();
    stdin.read_until(b'\n', &mut line)?;
    serde_json::from_slice(&line).context("this is for coracle's own use")
}

/// `coracle internal session`.
///
/// # Errors
/// When no guest of a pod began.
pub(crate) fn main() -> anyhow::Result<u8> {
    program::log("warn");
    let job: Job = job()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(async {
        let options = Options {
            id: job.id,
            kept: job.kept,
            quiet: job.quiet,
            patient: false,
            command: job.command,
            ..Options::new(job.root)
        };
        let session = Session::open(options).await?;
        let mut pods = job.pods;
        if let Some(first) = pods.first_mut() {
            session.publish(first, &job.publish)?;
        }
        for pod in pods {
            session.apply(pod)?;
        }
        in_background(session).await
    });
    runtime.shutdown_background();
    code
}

/// Tells whoever asked when the session's pods have begun, lets go of its terminal, and goes on until
/// they have ended. If whoever asked goes before that, the session ends.
///
/// # Errors
/// When a pod could not begin, with why.
pub(crate) async fn in_background(session: Session) -> anyhow::Result<u8> {
    let folder = session.folder();
    let begun = session.clone();
    let mut done = tokio::spawn(session.clone().until_done());
    tokio::select! {
        ended = &mut done => {
            // Its guests may have begun and ended before anybody looked.
            let code = ended??;
            tell_begun(&folder)?;
            return Ok(code);
        }
        failures = begun.begun() => {
            if !failures.is_empty() {
                done.await??;
                bail!(failures.join("\n"));
            }
        }
        () = parent_gone() => {
            session.stop_all();
            return done.await?;
        }
    }
    drop((begun, session));
    tell_begun(&folder)?;
    done.await?
}

/// Resolves when the other end of standard input is closed.
async fn parent_gone() {
    let read = || std::io::stdin().lock().read_to_end(&mut Vec::new());
    // An input that can't be read is nobody's either.
    let _ = tokio::task::spawn_blocking(read).await;
}

fn tell_begun(folder: &Path) -> anyhow::Result<()> {
    {
        let mut stdout = std::io::stdout().lock();
        // Whoever asked may be gone: the pods run, and are found.
        let _ = stdout
            .write_all(BEGUN.as_bytes())
            .and_then(|()| stdout.flush());
    }
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(folder.join("out.log"));
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    match log {
        Ok(log) => rustix::stdio::dup2_stderr(&log)?,
        // A session that is not kept has no folder.
        Err(_) => rustix::stdio::dup2_stderr(&null)?,
    }
    Ok(())
}
