//! Whether a pod is for this Node: its selector and required affinity against the Node's labels
//! (`component-helpers/scheduling/corev1/nodeaffinity`), and its tolerations against the taints
//! (`component-helpers/scheduling/corev1/helpers.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration,
};

use super::NodeObject;

/// Whether the Node has what `nodeSelector` and the required node affinity ask for.
pub(super) fn fits(pod: &Pod, node: &NodeObject) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| node.labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|own| {
            own.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    selected
        && required.is_none_or(|selector| {
            let mut terms = selector.node_selector_terms.iter();
            terms.any(|term| matches(term, node))
        })
}

/// A term matches with all of its requirements; an empty one matches no Node.
fn matches(term: &NodeSelectorTerm, node: &NodeObject) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let names = BTreeMap::from([("metadata.name".to_owned(), node.name.clone())]);
    let field = |one: &NodeSelectorRequirement| {
        let known = names.contains_key(&one.key) && matches!(&*one.operator, "In" | "NotIn");
        known && meets(one, &names)
    };
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|one| meets(one, &node.labels))
        && fields.iter().all(field)
}

/// `Requirement.Matches` of `apimachinery/pkg/labels`. One that can't be read is met by nothing.
fn meets(one: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&one.key);
    let values = one.values.as_deref().unwrap_or_default();
    let among = value.is_some_and(|value| values.contains(value));
    let numbers = || {
        let [wanted] = values else { return None };
        Some((value?.parse::<i64>().ok()?, wanted.parse::<i64>().ok()?))
    };
    match one.operator.as_str() {
        "In" => among,
        "NotIn" => !among && !values.is_empty(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(has, wanted)| has > wanted),
        "Lt" => numbers().is_some_and(|(has, wanted)| has < wanted),
        _ => false,
    }
}

/// Whether the Node has a taint NoExecute that the pod does not tolerate: the only ones that a
/// kubelet looks at (`generalFilter` of `pkg/kubelet/lifecycle/predicate.go`).
pub(super) fn is_kept_away(pod: &Pod, taints: &[Taint]) -> bool {
    let mut hard = taints.iter().filter(|taint| taint.effect == "NoExecute");
    hard.any(|taint| !tolerates(pod, taint))
}

/// Whether a toleration of the pod's is for the taint.
pub(super) fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    let all = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_ref());
    all.into_iter().flatten().any(|one| tolerated(one, taint))
}

/// `ToleratesTaint` of `k8s.io/api/core/v1/toleration.go`.
fn tolerated(one: &Toleration, taint: &Taint) -> bool {
    let or_any = |own: &Option<String>, theirs: &str| {
        own.as_deref()
            .is_none_or(|own| own.is_empty() || own == theirs)
    };
    if !or_any(&one.effect, &taint.effect) || !or_any(&one.key, &taint.key) {
        return false;
    }
    let keyed = one.key.as_deref().is_some_and(|key| !key.is_empty());
    match one.operator.as_deref().unwrap_or_default() {
        "Exists" => true,
        "" | "Equal" => {
            keyed
                && one.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default()
        }
        _ => false,
    }
}
