//! The QoS class: `pkg/apis/core/v1/helper/qos/qos.go`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::resources::milli;
use crate::spec;

/// The pod's class. One that it was given before is kept: it is immutable.
pub fn class(pod: &Pod) -> &str {
    let known = pod
        .status
        .as_ref()
        .and_then(|status| status.qos_class.as_deref());
    match known.filter(|class| !class.is_empty()) {
        Some(class) => class,
        None => compute(pod),
    }
}

fn compute(pod: &Pod) -> &'static str {
    let shared = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let mut sums = Sums {
        guaranteed: true,
        ..Sums::default()
    };
    match shared {
        Some(resources) => sums.add(Some(resources)),
        None => spec::members(pod).for_each(|member| sums.add(member.spec.resources.as_ref())),
    }
    if sums.requests == [0, 0] && sums.limits == [0, 0] {
        "BestEffort"
    } else if sums.guaranteed && sums.covered() {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Of CPU and memory, in thousandths.
#[derive(Default)]
struct Sums {
    requests: [u128; 2],
    limits: [u128; 2],
    guaranteed: bool,
}

impl Sums {
    fn add(&mut self, resources: Option<&ResourceRequirements>) {
        let requests = amounts(resources.and_then(|own| own.requests.as_ref()));
        let limits = amounts(resources.and_then(|own| own.limits.as_ref()));
        self.guaranteed &= limits.iter().all(|limit| *limit > 0);
        for (sum, amount) in self.requests.iter_mut().zip(requests) {
            *sum = sum.saturating_add(amount);
        }
        for (sum, amount) in self.limits.iter_mut().zip(limits) {
            *sum = sum.saturating_add(amount);
        }
    }

    /// Each limit is asked for in full.
    fn covered(&self) -> bool {
        self.requests == self.limits
    }
}

fn amounts(list: Option<&BTreeMap<String, Quantity>>) -> [u128; 2] {
    ["cpu", "memory"].map(|name| list.and_then(|list| list.get(name)).map_or(0, milli))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn class_of(resources: &[&str]) -> String {
        let containers: Vec<String> = resources
            .iter()
            .enumerate()
            .map(|(n, resources)| format!(r#"{{"name":"c{n}","resources":{resources}}}"#))
            .collect();
        let pod = format!(r#"{{"spec":{{"containers":[{}]}}}}"#, containers.join(","));
        class(&serde_json::from_str(&pod).unwrap()).to_owned()
    }

    #[test]
    fn the_one_that_was_given_stays() {
        let of = |status: &str| {
            let pod = format!(
                r#"{{"status":{status},"spec":{{"containers":[{{"name":"c","resources":
                    {{"requests":{{"cpu":"1"}}}}}}]}}}}"#
            );
            class(&serde_json::from_str(&pod).unwrap()).to_owned()
        };
        assert_eq!(of(r#"{"qosClass":"BestEffort"}"#), "BestEffort");
        assert_eq!(of(r#"{"qosClass":""}"#), "Burstable");
        assert_eq!(of("{}"), "Burstable");
    }

    #[test]
    fn is_as_the_kubelet_computes_it() {
        let all =
            r#"{"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"1000m","memory":"1Gi"}}"#;
        let some = r#"{"requests":{"cpu":"1"}}"#;
        let disk = r#"{"requests":{"ephemeral-storage":"1Gi"}}"#;
        let zero = r#"{"requests":{"cpu":"0"}}"#;
        let less = r#"{"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"2","memory":"1Gi"}}"#;
        let no_memory = r#"{"requests":{"cpu":"1"},"limits":{"cpu":"1"}}"#;
        let no_cpu = r#"{"requests":{"memory":"1"},"limits":{"memory":"1"}}"#;
        let more = r#"{"requests":{"cpu":"2","memory":"1Gi"},"limits":{"cpu":"1","memory":"0"}}"#;
        for (resources, class) in [
            (vec!["{}"], "BestEffort"),
            (vec![disk], "BestEffort"),
            (vec![zero], "BestEffort"),
            (vec![all], "Guaranteed"),
            (vec![all, all], "Guaranteed"),
            (vec![all, "{}"], "Burstable"),
            (vec![some], "Burstable"),
            (vec![less], "Burstable"),
            (vec![no_memory], "Burstable"),
            (vec![no_cpu], "Burstable"),
            (vec![less, more], "Burstable"),
        ] {
            assert_eq!(class_of(&resources), class, "{resources:?}");
        }
    }
}
