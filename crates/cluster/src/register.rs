//! Makes the Node exist as described: created, or an existing one brought up to date.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::access::HEARTBEAT_LIMIT;
use crate::error::{Call, CallError, Kind};
use crate::node::{self, Health, NodeDescription, missing_taints_message};
use crate::publisher::FIELD_MANAGER;

/// The calls on this node's Node.
pub(crate) struct Registrar {
    api: Api<Node>,
    description: NodeDescription,
}

impl Registrar {
    pub(crate) fn new(client: Client, description: NodeDescription) -> Registrar {
        Registrar {
            api: Api::all(client),
            description,
        }
    }

    pub(crate) fn description(&self) -> &NodeDescription {
        &self.description
    }

    /// One attempt: POST; where the Node exists already, GET it and patch labels and status.
    pub(crate) async fn register(&self, health: &Health) -> Result<Node, CallError> {
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
                Ok(node)
            }
        }
    }

    async fn adopt(&self, health: &Health) -> Result<Node, CallError> {
        let node = self.get().await?;
        let name = &self.description.name;
        let info = node
            .status
            .as_ref()
            .and_then(|status| status.node_info.as_ref());
        let runtime = info
            .map(|info| info.container_runtime_version.as_str())
            .unwrap_or_default();
        if !runtime.is_empty() && !runtime.starts_with("coracle://") {
            tracing::warn!(
                node = name,
                runtime,
                "a Node of this name was another program's; if that still runs, choose another --node-name"
            );
        }
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
        Ok(node)
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
