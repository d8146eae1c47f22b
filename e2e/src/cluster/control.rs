//! The control plane, on the first host: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.

use std::path::PathBuf;
use std::process::Command;
use std::sync::PoisonError;

use anyhow::{Result, bail};

use super::fabric::ip;
use super::{ASIDE, Cluster, FIRST_HOST, PATIENCE};
use crate::child::{Process, poll};
use crate::launch::RATE;
use crate::pki::Identity;

/// What the API server writes down of what it was asked.
const AUDIT: &str = include_str!("../../cluster/audit.yaml");

impl Cluster {
    pub(super) async fn start_control_plane(&mut self) -> Result<()> {
        let host = self.host(0)?.pid();
        ip(
            host,
            &["addr", "add", &format!("{ASIDE}/24"), "dev", "eth0"],
        )?;
        self.start_etcd()?;
        self.start_api_server().await?;
        for name in ["kube-controller-manager", "kube-scheduler"] {
            let identity = Identity::new(&format!("system:{name}"), &[]);
            let kubeconfig = self.kubeconfig(name, &identity)?;
            self.start_controller(name, kubeconfig)?;
        }
        Ok(())
    }

    fn on_first(&self, program: &str) -> Result<Command> {
        Ok(self.host(0)?.command(&self.programs.path(program)))
    }

    fn begin(&mut self, name: &str, command: Command) -> Result<()> {
        let process = self.host(0)?.run(name, command)?;
        self.processes.push(process);
        Ok(())
    }

    fn start_etcd(&mut self) -> Result<()> {
        let mut etcd = self.on_first("etcd")?;
        etcd.arg("--data-dir").arg(self.host(0)?.dir().join("etcd"));
        // What a test wrote is worth nothing after a power cut.
        etcd.args(["--unsafe-no-fsync", "--log-level", "warn"]);
        let (client, peer) = ("http://127.0.0.1:2379", "http://127.0.0.1:2380");
        etcd.args([
            "--listen-client-urls",
            client,
            "--advertise-client-urls",
            client,
        ]);
        etcd.args(["--listen-peer-urls", peer]);
        self.etcd = Some(self.host(0)?.run("etcd", etcd)?);
        Ok(())
    }

    /// Starts the API server, also again, and waits until it answers.
    ///
    /// # Errors
    /// If it doesn't, with the end of its log.
    pub async fn start_api_server(&self) -> Result<()> {
        let command = self.apiserver()?;
        let process = self.host(0)?.run("kube-apiserver", command)?;
        self.keep_api_server(Some(process));
        self.await_apiserver().await
    }

    /// Kills the API server, as a crash would. etcd goes on.
    pub fn kill_api_server(&self) {
        self.keep_api_server(None);
    }

    fn keep_api_server(&self, process: Option<Process>) {
        let mut kept = self
            .apiserver
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *kept = process;
    }

    /// What the API server wrote down of what it was asked, since its first start.
    pub fn audit_log(&self) -> PathBuf {
        self.dir().join("audit.log")
    }

    fn apiserver(&self) -> Result<Command> {
        let admins = Identity::new("apiserver-kubelet", &["system:masters"]);
        self.kubeconfig("apiserver-kubelet", &admins)?;
        let mut server = self.on_first("kube-apiserver")?;
        server.args(["--etcd-servers", "http://127.0.0.1:2379"]);
        server.args(["--bind-address", "0.0.0.0", "--secure-port", "6443"]);
        server.args(["--advertise-address", FIRST_HOST]);
        server.args(["--service-cluster-ip-range", "10.96.0.0/16"]);
        server.args(["--authorization-mode", "Node,RBAC"]);
        server.args(["--enable-admission-plugins", "NodeRestriction"]);
        server.args(["--enable-bootstrap-token-auth", "--allow-privileged"]);
        server.args([
            "--kubelet-preferred-address-types",
            "InternalIP,ExternalIP,Hostname",
        ]);
        server.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
        self.pki.give_to_apiserver(&mut server);
        let policy = self.dir().join("audit.yaml");
        std::fs::write(&policy, AUDIT)?;
        server.arg("--audit-policy-file").arg(policy);
        server.arg("--audit-log-path").arg(self.audit_log());
        Ok(server)
    }

    async fn await_apiserver(&self) -> Result<()> {
        let ready = poll(PATIENCE, || async {
            let said = self.kubectl(&["get", "--raw", "/readyz"]);
            said.is_ok_and(|said| said == "ok").then_some(())
        });
        if ready.await.is_none() {
            let log = self.host(0)?.dir().join("kube-apiserver.log");
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(15).collect();
            bail!(
                "kube-apiserver isn't ready after {PATIENCE:?}:\n{}",
                last.join("\n")
            );
        }
        Ok(())
    }

    fn start_controller(&mut self, name: &str, kubeconfig: PathBuf) -> Result<()> {
        let mut command = self.on_first(name)?;
        for flag in [
            "--kubeconfig",
            "--authentication-kubeconfig",
            "--authorization-kubeconfig",
        ] {
            command.arg(flag).arg(&kubeconfig);
        }
        command.args(["--leader-elect=false"]).args(RATE);
        if name == "kube-controller-manager" {
            for (flag, file) in [
                ("--service-account-private-key-file", "sa.key"),
                ("--root-ca-file", "ca.crt"),
                ("--client-ca-file", "ca.crt"),
                ("--cluster-signing-cert-file", "ca.crt"),
                ("--cluster-signing-key-file", "ca.key"),
            ] {
                command.arg(flag).arg(self.pki.path(file));
            }
            command.args(["--use-service-account-credentials", "--allocate-node-cidrs"]);
            command.args(["--cluster-cidr", "10.244.0.0/16"]);
            command.args(["--service-cluster-ip-range", "10.96.0.0/16"]);
            command.args(["--controllers", "*,bootstrapsigner,tokencleaner"]);
        }
        self.begin(name, command)
    }
}
