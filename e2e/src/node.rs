//! A node binary as a process of its own, as an administrator runs it.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal};

use crate::ControlPlane;
use crate::child::Process;

/// A running node agent. Dropping it ends it, and every process that was given its root folder (its guest host).
#[derive(Debug)]
pub struct NodeProcess {
    process: Process,
    log: PathBuf,
    root: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    port: u16,
    healthz_port: u16,
}

impl NodeProcess {
    /// Runs `BINARY node --kubeconfig … --node-name NAME --root-dir … ARGUMENTS` with the node's own identity, and its
    /// ports on free ones of loopback: nodes of many tests are beside each other.
    ///
    /// The root folder belongs to the name: a node that is started again finds what it left.
    ///
    /// # Errors
    /// If the binary can't be started.
    pub fn start(
        plane: &ControlPlane,
        binary: &Path,
        name: &str,
        arguments: &[&str],
    ) -> Result<NodeProcess> {
        NodeProcess::start_in(plane, binary, name, arguments, &[])
    }

    /// As [`NodeProcess::start`], with variables added to its environment.
    ///
    /// # Errors
    /// If the binary can't be started.
    pub fn start_in(
        plane: &ControlPlane,
        binary: &Path,
        name: &str,
        arguments: &[&str],
        environment: &[(OsString, OsString)],
    ) -> Result<NodeProcess> {
        let kubeconfig = plane.node_kubeconfig(name)?;
        let identity = ["--kubeconfig".into(), kubeconfig.into()];
        NodeProcess::start_as(plane, (binary, name), identity, arguments, environment)
    }

    /// As [`NodeProcess::start`], with a bootstrap kubeconfig in place of an identity.
    ///
    /// # Errors
    /// If the binary can't be started.
    pub fn bootstrap(
        plane: &ControlPlane,
        binary: &Path,
        name: &str,
        kubeconfig: &Path,
        arguments: &[&str],
    ) -> Result<NodeProcess> {
        let identity = ["--bootstrap-kubeconfig".into(), kubeconfig.into()];
        NodeProcess::start_as(plane, (binary, name), identity, arguments, &[])
    }

    fn start_as(
        plane: &ControlPlane,
        (binary, name): (&Path, &str),
        identity: [OsString; 2],
        arguments: &[&str],
        environment: &[(OsString, OsString)],
    ) -> Result<NodeProcess> {
        let root = plane.dir().join("nodes").join(name);
        std::fs::create_dir_all(&root)?;
        let log = plane.dir().join(format!("node-{name}.log"));
        let mut words: Vec<OsString> = vec![binary.into(), "node".into()];
        words.extend(identity);
        words.extend(["--node-name".into(), name.into()]);
        words.extend(["--root-dir".into(), root.clone().into()]);
        let (port, healthz_port) = free_ports()?;
        words.extend(["--address", "127.0.0.1", "--port"].map(OsString::from));
        words.extend([port.to_string().into(), "--healthz-port".into()]);
        words.push(healthz_port.to_string().into());
        // The disk of whoever runs the tests may be as full as it likes: kind does the same.
        words.push("--eviction-hard=".into());
        words.extend(arguments.iter().map(OsString::from));
        let process = run(&words, environment, &log)?;
        Ok(NodeProcess {
            process,
            log,
            root,
            arguments: words,
            environment: environment.to_vec(),
            port,
            healthz_port,
        })
    }

    /// Starts the agent again after it has ended, as it was started before.
    ///
    /// # Errors
    /// If the binary can't be started.
    pub fn restart(&mut self) -> Result<()> {
        self.process = run(&self.arguments, &self.environment, &self.log)?;
        Ok(())
    }

    /// Kills its guest host, at once: every process but the agent that was given its root folder.
    ///
    /// # Errors
    /// If there is none.
    pub fn kill_children(&self) -> Result<()> {
        let others = self.others();
        ensure!(!others.is_empty(), "the node has no guest host");
        for pid in others {
            rustix::process::kill_process(pid, Signal::KILL)?;
        }
        Ok(())
    }

    /// The process ids of its guest host: of every process but the agent that was given its root folder.
    pub fn children(&self) -> Vec<u32> {
        let ids = self.others().into_iter();
        ids.filter_map(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok())
            .collect()
    }

    fn others(&self) -> Vec<Pid> {
        let agent = i32::try_from(self.id()).ok();
        let all = processes_of(&self.root).into_iter();
        all.filter(|pid| Some(pid.as_raw_nonzero().get()) != agent)
            .collect()
    }

    /// The agent's process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The port of its kubelet API, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of its plain health, on loopback.
    pub fn healthz_port(&self) -> u16 {
        self.healthz_port
    }

    /// Its root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What it has written to standard output and standard error so far, over all its starts.
    ///
    /// # Errors
    /// If the log can't be read.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// Kills the agent alone, at once. What it started goes on.
    ///
    /// # Errors
    /// If it has ended already.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.signal(Signal::KILL)?;
        self.process.wait()
    }

    /// Asks the agent to end, and waits until it has.
    ///
    /// # Errors
    /// If it has ended already.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        tokio::task::block_in_place(|| self.process.wait())
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // A guest host outlives its agent on purpose; it is known by the root folder in its arguments.
        for pid in processes_of(&self.root) {
            let _already_gone = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// Two ports of loopback that were free a moment ago. Both are held until both are known, so that they differ.
fn free_ports() -> Result<(u16, u16)> {
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((held.local_addr()?.port(), other.local_addr()?.port()))
}

fn run(words: &[OsString], environment: &[(OsString, OsString)], log: &Path) -> Result<Process> {
    let (binary, arguments) = words.split_first().context("no binary was named")?;
    let mut command = Command::new(binary);
    command.args(arguments);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Process::start(command, log).with_context(|| format!("starting {}", binary.display()))
}

fn processes_of(root: &Path) -> Vec<Pid> {
    let root = root.to_string_lossy().into_owned();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let given = |pid: &i32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(&root)
    };
    names.filter(given).filter_map(Pid::from_raw).collect()
}
