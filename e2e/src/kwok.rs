//! KWOK as a node: it writes what a node must write, and runs nothing.

use std::process::Command;

use anyhow::Result;

use crate::ControlPlane;
use crate::child::Process;
use crate::pki::Identity;
use crate::programs::Programs;

/// What it does with its Node and pods: for a pod one patch to Running and Ready, one to the terminal phase once it is
/// under deletion, then the deletion; an event with each of the patches.
const STAGES: &str = include_str!("../kwok/stages.yaml");

/// A running KWOK, for one Node. Dropping it ends it.
#[derive(Debug)]
pub struct Kwok {
    process: Process,
}

impl Kwok {
    /// Builds KWOK if need be, makes the Node `name`, and starts it.
    ///
    /// # Errors
    /// If it can't be built or started, or if the Node exists.
    pub async fn start(plane: &ControlPlane, name: &str) -> Result<Kwok> {
        let program = Programs::kwok()?;
        let node = format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, annotations: {{kwok.x-k8s.io/node: fake}},\n  \
             labels: {{kubernetes.io/hostname: {name}}}}}\n"
        );
        plane.kubectl_with(&["create", "-f", "-"], &node).await?;
        let config = plane.dir().join("kwok.yaml");
        std::fs::write(&config, STAGES)?;
        // In system:masters, whose requests are authorised first and never queued: that is to its advantage.
        let identity = Identity::new("kwok", &["system:masters"]);
        let kubeconfig = plane.kubeconfig("kwok", &identity)?;
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(kubeconfig);
        command.arg("--config").arg(config);
        command.args(["--manage-single-node", name]);
        command.args([
            "--node-lease-duration-seconds",
            "40",
            "--node-ip",
            "192.0.2.11",
        ]);
        let process = Process::start(command, &plane.dir().join("kwok.log"))?;
        Ok(Kwok { process })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}
