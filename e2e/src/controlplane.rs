//! etcd and kube-apiserver on loopback, and what tests ask of them.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client, Config};
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;

use crate::audit::Audit;
use crate::child::{Folder, Process, poll};
use crate::launch::{
    Ports, is_ready, start_apiserver, start_controllers, start_etcd, start_signer,
};
use crate::pki::{Identity, Pki};
use crate::programs::Programs;

/// How long the control plane may take to answer, on a machine that is busy with other tests.
const READY: Duration = Duration::from_secs(300);

/// How long a test waits for a pod to become what it expects.
const PATIENCE: Duration = Duration::from_secs(300);

/// A bootstrap token, and what kubeadm binds to those who have one and to nodes.
const BOOTSTRAP: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-abcdef, namespace: kube-system}
type: bootstrap.kubernetes.io/token
stringData:
  token-id: abcdef
  token-secret: 0123456789abcdef
  usage-bootstrap-authentication: "true"
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bootstrap-ask}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-bootstrapper"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: bootstrap-approve}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: rotate-approve}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes"}]
"#;

/// A running control plane. Dropping it ends its processes and removes its folder; so does the death of this process.
pub struct ControlPlane {
    // Declared, and so dropped, in this order: who reads, who is read, and the folder of both.
    signer: OnceCell<Process>,
    controllers: OnceCell<Vec<Process>>,
    apiserver: Mutex<Option<Process>>,
    etcd: Mutex<Process>,
    ports: Ports,
    pki: Pki,
    admin: PathBuf,
    programs: Programs,
    folder: Mutex<Folder>,
}

impl ControlPlane {
    /// Starts one, and waits until it answers.
    ///
    /// # Errors
    /// If the programs aren't built (it says how), or don't start (with the end of their log).
    pub async fn start() -> Result<ControlPlane> {
        let _already_set = rustls::crypto::ring::default_provider().install_default();
        let programs = Programs::find()?;
        let mut last = None;
        // Between finding a free port and listening on it, somebody else may take it.
        for _ in 0..5 {
            match ControlPlane::try_start(&programs).await {
                Ok(plane) => return Ok(plane),
                Err(error) if format!("{error:#}").contains("address already in use") => {
                    last = Some(error)
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow!("no free port")))
    }

    /// The one that all tests of this process share: started by the first. Each test uses a namespace and a node of its
    /// own. It ends with the process.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub async fn shared() -> Result<Guard> {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_try_init(ControlPlane::start).await.map(Guard)
    }

    async fn try_start(programs: &Programs) -> Result<ControlPlane> {
        let folder = Folder::new()?;
        let pki = Pki::new(&folder.path().join("pki"))?;
        let ports = Ports::free()?;
        let kubelets = Identity::new("apiserver-kubelet", &["system:masters"]);
        pki.kubeconfig("apiserver-kubelet", &kubelets, &ports.server())?;
        let etcd = start_etcd(programs, folder.path(), ports)?;
        let apiserver = start_apiserver(programs, folder.path(), &pki, ports)?;
        let admin = pki.kubeconfig("admin", &Identity::admin(), &ports.server())?;
        let plane = ControlPlane {
            signer: OnceCell::new(),
            controllers: OnceCell::new(),
            apiserver: Mutex::new(Some(apiserver)),
            etcd: Mutex::new(etcd),
            ports,
            pki,
            admin,
            programs: programs.clone(),
            folder: Mutex::new(folder),
        };
        plane.await_ready().await?;
        Ok(plane)
    }

    /// Whoever approves and signs certificates from now on, as in a cluster of kubeadm's: the requests of bootstrap
    /// tokens and of nodes for themselves are approved, and each certificate lasts a minute. Returns the kubeconfig of
    /// a bootstrap token, without a certificate.
    ///
    /// # Errors
    /// If it can't be started.
    pub async fn signer(&self) -> Result<PathBuf> {
        let start = || async {
            self.kubectl_with(&["apply", "-f", "-"], BOOTSTRAP).await?;
            start_signer(&self.programs, &self.dir(), &self.pki, self.ports)
        };
        self.signer.get_or_try_init(start).await?;
        self.pki
            .token_kubeconfig("bootstrap", "abcdef.0123456789abcdef", &self.server())
    }

    /// The scheduler, and the controllers of Deployments, ReplicaSets and of what taints Nodes, from now on. What they
    /// ask of the API server is as good as not limited.
    ///
    /// # Errors
    /// If they can't be started.
    pub async fn controllers(&self) -> Result<()> {
        let start =
            || async { start_controllers(&self.programs, &self.dir(), &self.pki, self.ports) };
        self.controllers.get_or_try_init(start).await.map(|_| ())
    }

    /// What nodes write from now on.
    pub fn audit(&self) -> Audit {
        Audit::from_now(&self.dir())
    }

    /// Kills the API server, as a crash would. etcd goes on.
    pub fn stop_api_server(&self) {
        drop(
            self.apiserver
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }

    /// Starts it again on the same port, and waits until it answers.
    ///
    /// # Errors
    /// If it doesn't start, with the end of its log.
    pub async fn start_api_server(&self) -> Result<()> {
        let process = start_apiserver(&self.programs, &self.dir(), &self.pki, self.ports)?;
        *self
            .apiserver
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(process);
        self.await_ready().await
    }

    /// Polled, because an external program tells nobody when it is ready: /readyz is its answer to that question.
    async fn await_ready(&self) -> Result<()> {
        let client = self.admin().await?;
        let ready = poll(READY, || async {
            match self.ended() {
                Some(ended) => Some(Err(ended)),
                None => is_ready(&client).await.then_some(Ok(())),
            }
        });
        match ready.await {
            Some(Ok(())) => Ok(()),
            Some(Err((program, why))) => {
                bail!("{program} ended ({why}):\n{}", self.tail(program))
            }
            None => bail!(
                "kube-apiserver isn't ready after {READY:?}:\n{}",
                self.tail("kube-apiserver")
            ),
        }
    }

    /// Which of the two has ended, and how. Without etcd the API server would wait for ever.
    fn ended(&self) -> Option<(&'static str, String)> {
        let mut etcd = self.etcd.lock().unwrap_or_else(PoisonError::into_inner);
        let mut apiserver = self
            .apiserver
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let how = |process: &mut Process| {
            process.ended().map_or_else(
                |error| Some(error.to_string()),
                |status| status.map(|status| status.to_string()),
            )
        };
        how(&mut etcd)
            .map(|why| ("etcd", why))
            .or_else(|| Some(("kube-apiserver", how(apiserver.as_mut()?)?)))
    }

    fn tail(&self, program: &str) -> String {
        let log =
            std::fs::read_to_string(self.dir().join(format!("{program}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The folder of everything: logs, certificates, data. Removed at the end, unless [`Self::keep`].
    pub fn dir(&self) -> PathBuf {
        self.folder
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .path()
            .to_owned()
    }

    /// Leaves [`Self::dir`] where it is.
    pub fn keep(&self) {
        self.folder
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keep();
    }

    /// Where the programs are.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The API server's address.
    pub fn server(&self) -> String {
        self.ports.server()
    }

    /// The kubeconfig of one who may do everything.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin
    }

    /// The kubeconfig of the node `name`: `system:node:NAME` of `system:nodes`.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn node_kubeconfig(&self, name: &str) -> Result<PathBuf> {
        self.kubeconfig(&format!("node-{name}"), &Identity::node(name))
    }

    /// A kubeconfig of anyone, in files that begin with `file`.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn kubeconfig(&self, file: &str, identity: &Identity) -> Result<PathBuf> {
        self.pki.kubeconfig(file, identity, &self.server())
    }

    /// A client of one who may do everything. It lives on the current runtime: make one in each test.
    ///
    /// # Errors
    /// If the kubeconfig can't be read.
    pub async fn admin(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(&self.admin)?;
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.proxy_url = None;
        Ok(Client::try_from(config)?)
    }

    /// Runs kubectl as one who may do everything. Returns its standard output.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with(arguments, "").await
    }

    /// As [`Self::kubectl`], with an input: a manifest for `apply -f -`.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub async fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut child = tokio::process::Command::new(self.programs.path("kubectl"))
            .args(arguments)
            .env("KUBECONFIG", &self.admin)
            .env("KUBECACHEDIR", self.dir().join("kubectl-cache"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(input.as_bytes())
                .await
                .context("writing to kubectl")?;
        }
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!(
                "kubectl {} failed: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Waits, by a watch, until the pod (`None` if there is none) meets the condition, which `what` puts into words for
    /// the failure. Returns the pod as it then was.
    ///
    /// # Errors
    /// After five minutes, with the pod as it is.
    pub async fn await_pod(
        &self,
        namespace: &str,
        name: &str,
        what: &str,
        expected: impl Condition<Pod>,
    ) -> Result<Option<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.admin().await?, namespace);
        match tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, expected)).await {
            Ok(seen) => Ok(seen?),
            Err(_) => {
                let pod = serde_json::to_string_pretty(&api.get_opt(name).await?)?;
                bail!("pod {namespace}/{name} isn't {what} after {PATIENCE:?}: {pod}")
            }
        }
    }

    /// Makes a namespace for one test. The name must be free.
    ///
    /// # Errors
    /// If it exists.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        self.kubectl(&["create", "namespace", name])
            .await
            .map(|_| ())
    }
}

/// A test's hold on the shared control plane. If the test panics, the folder with all logs is left and named.
pub struct Guard(&'static ControlPlane);

impl Deref for Guard {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        self.0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.keep();
            eprintln!(
                "the control plane's logs are kept in {}",
                self.0.dir().display()
            );
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
            eprintln!(
                "the control plane's logs are kept in {}",
                self.dir().display()
            );
        }
    }
}
