//! Which static pods end and which begin, of those that are there and those that are to be. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cluster::mirror::{FullName, full_name};
use k8s_openapi::api::core::v1::Pod;

/// What is to be told to the agent.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// UIDs of pods that have left.
    pub(super) gone: Vec<String>,
    /// Pods that begin, or go on.
    pub(super) apply: Vec<Pod>,
}

/// `present`: what the agent has. `leaving`: the UIDs that were told to be gone and are still there.
pub(super) fn plan(
    present: &[Arc<Pod>],
    desired: &BTreeMap<FullName, Pod>,
    leaving: &mut BTreeSet<String>,
) -> Plan {
    let there: BTreeMap<&str, &Arc<Pod>> = present.iter().map(|pod| (uid(pod), pod)).collect();
    leaving.retain(|uid| there.contains_key(uid.as_str()));
    let wanted: BTreeSet<&str> = desired.values().map(uid).collect();
    let mut plan = Plan::default();
    for gone in there.keys().filter(|uid| !wanted.contains(*uid)) {
        if leaving.insert((*gone).to_owned()) {
            plan.gone.push((*gone).to_owned());
        }
    }
    let taken: BTreeSet<(FullName, &str)> = present
        .iter()
        .map(|pod| (full_name(pod), uid(pod)))
        .collect();
    for (name, pod) in desired {
        let of_this_name = taken.iter().filter(|(other, _)| other == name);
        let waits = leaving.contains(uid(pod))
            || of_this_name
                .into_iter()
                .any(|(_, other)| *other != uid(pod));
        if !waits {
            plan.apply.push(match there.get(uid(pod)) {
                // As it was seen first.
                Some(before) => as_before(pod, before),
                None => pod.clone(),
            });
        }
    }
    plan
}

fn as_before(pod: &Pod, before: &Pod) -> Pod {
    let mut pod = pod.clone();
    pod.metadata
        .annotations
        .clone_from(&before.metadata.annotations);
    pod
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pod(name: &str, uid: &str) -> Pod {
        let text =
            format!(r#"{{"metadata":{{"name":"{name}","namespace":"default","uid":"{uid}"}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn desired(pods: &[(&str, &str)]) -> BTreeMap<FullName, Pod> {
        let pods = pods.iter().map(|(name, uid)| pod(name, uid));
        pods.map(|pod| (full_name(&pod), pod)).collect()
    }

    fn present(pods: &[(&str, &str)]) -> Vec<Arc<Pod>> {
        pods.iter()
            .map(|(name, uid)| pod(name, uid).into())
            .collect()
    }

    /// UIDs: those that go, those that are applied.
    fn told(plan: &Plan) -> (Vec<&str>, Vec<&str>) {
        let gone = plan.gone.iter().map(String::as_str).collect();
        (gone, plan.apply.iter().map(uid).collect())
    }

    #[test]
    fn a_successor_waits_for_the_end_of_its_predecessor_and_holds_up_no_other() {
        let mut leaving = BTreeSet::new();
        let wanted = desired(&[("web", "2"), ("db", "9")]);
        let there = present(&[("web", "1")]);
        let first = plan(&there, &wanted, &mut leaving);
        assert_eq!(told(&first), (vec!["1"], vec!["9"]));
        // The end takes its time, and is asked for once.
        let there = present(&[("web", "1"), ("db", "9")]);
        assert_eq!(
            told(&plan(&there, &wanted, &mut leaving)),
            (vec![], vec!["9"])
        );
        let there = present(&[("db", "9")]);
        let last = plan(&there, &wanted, &mut leaving);
        assert_eq!(told(&last), (vec![], vec!["9", "2"]));
        assert!(leaving.is_empty());
    }

    #[test]
    fn one_that_comes_back_while_it_ends_begins_anew() {
        let mut leaving = BTreeSet::new();
        let there = present(&[("web", "1")]);
        assert_eq!(
            told(&plan(&there, &desired(&[]), &mut leaving)),
            (vec!["1"], vec![])
        );
        let back = desired(&[("web", "1")]);
        assert_eq!(told(&plan(&there, &back, &mut leaving)), (vec![], vec![]));
        assert_eq!(told(&plan(&[], &back, &mut leaving)), (vec![], vec!["1"]));
    }

    #[test]
    fn of_several_changes_only_the_last_one_is_begun() {
        let mut leaving = BTreeSet::new();
        let there = present(&[("web", "1")]);
        plan(&there, &desired(&[("web", "2")]), &mut leaving);
        let last = desired(&[("web", "3")]);
        assert_eq!(told(&plan(&there, &last, &mut leaving)), (vec![], vec![]));
        assert_eq!(told(&plan(&[], &last, &mut leaving)), (vec![], vec!["3"]));
    }
}
