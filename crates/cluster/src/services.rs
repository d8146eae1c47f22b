//! The Services that there are: a watch that never ends, for the variables that containers find them by.
//!
//! Of each only its name, its address and its ports are kept: a cluster may have thousands.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::outage::Outage;
use crate::pods;

/// How long somebody waits for the first list.
const PATIENCE: Duration = Duration::from_secs(10);

/// The Service of the API server, which pods of every namespace are told of (`masterServices` of
/// `pkg/kubelet/kubelet_pods.go`).
const MASTER: (&str, &str) = ("default", "kubernetes");

/// The Services were never listed: who may not list them, or does not reach the API server, has none to tell of. The
/// kubelet's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("services have not yet been read at least once, cannot construct envvars")]
pub struct NotRead;

/// What is known of the Services; clones share it.
#[derive(Clone)]
pub struct Services {
    known: Arc<Mutex<Known>>,
    listed: watch::Receiver<bool>,
}

type Named = (String, String);

#[derive(Default)]
struct Known {
    all: BTreeMap<Named, Arc<Service>>,
    /// Those of the list under way.
    listing: Option<BTreeMap<Named, Arc<Service>>>,
}

impl Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Services")
    }
}

impl Services {
    /// Begins to watch, on the current tokio runtime, and goes on as long as that.
    pub fn watch(client: Client) -> Services {
        let known: Arc<Mutex<Known>> = Arc::default();
        let (told, listed) = watch::channel(false);
        let into = known.clone();
        tokio::spawn(async move {
            let outage = Outage::of("service watch");
            let mut said = String::new();
            let mut events = Box::pin(pods::raw::<Service>(Api::all(client), None));
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        outage.answered();
                        said.clear();
                        if lock(&into).take(event) {
                            told.send_replace(true);
                        }
                    }
                    Err(error) => pods::tell(&outage, &mut said, "services", error),
                }
            }
        });
        Services { known, listed }
    }

    /// The Services of a namespace, and the API server's own, by name. Waits for the first list, a short while, unless
    /// what is known is to do `at_once`.
    ///
    /// # Errors
    /// [`NotRead`] if there was no list until then.
    pub async fn of(&self, namespace: &str, at_once: bool) -> Result<Vec<Arc<Service>>, NotRead> {
        if !at_once {
            let mut listed = self.listed.clone();
            let read = tokio::time::timeout(PATIENCE, listed.wait_for(|listed| *listed)).await;
            read.map_err(|_| NotRead)?.map_err(|_| NotRead)?;
        }
        Ok(lock(&self.known).of(namespace))
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// Takes an event in; true once a list is complete.
    fn take(&mut self, event: Event<Service>) -> bool {
        match event {
            Event::Init => self.listing = Some(BTreeMap::new()),
            Event::InitApply(service) => {
                let listing = self.listing.get_or_insert_default();
                listing.insert(named(&service), Arc::new(trimmed(service)));
            }
            Event::InitDone => {
                self.all = self.listing.take().unwrap_or_default();
                return true;
            }
            Event::Apply(service) => {
                self.all.insert(named(&service), Arc::new(trimmed(service)));
            }
            Event::Delete(service) => {
                self.all.remove(&named(&service));
            }
        }
        false
    }

    fn of(&self, namespace: &str) -> Vec<Arc<Service>> {
        let from = (namespace.to_owned(), String::new());
        let own = self.all.range(from..);
        let own = own.take_while(|((other, _), _)| other == namespace);
        let mut all: Vec<Arc<Service>> = own.map(|(_, service)| service.clone()).collect();
        if namespace != MASTER.0 {
            let master = (MASTER.0.to_owned(), MASTER.1.to_owned());
            all.extend(self.all.get(&master).cloned());
        }
        all
    }
}

fn named(service: &Service) -> Named {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    (
        part(&service.metadata.namespace),
        part(&service.metadata.name),
    )
}

fn trimmed(service: Service) -> Service {
    let spec = service.spec.unwrap_or_default();
    Service {
        metadata: ObjectMeta {
            namespace: service.metadata.namespace,
            name: service.metadata.name,
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: spec.cluster_ip,
            ports: spec.ports,
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn service(namespace: &str, name: &str) -> Service {
        Service {
            metadata: ObjectMeta {
                namespace: Some(namespace.into()),
                name: Some(name.into()),
                uid: Some("u".into()),
                ..ObjectMeta::default()
            },
            ..Service::default()
        }
    }

    fn names(known: &Known, namespace: &str) -> Vec<String> {
        let all = known.of(namespace).into_iter();
        all.map(|service| named(&service).1).collect()
    }

    #[test]
    fn a_namespace_has_its_own_services_and_the_api_server_s() {
        let mut known = Known::default();
        assert!(!known.take(Event::Init));
        for (namespace, name) in [("a", "x"), ("default", "kubernetes"), ("default", "y")] {
            assert!(!known.take(Event::InitApply(service(namespace, name))));
        }
        assert!(names(&known, "a").is_empty(), "half a list is none");
        assert!(known.take(Event::InitDone));
        assert_eq!(names(&known, "a"), ["x", "kubernetes"]);
        assert_eq!(names(&known, "default"), ["kubernetes", "y"]);
        assert_eq!(names(&known, "aa"), ["kubernetes"]);
        known.take(Event::Apply(service("a", "z")));
        known.take(Event::Delete(service("a", "x")));
        assert_eq!(names(&known, "a"), ["z", "kubernetes"]);
        known.take(Event::Init);
        assert!(known.take(Event::InitDone));
        assert!(names(&known, "a").is_empty());
    }
}
