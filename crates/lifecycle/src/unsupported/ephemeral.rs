//! What an ephemeral container may not have, as nothing is to rely on it: `validateEphemeralContainers`
//! in `pkg/apis/core/validation/validation.go`, which nobody looks at for a file.

use k8s_openapi::api::core::v1::Container;

use super::Found;
use crate::allocation;

/// Looks at one, beside what is looked at of every container.
pub(super) fn of_container(field: &str, container: &Container, found: &mut Found) {
    let has = |list: Option<usize>| list.is_some_and(|length| length > 0);
    let set = [
        ("ports", has(container.ports.as_ref().map(Vec::len))),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
        ("lifecycle", container.lifecycle.is_some()),
        ("resources", allocation::asks(container)),
        (
            "resizePolicy",
            has(container.resize_policy.as_ref().map(Vec::len)),
        ),
        ("restartPolicy", container.restart_policy.is_some()),
        (
            "restartPolicyRules",
            has(container.restart_policy_rules.as_ref().map(Vec::len)),
        ),
    ];
    let help = "an ephemeral container runs once and takes what is left; remove it";
    for (name, is) in set {
        found.add_if(is, format!("{field}.{name}"), "set", help);
    }
    for (place, mount) in container.volume_mounts.iter().flatten().enumerate() {
        for (name, path) in [
            ("subPath", &mount.sub_path),
            ("subPathExpr", &mount.sub_path_expr),
        ] {
            found.add_if(
                path.as_deref().is_some_and(|path| !path.is_empty()),
                format!("{field}.volumeMounts[{place}].{name}"),
                "set",
                "an ephemeral container mounts whole volumes; remove it",
            );
        }
    }
}
