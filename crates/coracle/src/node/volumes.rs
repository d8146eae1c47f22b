//! Keeps what pods' volumes hold of ConfigMaps and Secrets as the API server has them: each is asked
//! for once a minute, as the kubelet does where it does not watch them (`syncFrequency`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::container::is_written;
use crate::hands::Hands;

/// See the module.
const EVERY: Duration = Duration::from_secs(60);

/// The pods that have such volumes.
pub(super) struct Volumes {
    hands: Arc<Hands>,
    pods: Mutex<HashMap<String, Arc<Pod>>>,
}

impl Volumes {
    pub(super) fn new(hands: Arc<Hands>) -> Volumes {
        Volumes {
            hands,
            pods: Mutex::default(),
        }
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, Arc<Pod>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pod is new or has changed.
    pub(super) fn applied(&self, pod: &Arc<Pod>) {
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
        let written = volumes.into_iter().flatten().any(is_written);
        let ends = pod.metadata.deletion_timestamp.is_some();
        match &pod.metadata.uid {
            Some(uid) if written && !ends => {
                self.pods().insert(uid.clone(), pod.clone());
            }
            Some(uid) => self.deleted(uid),
            None => {}
        }
    }

    /// A pod is gone.
    pub(super) fn deleted(&self, uid: &str) {
        self.pods().remove(uid);
    }

    /// Writes what has changed, for ever.
    pub(super) async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(EVERY).await;
            let pods: Vec<Arc<Pod>> = self.pods().values().cloned().collect();
            for pod in pods {
                if let Err(failure) = self.hands.refresh(&pod).await {
                    let pod = pod.metadata.name.as_deref().unwrap_or_default();
                    let why = failure.message;
                    tracing::warn!(pod, why, "its volumes stay as they were");
                }
            }
        }
    }
}
