//! One host: namespaces below an init, cgroups of its own, and commands in them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::cgroups::Cgroups;
use super::fabric::Fabric;
use crate::child::{Process, poll};

/// How long an init may take to set its host up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host of a cluster. Dropping it ends everything on it.
pub struct Host {
    // Declared, and so dropped, in this order: a cgroup with processes in it can't be removed.
    process: Process,
    cgroups: Cgroups,
    name: String,
    ip: String,
    dir: PathBuf,
    init: u32,
}

impl Host {
    pub(super) async fn start(
        fabric: &Fabric,
        cluster: &Path,
        name: &str,
        ip: &str,
    ) -> Result<Host> {
        let dir = cluster.join(name);
        std::fs::create_dir_all(&dir)?;
        let cgroups = Cgroups::new(&format!("coracle-e2e-{}-{name}", std::process::id()))?;
        let mut command = Command::new("sh");
        let unshare = "exec unshare --kill-child --fork --net --mount --pid --uts --ipc --cgroup \
                       --propagation private -- \"$@\"";
        command
            .arg("-c")
            .arg(format!("{}{unshare}", cgroups.enter()))
            .arg("e2e-host")
            .arg(crate::binary::beside("e2e-build")?)
            .args(["host-init", name])
            .arg(&dir);
        let process = Process::start(command, &dir.join("init.log"))?;
        let (ready, log) = (dir.join("ready"), dir.join("init.log"));
        if !await_file(&ready).await {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            bail!("the host {name} was not set up: {said}");
        }
        let init = child_of(process.id())?;
        fabric.join(init, name, ip)?;
        let host = Host {
            process,
            cgroups,
            name: name.to_owned(),
            ip: ip.to_owned(),
            dir,
            init,
        };
        host.forward()?;
        Ok(host)
    }

    /// A host routes for its pods. The setting is the network namespace's own.
    fn forward(&self) -> Result<()> {
        let set = ["-qw", "net.ipv4.ip_forward=1"];
        let done = self.in_network(Path::new("sysctl")).args(set).status()?;
        anyhow::ensure!(
            done.success(),
            "net.ipv4.ip_forward can't be set on {}",
            self.name
        );
        Ok(())
    }

    /// Its name, which is its kubelet's Node's too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address in the hosts' network.
    pub fn ip(&self) -> &str {
        &self.ip
    }

    /// Where its state and its programs' logs are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What its Wasm nodes have for a `~/.config`.
    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("config")
    }

    /// Its init, as this process numbers it.
    pub fn pid(&self) -> u32 {
        self.init
    }

    /// A command in its network alone, with this machine's files.
    pub fn in_network(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.init))
            .arg("--")
            .arg(program);
        command
    }

    /// A command on it: in all its namespaces and cgroups. It ends with the host, at the latest.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        let enter = format!(
            "{}exec nsenter --target {} --mount --net --pid --uts --ipc --cgroup -- \"$@\"",
            self.cgroups.enter(),
            self.init
        );
        command.args(["-c", &enter, "e2e-host"]).arg(program);
        command
    }

    /// Starts a program on it, with its output in `NAME.log` of [`Host::dir`].
    ///
    /// # Errors
    /// If it can't be started.
    pub(super) fn run(&self, name: &str, command: Command) -> Result<Process> {
        Process::start(command, &self.dir.join(format!("{name}.log")))
            .with_context(|| format!("starting {name} on host {}", self.name))
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&self) -> Result<()> {
        self.process.signal(rustix::process::Signal::KILL)
    }
}

/// Waits for a file that another process makes; false if it does not come.
pub(super) async fn await_file(path: &Path) -> bool {
    let there = poll(PATIENCE, || async { path.exists().then_some(()) });
    there.await.is_some()
}

/// The one child of a process.
fn child_of(pid: u32) -> Result<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let first = text.split_whitespace().next();
    let first = first.with_context(|| format!("{path} is empty"))?;
    Ok(first.parse()?)
}
