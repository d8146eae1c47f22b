//! What a pod was given of what it asks for: a Pod's resources may change while it runs, and the
//! node may not have what it asks for now (`pkg/kubelet/allocation`).
//!
//! Must not know: whether the node has it, or what of it is in effect.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

use crate::resources::milli;
use crate::spec;

/// The resources of a pod and its containers, as a Pod wrote them when they were given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Allocation {
    /// `spec.resources`
    pub pod: Option<ResourceRequirements>,
    /// `spec.containers[].resources` and those of init containers, by name; one that asks for
    /// nothing is not among them.
    pub containers: BTreeMap<String, ResourceRequirements>,
}

impl Allocation {
    /// All that the Pod asks for. Shared: who grants it, who has it and who counts it keep the same.
    pub fn of(pod: &Pod) -> Arc<Allocation> {
        let containers = spec::members(pod).filter_map(|member| {
            let own = member.spec.resources.as_ref()?;
            (!is_nothing(own)).then(|| (member.name().to_owned(), own.clone()))
        });
        Arc::new(Allocation {
            pod: pod.spec.as_ref().and_then(|spec| spec.resources.clone()),
            containers: containers.collect(),
        })
    }

    /// True if the Pod asks for just that.
    pub fn is_of(&self, pod: &Pod) -> bool {
        let shared = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
        same(self.pod.as_ref(), shared)
            && spec::members(pod).all(|member| {
                let given = self.containers.get(member.name());
                same(given, member.spec.resources.as_ref())
            })
    }

    /// The Pod as if it asked for that.
    pub fn apply<'a>(&self, pod: &'a Pod) -> Cow<'a, Pod> {
        if self.is_of(pod) {
            return Cow::Borrowed(pod);
        }
        let mut pod = pod.clone();
        if let Some(spec) = &mut pod.spec {
            spec.resources.clone_from(&self.pod);
            let inits = spec.init_containers.iter_mut().flatten();
            for container in inits.chain(&mut spec.containers) {
                container.resources = self.containers.get(&container.name).cloned();
            }
        }
        Cow::Owned(pod)
    }
}

/// Whether a container asks for anything.
pub(crate) fn asks(container: &Container) -> bool {
    container
        .resources
        .as_ref()
        .is_some_and(|own| !is_nothing(own))
}

fn is_nothing(own: &ResourceRequirements) -> bool {
    let none =
        |list: &Option<BTreeMap<String, Quantity>>| list.as_ref().is_none_or(BTreeMap::is_empty);
    none(&own.limits) && none(&own.requests)
}

type List = BTreeMap<String, Quantity>;

fn limits(own: Option<&ResourceRequirements>) -> Option<&List> {
    own.and_then(|own| own.limits.as_ref())
}

fn requests(own: Option<&ResourceRequirements>) -> Option<&List> {
    own.and_then(|own| own.requests.as_ref())
}

/// The same amounts, however they are written.
pub(crate) fn same(
    one: Option<&ResourceRequirements>,
    other: Option<&ResourceRequirements>,
) -> bool {
    same_limits(one, other) && same_list(requests(one), requests(other))
}

/// As [`same`], of limits alone.
pub(crate) fn same_limits(
    one: Option<&ResourceRequirements>,
    other: Option<&ResourceRequirements>,
) -> bool {
    same_list(limits(one), limits(other))
}

fn same_list(one: Option<&List>, other: Option<&List>) -> bool {
    let amounts = |list: Option<&List>| -> BTreeMap<String, u128> {
        let all = list.into_iter().flatten();
        all.map(|(name, amount)| (name.clone(), milli(amount)))
            .collect()
    };
    one == other || amounts(one) == amounts(other)
}

/// Whether request or limit of a resource differ.
pub(crate) fn differs(
    name: &str,
    one: Option<&ResourceRequirements>,
    other: Option<&ResourceRequirements>,
) -> bool {
    let amount = |list: Option<&List>| list.and_then(|list| list.get(name)).map(milli);
    amount(limits(one)) != amount(limits(other)) || amount(requests(one)) != amount(requests(other))
}

/// The limit of a resource, in thousandths; 0 is none.
pub(crate) fn limit(name: &str, own: Option<&ResourceRequirements>) -> Option<u128> {
    let limit = limits(own)?.get(name).map(milli);
    limit.filter(|limit| *limit > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pod(one: &str, other: &str) -> Pod {
        let text = format!(
            r#"{{"spec":{{"containers":[{{"name":"a","resources":{one}}},{{"name":"b","resources":{other}}}]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn amounts_count_and_not_how_they_are_written() {
        let given = Allocation::of(&pod(r#"{"requests":{"cpu":"1"}}"#, "{}"));
        assert_eq!(given.containers.len(), 1);
        for (one, other, is) in [
            (r#"{"requests":{"cpu":"1000m"}}"#, r#"{"limits":{}}"#, true),
            (r#"{"requests":{"cpu":"1001m"}}"#, "{}", false),
            (
                r#"{"limits":{"cpu":"1"},"requests":{"cpu":"1"}}"#,
                "{}",
                false,
            ),
            (
                r#"{"requests":{"cpu":"1"}}"#,
                r#"{"requests":{"cpu":"1"}}"#,
                false,
            ),
            ("{}", "{}", false),
        ] {
            assert_eq!(given.is_of(&pod(one, other)), is, "{one} {other}");
        }
    }

    #[test]
    fn a_pod_is_shown_with_what_it_was_given() {
        let given = pod(r#"{"requests":{"cpu":"1"}}"#, "{}");
        let asks = pod("{}", r#"{"limits":{"memory":"1Gi"}}"#);
        let shown = Allocation::of(&given).apply(&asks);
        assert_eq!(Allocation::of(&shown), Allocation::of(&given));
        assert!(matches!(
            Allocation::of(&asks).apply(&asks),
            Cow::Borrowed(_)
        ));
    }
}
