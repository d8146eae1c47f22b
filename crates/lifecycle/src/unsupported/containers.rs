//! What a container may ask for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, Probe, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Found;
use crate::quantity::parse_milli;
use crate::spec::Member;

/// Looks at one container.
pub(super) fn of_container(field: &str, container: &Container, pod: &PodSpec, found: &mut Found) {
    probes(field, container, found);
    environment(field, container, found);
    files(field, container, pod, found);
    resources(field, container, found);
    if let Some(policy) = container.restart_policy.as_deref()
        && !matches!(policy, "Always" | "OnFailure" | "Never")
    {
        let help = "use Always, OnFailure or Never";
        found.add(
            format!("{field}.restartPolicy"),
            format!("{policy:?}"),
            help,
        );
    }
    restart_rules(field, container, found);
    resize_policy(field, container, found);
    for (place, port) in container.ports.iter().flatten().enumerate() {
        let Some(host) = port.host_port.filter(|host| *host != port.container_port) else {
            continue;
        };
        found.add_if(
            host != 0 && pod.host_network == Some(true),
            format!("{field}.ports[{place}].hostPort"),
            &host.to_string(),
            "a pod of hostNetwork has the node's address; use the containerPort, or remove it",
        );
    }
}

/// What the API server makes sure of for a cluster (`validateProbe` and `validateHandler` in
/// `pkg/apis/core/validation/validation.go`), and nobody for a file.
fn probes(field: &str, container: &Container, found: &mut Found) {
    let probes = [
        ("startupProbe", &container.startup_probe),
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
    ];
    let ends =
        field.contains(".initContainers[") && container.restart_policy.as_deref() != Some("Always");
    for (name, probe) in probes {
        let Some(probe) = probe else { continue };
        let field = format!("{field}.{name}");
        let help = "an init container runs to its end; set its restartPolicy: Always, or remove it";
        found.add_if(ends, field.clone(), "set", help);
        let handlers = [
            probe.exec.is_some(),
            probe.http_get.is_some(),
            probe.tcp_socket.is_some(),
            probe.grpc.is_some(),
        ];
        one_handler(&field, &handlers, "exec, httpGet, tcpSocket or grpc", found);
        let http = probe.http_get.as_ref().map(|get| &get.port);
        let tcp = probe.tcp_socket.as_ref().map(|socket| &socket.port);
        named_port(&field, http.or(tcp), container, found);
        numbers(&field, probe, name == "readinessProbe", found);
    }
    let Some(lifecycle) = &container.lifecycle else {
        return;
    };
    for (name, hook) in [
        ("postStart", &lifecycle.post_start),
        ("preStop", &lifecycle.pre_stop),
    ] {
        let Some(hook) = hook else { continue };
        let field = format!("{field}.lifecycle.{name}");
        let help = "an init container runs to its end; set its restartPolicy: Always, or remove it";
        found.add_if(ends, field.clone(), "set", help);
        let handlers = [
            hook.exec.is_some(),
            hook.http_get.is_some(),
            hook.tcp_socket.is_some(),
            hook.sleep.is_some(),
        ];
        one_handler(&field, &handlers, "exec, httpGet or sleep", found);
        let port = hook.http_get.as_ref().map(|get| &get.port);
        named_port(&field, port, container, found);
    }
    if let Some(signal) = &lifecycle.stop_signal {
        let help = "a guest sees no signals; remove it";
        found.add(
            format!("{field}.lifecycle.stopSignal"),
            format!("{signal:?}"),
            help,
        );
    }
}

fn one_handler(field: &str, handlers: &[bool], which: &str, found: &mut Found) {
    let set = handlers.iter().filter(|set| **set).count();
    if set > 1 {
        let help = format!("name one handler: {which}");
        found.add(field, format!("{set} handlers"), &help);
    }
}

fn named_port(field: &str, port: Option<&IntOrString>, container: &Container, found: &mut Found) {
    let Some(IntOrString::String(name)) = port else {
        return;
    };
    let mut ports = container.ports.iter().flatten();
    let known = ports.any(|port| port.name.as_deref() == Some(name));
    found.add_if(
        !known && name.parse::<u16>().is_err(),
        format!("{field}.port"),
        &format!("{name:?}"),
        "name one of the container's ports, or give its number",
    );
}

fn numbers(field: &str, probe: &Probe, counts: bool, found: &mut Found) {
    let fields = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, value) in fields {
        let Some(value) = value.filter(|value| *value < 0) else {
            continue;
        };
        let help = "a number of at least 0";
        found.add(format!("{field}.{name}"), value.to_string(), help);
    }
    let often = probe.success_threshold.filter(|times| *times > 1);
    if let Some(times) = often.filter(|_| !counts) {
        let help = "it is 1 but for readiness: use 1, or remove it";
        found.add(format!("{field}.successThreshold"), times.to_string(), help);
    }
    let grace = probe.termination_grace_period_seconds;
    if let Some(grace) = grace.filter(|grace| counts || *grace <= 0) {
        let help = "readiness ends nothing: it is for startup and liveness, and at least 1";
        found.add(
            format!("{field}.terminationGracePeriodSeconds"),
            grace.to_string(),
            help,
        );
    }
}

fn environment(field: &str, container: &Container, found: &mut Found) {
    for (place, variable) in container.env.iter().flatten().enumerate() {
        let Some(from) = &variable.value_from else {
            continue;
        };
        found.add_if(
            from.file_key_ref.is_some(),
            format!("{field}.env[{place}].valueFrom.fileKeyRef"),
            &format!("set (variable {:?})", variable.name),
            "this version reads no files of variables; use value, fieldRef, resourceFieldRef, \
             configMapKeyRef or secretKeyRef",
        );
    }
}

fn files(field: &str, container: &Container, pod: &PodSpec, found: &mut Found) {
    found.add_if(
        container
            .volume_devices
            .as_ref()
            .is_some_and(|devices| !devices.is_empty()),
        format!("{field}.volumeDevices"),
        "set",
        "a guest can't have devices; use a volume with files",
    );
    for (place, mount) in container.volume_mounts.iter().flatten().enumerate() {
        of_mount(&format!("{field}.volumeMounts[{place}]"), mount, pod, found);
    }
    let Some(context) = &container.security_context else {
        return;
    };
    if let Some(kind) = context
        .proc_mount
        .as_deref()
        .filter(|kind| *kind != "Default")
    {
        let help = "a guest has no /proc; remove it";
        found.add(
            format!("{field}.securityContext.procMount"),
            format!("{kind:?}"),
            help,
        );
    }
}

fn of_mount(field: &str, mount: &VolumeMount, pod: &PodSpec, found: &mut Found) {
    let known = pod
        .volumes
        .iter()
        .flatten()
        .any(|volume| volume.name == mount.name);
    found.add_if(
        !known,
        format!("{field}.name"),
        &format!("{:?}", mount.name),
        "name one of spec.volumes",
    );
    if let Some(kind) = mount
        .mount_propagation
        .as_deref()
        .filter(|kind| *kind != "None")
    {
        let help = "mounts don't pass between a guest and the node; remove it";
        found.add(
            format!("{field}.mountPropagation"),
            format!("{kind:?}"),
            help,
        );
    }
    if let Some(kind) = mount
        .recursive_read_only
        .as_deref()
        .filter(|kind| *kind == "Enabled")
    {
        let help = "use readOnly with recursiveReadOnly: IfPossible, or remove it";
        found.add(
            format!("{field}.recursiveReadOnly"),
            format!("{kind:?}"),
            help,
        );
    }
}

fn resources(field: &str, container: &Container, found: &mut Found) {
    let Some(resources) = &container.resources else {
        return;
    };
    if let Some(claim) = resources.claims.iter().flatten().next() {
        let help = "this node has no devices to allocate; remove the claims";
        found.add(
            format!("{field}.resources.claims"),
            format!("{:?}", claim.name),
            help,
        );
    }
    for (name, list) in [
        ("requests", &resources.requests),
        ("limits", &resources.limits),
    ] {
        if let Some(list) = list {
            quantities(&format!("{field}.resources.{name}"), list, found);
        }
    }
}

/// What of the rules the API server makes sure of for a cluster (`validateContainerRestartPolicy`),
/// and nobody for a file.
fn restart_rules(field: &str, container: &Container, found: &mut Found) {
    let rules = container.restart_policy_rules.iter().flatten();
    let any = container
        .restart_policy_rules
        .as_ref()
        .is_some_and(|rules| !rules.is_empty());
    found.add_if(
        any && container.restart_policy.is_none(),
        format!("{field}.restartPolicy"),
        "not set",
        "restartPolicyRules need a restartPolicy of the container's own: give it one",
    );
    for (place, rule) in rules.enumerate() {
        let field = format!("{field}.restartPolicyRules[{place}]");
        match rule.action.as_str() {
            "Restart" | "RestartAllContainers" => {}
            other => {
                let help = "use Restart or RestartAllContainers";
                found.add(format!("{field}.action"), format!("{other:?}"), help);
            }
        }
        let Some(codes) = &rule.exit_codes else {
            let help = "say which exit codes the rule is of";
            found.add(format!("{field}.exitCodes"), "not set", help);
            continue;
        };
        found.add_if(
            !matches!(codes.operator.as_str(), "In" | "NotIn"),
            format!("{field}.exitCodes.operator"),
            &format!("{:?}", codes.operator),
            "use In or NotIn",
        );
    }
}

/// The API server makes sure of this for a cluster (`validateResizePolicy`), and nobody for a file.
fn resize_policy(field: &str, container: &Container, found: &mut Found) {
    for (place, policy) in container.resize_policy.iter().flatten().enumerate() {
        let field = format!("{field}.resizePolicy[{place}]");
        found.add_if(
            !matches!(policy.resource_name.as_str(), "cpu" | "memory"),
            format!("{field}.resourceName"),
            &format!("{:?}", policy.resource_name),
            "use cpu or memory",
        );
        let known = matches!(
            policy.restart_policy.as_str(),
            "NotRequired" | "RestartContainer"
        );
        found.add_if(
            !known,
            format!("{field}.restartPolicy"),
            &format!("{:?}", policy.restart_policy),
            "use NotRequired or RestartContainer",
        );
    }
}

/// Looks at the names and amounts of a resource list.
pub(super) fn quantities(field: &str, list: &BTreeMap<String, Quantity>, found: &mut Found) {
    for (name, quantity) in list {
        let field = format!("{field}[{name}]");
        if parse_milli(&quantity.0).is_none() {
            let help = "write an amount such as 500m, 1.5 or 64Mi";
            found.add(field, format!("{:?}", quantity.0), help);
        } else if !matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            let help = "this node has cpu, memory and ephemeral-storage; remove it";
            found.add(field, quantity.0.clone(), help);
        }
    }
}

/// What has no effect on a guest, as sentences.
pub(super) fn ineffective(member: &Member<'_>, told: &mut Vec<String>) {
    let name = member.name();
    let context = member.spec.security_context.as_ref();
    if context.is_some_and(|context| context.privileged == Some(true)) {
        told.push(format!(
            "container {name}: securityContext.privileged gives a guest nothing: WebAssembly has \
             no privileges to gain"
        ));
    }
    let added = context.and_then(|context| context.capabilities.as_ref()?.add.as_deref());
    if let Some(added) = added.filter(|added| !added.is_empty()) {
        told.push(format!(
            "container {name}: the added capabilities {} give a guest nothing: it makes no system \
             calls",
            added.join(", ")
        ));
    }
}
