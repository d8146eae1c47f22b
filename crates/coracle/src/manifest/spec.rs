//! The rules of a Pod's spec that an API server would hold it to
//! (`pkg/apis/core/validation/validation.go`), for the fields that play takes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVar, PodSpec, VolumeMount,
};

use super::check::Check;
use super::{names, probes, volumes};

/// Checks a spec that stands at `prefix`.
pub(super) fn check(check: &mut Check<'_>, prefix: &str, spec: &PodSpec) {
    let dns = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    check.one_of(
        &format!("{prefix}.dnsPolicy"),
        spec.dns_policy.as_deref(),
        &dns,
    );
    let grace = spec.termination_grace_period_seconds;
    check.within(
        &format!("{prefix}.terminationGracePeriodSeconds"),
        grace,
        0,
        i64::MAX,
    );
    let deadline = spec.active_deadline_seconds;
    check.within(
        &format!("{prefix}.activeDeadlineSeconds"),
        deadline,
        1,
        i64::from(i32::MAX),
    );
    if let Some(name) = spec.hostname.as_deref().filter(|name| !name.is_empty()) {
        check.named(&format!("{prefix}.hostname"), name, names::label);
    }
    if let Some(name) = spec.subdomain.as_deref().filter(|name| !name.is_empty()) {
        check.named(&format!("{prefix}.subdomain"), name, names::label);
    }
    hostname_override(check, prefix, spec);
    for (place, alias) in spec.host_aliases.iter().flatten().enumerate() {
        if alias.ip.parse::<std::net::IpAddr>().is_err() {
            let message = format!("{:?} is not an IP address", alias.ip);
            check.wrong(&format!("{prefix}.hostAliases[{place}].ip"), &message);
        }
    }
    volumes::check(check, prefix, spec);
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let ephemerals = spec.ephemeral_containers.iter().flatten();
    let ephemerals: Vec<Container> = ephemerals.map(lifecycle::ephemeral).collect();
    let lists = [
        ("initContainers", inits),
        ("containers", spec.containers.as_slice()),
        ("ephemeralContainers", ephemerals.as_slice()),
    ];
    let mut seen = BTreeSet::new();
    for (list, containers) in lists {
        for (place, container) in containers.iter().enumerate() {
            let field = format!("{prefix}.{list}[{place}]");
            let help = "give the container a name";
            unique(
                check,
                &format!("{field}.name"),
                &container.name,
                &mut seen,
                help,
            );
            of_container(check, &field, container);
        }
    }
}

/// A name that is there, is one, and is there once.
pub(super) fn unique<'n>(
    check: &mut Check<'_>,
    field: &str,
    name: &'n str,
    seen: &mut BTreeSet<&'n str>,
    help: &str,
) {
    if name.is_empty() {
        return check.missing(field, help);
    }
    check.named(field, name, names::label);
    if !seen.insert(name) {
        check.wrong(
            field,
            &format!("{name:?} is there twice; give each a name of its own"),
        );
    }
}

/// `validateHostnameOverride`.
fn hostname_override(check: &mut Check<'_>, prefix: &str, spec: &PodSpec) {
    let Some(name) = spec.hostname_override.as_deref() else {
        return;
    };
    let field = format!("{prefix}.hostnameOverride");
    check.named(&field, name, names::subdomain);
    if name.len() > 64 {
        let message = format!("{name:?} has {} characters; use at most 64", name.len());
        check.wrong(&field, &message);
    }
    for (other, set) in [
        ("setHostnameAsFQDN", spec.set_hostname_as_fqdn),
        ("hostNetwork", spec.host_network),
    ] {
        if set == Some(true) {
            check.wrong(
                &field,
                &format!("{name:?} can't be beside {other}; remove one of them"),
            );
        }
    }
}

fn of_container(check: &mut Check<'_>, field: &str, container: &Container) {
    let policies = ["Always", "IfNotPresent", "Never"];
    let policy = container.image_pull_policy.as_deref();
    check.one_of(&format!("{field}.imagePullPolicy"), policy, &policies);
    let policy = container.termination_message_policy.as_deref();
    let policies = ["File", "FallbackToLogsOnError"];
    check.one_of(
        &format!("{field}.terminationMessagePolicy"),
        policy,
        &policies,
    );
    let cwd = container.working_dir.as_deref().unwrap_or_default();
    if !cwd.is_empty() && !cwd.starts_with('/') {
        let message = format!("{cwd:?} is not absolute; begin it with '/'");
        check.wrong(&format!("{field}.workingDir"), &message);
    }
    for (place, variable) in container.env.iter().flatten().enumerate() {
        of_variable(check, &format!("{field}.env[{place}]"), variable);
    }
    for (place, from) in container.env_from.iter().flatten().enumerate() {
        of_env_from(check, &format!("{field}.envFrom[{place}]"), from);
    }
    let mut paths = BTreeSet::new();
    for (place, mount) in container.volume_mounts.iter().flatten().enumerate() {
        of_mount(
            check,
            &format!("{field}.volumeMounts[{place}]"),
            mount,
            &mut paths,
        );
    }
    let mut ports = BTreeSet::new();
    for (place, port) in container.ports.iter().flatten().enumerate() {
        of_port(check, &format!("{field}.ports[{place}]"), port, &mut ports);
    }
    requests(check, field, container);
    probes::of_container(check, field, container);
}

fn of_variable(check: &mut Check<'_>, field: &str, variable: &EnvVar) {
    match variable.name.as_str() {
        "" => check.missing(&format!("{field}.name"), "give the variable a name"),
        name => check.named(&format!("{field}.name"), name, names::variable),
    }
    let Some(from) = &variable.value_from else {
        return;
    };
    let field = format!("{field}.valueFrom");
    if variable
        .value
        .as_deref()
        .is_some_and(|value| !value.is_empty())
    {
        check.wrong(&field, "value is set too; keep one of them");
    }
    let sources = [
        from.field_ref.is_some(),
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.file_key_ref.is_some(),
    ];
    if sources.iter().filter(|set| **set).count() != 1 {
        let all = "fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef";
        check.wrong(&field, &format!("has to have exactly one of {all}"));
    }
    let keys = [
        (
            "configMapKeyRef",
            from.config_map_key_ref.as_ref().map(|r| (&r.name, &r.key)),
        ),
        (
            "secretKeyRef",
            from.secret_key_ref.as_ref().map(|r| (&r.name, &r.key)),
        ),
    ];
    for (source, reference) in keys {
        if let Some((name, key)) = reference {
            check.required(&format!("{field}.{source}.name"), name, "name the object");
            check.required(
                &format!("{field}.{source}.key"),
                key,
                "name one of its keys",
            );
        }
    }
    if let Some(path) = from.field_ref.as_ref().map(|r| &r.field_path) {
        check.required(
            &format!("{field}.fieldRef.fieldPath"),
            path,
            "name a field of the pod",
        );
    }
}

fn of_env_from(check: &mut Check<'_>, field: &str, from: &EnvFromSource) {
    if let Some(prefix) = from.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
        check.named(&format!("{field}.prefix"), prefix, names::variable);
    }
    let sources = [
        (
            "configMapRef",
            from.config_map_ref.as_ref().map(|r| &r.name),
        ),
        ("secretRef", from.secret_ref.as_ref().map(|r| &r.name)),
    ];
    let set = sources.iter().filter(|(_, name)| name.is_some()).count();
    if set != 1 {
        check.wrong(
            field,
            "has to have exactly one of configMapRef and secretRef",
        );
    }
    for (source, name) in sources {
        if let Some(name) = name {
            check.required(&format!("{field}.{source}.name"), name, "name the object");
        }
    }
}

fn of_mount<'m>(
    check: &mut Check<'_>,
    field: &str,
    mount: &'m VolumeMount,
    seen: &mut BTreeSet<&'m str>,
) {
    let path = mount.mount_path.as_str();
    check.required(
        &format!("{field}.mountPath"),
        path,
        "say where the container sees it",
    );
    if path.contains(':') {
        check.wrong(&format!("{field}.mountPath"), "must not have a ':' in it");
    }
    if !path.is_empty() && !seen.insert(path) {
        let message = format!("something is mounted at {path:?} already; use another path");
        check.wrong(&format!("{field}.mountPath"), &message);
    }
    let sub = mount.sub_path.as_deref().filter(|path| !path.is_empty());
    if let Some(sub) = sub {
        let rule = |path: &str| match path.starts_with('/') || path.split('/').any(|p| p == "..") {
            true => Err(format!(
                "{path:?} is not a path in the volume; write it without '..' and without the '/' in front"
            )),
            false => Ok(()),
        };
        check.named(&format!("{field}.subPath"), sub, rule);
        if mount
            .sub_path_expr
            .as_deref()
            .is_some_and(|expr| !expr.is_empty())
        {
            check.wrong(
                &format!("{field}.subPathExpr"),
                "subPath is set too; keep one of them",
            );
        }
    }
}

fn of_port<'p>(
    check: &mut Check<'_>,
    field: &str,
    port: &'p ContainerPort,
    seen: &mut BTreeSet<&'p str>,
) {
    check.within(
        &format!("{field}.containerPort"),
        Some(port.container_port.into()),
        1,
        65535,
    );
    check.within(
        &format!("{field}.hostPort"),
        port.host_port.map(i64::from),
        0,
        65535,
    );
    check.one_of(
        &format!("{field}.protocol"),
        port.protocol.as_deref(),
        &["TCP", "UDP", "SCTP"],
    );
    if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
        check.named(&format!("{field}.name"), name, names::port);
        if !seen.insert(name) {
            let message = format!("{name:?} is there twice; give each port a name of its own");
            check.wrong(&format!("{field}.name"), &message);
        }
    }
}

/// A request above its limit can never be met.
fn requests(check: &mut Check<'_>, field: &str, container: &Container) {
    let Some(resources) = &container.resources else {
        return;
    };
    for (name, request) in resources.requests.iter().flatten() {
        let limit = resources
            .limits
            .as_ref()
            .and_then(|limits| limits.get(name));
        let amounts = (
            lifecycle::quantity::milli(request),
            limit.and_then(lifecycle::quantity::milli),
        );
        if let (Some(wanted), Some(most)) = amounts
            && wanted > most
        {
            let limit = limit.map(|limit| limit.0.as_str()).unwrap_or_default();
            let message = format!("{} is more than the limit of {limit}; lower it", request.0);
            check.wrong(&format!("{field}.resources.requests[{name}]"), &message);
        }
    }
}
