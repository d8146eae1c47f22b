//! Reads the Pod: the fields that `step` decides by, after the API's defaults.
//!
//! Must not know: memory or facts.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::action::PullPolicy;

/// The grace of a pod that names none, seconds (the API's default).
const DEFAULT_GRACE: i64 = 30;

/// What kind of container it is, as far as its order and its restarts go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Of `spec.containers`.
    Main,
    /// Of `spec.initContainers`: runs to its end before the next.
    Init,
    /// Of `spec.initContainers` with restartPolicy Always: runs beside the others.
    Sidecar,
}

/// A container with its role.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) role: Role,
    pub(crate) spec: &'a Container,
}

/// The init containers in their order, then the others in theirs.
pub(crate) fn members(pod: &Pod) -> impl DoubleEndedIterator<Item = Member<'_>> {
    inits(pod).chain(mains(pod))
}

/// The init containers in their order.
pub(crate) fn inits(pod: &Pod) -> impl DoubleEndedIterator<Item = Member<'_>> {
    let containers = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_deref());
    containers.unwrap_or_default().iter().map(|spec| Member {
        role: if spec.restart_policy.as_deref() == Some("Always") {
            Role::Sidecar
        } else {
            Role::Init
        },
        spec,
    })
}

/// The containers that are not init containers.
pub(crate) fn mains(pod: &Pod) -> impl DoubleEndedIterator<Item = Member<'_>> {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice());
    containers.unwrap_or_default().iter().map(|spec| Member {
        role: Role::Main,
        spec,
    })
}

impl<'a> Member<'a> {
    /// Its name.
    pub(crate) fn name(&self) -> &'a str {
        &self.spec.name
    }

    /// Its image as the Pod names it.
    pub(crate) fn image(&self) -> &str {
        self.spec.image.as_deref().unwrap_or_default()
    }

    /// `involvedObject.fieldPath` of its events.
    pub(crate) fn field_path(&self) -> String {
        let list = if self.role == Role::Main {
            "containers"
        } else {
            "initContainers"
        };
        format!("spec.{list}{{{}}}", self.spec.name)
    }

    /// Whether a run that ended with `code` is followed by another while the pod is to live:
    /// `ContainerShouldRestart` in `pkg/api/v1/pod/util.go`, without the rules (which
    /// [`crate::unsupported`] refuses). An init container that succeeded is done, whatever the
    /// policy says.
    pub(crate) fn restarts(&self, pod: &Pod, code: i32) -> bool {
        if self.role == Role::Init && code == 0 {
            return false;
        }
        let own = self.spec.restart_policy.as_deref();
        match own.or_else(|| pod.spec.as_ref()?.restart_policy.as_deref()) {
            Some("Never") => false,
            Some("OnFailure") => code != 0,
            _ => true,
        }
    }

    /// Whether a run that others end is followed by another (`shouldRestartOnFailure` in
    /// `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).
    pub(crate) fn may_restart(&self, pod: &Pod) -> bool {
        self.restarts(pod, 1)
    }

    /// `imagePullPolicy` after its default.
    pub(crate) fn pull_policy(&self) -> PullPolicy {
        match self.spec.image_pull_policy.as_deref() {
            Some("Always") => PullPolicy::Always,
            Some("Never") => PullPolicy::Never,
            Some("IfNotPresent") => PullPolicy::IfNotPresent,
            _ if has_latest_tag(self.image()) => PullPolicy::Always,
            _ => PullPolicy::IfNotPresent,
        }
    }

    /// The kubelet's words if the Pod asks for no root and for uid 0 at once
    /// (`verifyRunAsNonRoot` in `pkg/kubelet/kuberuntime`). The image's user is not known here.
    pub(crate) fn breaks_non_root(&self, pod: &Pod) -> Option<String> {
        let own = self.spec.security_context.as_ref();
        let shared = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.security_context.as_ref());
        let non_root = own
            .and_then(|context| context.run_as_non_root)
            .or_else(|| shared.and_then(|context| context.run_as_non_root));
        let user = own
            .and_then(|context| context.run_as_user)
            .or_else(|| shared.and_then(|context| context.run_as_user));
        (non_root == Some(true) && user == Some(0)).then(|| {
            format!(
                "container's runAsUser breaks non-root policy (pod: \"{}\", container: {})",
                display(pod),
                self.name()
            )
        })
    }
}

/// A reference without a tag or digest, or with the tag `latest`.
fn has_latest_tag(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        None => true,
        Some((_, tag)) => tag == "latest",
    }
}

/// `terminationGracePeriodSeconds` after its default, at least 1 s.
pub(crate) fn grace(pod: &Pod) -> i64 {
    let own = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.termination_grace_period_seconds);
    own.unwrap_or(DEFAULT_GRACE).max(1)
}

/// `<name>_<namespace>(<uid>)`, as the kubelet's messages have it.
pub fn display(pod: &Pod) -> String {
    let meta = &pod.metadata;
    format!(
        "{}_{}({})",
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default()
    )
}

/// `spec.activeDeadlineSeconds`.
pub(crate) fn deadline(pod: &Pod) -> Option<i64> {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.active_deadline_seconds)
}

/// How many containers share the pod's 12 KiB of termination messages.
pub(crate) fn container_count(spec: Option<&PodSpec>) -> usize {
    spec.map_or(0, |spec| {
        spec.containers.len()
            + spec.init_containers.as_ref().map_or(0, Vec::len)
            + spec.ephemeral_containers.as_ref().map_or(0, Vec::len)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_pull_policy_looks_at_the_tag_alone() {
        for (image, latest) in [
            ("hello", true),
            ("hello:latest", true),
            ("hello:1", false),
            ("localhost:5000/hello", true),
            ("localhost:5000/hello:1", false),
            ("hello@sha256:00", false),
            ("hello:latest@sha256:00", false),
        ] {
            assert_eq!(has_latest_tag(image), latest, "{image}");
        }
    }
}
