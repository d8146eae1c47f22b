//! Reads the Pod: the fields that `step` decides by, after the API's defaults.
//!
//! Must not know: memory or facts.

use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, EphemeralContainer, Pod, PodSpec,
};

use crate::action::PullPolicy;
use crate::restart;

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
    /// Of `spec.ephemeralContainers`: runs once, and nothing waits for it.
    Ephemeral,
}

/// A container with its role.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) role: Role,
    pub(crate) spec: &'a Container,
}

/// An ephemeral container as the container that it is, but for the one that it is to look at: guests
/// share no processes.
pub fn ephemeral(one: &EphemeralContainer) -> Container {
    let EphemeralContainer {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        target_container_name: _,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    } = one.clone();
    Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    }
}

/// The ephemeral containers, as [`ephemeral`] has them.
pub fn ephemerals(pod: &Pod) -> Vec<Container> {
    let spec = pod.spec.iter();
    let all = spec.flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    all.map(ephemeral).collect()
}

/// Of what [`ephemerals`] gave.
pub(crate) fn beside(containers: &[Container]) -> impl DoubleEndedIterator<Item = Member<'_>> {
    containers.iter().map(|spec| Member {
        role: Role::Ephemeral,
        spec,
    })
}

/// The init containers in their order, then the others in theirs; none that is ephemeral.
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
        let list = match self.role {
            Role::Main => "containers",
            Role::Init | Role::Sidecar => "initContainers",
            Role::Ephemeral => "ephemeralContainers",
        };
        format!("spec.{list}{{{}}}", self.spec.name)
    }

    /// Whether a run that ended with `code` is followed by another while the pod is to live:
    /// `ContainerShouldRestart` in `pkg/api/v1/pod/util.go`. The container's rules come first, if it
    /// has a policy of its own; then that policy; then the pod's. An init container that succeeded
    /// is done, whatever they say.
    pub(crate) fn restarts(&self, pod: &Pod, code: i32) -> bool {
        if self.role == Role::Ephemeral || (self.role == Role::Init && code == 0) {
            return false;
        }
        let rule = self.rule(code).map(|rule| rule.action.as_str());
        if self.spec.restart_policy.is_some() && matches!(rule, Some("Restart" | restart::ACTION)) {
            return true;
        }
        match self.policy(pod) {
            Some("Never") => false,
            Some("OnFailure") => code != 0,
            _ => true,
        }
    }

    /// Whether a run that others end is followed by another, whatever its code: rules are of runs
    /// that end by themselves (`computePodActions` in
    /// `pkg/kubelet/kuberuntime/kuberuntime_manager.go`).
    pub(crate) fn may_restart(&self, pod: &Pod) -> bool {
        self.role != Role::Ephemeral && self.policy(pod) != Some("Never")
    }

    fn policy<'p>(&'p self, pod: &'p Pod) -> Option<&'p str> {
        let own = self.spec.restart_policy.as_deref();
        own.or_else(|| pod.spec.as_ref()?.restart_policy.as_deref())
    }

    /// The first rule that an exit code matches:
    /// `FindMatchingContainerRestartRule` in `pkg/api/v1/pod/util.go`.
    fn rule(&self, code: i32) -> Option<&ContainerRestartRule> {
        let matches = |rule: &&ContainerRestartRule| {
            rule.exit_codes.as_ref().is_some_and(|codes| {
                let named = codes.values.iter().flatten().any(|one| *one == code);
                match codes.operator.as_str() {
                    "In" => named,
                    "NotIn" => !named,
                    _ => false,
                }
            })
        };
        let rules = self.spec.restart_policy_rules.iter().flatten();
        let mut matching = rules.filter(matches);
        matching.next()
    }

    /// Whether a run that ended with `code` restarts all containers of its pod.
    pub(crate) fn restarts_all(&self, code: i32) -> bool {
        let rule = self.rule(code);
        rule.is_some_and(|rule| rule.action == restart::ACTION)
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_rule_that_matches_counts_and_only_beside_an_own_policy() {
        let rules = r#""restartPolicyRules":[
            {"action":"Restart","exitCodes":{"operator":"In","values":[0,42]}},
            {"action":"Other","exitCodes":{"operator":"In","values":[7]}},
            {"action":"Restart","exitCodes":{"operator":"NotIn","values":[8,9]}}]"#;
        let of = |list: &str, own: &str, code: i32| {
            let text = format!(
                r#"{{"spec":{{"restartPolicy":"OnFailure","{list}":[{{"name":"c",{own}{rules}}}]}}}}"#
            );
            let text = match list {
                "containers" => text,
                _ => text.replace(r#""initC"#, r#""containers":[],"initC"#),
            };
            let pod: Pod = serde_json::from_str(&text).unwrap();
            let member = members(&pod).next().unwrap();
            (member.restarts(&pod, code), member.may_restart(&pod))
        };
        let never = r#""restartPolicy":"Never","#;
        for (list, own, code, restarts) in [
            ("containers", never, 42, true),
            ("containers", never, 0, true),
            ("containers", never, 7, false),
            ("containers", never, 8, false),
            ("containers", never, 1, true),
            ("containers", "", 0, false),
            ("containers", "", 8, true),
            ("initContainers", never, 42, true),
            // It is done, whatever a rule says.
            ("initContainers", never, 0, false),
        ] {
            let expected = (restarts, own.is_empty());
            assert_eq!(of(list, own, code), expected, "{list} {own} {code}");
        }
    }

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
