//! How much a pod matters: its priority, and whether the cluster itself needs it
//! (`pkg/kubelet/types/pod_update.go`).

use k8s_openapi::api::core::v1::Pod;

/// `SystemCriticalPriority` of `pkg/apis/scheduling`.
const CRITICAL: i32 = 2_000_000_000;

/// `spec.priority`, or 0 (`PodPriority` of `component-helpers/scheduling/corev1`).
pub(super) fn priority(pod: &Pod) -> i32 {
    own_priority(pod).unwrap_or_default()
}

fn own_priority(pod: &Pod) -> Option<i32> {
    pod.spec.as_ref().and_then(|spec| spec.priority)
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// It comes from a file of this node: `IsStaticPod`.
pub(super) fn is_static(pod: &Pod) -> bool {
    annotation(pod, "kubernetes.io/config.source").is_some_and(|source| source != "api")
}

/// `IsCriticalPod`: it is not evicted, and others make room for it.
pub(super) fn is_critical(pod: &Pod) -> bool {
    is_static(pod)
        || annotation(pod, "kubernetes.io/config.mirror").is_some()
        || priority(pod) >= CRITICAL
}

/// Whether `victim` makes room for `pod`: `Preemptable`.
pub(super) fn preempts(pod: &Pod, victim: &Pod) -> bool {
    if is_critical(pod) && !is_critical(victim) {
        return true;
    }
    matches!((own_priority(pod), own_priority(victim)), (Some(one), Some(other)) if one > other)
}
