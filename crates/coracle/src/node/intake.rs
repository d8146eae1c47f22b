//! The node's loop: takes in what the API server says of its pods, until the node is told to end.
//!
//! Must not know: how what it listens to was made, nor what becomes of a pod that it hands on.

use std::future::Future;
use std::sync::Arc;

use agent::Agent;
use cluster::publisher::Report;
use cluster::{Health, Mirrors, PodEvent, Publisher, heartbeat};
use futures::StreamExt;
use lifecycle::node::Period;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::health::{self, Pulse};
use super::known::Known;
use super::volumes::Volumes;
use super::{drain, supervisor};

/// Everything that the node's loop listens to.
pub(super) struct Node {
    pub(super) agent: Arc<Agent>,
    pub(super) publisher: Publisher,
    pub(super) mirrors: Mirrors,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    pub(super) volumes: Arc<Volumes>,
    pub(super) known: Arc<Known>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) health: watch::Sender<Health>,
    pub(super) heard: watch::Receiver<heartbeat::State>,
}

/// What is watched, from when the Node's lease is this agent's on: until then the pods are another's.
pub(super) fn once_registered(
    mut heard: watch::Receiver<heartbeat::State>,
    watched: impl futures::Stream<Item = PodEvent>,
) -> impl futures::Stream<Item = PodEvent> {
    let registered = async move {
        let _heartbeat_ended = heard.wait_for(|state| state.renewed.is_some()).await;
        watched
    };
    futures::stream::once(registered).flatten()
}

/// Done with the next of the two signals.
async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

impl Node {
    /// Takes in what the API server says, until a signal; then lets go of the guests, or ends them:
    /// true if they have ended.
    pub(super) async fn work(
        mut self,
        watched: impl futures::Stream<Item = PodEvent>,
        shutdown: Option<Vec<Period>>,
    ) -> anyhow::Result<bool> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut watched = std::pin::pin!(watched);
        self.until(&mut watched, either(&mut terminate, &mut interrupt))
            .await;
        supervisor::stopping();
        let Some(periods) = shutdown else {
            tracing::info!("ending; the guests go on, and the next coracle node here adopts them");
            return Ok(false);
        };
        tracing::info!("ending, and the pods with it; a second signal ends this at once");
        let (health, mut heard) = (self.health.clone(), self.heard.clone());
        let (agent, publisher) = (self.agent.clone(), self.publisher.clone());
        let ended = async {
            drain::not_ready(&health, &mut heard).await;
            agent.shutdown(periods.clone());
            drain::pods(agent.drained(), &periods).await;
            drain::told(|| publisher.behind()).await;
        };
        let again = either(&mut terminate, &mut interrupt);
        let first = async {
            tokio::select! {
                () = ended => {
                    tracing::info!("the pods have ended");
                    true
                }
                () = again => {
                    tracing::warn!("ended at once: pods end with the next coracle node here");
                    false
                }
            }
        };
        Ok(self.until(&mut watched, first).await)
    }

    /// Takes in what comes, until something is done.
    async fn until<T>(
        &mut self,
        watched: &mut (impl futures::Stream<Item = PodEvent> + Unpin),
        done: impl Future<Output = T>,
    ) -> T {
        let mut done = std::pin::pin!(done);
        let mut turns = tokio::time::interval(health::TURN);
        loop {
            self.pulse.beat();
            tokio::select! {
                _ = turns.tick() => {}
                output = &mut done => return output,
                Some(event) = watched.next() => self.take(event),
                Some(Report::Gone { uid }) = self.reports.recv() => self.gone(&uid),
            }
        }
    }

    fn take(&self, event: PodEvent) {
        match event {
            PodEvent::Applied(pod) => {
                self.publisher.observe(&pod);
                self.volumes.applied(&pod);
                match self.agent.apply(Arc::clone(&pod)) {
                    Ok(()) => self.known.applied(&pod),
                    Err(error) => tracing::error!(%error, "a pod was not taken in"),
                }
            }
            PodEvent::Deleted(pod) => {
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                self.publisher.deleted(uid);
                self.volumes.deleted(uid);
                self.agent.gone(uid);
            }
            PodEvent::Mirror(pod) => self.mirrors.observe(&pod),
            PodEvent::MirrorDeleted(pod) => {
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                self.mirrors.deleted(uid);
            }
            PodEvent::Synced => {
                self.mirrors.synced();
                self.agent.sources_ready();
            }
        }
    }

    /// The API has no pod of this UID, be it a mirror or one to be run.
    fn gone(&self, uid: &str) {
        self.mirrors.deleted(uid);
        self.agent.gone(uid);
    }
}
