//! What the tests share: a node's heartbeat on a thread of its own, pods, and waiting for objects by watch.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use cluster::heartbeat::{self, State};
use cluster::machine::Machine;
use cluster::node::Amounts;
use cluster::{Access, Health, NodeDescription};
use e2e::ControlPlane;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStatus, NodeAddress, Pod, PodCondition,
    PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{oneshot, watch};

pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) fn description(name: &str) -> NodeDescription {
    let amounts = Amounts {
        cpu_milli: 2000,
        memory: 4 << 30,
        pods: 500,
        ephemeral_storage: 10 << 30,
    };
    NodeDescription {
        name: name.to_owned(),
        version: "0.1.0".to_owned(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        provider_id: None,
        capacity: amounts,
        allocatable: amounts,
        addresses: vec![NodeAddress {
            type_: "InternalIP".to_owned(),
            address: "192.0.2.1".to_owned(),
        }],
        declared_features: Vec::new(),
        port: None,
        machine: Machine::read(),
        mark: name.to_owned(),
    }
}

/// A heartbeat on its own thread and runtime, as the binary runs it. Ends when dropped.
pub(crate) struct Beat {
    pub(crate) health: watch::Sender<Health>,
    pub(crate) state: watch::Receiver<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Beat {
    pub(crate) fn start(access: &Access, name: &str) -> Beat {
        let (access, description) = (access.clone(), description(name));
        let rhythm = heartbeat::Rhythm::default();
        let (health, health_seen) = watch::channel(Health::default());
        let (told, state) = watch::channel(State::default());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                tokio::select! {
                    ended = heartbeat::run(&access, description, rhythm, health_seen, told) => panic!("{ended:?}"),
                    _ = stopped => {}
                }
            });
        });
        Beat {
            health,
            state,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Waits until what the heartbeat tells is as expected.
    pub(crate) async fn told(&mut self, expected: impl FnMut(&State) -> bool) -> State {
        let seen = tokio::time::timeout(PATIENCE, self.state.wait_for(expected)).await;
        let seen = seen.map(|seen| seen.unwrap().clone());
        seen.unwrap_or_else(|_| panic!("the heartbeat tells only {:?}", self.state.borrow()))
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}

pub(crate) async fn access(plane: &ControlPlane, node: &str) -> Access {
    Access::load(&plane.node_kubeconfig(node).unwrap())
        .await
        .unwrap()
}

/// Waits, by a watch, until an object is as expected.
pub(crate) async fn until<K>(api: Api<K>, name: &str, expected: impl Condition<K>) -> Option<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let waited = tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, expected)).await;
    match waited {
        Ok(seen) => seen.unwrap(),
        Err(_) => panic!("{name} isn't as expected: {:?}", api.get_opt(name).await),
    }
}

/// Makes a pod that is bound to `node` already, as the API server gives it back.
pub(crate) async fn pod(plane: &ControlPlane, namespace: &str, name: &str, node: &str) -> Arc<Pod> {
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{nodeName: {node}, restartPolicy: Never, containers: [{{name: app, image: example.com/app}}],\
         tolerations: [{{key: kubernetes.io/arch, operator: Exists}}]}}\n"
    );
    plane
        .kubectl_with(&["apply", "-f", "-"], &manifest)
        .await
        .unwrap();
    let api: Api<Pod> = Api::namespaced(plane.admin().await.unwrap(), namespace);
    Arc::new(api.get(name).await.unwrap())
}

pub(crate) fn condition(kind: &str, status: &str) -> PodCondition {
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        ..Default::default()
    }
}

/// A status as the kubelet would write it.
pub(crate) fn status(phase: &str) -> PodStatus {
    let running = phase == "Running";
    let ready = if running { "True" } else { "False" };
    let state = match running {
        true => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(Time(jiff::Timestamp::now())),
            }),
            ..Default::default()
        },
        false => ContainerState {
            terminated: Some(Default::default()),
            ..Default::default()
        },
    };
    let container = ContainerStatus {
        name: "app".to_owned(),
        image: "example.com/app".to_owned(),
        ready: running,
        state: Some(state),
        ..Default::default()
    };
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(vec![
            condition("Ready", ready),
            condition("ContainersReady", ready),
        ]),
        container_statuses: Some(vec![container]),
        ..Default::default()
    }
}

pub(crate) fn phase(pod: Option<&Pod>) -> &str {
    pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref())
        .unwrap_or_default()
}
