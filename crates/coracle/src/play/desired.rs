//! From what files say to what a session has: pods that are new, changed and gone.
//!
//! A pod's UID is a hash of what it says, so that the same file is the same pod. What a Pod may change
//! while it runs (its images, labels, annotations, more ephemeral containers, and CPU and memory of its
//! containers within its QoS class) is no part of that and is applied to it; any other change is
//! another pod, in its place once it has ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use sha2::{Digest, Sha256};

use crate::local::Session;
use crate::manifest::{Manifest, Named};
use crate::objects::FileObjects;

/// See the module.
pub(super) struct Desired {
    session: Session,
    objects: Arc<FileObjects>,
    pods: BTreeMap<Named, Played>,
    /// How often a pod of this name was begun.
    begun: BTreeMap<Named, u64>,
}

/// A pod of the session.
struct Played {
    uid: String,
    identity: String,
    pod: Pod,
}

impl Desired {
    pub(super) fn new(session: Session, objects: Arc<FileObjects>) -> Desired {
        Desired {
            session,
            objects,
            pods: BTreeMap::new(),
            begun: BTreeMap::new(),
        }
    }

    /// Makes the session have these pods and objects and no others. Gives what could not be done,
    /// and is tried again with the next manifest.
    pub(super) async fn reach(&mut self, manifest: Manifest) -> Vec<anyhow::Error> {
        self.objects
            .replace(&manifest.config_maps, &manifest.secrets);
        let mut wrongs = Vec::new();
        let mut leaving = Vec::new();
        let mut staying = BTreeMap::new();
        for (named, played) in std::mem::take(&mut self.pods) {
            match manifest.pods.get(&named) {
                Some(pod) if identity(pod) == played.identity && keeps(&played.pod, pod) => {
                    staying.insert(named, played);
                }
                _ => leaving.push((named, played.uid)),
            }
        }
        self.pods = staying;
        let gone = leaving.iter().map(|(named, uid)| {
            let session = self.session.clone();
            async move { (named, session.end_of(uid).await) }
        });
        for (named, outcome) in join_all(gone).await {
            if let Err(error) = outcome {
                wrongs.push(error.context(format!("pod {}/{} can't be ended", named.0, named.1)));
            }
        }
        for (named, pod) in manifest.pods {
            if let Err(error) = self.apply(&named, pod).await {
                wrongs.push(error);
            }
        }
        wrongs
    }

    async fn apply(&mut self, named: &Named, mut pod: Pod) -> anyhow::Result<()> {
        if let Some(played) = self.pods.get_mut(named) {
            pod.metadata.uid = Some(played.uid.clone());
            if played.pod != pod {
                self.session.apply(pod.clone())?;
                played.pod = pod.clone();
            }
            // Its volumes may say something else now, whether it changed or not.
            return self.session.refresh(&pod).await;
        }
        let identity = identity(&pod);
        let begun = self.begun.entry(named.clone()).or_default();
        let uid = uid(named, &identity, *begun);
        pod.metadata.uid = Some(uid.clone());
        self.session.apply(pod.clone())?;
        *begun += 1;
        let played = Played { uid, identity, pod };
        self.pods.insert(named.clone(), played);
        Ok(())
    }
}

/// What makes it this pod and no other.
fn identity(pod: &Pod) -> String {
    let class = lifecycle::qos_class(pod).to_owned();
    let mut pod = pod.clone();
    pod.metadata.uid = None;
    pod.metadata.labels = None;
    pod.metadata.annotations = None;
    if let Some(spec) = &mut pod.spec {
        spec.ephemeral_containers = None;
        let inits = spec.init_containers.iter_mut().flatten();
        for container in inits.chain(&mut spec.containers) {
            container.image = None;
            // It follows from the image where nobody said otherwise.
            container.image_pull_policy = None;
            container.resources = container.resources.take().and_then(fixed);
        }
    }
    format!(
        "{class} {}",
        serde_json::to_string(&pod).unwrap_or_default()
    )
}

/// An ephemeral container may be added, but none may change or leave.
fn keeps(before: &Pod, after: &Pod) -> bool {
    let of = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        spec.and_then(|spec| spec.ephemeral_containers.clone())
            .unwrap_or_default()
    };
    let after = of(after);
    of(before).iter().all(|one| after.contains(one))
}

/// What of a container's resources can't change while it runs, if there is any.
fn fixed(mut own: ResourceRequirements) -> Option<ResourceRequirements> {
    for list in [&mut own.limits, &mut own.requests] {
        if let Some(list) = list {
            list.retain(|name, _| name != "cpu" && name != "memory");
        }
        list.take_if(|list| list.is_empty());
    }
    (own != ResourceRequirements::default()).then_some(own)
}

/// A UUID of what a pod says and of how many there were before it (RFC 9562, version 8).
fn uid((namespace, name): &Named, identity: &str, begun: u64) -> String {
    let mut hash = Sha256::new();
    for part in [namespace, name, identity, &begun.to_string()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut hex: Vec<char> = hex::encode(hash.finalize()).chars().take(32).collect();
    for (place, digit) in [(12, '8'), (16, '8')] {
        if let Some(at) = hex.get_mut(place) {
            *at = digit;
        }
    }
    let text: String = hex.into_iter().collect();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use k8s_openapi::api::core::v1::EphemeralContainer;

    use super::*;

    fn pod(image: &str, arg: &str) -> Pod {
        let text = format!(
            r#"{{"metadata":{{"name":"web","labels":{{"image":"{image}"}}}},
                "spec":{{"containers":[{{"name":"c","image":"{image}","args":["{arg}"]}}]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_pod_is_what_it_says_but_for_what_may_change() {
        let one = identity(&pod("a:1", "x"));
        assert_eq!(one, identity(&pod("a:2", "x")));
        assert_ne!(one, identity(&pod("a:1", "y")));
    }

    #[test]
    fn ephemeral_containers_come_and_stay() {
        let with = |names: &[&str]| {
            let mut pod = pod("a:1", "x");
            let all = names.iter().map(|name| EphemeralContainer {
                name: (*name).to_owned(),
                ..EphemeralContainer::default()
            });
            pod.spec.as_mut().unwrap().ephemeral_containers = Some(all.collect());
            pod
        };
        assert_eq!(identity(&with(&[])), identity(&with(&["d"])));
        for (before, after, keeps_them) in [
            (&[][..], &["d"][..], true),
            (&["d"], &["d", "e"], true),
            (&["d"], &[], false),
            (&["d"], &["e"], false),
        ] {
            assert_eq!(keeps(&with(before), &with(after)), keeps_them);
        }
    }

    #[test]
    fn a_pod_with_other_resources_is_the_same_within_its_class() {
        let of = |resources: &str| {
            let mut pod = pod("a:1", "x");
            let own = serde_json::from_str(resources).unwrap();
            pod.spec.as_mut().unwrap().containers[0].resources = own;
            identity(&pod)
        };
        let one = of(r#"{"requests":{"cpu":"1"}}"#);
        assert_eq!(one, of(r#"{"requests":{"cpu":"2","memory":"1Gi"}}"#));
        assert_eq!(one, of(r#"{"requests":{"cpu":"2"},"limits":{"cpu":"3"}}"#));
        let guaranteed = r#"{"cpu":"1","memory":"1Gi"}"#;
        for other in [
            "null".to_owned(),
            format!(r#"{{"requests":{guaranteed},"limits":{guaranteed}}}"#),
            r#"{"requests":{"cpu":"1","ephemeral-storage":"1Gi"}}"#.to_owned(),
        ] {
            assert_ne!(one, of(&other), "{other}");
        }
    }

    #[test]
    fn a_uid_is_stable_and_of_one_pod_alone() {
        let named = |name: &str| ("default".to_owned(), name.to_owned());
        let first = uid(&named("web"), "x", 0);
        assert_eq!(first, uid(&named("web"), "x", 0));
        for other in [
            uid(&named("web"), "y", 0),
            uid(&named("web"), "x", 1),
            uid(&named("we"), "bx", 0),
        ] {
            assert_ne!(first, other);
        }
        let lengths: Vec<usize> = first.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }
}
