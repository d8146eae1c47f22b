//! Reads the ConfigMaps and Secrets that a pod refers to, and the Services that it is told of. That one is not there is said where it is
//! used, for it may be optional.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use lifecycle::Failure;

use super::{Hands, failure};
use crate::container::{Given, Needs, ProcessError};
use crate::node::is_static;
use crate::objects::{ObjectError, reader};

/// What is told of a container whose configuration can't be made.
pub(super) fn config_failure(error: &ProcessError) -> Failure {
    failure("CreateContainerConfigError", error, error.retryable())
}

impl Hands {
    /// What there is of what is needed.
    ///
    /// # Errors
    /// When it can't be said whether there is one; it is worth another try, also where it is forbidden: just after a
    /// pod was bound that is the authorizer's lag.
    pub(super) async fn given(&self, pod: &Pod, needs: &Needs) -> Result<Given, Failure> {
        let reader = reader(pod);
        let unknown = |error: ObjectError| failure("CreateContainerConfigError", error, true);
        let mut given = Given::default();
        for name in &needs.config_maps {
            let found = self.place.objects.config_map(reader, name).await;
            put(&mut given.config_maps, name, found.map_err(unknown)?);
        }
        for name in &needs.secrets {
            let found = self.place.objects.secret(reader, name).await;
            put(&mut given.secrets, name, found.map_err(unknown)?);
        }
        if needs.services {
            // A static pod runs whether there is an API server or not.
            let known = self
                .place
                .objects
                .services(reader.namespace, is_static(pod));
            given.services = known.await.map_err(unknown)?;
        }
        Ok(given)
    }
}

fn put<T>(all: &mut BTreeMap<String, Arc<T>>, name: &str, found: Option<Arc<T>>) {
    if let Some(found) = found {
        all.insert(name.to_owned(), found);
    }
}
