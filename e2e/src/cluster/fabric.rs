//! The network between the hosts: a bridge in a network namespace of its own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::host::await_file;
use crate::child::Process;

/// The bridge's own address: every host's default route, which leads nowhere else. Without one ClusterIPs fail before
/// they are translated.
pub(super) const GATEWAY: &str = "172.30.0.254";

/// See the module.
pub(super) struct Fabric {
    process: Process,
}

impl Fabric {
    pub(super) async fn new(dir: &Path) -> Result<Fabric> {
        let begun = dir.join("fabric.begun");
        let mut command = Command::new("unshare");
        command
            .args(["--net", "sh", "-c"])
            .arg(r#"echo > "$0"; exec sleep infinity"#)
            .arg(&begun);
        let process = Process::start(command, &dir.join("fabric.log"))?;
        ensure!(await_file(&begun).await, "no network namespace was made");
        let fabric = Fabric { process };
        let pid = fabric.pid();
        ip(pid, &["link", "set", "lo", "up"])?;
        ip(pid, &["link", "add", "br0", "type", "bridge"])?;
        ip(
            pid,
            &["addr", "add", &format!("{GATEWAY}/24"), "dev", "br0"],
        )?;
        ip(pid, &["link", "set", "br0", "up"])?;
        Ok(fabric)
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Joins the host whose init is `pid` to the bridge, with an address.
    pub(super) fn join(&self, pid: u32, name: &str, address: &str) -> Result<()> {
        let (fabric, port) = (self.pid().to_string(), format!("h-{name}"));
        let link = ["link", "add", "eth0", "type", "veth", "peer", "name", &port];
        let mut arguments = link.to_vec();
        arguments.extend(["netns", &fabric]);
        ip(pid, &arguments)?;
        ip(self.pid(), &["link", "set", &port, "master", "br0", "up"])?;
        ip(
            pid,
            &["addr", "add", &format!("{address}/24"), "dev", "eth0"],
        )?;
        ip(pid, &["link", "set", "lo", "up"])?;
        ip(pid, &["link", "set", "eth0", "up"])?;
        ip(pid, &["route", "add", "default", "via", GATEWAY])
    }
}

/// Runs `ip` in the network of a process.
pub(super) fn ip(pid: u32, arguments: &[&str]) -> Result<()> {
    let output = Command::new("nsenter")
        .arg(format!("--net=/proc/{pid}/ns/net"))
        .arg("ip")
        .args(arguments)
        .output()
        .context("running nsenter")?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
