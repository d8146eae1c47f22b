//! Processes that end with whoever started them, and a folder that goes with them.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal};

/// A process of ours in a process group of its own. Dropping it kills the group; so does our own end, however sudden.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Dropped last: ends the thread that the kernel takes for the parent.
    _parent: mpsc::Sender<()>,
}

impl Process {
    /// Starts `command` with its output in `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Process> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0);
        let parent = rustix::process::getpid();
        // SAFETY: between fork and exec only two system calls are made: prctl and getppid, which are async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                // If the parent died before the line above, nobody will ever send the signal.
                match rustix::process::getppid() == Some(parent) {
                    true => Ok(()),
                    false => Err(std::io::Error::other("the parent is gone")),
                }
            });
        }
        let (parent, alive) = mpsc::channel::<()>();
        let (started, child) = mpsc::channel();
        // "Parent death" is the death of the *thread* that forked, and test threads come and go.
        std::thread::Builder::new()
            .name("parent".to_owned())
            .spawn(move || {
                let _nobody_waits = started.send(command.spawn().map_err(|error| (error, command)));
                let _closed = alive.recv();
            })?;
        let child = child.recv().context("the spawning thread ended")?;
        let child = child
            .map_err(|(error, command)| anyhow!("starting {:?}: {error}", command.get_program()))?;
        Ok(Process {
            child,
            _parent: parent,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().context("the process has no id")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// As [`Process::signal`], for it and what it started: nsenter passes no signals on.
    pub(crate) fn signal_group(&self, signal: Signal) -> Result<()> {
        let group = self.pid().context("the process has no id")?;
        Ok(rustix::process::kill_process_group(group, signal)?)
    }

    /// Waits for it to end.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && let Some(group) = self.pid()
        {
            let _already_gone = rustix::process::kill_process_group(group, Signal::KILL);
        }
        let _reaped = self.child.wait();
    }
}

/// A folder that is removed when this is dropped, and also when this process is killed: a shell waits for that.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    keeper: Child,
    line: Option<ChildStdin>,
}

impl Folder {
    pub(crate) fn new() -> Result<Folder> {
        let path = tempfile::Builder::new()
            .prefix("coracle-e2e-")
            .tempdir()?
            .keep();
        // The pipe ends when we do. Our processes are killed in that instant too, but may still write for a moment.
        let script = r#"read -r keep; [ -n "$keep" ] && exit; for i in 1 2 3 4 5; do rm -rf "$1" && exit; sleep 1; done"#;
        let mut keeper = Command::new("sh")
            .args(["-c", script, "e2e-folder"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the tests, not for whoever cleans up after them.
            .process_group(0)
            .spawn()
            .context("starting sh")?;
        let line = keeper.stdin.take();
        let mut folder = Folder { path, keeper, line };
        if std::env::var_os("CORACLE_E2E_KEEP").is_some() {
            eprintln!("kept: {}", folder.path.display());
            folder.keep();
        }
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder where it is, for whoever reads the logs.
    pub(crate) fn keep(&mut self) {
        if let Some(line) = &mut self.line {
            let _shell_gone = writeln!(line, "keep");
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.line.take());
        let _reaped = self.keeper.wait();
    }
}

/// Asks again after a growing pause until `probe` has an answer or `limit` has passed.
///
/// Only for what can't be awaited: another program's readiness is an answer to a question, not an event.
pub(crate) async fn poll<T, F>(limit: Duration, mut probe: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Option<T>>,
{
    let asking = async {
        let mut pause = Duration::from_millis(20);
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    };
    tokio::time::timeout(limit, asking).await.ok()
}
