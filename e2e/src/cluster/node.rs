//! A Wasm node on a host, as an administrator runs it beside the host's kubelet.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::{Cluster, Host};
use crate::child::Process;
use crate::pki::Identity;

/// What a Wasm node is started with.
#[derive(Debug, Clone)]
pub struct NodePlan<'a> {
    /// The Node's name.
    pub name: &'a str,
    /// Its folder on the host, and the beginning of its log's name; nodes of one name may have two.
    pub folder: &'a str,
    /// The port of its kubelet API; health is told two below.
    pub port: u16,
    /// Where the API server is.
    pub server: String,
    /// Further arguments of `coracle node`.
    pub arguments: &'a [&'a str],
}

/// A running `coracle node`. Dropping it ends the agent; its guest host ends with the host.
pub struct WasmNode {
    process: Process,
    name: String,
    log: PathBuf,
    root: PathBuf,
    arguments: Vec<OsString>,
    folder: String,
}

impl Cluster {
    /// Runs `coracle node` on a host, under its name with `wasm-` before it.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start_node(&self, host: usize, arguments: &[&str]) -> Result<WasmNode> {
        let name = format!("wasm-{}", self.host(host)?.name());
        let plan = NodePlan {
            name: &name,
            folder: "coracle",
            // The usual ones are the kubelet's.
            port: 10260,
            server: self.server(),
            arguments,
        };
        self.start_node_as(host, &plan)
    }

    /// Runs `coracle node` on a host as planned.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start_node_as(&self, host: usize, plan: &NodePlan<'_>) -> Result<WasmNode> {
        let host = self.host(host)?;
        let root = host.dir().join(plan.folder);
        std::fs::create_dir_all(&root)?;
        let identity = Identity::node(plan.name);
        let file = format!("node-{}-{}-{}", plan.name, host.name(), plan.folder);
        let kubeconfig = self.pki.kubeconfig(&file, &identity, &plan.server)?;
        let mut words: Vec<OsString> = ["node", "--node-name", plan.name, "--node-ip", host.ip()]
            .map(OsString::from)
            .to_vec();
        let (port, healthz) = (plan.port.to_string(), (plan.port - 2).to_string());
        words.extend(["--port", &port, "--healthz-port", &healthz].map(OsString::from));
        // The disk of whoever runs the tests may be as full as it likes: kind does the same.
        words.push("--eviction-hard=".into());
        words.extend(["--kubeconfig".into(), kubeconfig.into()]);
        words.extend(["--root-dir".into(), root.clone().into()]);
        words.extend(plan.arguments.iter().map(OsString::from));
        Ok(WasmNode {
            process: run(host, plan.folder, &words)?,
            log: host.dir().join(format!("{}.log", plan.folder)),
            name: plan.name.to_owned(),
            root,
            arguments: words,
            folder: plan.folder.to_owned(),
        })
    }

    /// Starts a node's agent again on its host, as it was started before.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn restart_node(&self, host: usize, node: &mut WasmNode) -> Result<()> {
        node.process = run(self.host(host)?, &node.folder, &node.arguments)?;
        Ok(())
    }
}

fn run(host: &Host, log: &str, words: &[OsString]) -> Result<Process> {
    let mut command = host.command(&crate::binary()?);
    command.args(words).env("XDG_CONFIG_HOME", host.config());
    host.run(log, command)
}

impl WasmNode {
    /// The Node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its root folder.
    pub fn root(&self) -> &PathBuf {
        &self.root
    }

    /// What it has written so far, over all its starts.
    ///
    /// # Errors
    /// If the log can't be read.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| self.log.display().to_string())
    }

    /// Asks the agent to end, and waits until it has.
    ///
    /// # Errors
    /// If it has ended already.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.signal_group(Signal::TERM)?;
        self.process.wait()
    }

    /// Kills the agent, at once. Its guest host, which is in a session of its own, goes on.
    ///
    /// # Errors
    /// If it has ended already.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.signal_group(Signal::KILL)?;
        self.process.wait()
    }

    /// Waits until the agent ends by itself.
    ///
    /// # Errors
    /// If it can't be waited for.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.process.wait()
    }
}
