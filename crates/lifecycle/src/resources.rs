//! What pods ask for and what a node has.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

use crate::quantity::parse_milli;
use crate::spec::{self, Role};

/// Amounts of what a node has to give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
    /// Pods.
    pub pods: u64,
    /// Memory mappings of the guest host (`vm.max_map_count` bounds them).
    pub mappings: u64,
    /// Open descriptors of the guest host (`RLIMIT_NOFILE` bounds them).
    pub descriptors: u64,
    /// Bytes of local disk.
    pub ephemeral_storage: u64,
}

/// What one container costs the guest host while it runs, whatever it asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// Memory mappings.
    pub mappings: u64,
    /// Descriptors.
    pub descriptors: u64,
}

impl Resources {
    /// Both together, at most `u64::MAX` of each.
    #[must_use]
    pub fn plus(self, other: Resources) -> Resources {
        self.each(other, u64::saturating_add)
    }

    /// With what a part of it has become in its place, where that is more.
    #[must_use]
    pub(crate) fn grown(self, from: Resources, to: Resources) -> Resources {
        self.plus(from.larger(to).each(from, u64::saturating_sub))
    }

    /// The larger of each.
    #[must_use]
    pub(crate) fn larger(self, other: Resources) -> Resources {
        self.each(other, u64::max)
    }

    fn each(self, other: Resources, op: impl Fn(u64, u64) -> u64) -> Resources {
        Resources {
            cpu_milli: op(self.cpu_milli, other.cpu_milli),
            memory: op(self.memory, other.memory),
            pods: op(self.pods, other.pods),
            mappings: op(self.mappings, other.mappings),
            descriptors: op(self.descriptors, other.descriptors),
            ephemeral_storage: op(self.ephemeral_storage, other.ephemeral_storage),
        }
    }

    /// What the Pod asks for: `PodRequests` of `component-helpers/resource`. The containers
    /// together with the sidecars, or the largest moment of the init containers if that is more;
    /// the pod's own requests in their place; and the overhead.
    pub fn requested(pod: &Pod, costs: &Costs) -> Resources {
        let mut sum = Resources::default();
        let mut sidecars = Resources::default();
        let mut initial = Resources::default();
        for member in spec::members(pod) {
            let own = of_container(member.spec, costs);
            match member.role {
                // Those have none (`spec::members` leaves them out).
                Role::Ephemeral => {}
                Role::Main => sum = sum.plus(own),
                Role::Init => initial = initial.larger(sidecars.plus(own)),
                Role::Sidecar => {
                    sum = sum.plus(own);
                    sidecars = sidecars.plus(own);
                    initial = initial.larger(sidecars);
                }
            }
        }
        let mut all = sum.larger(initial);
        let spec = pod.spec.as_ref();
        let requests = spec.and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
        if let Some(quantity) = requests.and_then(|requests| requests.get("cpu")) {
            all.cpu_milli = narrow(milli(quantity));
        }
        if let Some(quantity) = requests.and_then(|requests| requests.get("memory")) {
            all.memory = units(quantity);
        }
        let overhead = of_list(spec.and_then(|spec| spec.overhead.as_ref()));
        Resources {
            pods: 1,
            ..all.plus(overhead)
        }
    }
}

fn of_container(container: &Container, costs: &Costs) -> Resources {
    let resources = container.resources.as_ref();
    // The API server defaults a request to its limit; a file has no server to.
    let requests = of_list(resources.and_then(|resources| resources.requests.as_ref()));
    let limits = of_list(resources.and_then(|resources| resources.limits.as_ref()));
    let asks = |name: &str| {
        let requests = resources.and_then(|resources| resources.requests.as_ref());
        requests.is_some_and(|requests| requests.contains_key(name))
    };
    let or = |name: &str, request: u64, limit: u64| if asks(name) { request } else { limit };
    Resources {
        cpu_milli: or("cpu", requests.cpu_milli, limits.cpu_milli),
        memory: or("memory", requests.memory, limits.memory),
        ephemeral_storage: or(
            "ephemeral-storage",
            requests.ephemeral_storage,
            limits.ephemeral_storage,
        ),
        pods: 0,
        mappings: costs.mappings,
        descriptors: costs.descriptors,
    }
}

fn of_list(list: Option<&BTreeMap<String, Quantity>>) -> Resources {
    let get = |name: &str| list.and_then(|list| list.get(name));
    Resources {
        cpu_milli: get("cpu").map_or(0, |quantity| narrow(milli(quantity))),
        memory: get("memory").map_or(0, units),
        ephemeral_storage: get("ephemeral-storage").map_or(0, units),
        ..Resources::default()
    }
}

/// In thousandths; what is no quantity is nothing ([`crate::unsupported`] refuses it).
pub(crate) fn milli(quantity: &Quantity) -> u128 {
    parse_milli(&quantity.0).unwrap_or(0)
}

/// In whole units, rounded up.
pub(crate) fn units(quantity: &Quantity) -> u64 {
    narrow(milli(quantity).div_ceil(1000))
}

fn narrow(amount: u128) -> u64 {
    u64::try_from(amount).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn requested(spec: &str) -> Resources {
        let pod: Pod = serde_json::from_str(&format!(r#"{{"spec":{spec}}}"#)).unwrap();
        Resources::requested(
            &pod,
            &Costs {
                mappings: 3,
                descriptors: 7,
            },
        )
    }

    fn c(name: &str, cpu: &str, more: &str) -> String {
        format!(r#"{{"name":"{name}","resources":{{"requests":{{"cpu":"{cpu}"}}}}{more}}}"#)
    }

    #[test]
    fn the_largest_moment_counts() {
        let sidecar = r#","restartPolicy":"Always""#;
        let spec = format!(
            r#"{{"initContainers":[{},{},{}],"containers":[{},{}],"overhead":{{"cpu":"5m"}}}}"#,
            c("i", "100m", ""),
            c("s", "50m", sidecar),
            c("j", "400m", ""),
            c("a", "150m", ""),
            c("b", "150m", "")
        );
        // 50 + 400 at the second init container; 50 + 150 + 150 after; 5 over both.
        let all = requested(&spec);
        assert_eq!((all.cpu_milli, all.pods), (455, 1));
        // Three run at once: two containers and the sidecar.
        assert_eq!((all.mappings, all.descriptors), (9, 21));
    }

    #[test]
    fn the_pods_own_requests_replace_the_sum() {
        let spec = format!(
            r#"{{"containers":[{}],"resources":{{"requests":{{"cpu":"2","memory":"1Ki"}}}}}}"#,
            c("a", "1", "")
        );
        let all = requested(&spec);
        assert_eq!((all.cpu_milli, all.memory), (2000, 1024));
    }

    #[test]
    fn each_resource_counts_by_itself() {
        let of = |name: &str, has: &str| format!(r#"{{"name":"{name}","resources":{{{has}}}}}"#);
        let list = |storage: &str| {
            format!(r#"{{"cpu":"100m","memory":"1Ki","ephemeral-storage":"{storage}"}}"#)
        };
        let spec = format!(
            r#"{{"initContainers":[{}],"containers":[{},{}],
                "overhead":{{"memory":"1","ephemeral-storage":"2"}}}}"#,
            of("i", &format!(r#""requests":{}"#, list("9Ki"))),
            of("a", &format!(r#""requests":{}"#, list("1Ki"))),
            of("b", &format!(r#""limits":{}"#, list("2Ki"))),
        );
        let all = requested(&spec);
        assert_eq!((all.cpu_milli, all.memory), (200, 2049));
        assert_eq!(all.ephemeral_storage, 9 * 1024 + 2, "the init container's");
        // A request of nothing is one, whatever the limit.
        let spec = format!(
            r#"{{"containers":[{}]}}"#,
            of(
                "a",
                &format!(
                    r#""limits":{},"requests":{{"cpu":"0","memory":"0","ephemeral-storage":"0"}}"#,
                    list("1Ki")
                )
            )
        );
        let all = requested(&spec);
        assert_eq!(
            (all.cpu_milli, all.memory, all.ephemeral_storage),
            (0, 0, 0)
        );
    }

    #[test]
    fn sums_are_of_each_and_end_at_the_most() {
        let of = |cpu_milli, memory, more| Resources {
            cpu_milli,
            memory,
            pods: more,
            mappings: more,
            descriptors: more,
            ephemeral_storage: more,
        };
        assert_eq!(of(1, 2, 3).plus(of(10, 20, 30)), of(11, 22, 33));
        assert_eq!(of(u64::MAX, 0, 1).plus(of(1, 1, 1)), of(u64::MAX, 1, 2));
        assert_eq!(of(1, 20, 3).larger(of(10, 2, 3)), of(10, 20, 3));
        // What shrinks is held until it has shrunk.
        assert_eq!(
            of(100, 100, 5).grown(of(1, 9, 1), of(4, 2, 1)),
            of(103, 100, 5)
        );
    }

    #[test]
    fn a_limit_alone_is_a_request_and_the_absurd_saturates() {
        let spec = r#"{"containers":[
            {"name":"a","resources":{"limits":{"memory":"64Mi"}}},
            {"name":"b","resources":{"requests":{"cpu":"9e999"},"limits":{"cpu":"1"}}},
            {"name":"c","resources":{"requests":{"cpu":"1"}}}]}"#;
        let all = requested(spec);
        assert_eq!((all.cpu_milli, all.memory), (u64::MAX, 64 << 20));
    }
}
