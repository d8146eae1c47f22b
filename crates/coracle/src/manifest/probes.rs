//! What the API server makes sure of in probes and hooks (`validateProbe` and `validateHandler` in
//! `pkg/apis/core/validation/validation.go`), beside what `lifecycle::unsupported` refuses anywhere.

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Probe};

use super::check::Check;

/// Checks those of a container.
pub(super) fn of_container(check: &mut Check<'_>, field: &str, container: &Container) {
    for (name, probe) in [
        ("startupProbe", &container.startup_probe),
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
    ] {
        if let Some(probe) = probe {
            of_probe(check, &format!("{field}.{name}"), probe);
        }
    }
    let Some(lifecycle) = &container.lifecycle else {
        return;
    };
    for (name, hook) in [
        ("postStart", &lifecycle.post_start),
        ("preStop", &lifecycle.pre_stop),
    ] {
        if let Some(hook) = hook {
            of_hook(check, &format!("{field}.lifecycle.{name}"), hook);
        }
    }
}

fn of_probe(check: &mut Check<'_>, field: &str, probe: &Probe) {
    let handlers = [
        probe.exec.is_some(),
        probe.http_get.is_some(),
        probe.tcp_socket.is_some(),
        probe.grpc.is_some(),
    ];
    one(check, field, &handlers, "exec, httpGet, tcpSocket and grpc");
    command(check, field, probe.exec.as_ref().map(|exec| &exec.command));
    let port = probe.grpc.as_ref().map(|grpc| i64::from(grpc.port));
    check.within(&format!("{field}.grpc.port"), port, 1, 65535);
}

fn of_hook(check: &mut Check<'_>, field: &str, hook: &LifecycleHandler) {
    let handlers = [
        hook.exec.is_some(),
        hook.http_get.is_some(),
        hook.tcp_socket.is_some(),
        hook.sleep.is_some(),
    ];
    one(check, field, &handlers, "exec, httpGet and sleep");
    command(check, field, hook.exec.as_ref().map(|exec| &exec.command));
    let seconds = hook.sleep.as_ref().map(|sleep| sleep.seconds);
    check.within(&format!("{field}.sleep.seconds"), seconds, 0, i64::MAX);
}

/// More than one are refused anywhere.
fn one(check: &mut Check<'_>, field: &str, handlers: &[bool], which: &str) {
    if !handlers.contains(&true) {
        check.wrong(field, &format!("has to have exactly one of {which}"));
    }
}

fn command(check: &mut Check<'_>, field: &str, words: Option<&Option<Vec<String>>>) {
    if words.is_some_and(|words| words.as_ref().is_none_or(Vec::is_empty)) {
        check.missing(
            &format!("{field}.exec.command"),
            "name a module of the image, and its arguments",
        );
    }
}
