//! The ConfigMaps and Secrets that a pod refers to, and the Services that it is told of, as they were read, and how they are said to be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Secret, Service};

use super::ProcessError;

/// Names of objects in the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// ConfigMaps.
    pub(crate) config_maps: BTreeSet<String>,
    /// Secrets.
    pub(crate) secrets: BTreeSet<String>,
    /// The Services that there are.
    pub(crate) services: bool,
}

impl Needs {
    /// Those of a container's environment.
    pub(crate) fn of(container: &Container) -> Needs {
        let mut needs = Needs {
            services: true,
            ..Needs::default()
        };
        for from in container.env_from.iter().flatten() {
            let maps = from.config_map_ref.iter().map(|r| r.name.clone());
            needs.config_maps.extend(maps);
            needs
                .secrets
                .extend(from.secret_ref.iter().map(|r| r.name.clone()));
        }
        let sources = container.env.iter().flatten();
        for source in sources.filter_map(|variable| variable.value_from.as_ref()) {
            let maps = source.config_map_key_ref.iter().map(|r| r.name.clone());
            needs.config_maps.extend(maps);
            needs
                .secrets
                .extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
        }
        needs
    }
}

/// What there is of what is needed. It is never written anywhere: it holds secrets.
#[derive(Clone, Default)]
pub(crate) struct Given {
    /// The ConfigMaps that there are.
    pub(crate) config_maps: BTreeMap<String, Arc<ConfigMap>>,
    /// The Secrets that there are.
    pub(crate) secrets: BTreeMap<String, Arc<Secret>>,
    /// The Services of the pod's namespace, and the API server's.
    pub(crate) services: Vec<Arc<Service>>,
}

impl Given {
    /// A ConfigMap; `None` if there is none and it is optional.
    pub(crate) fn config_map(
        &self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<&ConfigMap>, ProcessError> {
        match self.config_maps.get(name) {
            Some(found) => Ok(Some(found)),
            None if optional == Some(true) => Ok(None),
            None => Err(ProcessError::NotFound("configmap", name.to_owned())),
        }
    }

    /// A Secret; `None` if there is none and it is optional.
    pub(crate) fn secret(
        &self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<&Secret>, ProcessError> {
        match self.secrets.get(name) {
            Some(found) => Ok(Some(found)),
            None if optional == Some(true) => Ok(None),
            None => Err(ProcessError::NotFound("secret", name.to_owned())),
        }
    }
}
