//! Pods of one namespace, as a watcher sees them, and when.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_resource};
use kube::{Api, Client};
use tokio::sync::watch;

use super::scene::PATIENCE;

/// How many pods there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) all: usize,
    pub(super) ready: usize,
}

#[derive(Default)]
struct Seen {
    all: HashSet<String>,
    ready: HashSet<String>,
    bound: HashMap<String, Instant>,
    running: HashMap<String, Instant>,
}

/// A watch of one namespace's pods, which goes on as long as this.
pub(super) struct Pods {
    seen: Arc<Mutex<Seen>>,
    counts: watch::Receiver<Counts>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pods {
    pub(super) fn watch(client: Client, namespace: &str) -> Pods {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (told, counts) = watch::channel(Counts::default());
        let api: Api<Pod> = Api::namespaced(client, namespace);
        let events = watch_resource(api, watcher::Config::default()).default_backoff();
        let into = seen.clone();
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                let Ok(event) = event else { continue };
                told.send_replace(lock(&into).take(event, Instant::now()));
            }
        });
        Pods { seen, counts, task }
    }

    /// Waits until there are as many as `enough` says. Returns when that was seen.
    pub(super) async fn until(&self, enough: impl Fn(Counts) -> bool) -> Result<Instant> {
        let mut counts = self.counts.clone();
        let seen = counts.wait_for(|counts| enough(*counts));
        match tokio::time::timeout(PATIENCE, seen).await {
            Ok(seen) => {
                seen.context("the watch of pods has ended")?;
                Ok(Instant::now())
            }
            Err(_) => bail!("after {PATIENCE:?} there are {:?}", self.counts.borrow()),
        }
    }

    /// From the scheduler's binding to Running, for each pod that came since [`Pods::forget`].
    pub(super) fn bound_to_running(&self) -> Vec<Duration> {
        let seen = lock(&self.seen);
        let each = seen.running.iter().filter_map(|(uid, running)| {
            let bound = seen.bound.get(uid)?;
            Some(running.saturating_duration_since(*bound))
        });
        each.collect()
    }

    /// Forgets when anything was seen.
    pub(super) fn forget(&self) {
        let mut seen = lock(&self.seen);
        seen.bound.clear();
        seen.running.clear();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    fn take(&mut self, event: Event<Pod>, now: Instant) -> Counts {
        match event {
            Event::Init => {
                self.all.clear();
                self.ready.clear();
            }
            Event::InitApply(pod) | Event::Apply(pod) => self.applied(&pod, now),
            Event::Delete(pod) => {
                let uid = pod.metadata.uid.unwrap_or_default();
                self.all.remove(&uid);
                self.ready.remove(&uid);
            }
            Event::InitDone => {}
        }
        Counts {
            all: self.all.len(),
            ready: self.ready.len(),
        }
    }

    fn applied(&mut self, pod: &Pod, now: Instant) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let status = pod.status.as_ref();
        let ready = status
            .and_then(|status| status.conditions.as_ref())
            .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
        match ready {
            true => self.ready.insert(uid.clone()),
            false => self.ready.remove(&uid),
        };
        if pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.is_some())
        {
            self.bound.entry(uid.clone()).or_insert(now);
        }
        if status.and_then(|status| status.phase.as_deref()) == Some("Running") {
            self.running.entry(uid.clone()).or_insert(now);
        }
        self.all.insert(uid);
    }
}
