//! Makes the Node exist as described: created, or an existing one brought up to date.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::access::HEARTBEAT_LIMIT;
use crate::error::{Call, CallError, Kind};
use crate::lease;
use crate::node::{self, Health, NodeDescription, missing_taints_message};
use crate::publisher::FIELD_MANAGER;

/// Why the Node is not registered yet. All of it may heal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    #[error(transparent)]
    Call(#[from] CallError),
    /// The Node of this name, or its lease, is not ours.
    #[error("{0}")]
    Others(String),
}

/// A Node that was registered.
pub(crate) struct Registered {
    pub(crate) node: Node,
    /// The machine was booted anew since the Node was last told of.
    pub(crate) rebooted: bool,
}

/// Where the leases of nodes live.
pub(crate) const LEASES: &str = "kube-node-lease";

impl RegisterError {
    /// How long to leave it alone at least.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            RegisterError::Call(error) => error.retry_after(),
            RegisterError::Others(_) => Some(OTHERS),
        }
    }
}

/// How often a Node that is another's is looked at.
const OTHERS: Duration = Duration::from_secs(10);

/// The calls on this node's Node.
pub(crate) struct Registrar {
    api: Api<Node>,
    leases: Api<Lease>,
    description: NodeDescription,
}

impl Registrar {
    pub(crate) fn new(client: Client, description: NodeDescription) -> Registrar {
        Registrar {
            leases: Api::namespaced(client.clone(), LEASES),
            api: Api::all(client),
            description,
        }
    }

    pub(crate) fn description(&self) -> &NodeDescription {
        &self.description
    }

    /// One attempt: POST; where the Node exists already, GET it and patch labels and status. One whose other agent lives
    /// is left as it is.
    pub(crate) async fn register(&self, health: &Health) -> Result<Registered, RegisterError> {
        let node = self.description.node(health, Timestamp::now());
        let create = self
            .call("create")
            .run(HEARTBEAT_LIMIT, self.api.create(&params(), &node))
            .await;
        match create {
            Err(error) if error.kind() == Kind::AlreadyExists => self.adopt(health).await,
            other => {
                let node = other?;
                tracing::info!(node = self.description.name, "registered");
                let rebooted = false;
                Ok(Registered { node, rebooted })
            }
        }
    }

    async fn no_rival(&self) -> Result<(), RegisterError> {
        let NodeDescription { name, mark, .. } = &self.description;
        let call = Call::of("get", "leases", LEASES, name);
        let lease = call.run(HEARTBEAT_LIMIT, self.leases.get(name)).await;
        match lease {
            Ok(lease) => match lease::rival(&lease, mark, Timestamp::now()) {
                Some(why) => Err(RegisterError::Others(why)),
                None => Ok(()),
            },
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn adopt(&self, health: &Health) -> Result<Registered, RegisterError> {
        let node = self.get().await?;
        let name = &self.description.name;
        if let Some(why) = self.description.others(&node) {
            return Err(RegisterError::Others(why));
        }
        self.no_rival().await?;
        let rebooted = self.description.rebooted(&node);
        let has = node.metadata.labels.clone().unwrap_or_default();
        let labels = self.description.labels();
        if labels
            .iter()
            .any(|(key, value)| has.get(key) != Some(value))
        {
            let patch = Patch::Strategic(json!({ "metadata": { "labels": labels } }));
            let params = patch_params();
            let request = self.api.patch(name, &params, &patch);
            self.call("patch").run(HEARTBEAT_LIMIT, request).await?;
        }
        let node = self
            .patch_status(&node, &self.checked(health, &node))
            .await?;
        tracing::info!(node = name, "registered again: the Node existed");
        Ok(Registered { node, rebooted })
    }

    /// The Node as the API server has it.
    pub(crate) async fn get(&self) -> Result<Node, CallError> {
        self.call("get")
            .run(HEARTBEAT_LIMIT, self.api.get(&self.description.name))
            .await
    }

    /// Patches the Node's status to say `health`, given that the API server has `current`.
    pub(crate) async fn patch_status(
        &self,
        current: &Node,
        health: &Health,
    ) -> Result<Node, CallError> {
        let status = self
            .description
            .status(health, Some(current), Timestamp::now());
        let patch = Patch::Strategic(node::status_patch(&status));
        let call = Call::on("patch", "nodes/status", &self.description.name);
        call.run(
            HEARTBEAT_LIMIT,
            self.api
                .patch_status(&self.description.name, &patch_params(), &patch),
        )
        .await
    }

    /// `health`, and not ready while `node` lacks a taint.
    pub(crate) fn checked(&self, health: &Health, node: &Node) -> Health {
        let missing = self.description.missing_taints(node);
        if missing.is_empty() {
            return health.clone();
        }
        let message = missing_taints_message(&self.description.name, &missing);
        let also = health
            .not_ready
            .iter()
            .map(|why| format!("; {why}"))
            .collect::<String>();
        Health {
            not_ready: Some(format!("{message}{also}")),
            ..health.clone()
        }
    }

    fn call(&self, verb: &'static str) -> Call {
        Call::on(verb, "nodes", &self.description.name)
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..Default::default()
    }
}

fn patch_params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..Default::default()
    }
}
