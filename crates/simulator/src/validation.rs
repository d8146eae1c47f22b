//! What kube-apiserver refuses of a status update, as a model of its own validation (v1.36.3).
//!
//! Each rule names its source: `validation.go` is `pkg/apis/core/validation/validation.go`,
//! `strategy.go` is `pkg/registry/core/pod/strategy.go`, `util.go` is `pkg/api/v1/pod/util.go`. The
//! model is of what a node writes: claims, volumes from images and container users, which no node
//! of ours writes, are not in it. Must not know: who writes, and why.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Pod, PodCondition, PodSpec, PodStatus,
};

/// The status that `new` becomes when it is written over `old`, whose rules it must keep.
///
/// # Errors
/// With the field and the rule, in the server's words, of everything that it refuses.
pub fn update(old: &Pod, new: &PodStatus) -> Result<PodStatus, Vec<String>> {
    let empty = PodStatus::default();
    let before = old.status.as_ref().unwrap_or(&empty);
    transition(old.spec.as_ref(), before, new)
}

/// As [`update`], of a pod's spec and the status before.
pub(crate) fn transition(
    spec: Option<&PodSpec>,
    before: &PodStatus,
    new: &PodStatus,
) -> Result<PodStatus, Vec<String>> {
    let new = prepared(before, new.clone());
    let mut errors = Vec::new();
    conditions(&new, &mut errors);
    // validation.go, ValidatePodStatusUpdate: observedGeneration.
    if new.observed_generation.is_some_and(|one| one < 0) {
        errors.push("status.observedGeneration: must be a non-negative integer".to_owned());
    }
    // validation.go, ValidatePodStatusUpdate: "Pod QoS is immutable".
    if new.qos_class != before.qos_class {
        errors.push("status.qosClass: field is immutable".to_owned());
    }
    let mains = spec
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default();
    let inits = spec
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default();
    let policy = spec.and_then(|spec| spec.restart_policy.as_deref());
    // validation.go, ValidateContainerStateTransition and ValidateInitContainerStateTransition,
    // with the gate ContainerRestartRules, which is on since 1.35.
    if !spec.is_some_and(all_could_restart) {
        let (was, is) = (&before.container_statuses, &new.container_statuses);
        states("containerStatuses", (was, is), mains, policy, &mut errors);
        let (was, is) = (
            &before.init_container_statuses,
            &new.init_container_statuses,
        );
        states(
            "initContainerStatuses",
            (was, is),
            inits,
            policy,
            &mut errors,
        );
    }
    // validation.go, ValidateEphemeralContainerStateTransition: none ever leaves its end.
    let was = &before.ephemeral_container_statuses;
    let is = &new.ephemeral_container_statuses;
    let never = Some("Never");
    states(
        "ephemeralContainerStatuses",
        (was, is),
        &[],
        never,
        &mut errors,
    );
    pod_ips(before, &new, &mut errors);
    host_ips(before, &new, &mut errors);
    allocated(&new, mains, inits, &mut errors);
    if errors.is_empty() {
        Ok(new)
    } else {
        Err(errors)
    }
}

/// strategy.go, podStatusStrategy.PrepareForUpdate and preserveOldObservedGeneration: what is
/// filled in before the rules are looked at.
fn prepared(old: &PodStatus, mut new: PodStatus) -> PodStatus {
    if new.qos_class.as_deref().unwrap_or_default().is_empty() {
        new.qos_class.clone_from(&old.qos_class);
    }
    if new.observed_generation.unwrap_or_default() == 0 {
        new.observed_generation = old.observed_generation;
    }
    for condition in new.conditions.iter_mut().flatten() {
        if condition.observed_generation.unwrap_or_default() == 0 {
            let before = old.conditions.iter().flatten();
            let mut before = before.filter(|one| one.type_ == condition.type_);
            condition.observed_generation = before.next().and_then(|one| one.observed_generation);
        }
    }
    new
}

/// validation.go, validatePodConditions.
fn conditions(new: &PodStatus, errors: &mut Vec<String>) {
    for PodCondition {
        type_,
        observed_generation,
        ..
    } in new.conditions.iter().flatten()
    {
        if observed_generation.is_some_and(|one| one < 0) {
            errors.push(format!(
                "status.conditions[{type_}].observedGeneration: must be a non-negative integer"
            ));
        }
        if !qualified(type_) {
            errors.push(format!(
                "status.conditions.Type: {type_:?} must be a qualified name"
            ));
        }
    }
}

/// apimachinery's `content.IsQualifiedName`: an optional DNS subdomain and `/`, then 1 to 63
/// characters that begin and end with an alphanumeric one.
fn qualified(name: &str) -> bool {
    let (prefix, name) = match name.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, name),
    };
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        !label.is_empty()
            && label.chars().all(|c| inner(c) || c == '-')
            && label.chars().next().is_some_and(inner)
            && label.chars().last().is_some_and(inner)
    };
    name.len() <= 63
        && edge(name.chars().next())
        && edge(name.chars().last())
        && name.chars().all(plain)
        && prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(label))
}

/// util.go, AllContainersCouldRestart.
pub(crate) fn all_could_restart(spec: &PodSpec) -> bool {
    let all = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    all.flat_map(|one| one.restart_policy_rules.iter().flatten())
        .any(|rule| rule.action == "RestartAllContainers")
}

/// util.go, ContainerShouldRestart: rules, then the container's own policy, then the pod's.
pub fn should_restart(container: &Container, policy: Option<&str>, code: i32) -> bool {
    if let Some(own) = container.restart_policy.as_deref() {
        let rules = container.restart_policy_rules.iter().flatten();
        let mut matching = rules.filter(|rule| {
            rule.exit_codes.as_ref().is_some_and(|codes| {
                let named = codes.values.iter().flatten().any(|one| *one == code);
                (codes.operator == "In") == named
            })
        });
        let action = matching.next().map(|rule| rule.action.as_str());
        if matches!(action, Some("Restart" | "RestartAllContainers")) {
            return true;
        }
        match own {
            "Always" => return true,
            "OnFailure" => return code != 0,
            "Never" => return false,
            _ => {}
        }
    }
    match policy {
        Some("OnFailure") => code != 0,
        Some("Never") => false,
        _ => true,
    }
}

type Statuses = Option<Vec<ContainerStatus>>;

/// A container that ended may be shown as anything else only if it may be restarted.
fn states(
    list: &str,
    (old, new): (&Statuses, &Statuses),
    spec: &[Container],
    policy: Option<&str>,
    errors: &mut Vec<String>,
) {
    let over = |one: &ContainerStatus| {
        one.state
            .as_ref()?
            .terminated
            .as_ref()
            .map(|it| it.exit_code)
    };
    for (place, was) in old.iter().flatten().enumerate() {
        let Some(code) = over(was) else { continue };
        let is = new.iter().flatten().find(|one| one.name == was.name);
        let allowed = |container: &Container| should_restart(container, policy, code);
        if is.is_some_and(|is| over(is).is_none())
            && !spec
                .iter()
                .find(|one| one.name == was.name)
                .is_some_and(allowed)
        {
            errors.push(format!(
                "status.{list}[{place}].state: may not be transitioned to non-terminated state"
            ));
        }
    }
}

/// validation.go, validatePodIPs.
fn pod_ips(old: &PodStatus, new: &PodStatus, errors: &mut Vec<String>) {
    let ips = |status: &PodStatus| -> Vec<String> {
        let all = status.pod_ips.iter().flatten();
        all.map(|one| one.ip.clone()).collect()
    };
    addresses("podIPs", &ips(old), &ips(new), errors);
}

/// validation.go, validateHostIPs.
fn host_ips(old: &PodStatus, new: &PodStatus, errors: &mut Vec<String>) {
    let ips = |status: &PodStatus| -> Vec<String> {
        let all = status.host_ips.iter().flatten();
        all.map(|one| one.ip.clone()).collect()
    };
    let now = ips(new);
    if let Some(first) = now.first()
        && new.host_ip.as_ref() != Some(first)
    {
        errors.push("status.hostIPs[0].ip: must be equal to `hostIP`".to_owned());
    }
    addresses("hostIPs", &ips(old), &now, errors);
}

/// Valid each (old ones are let be), and one of a family at most.
fn addresses(list: &str, old: &[String], new: &[String], errors: &mut Vec<String>) {
    let parsed: Vec<Option<IpAddr>> = new.iter().map(|ip| ip.parse().ok()).collect();
    for (place, ip) in new.iter().enumerate() {
        if !old.contains(ip) && parsed.get(place).is_none_or(Option::is_none) {
            errors.push(format!(
                "status.{list}[{place}]: {ip:?} must be a valid IP address"
            ));
        }
    }
    let families: Vec<bool> = parsed
        .into_iter()
        .flatten()
        .map(|ip| ip.is_ipv4())
        .collect();
    let dual = matches!(families.as_slice(), [one, other] if one != other);
    if new.len() > 1 && !dual {
        errors.push(format!(
            "status.{list}: may specify no more than one IP for each IP family"
        ));
    }
}

/// validation.go, validateContainerStatusAllocatedResourcesStatus: each names a request.
fn allocated(new: &PodStatus, mains: &[Container], inits: &[Container], errors: &mut Vec<String>) {
    let lists = [
        ("containerStatuses", &new.container_statuses, mains),
        ("initContainerStatuses", &new.init_container_statuses, inits),
    ];
    for (list, statuses, spec) in lists {
        for status in statuses.iter().flatten() {
            let Some(container) = spec.iter().find(|one| one.name == status.name) else {
                continue;
            };
            let requests = container
                .resources
                .as_ref()
                .and_then(|own| own.requests.as_ref());
            for one in status.allocated_resources_status.iter().flatten() {
                if !requests.is_some_and(|requests| requests.contains_key(&one.name)) {
                    errors.push(format!(
                        "status.{list}.allocatedResourcesStatus.name: {:?} must match one of the \
                         container's resource requests",
                        one.name
                    ));
                }
            }
        }
    }
    // validation.go, validateContainerStatusNoAllocatedResourcesStatus.
    for status in new.ephemeral_container_statuses.iter().flatten() {
        if status
            .allocated_resources_status
            .as_ref()
            .is_some_and(|all| !all.is_empty())
        {
            errors.push(
                "status.ephemeralContainerStatuses.allocatedResourcesStatus: must not be \
                 specified in container status"
                    .to_owned(),
            );
        }
    }
}
