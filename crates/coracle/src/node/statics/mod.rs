//! Static pods: those of a folder's files, with or without an API server
//! (`pkg/kubelet/config/{file,common}.go`).
//!
//! A pod's UID is a hash of what it says and of where from: one that is changed is another pod, and
//! begins once its predecessor of that name has ended (`allowStaticPodStart` of
//! `pkg/kubelet/pod_workers.go`). What is there is the agent's to say, so a restart needs no memory
//! here. Must not know: what a pod does, and what the API server knows of it.

mod of;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::Agent;
use cluster::Mirrors;
use cluster::mirror::{FullName, full_name};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, mpsc};

use super::volumes::Volumes;
use crate::folder::{Folder, Way};
use crate::manifest::{self, Manifest};
pub(crate) use of::is_static;
use plan::Plan;

/// What a folder is to a node.
const WAY: Way = Way {
    read: manifest::read_static,
    tell: |what| tracing::error!("static pods: {what}"),
};

/// See the module.
pub(super) struct StaticPods {
    /// The node's name.
    node: String,
    /// Where the files are; `None` where there are to be no static pods.
    folder: Option<PathBuf>,
    agent: Arc<Agent>,
    mirrors: Mirrors,
    volumes: Arc<Volumes>,
    desired: BTreeMap<FullName, Pod>,
    /// UIDs of pods that were told to end. One of the same UID that comes back waits likewise.
    leaving: BTreeSet<String>,
}

impl StaticPods {
    pub(super) fn new(
        node: &str,
        folder: Option<&Path>,
        agent: Arc<Agent>,
        mirrors: Mirrors,
        volumes: Arc<Volumes>,
    ) -> StaticPods {
        StaticPods {
            node: node.to_owned(),
            folder: folder.map(Path::to_owned),
            agent,
            mirrors,
            volumes,
            desired: BTreeMap::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// Takes in what the files say now, and follows them. `forgotten` tells that nothing is left of
    /// some pod. Once this returns, every static pod is known.
    ///
    /// # Errors
    /// When the folder can't be followed. One that is not there is waited for.
    pub(super) fn begin(mut self, forgotten: Arc<Notify>) -> anyhow::Result<()> {
        let (changes, mut changed) = mpsc::channel(1);
        if let Some(path) = self.folder.clone() {
            let (mut folder, now) = Folder::follow(path, Vec::new(), WAY)?;
            self.desire(now.unwrap_or_default());
            // A task of its own: a change that is half waited for would be lost.
            tokio::spawn(
                async move { while changes.send(folder.changed().await).await.is_ok() {} },
            );
        }
        self.reach();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(manifest) = changed.recv() => self.desire(manifest),
                    () = forgotten.notified() => {}
                }
                self.reach();
            }
        });
        Ok(())
    }

    fn desire(&mut self, manifest: Manifest) {
        let folder = self.folder.as_deref().unwrap_or(Path::new(""));
        let pods = manifest.pods.into_values();
        let pods = pods.map(|pod| of::of(pod, folder, &self.node));
        self.desired = pods.map(|pod| (full_name(&pod), pod)).collect();
    }

    /// Makes the agent have the pods that are desired, as far as their predecessors let them.
    fn reach(&mut self) {
        let present = self.agent.pods();
        let present: Vec<Arc<Pod>> = present.into_iter().filter(|pod| is_static(pod)).collect();
        let Plan { gone, apply } = plan::plan(&present, &self.desired, &mut self.leaving);
        let names = present.iter().map(|pod| full_name(pod));
        self.mirrors
            .expect(names.chain(self.desired.keys().cloned()).collect());
        for uid in gone {
            self.volumes.deleted(&uid);
            self.agent.gone(&uid);
        }
        for pod in apply {
            self.volumes.applied(&Arc::new(pod.clone()));
            if let Err(error) = self.agent.apply(pod) {
                tracing::error!(%error, "a static pod was not taken in");
            }
        }
    }
}
