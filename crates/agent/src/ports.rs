//! What the agent needs of others. Adapters live with who wires them; the agent decides nothing
//! about images, guests, folders or API servers.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use lifecycle::{Action, Event, Failure, Output};

/// A guest that the guest host runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The pod's UID.
    pub uid: String,
    /// The container's name.
    pub container: String,
    /// Its run.
    pub attempt: u32,
    /// When its first instruction ran.
    pub started_at: Timestamp,
    /// `coracle://<id>`, for `containerID`.
    pub container_id: String,
}

/// Executes actions; decides nothing.
#[async_trait]
pub trait Hands: Send + Sync + 'static {
    /// Executes an action of a pod. It may be asked again for what was done before a restart of
    /// the agent, and has to find that out. A Stop may come again under its key while it is under
    /// way, with a shorter grace: the first call is dropped, the second one answers for both.
    ///
    /// # Errors
    /// In Kubernetes' words.
    async fn execute(&self, pod: Arc<Pod>, action: Action) -> Result<Output, Failure>;

    /// Ends a guest that no pod here owns, and forgets it; done once it has ended.
    ///
    /// # Errors
    /// It may still run: the agent asks again.
    async fn reap(&self, guest: &Guest) -> Result<(), Failure>;

    /// How this run ended is in a checkpoint now: its exit need not be kept and told again. Must not block.
    fn absorbed(&self, uid: &str, container: &str, attempt: u32);
}

/// Where results go: the publisher of a cluster, or a terminal. Nothing here may block.
pub trait Outlet: Send + Sync + 'static {
    /// The status, with only what the kubelet owns, or `released`, has changed. Only the latest one
    /// of a pod counts. After a restart of the agent the first one comes again.
    fn publish(&self, uid: &str, pod: &Arc<Pod>, status: PodStatus, released: bool);

    /// Something to tell of a pod.
    fn event(&self, pod: &Arc<Pod>, event: Event);

    /// The agent holds nothing of the pod any more.
    fn forgotten(&self, uid: &str);
}

/// What the agent needs of the machine.
#[derive(Clone)]
pub struct Ports {
    /// Executes.
    pub hands: Arc<dyn Hands>,
    /// Tells.
    pub outlet: Arc<dyn Outlet>,
    /// Remembers.
    pub checkpoints: Arc<dyn crate::store::Checkpoints>,
    /// Counts time.
    pub clock: Arc<dyn crate::clock::Clock>,
}
