//! A real cluster in network namespaces: a control plane, and hosts each with a real kubelet, containerd, CNI and kube-proxy,
//! on which Wasm nodes join as a second node of the host.
//!
//! A "host" is a network namespace on a bridge, plus mount, pid, uts, ipc and cgroup namespaces below one init
//! ([`Host`]). Nothing of it has a name on the machine but its cgroups: it is gone when its init is, and that ends with
//! whoever started it. Must not know: what is tested in it.

mod cgroups;
mod configuration;
mod control;
mod fabric;
mod host;
mod images;
pub mod init;
mod node;
mod outage;
mod registry;
mod way;
mod within;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::child::{Folder, Process, poll};
use crate::pki::{Identity, Pki};
use crate::programs::Programs;
use fabric::Fabric;
pub use host::Host;
use images::Images;
pub use node::{NodePlan, WasmNode};
pub use outage::{Cut, Paused};
pub use registry::push_module_to;
use way::Way;

/// How long anything may take to become ready on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// The network of the hosts: the nth has 172.30.0.n.
const FIRST_HOST: &str = "172.30.0.1";

/// Another address of the API server, which can be cut off without any kubelet's noticing.
const ASIDE: &str = "172.30.0.100";

/// Programs of Debian's packages that hosts need.
const TOOLS: [&str; 8] = [
    "ip",
    "unshare",
    "nsenter",
    "containerd",
    "runc",
    "nft",
    "buildah",
    "sysctl",
];

/// A running cluster. Dropping it ends every process in it and removes its folder and cgroups; so does the death of
/// this process.
pub struct Cluster {
    // Declared, and so dropped, in this order: who talks, the hosts, their network, and the folder of all.
    way: Option<Way>,
    processes: Vec<Process>,
    etcd: Option<Process>,
    apiserver: Mutex<Option<Process>>,
    hosts: Vec<Host>,
    fabric: Fabric,
    pki: Pki,
    programs: Programs,
    images: Images,
    folder: Folder,
}

impl Cluster {
    /// Why this machine can't have one; `None` if it can.
    pub fn lacks() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("making network namespaces takes root".to_owned());
        }
        let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| !on_path(tool)).collect();
        if !missing.is_empty() {
            return Some(format!("{} is missing", missing.join(", ")));
        }
        let plugin = Path::new(init::CNI_PLUGINS).join("bridge");
        (!plugin.exists()).then(|| format!("{} is missing", plugin.display()))
    }

    /// Starts the control plane and `hosts` hosts named `a`, `b`, …, and waits until every kubelet's Node is Ready and
    /// CoreDNS answers.
    ///
    /// # Errors
    /// What could not be started, with the end of its log.
    pub async fn start(hosts: usize) -> Result<Cluster> {
        let _already_set = rustls::crypto::ring::default_provider().install_default();
        if let Some(lack) = Cluster::lacks() {
            bail!("no cluster can be made here: {lack}");
        }
        let programs = Programs::find()?;
        let folder = Folder::new()?;
        let images = Images::build(&programs, folder.path())?;
        let pki = Pki::with_addresses(
            &folder.path().join("pki"),
            &[FIRST_HOST, ASIDE, "10.96.0.1"],
        )?;
        let fabric = Fabric::new(folder.path()).await?;
        let mut cluster = Cluster {
            way: None,
            processes: Vec::new(),
            etcd: None,
            apiserver: Mutex::new(None),
            hosts: Vec::new(),
            fabric,
            pki,
            programs,
            images,
            folder,
        };
        for number in 0..hosts {
            cluster.add_host(number).await?;
        }
        cluster.way = Some(Way::open(cluster.host(0)?.pid())?);
        cluster.start_control_plane().await?;
        for number in 0..hosts {
            cluster.start_kubelet(number).await?;
        }
        cluster.await_nodes(hosts).await?;
        cluster.route().await?;
        cluster.start_dns().await?;
        cluster.start_registries().await?;
        Ok(cluster)
    }

    async fn add_host(&mut self, number: usize) -> Result<()> {
        let letter = u8::try_from(number)
            .ok()
            .and_then(|number| b'a'.checked_add(number))
            .context("a cluster has 26 hosts at the most")?;
        let name = char::from(letter).to_string();
        let ip = format!("172.30.0.{}", number + 1);
        let host = Host::start(&self.fabric, self.folder.path(), &name, &ip).await?;
        self.processes.push(configuration::start_containerd(&host)?);
        self.hosts.push(host);
        Ok(())
    }

    /// A host by its number.
    ///
    /// # Errors
    /// If there is none.
    pub fn host(&self, number: usize) -> Result<&Host> {
        let host = self.hosts.get(number);
        host.with_context(|| format!("there is no host {number}"))
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The folder of everything: logs, certificates, data.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder where it is, for whoever reads the logs.
    pub fn keep(&mut self) {
        self.folder.keep();
    }

    /// Where the programs are.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The API server's address, inside the hosts' network.
    pub fn server(&self) -> String {
        format!("https://{FIRST_HOST}:6443")
    }

    /// A kubeconfig of anyone, in files that begin with `file`.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn kubeconfig(&self, file: &str, identity: &Identity) -> Result<PathBuf> {
        self.pki.kubeconfig(file, identity, &self.server())
    }

    /// The kubeconfig of one who may do everything.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn admin_kubeconfig(&self) -> Result<PathBuf> {
        let known = self.pki.path("admin.kubeconfig");
        if known.exists() {
            return Ok(known);
        }
        self.kubeconfig("admin", &Identity::admin())
    }

    /// The kubeconfig of one who may do everything, for programs outside the hosts' network.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn outer_kubeconfig(&self) -> Result<PathBuf> {
        let way = self.way.as_ref().context("there is no way in yet")?;
        self.pki
            .kubeconfig("outer", &Identity::admin(), &way.server())
    }

    /// Does `work` with a client of one who may do everything, on a thread in the first host's network: nobody else
    /// reaches the API server.
    ///
    /// # Errors
    /// What `work` returns, or why the thread could not be had.
    pub fn with_client<T, F, W>(&self, work: W) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>>,
        W: FnOnce(Client) -> F + Send,
    {
        let admin = self.admin_kubeconfig()?;
        within::network(self.host(0)?.pid(), move || async move {
            let kubeconfig = Kubeconfig::read_from(admin)?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
            work(Client::try_from(config)?).await
        })
    }

    /// Runs kubectl as one who may do everything. Returns its standard output.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with(arguments, "")
    }

    /// As [`Cluster::kubectl`], with an input: a manifest for `apply -f -`.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = self.host(0)?.in_network(&self.programs.path("kubectl"));
        command
            .args(arguments)
            .env("KUBECONFIG", self.admin_kubeconfig()?)
            .env("KUBECACHEDIR", self.dir().join("kubectl-cache"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("starting kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            std::io::Write::write_all(&mut stdin, input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "kubectl {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Asks kubectl again until `seen` accepts what it printed. `what` puts that into words for the failure.
    ///
    /// # Errors
    /// After five minutes, with what it last said.
    pub async fn await_kubectl(
        &self,
        arguments: &[&str],
        what: &str,
        seen: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let last = std::cell::RefCell::new(String::new());
        let found = poll(PATIENCE, || async {
            let said = self
                .kubectl(arguments)
                .unwrap_or_else(|error| format!("{error:#}"));
            let accepted = seen(&said).then(|| said.clone());
            *last.borrow_mut() = said;
            accepted
        });
        match found.await {
            Some(said) => Ok(said),
            None => bail!(
                "not {what} after {PATIENCE:?}: kubectl {} says:\n{}\nlogs: {}",
                arguments.join(" "),
                last.borrow(),
                self.dir().display()
            ),
        }
    }

    async fn await_nodes(&self, count: usize) -> Result<()> {
        let ready = r#"jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
        let what = "every kubelet's Node is Ready";
        self.await_kubectl(&["get", "nodes", "-o", ready], what, |said| {
            said.lines().filter(|line| *line == "True").count() == count
        })
        .await
        .map(|_| ())
    }

    async fn start_dns(&self) -> Result<()> {
        self.kubectl_with(&["apply", "-f", "-"], configuration::COREDNS)?;
        let available = "jsonpath={.status.availableReplicas}";
        let arguments = [
            "-n",
            "kube-system",
            "get",
            "deployment",
            "coredns",
            "-o",
            available,
        ];
        self.await_kubectl(&arguments, "CoreDNS is available", |said| said == "1")
            .await
            .map(|_| ())
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin".into(), "/sbin".into()]);
    folders.iter().any(|folder| folder.join(program).is_file())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
            eprintln!("the cluster's logs are kept in {}", self.dir().display());
        }
    }
}
