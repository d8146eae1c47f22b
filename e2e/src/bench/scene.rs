//! What is measured and by whom: a control plane with a scheduler and controllers, the two nodes, an image.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};

use super::Args;
use super::pods::Pods;
use crate::programs::Programs;
use crate::{Audit, ControlPlane, Kwok, NodeProcess, Registry, Write};

/// How long anything may take that is not measured.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// For so long nothing may be written before something else is measured.
const QUIET: Duration = Duration::from_secs(2);

/// Pods beside those of the Deployment.
const SPARE: usize = 100;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Coracle,
    Kwok,
}

impl Side {
    /// Its Node's name, and that of its pods' namespace.
    pub(super) fn name(self) -> &'static str {
        match self {
            Side::Coracle => "coracle",
            Side::Kwok => "kwok",
        }
    }

    /// Its name in the audit log.
    pub(super) fn user(self) -> &'static str {
        match self {
            Side::Coracle => "system:node:coracle",
            Side::Kwok => "kwok",
        }
    }
}

/// See the module.
pub(super) struct Scene {
    // Declared, and so dropped, in this order.
    pub(super) coracle: NodeProcess,
    kwok: Option<Kwok>,
    pub(super) plane: ControlPlane,
    _registry: Registry,
    pub(super) image: String,
    pub(super) client: Client,
    audit: Audit,
    ours: Pods,
    theirs: Pods,
}

impl Scene {
    pub(super) async fn set(args: &Args) -> Result<Scene> {
        Programs::build()?;
        let plane = ControlPlane::start().await?;
        plane.controllers().await?;
        let registry = Registry::start().await?;
        let module = plane.dir().join("sleeper.wasm");
        std::fs::write(&module, wat::parse_str(measure::TINY)?)?;
        let image = registry.push_module("sleeper:1", &module)?;
        let most = (args.pods.max(args.paced) + SPARE).to_string();
        let arguments = ["--node-ip", "192.0.2.10", "--max-pods", &most];
        let (us, them) = (Side::Coracle.name(), Side::Kwok.name());
        let coracle = NodeProcess::start(&plane, &crate::binary()?, us, &arguments)?;
        let kwok = match args.without_kwok {
            true => None,
            false => Some(Kwok::start(&plane, them).await?),
        };
        let client = plane.admin().await?;
        for side in [us, them] {
            plane.namespace(side).await?;
        }
        let scene = Scene {
            audit: plane.audit(),
            ours: Pods::watch(client.clone(), us),
            theirs: Pods::watch(client.clone(), them),
            coracle,
            kwok,
            plane,
            _registry: registry,
            image,
            client,
        };
        for side in scene.sides() {
            scene.ready(side).await?;
        }
        Ok(scene)
    }

    /// Who takes part.
    pub(super) fn sides(&self) -> Vec<Side> {
        let kwok = self.kwok.as_ref().map(|_| Side::Kwok);
        [Some(Side::Coracle), kwok].into_iter().flatten().collect()
    }

    /// The pods of one side.
    pub(super) fn pods(&self, side: Side) -> &Pods {
        match side {
            Side::Coracle => &self.ours,
            Side::Kwok => &self.theirs,
        }
    }

    /// What nodes have written since this was last asked, once they write nothing more but leases.
    pub(super) async fn quiet(&mut self) -> Result<Vec<Write>> {
        let mut all = Vec::new();
        loop {
            tokio::time::sleep(QUIET).await;
            let new = self.audit.written()?;
            let over = new.iter().all(|write| write.resource == "leases");
            all.extend(new);
            if over {
                return Ok(all);
            }
        }
    }

    /// What nodes have written since this or [`Scene::quiet`] was last asked.
    pub(super) fn written(&mut self) -> Result<Vec<Write>> {
        self.audit.written()
    }

    async fn ready(&self, side: Side) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let schedulable = |node: Option<&Node>| {
            let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
            let ready = conditions
                .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
            let taints = node.and_then(|node| node.spec.as_ref()?.taints.as_ref());
            let tainted = taints.is_some_and(|all| {
                all.iter()
                    .any(|taint| taint.key.starts_with("node.kubernetes.io/"))
            });
            ready && !tainted
        };
        let waited = await_condition(nodes, side.name(), schedulable);
        tokio::time::timeout(PATIENCE, waited)
            .await
            .with_context(|| {
                let log = self.coracle.log().unwrap_or_default();
                format!("{} is not Ready: {log}", side.name())
            })??;
        Ok(())
    }

    /// The spec of a pod for one side: the plainest there is.
    pub(super) fn pod_spec(&self, side: Side) -> serde_json::Value {
        serde_json::json!({
            "nodeSelector": { "kubernetes.io/hostname": side.name() },
            "tolerations": [{ "key": "kubernetes.io/arch", "operator": "Exists" }],
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "main", "image": self.image, "imagePullPolicy": "IfNotPresent",
            }],
        })
    }
}
