//! What an API server fills in (`pkg/apis/core/v1/defaults.go`), as far as the agent relies on it.

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, HTTPGetAction, PodSpec, Probe, Volume,
};

use super::images;

/// The mode of a volume's files where none is given: `rw-r--r--`.
const FILE_MODE: i32 = 0o644;

/// Completes a spec whose images are resolved.
pub(super) fn complete(spec: &mut PodSpec) {
    set(&mut spec.restart_policy, "Always");
    set(&mut spec.dns_policy, "ClusterFirst");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    spec.automount_service_account_token.get_or_insert(false);
    // There is no other node to be bound to.
    spec.node_name = None;
    let containers = spec.init_containers.iter_mut().flatten();
    containers
        .chain(&mut spec.containers)
        .for_each(of_container);
    for one in spec.ephemeral_containers.iter_mut().flatten() {
        let image = one.image.as_deref().unwrap_or_default();
        set(&mut one.image_pull_policy, images::pull_policy(image));
    }
    spec.volumes.iter_mut().flatten().for_each(of_volume);
}

fn set(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}

fn of_container(container: &mut Container) {
    let image = container.image.as_deref().unwrap_or_default();
    set(&mut container.image_pull_policy, images::pull_policy(image));
    set(
        &mut container.termination_message_path,
        "/dev/termination-log",
    );
    set(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        set(&mut port.protocol, "TCP");
    }
    let probes = [
        &mut container.startup_probe,
        &mut container.liveness_probe,
        &mut container.readiness_probe,
    ];
    probes.into_iter().flatten().for_each(of_probe);
    let hooks = container.lifecycle.iter_mut();
    let hooks = hooks.flat_map(|hooks| [&mut hooks.post_start, &mut hooks.pre_stop]);
    let gets = hooks.flatten().filter_map(|hook| hook.http_get.as_mut());
    gets.for_each(of_get);
    let references = container.env.iter_mut().flatten();
    let fields = references.filter_map(|variable| variable.value_from.as_mut()?.field_ref.as_mut());
    fields.for_each(|field| set(&mut field.api_version, "v1"));
    // A limit without a request is its own request.
    if let Some(resources) = &mut container.resources
        && let Some(limits) = &resources.limits
    {
        let requests = resources.requests.get_or_insert_with(Default::default);
        for (name, limit) in limits {
            requests
                .entry(name.clone())
                .or_insert_with(|| limit.clone());
        }
    }
}

fn of_probe(probe: &mut Probe) {
    let numbers = [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ];
    for (field, value) in numbers {
        // A 0 is the field left out.
        *field = Some(field.filter(|given| *given != 0).unwrap_or(value));
    }
    probe.http_get.iter_mut().for_each(of_get);
}

fn of_get(get: &mut HTTPGetAction) {
    set(&mut get.path, "/");
    set(&mut get.scheme, "HTTP");
}

fn of_volume(volume: &mut Volume) {
    let is_none = *volume
        == Volume {
            name: volume.name.clone(),
            ..Volume::default()
        };
    if is_none {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    let modes = [
        volume
            .config_map
            .as_mut()
            .map(|source| &mut source.default_mode),
        volume
            .secret
            .as_mut()
            .map(|source| &mut source.default_mode),
        volume
            .downward_api
            .as_mut()
            .map(|source| &mut source.default_mode),
        volume
            .projected
            .as_mut()
            .map(|source| &mut source.default_mode),
    ];
    for mode in modes.into_iter().flatten() {
        mode.get_or_insert(FILE_MODE);
    }
}
