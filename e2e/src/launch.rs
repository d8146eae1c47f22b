//! How the two servers are started, and when they count as ready.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};

use crate::audit;
use crate::child::Process;
use crate::pki::{Identity, Pki};
use crate::programs::Programs;

/// Namespaces that the API server makes after it calls itself ready, and that nodes and tests need.
const NAMESPACES: [&str; 2] = ["default", "kube-node-lease"];

/// What the scheduler and the controllers may ask of the API server: their defaults throttle before a node does.
pub(crate) const RATE: [&str; 4] = ["--kube-api-qps", "2000", "--kube-api-burst", "4000"];

/// Ports of loopback that were free a moment ago.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    etcd: u16,
    peer: u16,
    api: u16,
}

impl Ports {
    pub(crate) fn free() -> Result<Ports> {
        // All are held until all are known, so that they differ.
        let held: Vec<TcpListener> = (0..3)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<std::io::Result<_>>()?;
        let ports: Vec<u16> = held
            .iter()
            .map(|held| held.local_addr().map(|at| at.port()))
            .collect::<std::io::Result<_>>()?;
        match ports.as_slice() {
            [etcd, peer, api] => Ok(Ports {
                etcd: *etcd,
                peer: *peer,
                api: *api,
            }),
            _ => bail!("three ports were asked for"),
        }
    }

    pub(crate) fn server(self) -> String {
        format!("https://127.0.0.1:{}", self.api)
    }
}

pub(crate) async fn is_ready(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else {
        return false;
    };
    if !client
        .request_text(request)
        .await
        .is_ok_and(|text| text == "ok")
    {
        return false;
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in NAMESPACES {
        if !matches!(namespaces.get_opt(name).await, Ok(Some(_))) {
            return false;
        }
    }
    true
}

pub(crate) fn start_etcd(programs: &Programs, dir: &Path, ports: Ports) -> Result<Process> {
    let (client, peer) = (
        format!("http://127.0.0.1:{}", ports.etcd),
        format!("http://127.0.0.1:{}", ports.peer),
    );
    let mut etcd = Command::new(programs.path("etcd"));
    etcd.arg("--data-dir").arg(dir.join("etcd"));
    // What a test wrote is worth nothing after a power cut.
    etcd.args(["--unsafe-no-fsync", "--log-level", "warn", "--name", "e2e"]);
    etcd.args([
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
    ]);
    etcd.args([
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
    ]);
    etcd.args(["--initial-cluster", &format!("e2e={peer}")]);
    Process::start(etcd, &dir.join("etcd.log"))
}

pub(crate) fn start_apiserver(
    programs: &Programs,
    dir: &Path,
    pki: &Pki,
    ports: Ports,
) -> Result<Process> {
    let mut server = Command::new(programs.path("kube-apiserver"));
    server.args([
        "--etcd-servers",
        &format!("http://127.0.0.1:{}", ports.etcd),
    ]);
    server.args([
        "--bind-address",
        "127.0.0.1",
        "--advertise-address",
        "127.0.0.1",
    ]);
    server.args(["--secure-port", &ports.api.to_string()]);
    // Endpoints refuse loopback addresses, and nobody here needs the `kubernetes` Service.
    server.args([
        "--endpoint-reconciler-type",
        "none",
        "--service-cluster-ip-range",
        "10.96.0.0/16",
    ]);
    server.args([
        "--authorization-mode",
        "Node,RBAC",
        "--enable-admission-plugins",
        "NodeRestriction",
    ]);
    server.args([
        "--disable-admission-plugins",
        "ServiceAccount",
        "--allow-privileged",
    ]);
    server.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
    // A node of documentation's address can't be reached; one that is called localhost can.
    server.args([
        "--kubelet-preferred-address-types",
        "Hostname,InternalIP,ExternalIP",
    ]);
    server.arg("--enable-bootstrap-token-auth");
    server.arg("--cert-dir").arg(dir.join("apiserver"));
    pki.give_to_apiserver(&mut server);
    audit::ask(&mut server, dir)?;
    Process::start(server, &dir.join("kube-apiserver.log"))
}

/// kube-controller-manager, as far as it approves and signs certificates: for a minute each.
pub(crate) fn start_signer(
    programs: &Programs,
    dir: &Path,
    pki: &Pki,
    ports: Ports,
) -> Result<Process> {
    let identity = Identity::new("system:kube-controller-manager", &[]);
    let kubeconfig = pki.kubeconfig("kube-controller-manager", &identity, &ports.server())?;
    let mut manager = Command::new(programs.path("kube-controller-manager"));
    manager.arg("--kubeconfig").arg(kubeconfig);
    manager.args(["--leader-elect=false", "--secure-port=0"]);
    // It may do next to nothing itself: each controller has the rights of a service account of its own.
    manager.arg("--use-service-account-credentials");
    let controllers = "certificatesigningrequest-approving-controller,certificatesigningrequest-signing-controller";
    manager.args(["--controllers", controllers]);
    manager.args(["--cluster-signing-duration", "60s"]);
    manager
        .arg("--cluster-signing-cert-file")
        .arg(pki.path("ca.crt"));
    manager
        .arg("--cluster-signing-key-file")
        .arg(pki.path("ca.key"));
    Process::start(manager, &dir.join("kube-controller-manager.log"))
}

/// kube-controller-manager and kube-scheduler, as far as Deployments and the taints of Nodes need them.
pub(crate) fn start_controllers(
    programs: &Programs,
    dir: &Path,
    pki: &Pki,
    ports: Ports,
) -> Result<Vec<Process>> {
    let start = |name: &str, arguments: &[&str]| {
        // One identity for all controllers: that of the manager alone may not do what theirs may.
        let identity = Identity::new(&format!("system:{name}"), &["system:masters"]);
        let kubeconfig = pki.kubeconfig(&format!("{name}-all"), &identity, &ports.server())?;
        let mut command = Command::new(programs.path(name));
        command.arg("--kubeconfig").arg(kubeconfig);
        command.args(["--leader-elect=false", "--secure-port=0"]);
        command.args(RATE).args(arguments);
        Process::start(command, &dir.join(format!("{name}-all.log")))
    };
    let controllers = "deployment-controller,replicaset-controller,node-lifecycle-controller";
    Ok(vec![
        start("kube-controller-manager", &["--controllers", controllers])?,
        start("kube-scheduler", &[])?,
    ])
}
