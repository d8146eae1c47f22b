//! What a pod was given of what it asks for: a Pod's resources may change while it runs, and the
//! node may not have what it asks for now (`pkg/kubelet/allocation`).
//!
//! Must not know: whether the node has it, or what of it is in effect.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use crate::resources::milli;
use crate::spec;

/// The resources of a pod and its containers, as a Pod wrote them when they were given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Allocation {
    /// `spec.resources`
    pub pod: Option<Amounts>,
    /// `spec.containers[].resources` and those of init containers, by name; one that asks for
    /// nothing is not among them.
    pub containers: LiteMap<String, Amounts>,
}

/// Limits and requests by resource, as they were written: [`ResourceRequirements`] in the least
/// memory, for a node keeps those of every container, and a `BTreeMap` has room for eleven.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amounts {
    limits: LiteMap<String, Quantity>,
    requests: LiteMap<String, Quantity>,
}

impl Amounts {
    /// What is asked for; claims are no amounts.
    pub fn of(own: &ResourceRequirements) -> Amounts {
        Amounts {
            limits: own.limits().map(owned).collect(),
            requests: own.requests().map(owned).collect(),
        }
    }

    /// As a Pod or a status has it.
    pub fn requirements(&self) -> ResourceRequirements {
        let list = |list: &LiteMap<String, Quantity>| -> Option<BTreeMap<String, Quantity>> {
            (!list.is_empty()).then(|| list.iter().map(owned).collect())
        };
        ResourceRequirements {
            claims: None,
            limits: list(&self.limits),
            requests: list(&self.requests),
        }
    }

    fn is_nothing(&self) -> bool {
        self.limits.is_empty() && self.requests.is_empty()
    }
}

fn owned((name, amount): (&String, &Quantity)) -> (String, Quantity) {
    (name.clone(), amount.clone())
}

/// An amount of a resource.
type Amount<'a> = (&'a String, &'a Quantity);

/// What has limits and requests, in the order of their names.
pub(crate) trait Asks {
    /// The limits.
    fn limits(&self) -> impl Iterator<Item = Amount<'_>>;
    /// The requests.
    fn requests(&self) -> impl Iterator<Item = Amount<'_>>;
}

impl Asks for ResourceRequirements {
    fn limits(&self) -> impl Iterator<Item = Amount<'_>> {
        self.limits.iter().flatten()
    }

    fn requests(&self) -> impl Iterator<Item = Amount<'_>> {
        self.requests.iter().flatten()
    }
}

impl Asks for Amounts {
    fn limits(&self) -> impl Iterator<Item = Amount<'_>> {
        self.limits.iter()
    }

    fn requests(&self) -> impl Iterator<Item = Amount<'_>> {
        self.requests.iter()
    }
}

impl Allocation {
    /// All that the Pod asks for. Shared: who grants it, who has it and who counts it keep the same.
    pub fn of(pod: &Pod) -> Arc<Allocation> {
        let containers = spec::members(pod).filter_map(|member| {
            let own = Amounts::of(member.spec.resources.as_ref()?);
            (!own.is_nothing()).then(|| (member.name().to_owned(), own))
        });
        let shared = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
        let all = Allocation {
            pod: shared.map(Amounts::of),
            containers: containers.collect(),
        };
        // A copy, for it is kept: lists that were collected have room for four.
        Arc::new(all.clone())
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
            give(&mut spec.resources, self.pod.as_ref());
            let inits = spec.init_containers.iter_mut().flatten();
            for container in inits.chain(&mut spec.containers) {
                give(
                    &mut container.resources,
                    self.containers.get(&container.name),
                );
            }
        }
        Cow::Owned(pod)
    }
}

/// Puts these amounts in the place of others.
fn give(asked: &mut Option<ResourceRequirements>, given: Option<&Amounts>) {
    let claims = asked.take().and_then(|asked| asked.claims);
    *asked = match (given, claims) {
        (None, None) => None,
        (given, claims) => Some(ResourceRequirements {
            claims,
            ..given.map(Amounts::requirements).unwrap_or_default()
        }),
    };
}

/// Whether a container asks for anything.
pub(crate) fn asks(container: &Container) -> bool {
    let mut own = container.resources.iter();
    own.any(|own| own.limits().next().is_some() || own.requests().next().is_some())
}

/// The same amounts, however they are written.
pub(crate) fn same(one: Option<&impl Asks>, other: Option<&impl Asks>) -> bool {
    same_limits(one, other) && same_list(all_requests(one), all_requests(other))
}

/// As [`same`], of limits alone.
pub(crate) fn same_limits(one: Option<&impl Asks>, other: Option<&impl Asks>) -> bool {
    same_list(all_limits(one), all_limits(other))
}

fn all_limits<'a>(own: Option<&'a (impl Asks + 'a)>) -> impl Iterator<Item = Amount<'a>> {
    own.into_iter().flat_map(Asks::limits)
}

fn all_requests<'a>(own: Option<&'a (impl Asks + 'a)>) -> impl Iterator<Item = Amount<'a>> {
    own.into_iter().flat_map(Asks::requests)
}

fn same_list<'a>(
    mut one: impl Iterator<Item = Amount<'a>>,
    mut other: impl Iterator<Item = Amount<'a>>,
) -> bool {
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some((name, amount)), Some((also, as_much))) => {
                let same = || amount == as_much || milli(amount) == milli(as_much);
                if name != also || !same() {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// Whether request or limit of a resource differ.
pub(crate) fn differs(name: &str, one: Option<&impl Asks>, other: Option<&impl Asks>) -> bool {
    amount(name, all_limits(one)) != amount(name, all_limits(other))
        || amount(name, all_requests(one)) != amount(name, all_requests(other))
}

fn amount<'a>(name: &str, mut list: impl Iterator<Item = Amount<'a>>) -> Option<u128> {
    list.find(|(other, _)| *other == name)
        .map(|(_, amount)| milli(amount))
}

/// The limit of a resource, in thousandths; 0 is none.
pub(crate) fn limit(name: &str, own: Option<&impl Asks>) -> Option<u128> {
    amount(name, all_limits(own)).filter(|limit| *limit > 0)
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

    fn own(text: &str) -> ResourceRequirements {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_resource_differs_by_its_request_or_by_its_limit() {
        let one = own(r#"{"limits":{"cpu":"2"},"requests":{"cpu":"1"}}"#);
        for (other, does) in [
            (
                r#"{"limits":{"cpu":"2"},"requests":{"cpu":"1000m"}}"#,
                false,
            ),
            (r#"{"limits":{"cpu":"3"},"requests":{"cpu":"1"}}"#, true),
            (r#"{"limits":{"cpu":"2"},"requests":{"cpu":"2"}}"#, true),
            (r#"{"limits":{"cpu":"2"}}"#, true),
            (
                r#"{"limits":{"cpu":"2","memory":"1"},"requests":{"cpu":"1"}}"#,
                false,
            ),
        ] {
            assert_eq!(
                differs("cpu", Some(&one), Some(&own(other))),
                does,
                "{other}"
            );
        }
    }

    #[test]
    fn a_limit_of_nothing_is_none() {
        let own = own(r#"{"limits":{"cpu":"0","memory":"1"},"requests":{"cpu":"1"}}"#);
        assert_eq!(limit("cpu", Some(&own)), None);
        assert_eq!(limit("memory", Some(&own)), Some(1000));
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

    #[test]
    fn claims_are_no_amounts_and_stay() {
        let claims = r#"{"claims":[{"name":"c"}]"#;
        let given = Allocation::of(&pod(r#"{"requests":{"cpu":"1"}}"#, "{}"));
        let more = format!(r#"{claims},"limits":{{"cpu":"1"}}}}"#);
        let shown = given
            .apply(&pod(&format!("{claims}}}"), &more))
            .into_owned();
        let all = spec::mains(&shown).map(|main| main.spec.resources.clone().unwrap());
        let [one, other] = all.collect::<Vec<_>>().try_into().unwrap();
        assert!(one.claims.is_some() && one.requests.is_some());
        assert!(other.claims.is_some() && other.limits.is_none());
    }
}
