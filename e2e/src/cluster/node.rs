//! A Wasm node on a host, as an administrator runs it beside the host's kubelet.

use std::path::PathBuf;
use std::process::ExitStatus;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::Cluster;
use crate::child::Process;
use crate::pki::Identity;

/// A running `coracle node`. Dropping it ends the agent; its guest host ends with the host.
pub struct WasmNode {
    process: Process,
    name: String,
    log: PathBuf,
    root: PathBuf,
}

impl Cluster {
    /// Runs `coracle node` on a host, under its name with `wasm-` before it.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start_node(&self, host: usize, arguments: &[&str]) -> Result<WasmNode> {
        let host = self.host(host)?;
        let name = format!("wasm-{}", host.name());
        let root = host.dir().join("coracle");
        std::fs::create_dir_all(&root)?;
        let kubeconfig = self.kubeconfig(&format!("node-{name}"), &Identity::node(&name))?;
        let mut command = host.command(&crate::binary()?);
        command.args(["node", "--node-name", &name, "--node-ip", host.ip()]);
        // The usual ones are the kubelet's.
        command.args(["--port", "10260", "--healthz-port", "10258"]);
        // The disk of whoever runs the tests may be as full as it likes: kind does the same.
        command.arg("--eviction-hard=");
        command.arg("--kubeconfig").arg(kubeconfig);
        command.arg("--root-dir").arg(&root).args(arguments);
        let process = host.run("coracle", command)?;
        Ok(WasmNode {
            process,
            log: host.dir().join("coracle.log"),
            name,
            root,
        })
    }
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

    /// What it has written so far.
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
}
