//! Mirror pods: what the API shows of static pods, which run whether there is an API or not
//! (`pkg/kubelet/pod/mirror_client.go`, `reconcileMirrorPod` of `pkg/kubelet/kubelet.go`).
//!
//! One is created for each static pod that has a status, created again when somebody deletes it,
//! and deleted with its static pod. Its status goes by the [`Publisher`], under its own UID. Must
//! not know: where static pods come from, and what decides their status.

mod entry;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::error::{Call, CallError, Kind};
use crate::outage::Outage;
use crate::publisher::{FIELD_MANAGER, Publisher};
use entry::{Entry, Op};

/// `ConfigMirrorAnnotationKey` of `pkg/kubelet/types/pod_update.go`: the hash of the static pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
/// `ConfigHashAnnotationKey`: the same hash, at the static pod.
pub const HASH: &str = "kubernetes.io/config.hash";

/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Namespace and name.
pub type FullName = (String, String);

/// Whether a pod of the API is the image of a static pod, and so is never to be run from there.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// A pod's namespace and name.
pub fn full_name(pod: &Pod) -> FullName {
    (
        pod.metadata.namespace.clone().unwrap_or_default(),
        pod.metadata.name.clone().unwrap_or_default(),
    )
}

/// The node that owns the mirror pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The Node's name.
    pub name: String,
    /// The Node's UID, as the API server has it: without it no mirror is accepted.
    pub uid: String,
}

/// A handle on the mirror pods; clones share them.
#[derive(Clone)]
pub struct Mirrors {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    publisher: Publisher,
    table: Mutex<Table>,
    changed: Notify,
    outage: Outage,
}

#[derive(Default)]
struct Table {
    entries: BTreeMap<FullName, Entry>,
    /// The names of all static pods; `None` until they were told once.
    expected: Option<BTreeSet<FullName>>,
    owner: Option<Owner>,
    /// The API's pods are all known.
    synced: bool,
}

impl Mirrors {
    /// Mirrors whose work is done on the current tokio runtime, as long as that lives.
    pub fn new(client: Client, publisher: Publisher) -> Mirrors {
        let shared = Arc::new(Shared {
            client,
            publisher,
            table: Mutex::default(),
            changed: Notify::new(),
            outage: Outage::of("mirror pods"),
        });
        tokio::spawn(work(shared.clone()));
        Mirrors { shared }
    }

    /// Which static pods there are: a mirror of no such name is deleted. Before this was told once, none is.
    pub fn expect(&self, names: BTreeSet<FullName>) {
        self.change(|table| table.expected = Some(names));
    }

    /// The node's own object, as it is in the API.
    pub fn owner(&self, owner: Owner) {
        self.change(|table| table.owner = Some(owner));
    }

    /// The status of a static pod, which its mirror is to say.
    pub fn publish(&self, pod: &Arc<Pod>, status: PodStatus) {
        self.change(|table| table.entry(pod).want(pod.clone(), status));
    }

    /// Nothing is left of the static pod of this UID: its mirror goes.
    pub fn forget(&self, uid: &str) {
        self.change(|table| {
            table
                .entries
                .values_mut()
                .for_each(|entry| entry.forget(uid))
        });
    }

    /// The watch has seen a mirror.
    pub fn observe(&self, mirror: &Arc<Pod>) {
        self.shared.publisher.observe(mirror);
        self.change(|table| table.entry(mirror).observe(mirror));
    }

    /// The mirror of this UID is gone from the API.
    pub fn deleted(&self, uid: &str) {
        self.shared.publisher.deleted(uid);
        self.shared.publisher.forget(uid);
        self.change(|table| {
            table
                .entries
                .values_mut()
                .for_each(|entry| entry.vanished(uid))
        });
    }

    /// The watch has told every pod: a mirror that is not known does not exist.
    pub fn synced(&self) {
        self.change(|table| table.synced = true);
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        change(&mut self.shared.table());
        self.shared.changed.notify_one();
    }
}

impl Table {
    fn entry(&mut self, pod: &Pod) -> &mut Entry {
        self.entries.entry(full_name(pod)).or_default()
    }

    /// Everything that is to be done now.
    fn due(&mut self) -> Vec<(FullName, Op)> {
        let Table {
            entries,
            expected,
            owner,
            synced,
        } = self;
        entries.retain(|_, entry| !entry.is_empty());
        if !*synced {
            return Vec::new();
        }
        let due = entries.iter().filter_map(|(name, entry)| {
            let orphaned = expected.as_ref().is_some_and(|all| !all.contains(name));
            let op = entry.next(orphaned, owner.is_some())?;
            Some((name.clone(), op))
        });
        due.collect()
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is due, each once; whether anything failed that a wait may heal.
    async fn pass(&self, said: &mut BTreeMap<FullName, Kind>) -> bool {
        let due = self.table().due();
        let mut failed = false;
        for (name, op) in due {
            match self.call(&name, &op).await {
                Ok(answer) => {
                    self.outage.answered();
                    said.remove(&name);
                    if let Some(entry) = self.table().entries.get_mut(&name) {
                        entry.done(&op, answer.map(Arc::new));
                    }
                }
                // What was to be deleted is not there any more, or is another one: the watch tells.
                Err(error)
                    if matches!(op, Op::Delete { .. })
                        && matches!(error.kind(), Kind::NotFound | Kind::OtherUid) =>
                {
                    if let Some(entry) = self.table().entries.get_mut(&name) {
                        entry.done(&op, None);
                    }
                }
                Err(error) => {
                    failed = true;
                    self.outage.failed(&error);
                    let kind = error.kind();
                    if !kind.is_outage() && said.insert(name.clone(), kind) != Some(kind) {
                        let (namespace, name) = &name;
                        tracing::warn!(
                            namespace,
                            name,
                            "the mirror of a static pod, which runs all the same; tried again until it succeeds: {error}"
                        );
                    }
                }
            }
        }
        failed
    }

    async fn call(&self, (namespace, name): &FullName, op: &Op) -> Result<Option<Pod>, CallError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        match op {
            Op::Create(pod) => {
                let Some(owner) = self.table().owner.clone() else {
                    return Ok(None);
                };
                let call = Call::of("create", "pods", namespace, name);
                let params = PostParams {
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PostParams::default()
                };
                let mirror = image_of(pod, owner);
                call.run(LIMIT, api.create(&params, &mirror))
                    .await
                    .map(Some)
            }
            Op::Delete { uid } => {
                let call = Call::of("delete", "pods", namespace, name);
                let params = DeleteParams {
                    grace_period_seconds: Some(0),
                    preconditions: Some(Preconditions {
                        uid: Some(uid.clone()),
                        ..Preconditions::default()
                    }),
                    ..DeleteParams::default()
                };
                call.run(LIMIT, api.delete(name, &params))
                    .await
                    .map(|_| None)
            }
            Op::Status { mirror, status } => {
                let uid = mirror.metadata.uid.as_deref().unwrap_or_default();
                // Never released: a mirror is deleted here, not because its pod has ended.
                self.publisher
                    .publish(uid, mirror, PodStatus::clone(status), false);
                Ok(None)
            }
        }
    }
}

/// What is sent to the API: `CreateMirrorPod`.
fn image_of(pod: &Pod, owner: Owner) -> Pod {
    let mut mirror = pod.clone();
    let hash = annotation(pod, HASH).unwrap_or_default().to_owned();
    let meta = &mut mirror.metadata;
    meta.annotations
        .get_or_insert_default()
        .insert(MIRROR.to_owned(), hash);
    meta.uid = None;
    meta.resource_version = None;
    meta.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: owner.name,
        uid: owner.uid,
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror.status = None;
    mirror
}

async fn work(shared: Arc<Shared>) {
    let mut backoff = Backoff::calls();
    let mut said = BTreeMap::new();
    loop {
        if shared.pass(&mut said).await {
            let wait = backoff.next(None);
            tokio::time::sleep(wait).await;
            continue;
        }
        backoff.reset();
        if shared.table().due().is_empty() {
            shared.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests;
