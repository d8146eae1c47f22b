//! Where a pod's ConfigMaps, Secrets and RuntimeClasses come from: the files of a `play`, or a
//! cluster. A `run` has none, and a machine of its own only the RuntimeClasses that are called as
//! their handlers. And the Services that containers are told of, which are a cluster's alone.
//!
//! Must not know: what they are wanted for.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use cluster::Reader;
use cluster::node::HANDLERS;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};

use crate::manifest::Named;

/// Why it can't be said whether there is an object. It may be known later.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    /// The API server did not answer, or not with the object.
    #[error("{0}")]
    Cluster(#[from] Arc<cluster::CallError>),
    /// The Services were never listed.
    #[error("{0}")]
    Services(#[from] cluster::NotRead),
}

/// The pod that reads.
pub(crate) fn reader(pod: &Pod) -> Reader<'_> {
    Reader {
        namespace: pod.metadata.namespace.as_deref().unwrap_or("default"),
        uid: pod.metadata.uid.as_deref().unwrap_or_default(),
    }
}

/// Gives objects of a pod's namespace by name; `None` if there is none of the name.
#[async_trait]
pub(crate) trait Objects: Debug + Send + Sync {
    async fn config_map(
        &self,
        reader: Reader<'_>,
        name: &str,
    ) -> Result<Option<Arc<ConfigMap>>, ObjectError>;

    async fn secret(
        &self,
        reader: Reader<'_>,
        name: &str,
    ) -> Result<Option<Arc<Secret>>, ObjectError>;

    /// The Services of the pod's namespace and the API server's: those that are known by now if it is to be `at_once`.
    /// Without a cluster there are none.
    async fn services(
        &self,
        _namespace: &str,
        _at_once: bool,
    ) -> Result<Vec<Arc<Service>>, ObjectError> {
        Ok(Vec::new())
    }

    /// The handler of a RuntimeClass; `None` if there is no class of the name.
    async fn runtime_handler(
        &self,
        _reader: Reader<'_>,
        class: &str,
    ) -> Result<Option<String>, ObjectError> {
        let known = HANDLERS.contains(&class);
        Ok(known.then(|| class.to_owned()))
    }
}

/// There are none.
#[derive(Debug)]
pub(crate) struct NoObjects;

#[async_trait]
impl Objects for NoObjects {
    async fn config_map(
        &self,
        _: Reader<'_>,
        _: &str,
    ) -> Result<Option<Arc<ConfigMap>>, ObjectError> {
        Ok(None)
    }

    async fn secret(&self, _: Reader<'_>, _: &str) -> Result<Option<Arc<Secret>>, ObjectError> {
        Ok(None)
    }
}

type All<T> = BTreeMap<Named, Arc<T>>;

/// Those of files, which may change.
#[derive(Default)]
pub(crate) struct FileObjects(RwLock<(All<ConfigMap>, All<Secret>)>);

/// Nothing of a Secret is written anywhere.
impl Debug for FileObjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileObjects")
    }
}

impl FileObjects {
    /// From now on there are these and no others.
    pub(crate) fn replace(
        &self,
        config_maps: &BTreeMap<Named, ConfigMap>,
        secrets: &BTreeMap<Named, Secret>,
    ) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *all = (shared(config_maps), shared(secrets));
    }
}

fn shared<T: Clone>(objects: &BTreeMap<Named, T>) -> All<T> {
    objects
        .iter()
        .map(|(named, object)| (named.clone(), Arc::new(object.clone())))
        .collect()
}

fn named(namespace: &str, name: &str) -> Named {
    (namespace.to_owned(), name.to_owned())
}

#[async_trait]
impl Objects for FileObjects {
    async fn config_map(
        &self,
        reader: Reader<'_>,
        name: &str,
    ) -> Result<Option<Arc<ConfigMap>>, ObjectError> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(all.0.get(&named(reader.namespace, name)).cloned())
    }

    async fn secret(
        &self,
        reader: Reader<'_>,
        name: &str,
    ) -> Result<Option<Arc<Secret>>, ObjectError> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(all.1.get(&named(reader.namespace, name)).cloned())
    }
}

/// Those of a cluster.
#[derive(Debug)]
pub(crate) struct ClusterObjects {
    pub(crate) objects: cluster::Objects,
    pub(crate) services: cluster::Services,
}

#[async_trait]
impl Objects for ClusterObjects {
    async fn config_map(
        &self,
        reader: Reader<'_>,
        name: &str,
    ) -> Result<Option<Arc<ConfigMap>>, ObjectError> {
        Ok(self.objects.config_map(reader, name).await?)
    }

    async fn secret(
        &self,
        reader: Reader<'_>,
        name: &str,
    ) -> Result<Option<Arc<Secret>>, ObjectError> {
        Ok(self.objects.secret(reader, name).await?)
    }

    async fn services(
        &self,
        namespace: &str,
        at_once: bool,
    ) -> Result<Vec<Arc<Service>>, ObjectError> {
        Ok(self.services.of(namespace, at_once).await?)
    }

    async fn runtime_handler(
        &self,
        reader: Reader<'_>,
        class: &str,
    ) -> Result<Option<String>, ObjectError> {
        let found = self.objects.runtime_class(reader, class).await?;
        Ok(found.map(|class| class.handler.clone()))
    }
}
