//! What the agent needs of others. Adapters live with who wires them; the agent decides nothing
//! about images, guests, folders or API servers.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use lifecycle::node::{Call, NodeEvent, Pressure, Usage};
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
    fn publish(&self, uid: &str, pod: &Arc<Pod>, status: Arc<PodStatus>, released: bool);

    /// Something to tell of a pod.
    fn event(&self, pod: &Arc<Pod>, event: Event);

    /// The agent holds nothing of the pod any more.
    fn forgotten(&self, uid: &str);
}

/// A pod that is here, of which something is to be measured.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its object.
    pub pod: Arc<Pod>,
    /// The images that its containers have, as [`lifecycle::Image::id`] names them.
    pub images: Vec<String>,
    /// Its disk is to be looked at, which costs a walk of its folders.
    pub disk: bool,
}

/// The machine under the node. Decides nothing.
#[async_trait]
pub trait Machine: Send + Sync + 'static {
    /// How much there is and what of it is used, by these pods and at all; with `images` which images
    /// there are. What can't be measured is left out. Its time is the caller's.
    async fn measure(&self, subjects: Vec<Subject>, images: bool) -> Usage;

    /// Does what the node is to do; done once it is, whether or not all of it could be.
    async fn call(&self, call: Call);

    /// What the node is short of has changed. Must not block.
    fn pressures(&self, pressures: &BTreeSet<Pressure>);

    /// Something to tell of the node. Must not block.
    fn event(&self, event: NodeEvent);
}

/// A machine of which nothing is known, and nothing is short.
pub struct Boundless;

#[async_trait]
impl Machine for Boundless {
    async fn measure(&self, _: Vec<Subject>, _: bool) -> Usage {
        Usage::default()
    }

    async fn call(&self, _: Call) {}

    fn pressures(&self, _: &BTreeSet<Pressure>) {}

    fn event(&self, _: NodeEvent) {}
}

/// What the agent needs of the machine.
#[derive(Clone)]
pub struct Ports {
    /// Measures, and lets go of what nobody uses.
    pub machine: Arc<dyn Machine>,
    /// Executes.
    pub hands: Arc<dyn Hands>,
    /// Tells.
    pub outlet: Arc<dyn Outlet>,
    /// Remembers.
    pub checkpoints: Arc<dyn crate::store::Checkpoints>,
    /// Counts time.
    pub clock: Arc<dyn crate::clock::Clock>,
}
