//! What runs on each host, and how it is configured: containerd, kubelet, kube-proxy, and the routes between hosts.

use std::path::Path;

use anyhow::{Context, Result};

use super::fabric::ip;
use super::{Cluster, Host};
use crate::child::Process;
use crate::pki::Identity;

/// CoreDNS as kubeadm installs it, smaller.
pub(super) const COREDNS: &str = include_str!("../../cluster/coredns.yaml");
const CONTAINERD: &str = include_str!("../../cluster/containerd.toml");
const CNI: &str = include_str!("../../cluster/cni.json");
const KUBELET: &str = include_str!("../../cluster/kubelet.yaml");
const KUBE_PROXY: &str = include_str!("../../cluster/kube-proxy.yaml");

pub(super) fn start_containerd(host: &Host) -> Result<Process> {
    let template = host.dir().join("cni.template");
    std::fs::write(&template, CNI)?;
    let text = CONTAINERD.replace("@CNI_TEMPLATE@", &template.display().to_string());
    let file = host.dir().join("containerd.toml");
    std::fs::write(&file, text)?;
    let mut command = host.command(Path::new("containerd"));
    command.arg("-c").arg(&file);
    host.run("containerd", command)
}

impl Cluster {
    /// Starts a host's kubelet and kube-proxy, with the images that its pods need.
    pub(super) async fn start_kubelet(&mut self, number: usize) -> Result<()> {
        let host = self.host(number)?;
        self.images.import(host).await?;
        let (name, address) = (host.name().to_owned(), host.ip().to_owned());
        let ca = self.pki.path("ca.crt").display().to_string();
        let config = host.dir().join("kubelet.yaml");
        std::fs::write(&config, KUBELET.replace("@CA@", &ca))?;
        let mut kubelet = host.command(&self.programs.path("kubelet"));
        kubelet.arg("--config").arg(&config);
        kubelet
            .arg("--kubeconfig")
            .arg(self.kubeconfig(&format!("node-{name}"), &Identity::node(&name))?);
        kubelet.args(["--hostname-override", &name, "--node-ip", &address, "--v=2"]);
        let kubelet = host.run("kubelet", kubelet)?;

        let proxy = Identity::new("system:kube-proxy", &[]);
        let kubeconfig = self.kubeconfig("kube-proxy", &proxy)?;
        let text = KUBE_PROXY
            .replace("@KUBECONFIG@", &kubeconfig.display().to_string())
            .replace("@NODE@", &name);
        let config = host.dir().join("kube-proxy.yaml");
        std::fs::write(&config, text)?;
        let mut proxy = host.command(&self.programs.path("kube-proxy"));
        proxy.arg("--config").arg(&config);
        let proxy = host.run("kube-proxy", proxy)?;
        self.processes.extend([kubelet, proxy]);
        Ok(())
    }

    /// What kindnet and clouds' route controllers do: on each host a route to every other's podCIDR.
    pub(super) async fn route(&self) -> Result<()> {
        let columns = r#"jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDR}{"\n"}{end}"#;
        let count = self.hosts.len();
        let what = "every Node has a podCIDR";
        let said = self
            .await_kubectl(&["get", "nodes", "-o", columns], what, |said| {
                let full = |line: &&str| line.split_whitespace().count() == 2;
                said.lines().filter(full).count() == count
            })
            .await?;
        for line in said.lines() {
            let (name, cidr) = line.split_once(' ').context("a name and a podCIDR")?;
            let Some(target) = self.hosts.iter().find(|host| host.name() == name) else {
                continue;
            };
            for host in self.hosts.iter().filter(|host| host.name() != name) {
                ip(host.pid(), &["route", "replace", cidr, "via", target.ip()])?;
            }
        }
        Ok(())
    }
}
