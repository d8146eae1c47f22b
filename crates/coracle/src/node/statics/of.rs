//! What a Pod of a file becomes: `applyDefaults` of `pkg/kubelet/config/common.go`.

use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use sha2::{Digest, Sha256};

/// `ConfigSourceAnnotationKey` of `pkg/kubelet/types/pod_update.go`.
const SOURCE: &str = "kubernetes.io/config.source";
/// `ConfigFirstSeenAnnotationKey`.
pub(super) const SEEN: &str = "kubernetes.io/config.seen";

/// Whether a pod is a file's: `IsStaticPod`.
pub(crate) fn is_static(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(SOURCE))
        .is_some_and(|source| source != "api")
}

/// The pod of a file in `folder` on the node of this name, as if it were seen for the first time.
/// The folder stands for the file, so that a file may be renamed.
pub(super) fn of(mut pod: Pod, folder: &Path, node: &str) -> Pod {
    let uid = uid(&pod, folder, node);
    let meta = &mut pod.metadata;
    let name = meta.name.take().unwrap_or_default();
    meta.name = Some(format!("{name}-{}", node.to_lowercase()));
    meta.namespace.get_or_insert_with(|| "default".to_owned());
    let annotations = meta.annotations.get_or_insert_default();
    let seen = Timestamp::now().to_string();
    for (key, value) in [
        (cluster::mirror::HASH, uid.as_str()),
        (SOURCE, "file"),
        (SEEN, &seen),
    ] {
        annotations.insert(key.to_owned(), value.to_owned());
    }
    meta.uid = Some(uid);
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    // The node's troubles don't end it.
    let always = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&always) {
        tolerations.push(always);
    }
    pod.status = None;
    pod
}

/// A hash of what the pod says and of where it comes from: 32 hexadecimal digits, as the kubelet's.
fn uid(pod: &Pod, folder: &Path, node: &str) -> String {
    let mut hash = Sha256::new();
    let said = serde_json::to_string(pod).unwrap_or_default();
    for part in [
        said.as_bytes(),
        node.as_bytes(),
        folder.as_os_str().as_encoded_bytes(),
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut digits = hex::encode(hash.finalize());
    digits.truncate(32);
    digits
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn pod(image: &str) -> Pod {
        let text = format!(
            r#"{{"metadata":{{"name":"web","namespace":"default"}},
                "spec":{{"containers":[{{"name":"c","image":"{image}"}}]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn it_has_what_the_kubelet_gives_it() {
        let made = of(pod("a:1"), Path::new("/etc/pods"), "Node-1");
        let meta = &made.metadata;
        assert_eq!(meta.name.as_deref(), Some("web-node-1"));
        let annotations = meta.annotations.clone().unwrap();
        let uid = meta.uid.clone().unwrap();
        assert_eq!(uid.len(), 32);
        assert_eq!(annotations["kubernetes.io/config.hash"], uid);
        assert_eq!(annotations["kubernetes.io/config.source"], "file");
        assert!(annotations[SEEN].parse::<Timestamp>().is_ok());
        let spec = made.spec.clone().unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("Node-1"));
        let toleration = &spec.tolerations.unwrap()[0];
        assert_eq!(
            (toleration.operator.as_deref(), toleration.effect.as_deref()),
            (Some("Exists"), Some("NoExecute"))
        );
        assert!(is_static(&made) && !is_static(&pod("a:1")));
    }

    #[test]
    fn its_uid_is_of_what_it_says_and_where() {
        let uid = |image: &str, folder: &str, node: &str| {
            of(pod(image), Path::new(folder), node)
                .metadata
                .uid
                .unwrap()
        };
        let one = uid("a:1", "/pods", "n");
        assert_eq!(one, uid("a:1", "/pods", "n"));
        for other in [
            uid("a:2", "/pods", "n"),
            uid("a:1", "/other", "n"),
            uid("a:1", "/pods", "m"),
        ] {
            assert_ne!(one, other);
        }
    }
}
