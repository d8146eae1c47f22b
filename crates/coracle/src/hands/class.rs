//! A pod's RuntimeClass: whether its handler is one of this node's (`LookupRuntimeHandler` of
//! `pkg/kubelet/runtimeclass`, and what containerd says of a handler that it does not have).

use cluster::node::HANDLERS;
use k8s_openapi::api::core::v1::Pod;
use lifecycle::Failure;

use super::failure;
use super::net::NETWORK;
use crate::objects::{Objects, reader};

/// Whether the pod may be run here, by its RuntimeClass.
///
/// # Errors
/// There is no such class, or none can be asked for, or its handler is none of this node's; any of
/// that may change.
pub(super) async fn check(objects: &dyn Objects, pod: &Pod) -> Result<(), Failure> {
    let class = pod.spec.as_ref();
    let class = class.and_then(|spec| spec.runtime_class_name.as_deref());
    let Some(class) = class.filter(|class| !class.is_empty()) else {
        return Ok(());
    };
    let said = match objects.runtime_handler(reader(pod), class).await {
        Ok(Some(handler)) if HANDLERS.contains(&handler.as_str()) => return Ok(()),
        Ok(Some(handler)) => format!(
            "failed to get sandbox runtime: no runtime for {handler:?} is configured, which \
             RuntimeClass {class:?} names; this node's handler is {:?}",
            HANDLERS.last().copied().unwrap_or_default()
        ),
        Ok(None) => format!("runtimeclass.node.k8s.io {class:?} not found"),
        Err(error) => format!("failed to lookup RuntimeClass {class}: {error}"),
    };
    Err(failure(NETWORK, said, true))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use async_trait::async_trait;
    use cluster::Reader;
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use lifecycle::Retry;

    use super::*;
    use crate::objects::{NoObjects, ObjectError};

    /// A cluster with a class of this node's and one of another's.
    #[derive(Debug)]
    struct Classes;

    #[async_trait]
    impl Objects for Classes {
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

        async fn runtime_handler(
            &self,
            _: Reader<'_>,
            class: &str,
        ) -> Result<Option<String>, ObjectError> {
            Ok(match class {
                "wasm" => Some("coracle".to_owned()),
                "plain" => Some(String::new()),
                "strange" => Some("kata".to_owned()),
                _ => None,
            })
        }
    }

    async fn of(objects: &dyn Objects, class: &str) -> Result<(), String> {
        let spec = format!(r#"{{"spec":{{"containers":[],"runtimeClassName":"{class}"}}}}"#);
        let failed = check(objects, &serde_json::from_str(&spec).unwrap()).await;
        failed.map_err(|failure| {
            assert_eq!(
                (failure.reason.as_str(), failure.retry),
                (NETWORK, Retry::Backoff)
            );
            failure.message
        })
    }

    #[tokio::test]
    async fn a_pod_runs_by_a_class_of_this_nodes_handlers() {
        for class in ["", "wasm", "plain"] {
            assert_eq!(of(&Classes, class).await, Ok(()), "{class}");
        }
        let strange = of(&Classes, "strange").await.unwrap_err();
        assert!(
            strange.contains("no runtime for \"kata\" is configured"),
            "{strange}"
        );
        assert_eq!(
            of(&Classes, "none").await.unwrap_err(),
            "runtimeclass.node.k8s.io \"none\" not found"
        );
    }

    #[tokio::test]
    async fn on_one_machine_a_handler_is_its_own_class() {
        assert_eq!(of(&NoObjects, "coracle").await, Ok(()));
        assert!(of(&NoObjects, "wasm").await.is_err());
    }
}
