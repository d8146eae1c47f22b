//! Children: run to their end, and ended with us.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

/// The process groups of the children that run now.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// How long children may take to end before they are killed.
const GRACE: Duration = Duration::from_secs(10);

fn running() -> MutexGuard<'static, BTreeSet<i32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on a SIGINT, SIGTERM or SIGHUP ends the children, and their children, and then us.
///
/// # Errors
/// When a signal can't be listened to.
#[allow(
    clippy::disallowed_methods,
    reason = "it ends the process, on a thread of its own"
)]
pub(crate) fn end_children_with_us() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let [mut interrupt, mut terminate, mut hangup] = {
        let _inside = runtime.enter();
        [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let number = runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => 2,
                    _ = terminate.recv() => 15,
                    _ = hangup.recv() => 1,
                }
            });
            // Held to the end, so that no child is started meanwhile.
            let groups = running();
            signal_all(&groups, Signal::TERM);
            let deadline = Instant::now() + GRACE;
            while groups.iter().any(|group| alive(*group)) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(50));
            }
            signal_all(&groups, Signal::KILL);
            std::process::exit(128 + number);
        })?;
    Ok(())
}

fn signal_all(groups: &BTreeSet<i32>, signal: Signal) {
    for group in groups.iter().filter_map(|group| Pid::from_raw(*group)) {
        // One that has ended meanwhile is as wanted.
        let _ = kill_process_group(group, signal);
    }
}

fn alive(group: i32) -> bool {
    Pid::from_raw(group)
        .is_some_and(|group| rustix::process::test_kill_process_group(group).is_ok())
}

/// Runs a command to its end, with its output where ours goes.
///
/// # Errors
/// When it can't be started, or fails: then the sentence is `advice`.
pub(crate) fn run(command: &mut Command, advice: &str) -> Result<()> {
    judged(status(command)?, command, advice)
}

/// Runs a command to its end, as [`run`], and ends it and its children when it takes too long: a
/// test that hangs is a failure that can be read, and no silence that somebody else ends.
///
/// # Errors
/// As [`run`], and when it had not ended within `limit`.
pub(crate) fn run_within(limit: Duration, command: &mut Command, advice: &str) -> Result<()> {
    let mut child = spawn(command)?;
    let group = id(&child);
    let (ended, end) = channel::<()>();
    let guard = thread::spawn(move || end_after(limit, group, &end));
    let status = child.wait();
    drop(ended);
    let too_long = guard.join().unwrap_or_default();
    running().remove(&group);
    let status = status.with_context(|| format!("`{}` was lost", shown(command)))?;
    if too_long {
        let minutes = limit.as_secs().div_ceil(60);
        bail!(
            "`{}` was ended after {minutes} min: what it said last hangs: {advice}",
            shown(command)
        );
    }
    judged(status, command, advice)
}

/// Ends a group of processes, unless `end` is closed before; whether it did.
fn end_after(limit: Duration, group: i32, end: &Receiver<()>) -> bool {
    let goes_on = |time| end.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
    if !goes_on(limit) {
        return false;
    }
    let group = BTreeSet::from([group]);
    signal_all(&group, Signal::TERM);
    if goes_on(GRACE) {
        signal_all(&group, Signal::KILL);
    }
    true
}

fn judged(status: ExitStatus, command: &Command, advice: &str) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status}): {advice}", shown(command));
    }
    Ok(())
}

/// Runs a command to its end, with its output where ours goes.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    let mut child = spawn(command)?;
    let status = child.wait();
    running().remove(&id(&child));
    status.with_context(|| format!("`{}` was lost", shown(command)))
}

/// Runs a command to its end, and gives what it wrote.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let id = id(&child);
    let output = child.wait_with_output();
    running().remove(&id);
    output.with_context(|| format!("`{}` was lost", shown(command)))
}

/// Runs a command to its end, and gives the text that it wrote.
///
/// # Errors
/// When it fails: then with what it wrote to standard error.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed ({}): {}",
            shown(command),
            output.status,
            said.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether a program is on PATH.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn spawn(command: &mut Command) -> Result<Child> {
    let mut groups = running();
    let child = command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("`{}` can't be started: is it installed?", shown(command)))?;
    groups.insert(id(&child));
    Ok(child)
}

fn id(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap_or(i32::MAX)
}

fn shown(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_failure_names_the_command_and_the_advice() {
        let error = run(Command::new("false").arg("x"), "do this")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "`false x` failed (exit status: 1): do this");
    }

    #[test]
    fn a_program_that_is_not_there_is_asked_for() {
        let error = status(&mut Command::new("no-such-program"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "`no-such-program` can't be started: is it installed?"
        );
    }

    #[test]
    fn what_hangs_is_ended_and_what_ends_is_not() {
        let second = Duration::from_secs(1);
        let error = run_within(second, Command::new("sleep").arg("1000"), "look at it")
            .unwrap_err()
            .to_string();
        let sentence = "`sleep 1000` was ended after 1 min: what it said last hangs: look at it";
        assert_eq!(error, sentence);
        assert!(run_within(second * 1000, &mut Command::new("true"), "").is_ok());
    }

    #[test]
    fn text_is_what_it_wrote() {
        assert_eq!(text(Command::new("echo").arg("a  b")).unwrap(), "a  b");
    }
}
