//! Pods, and Deployments as the pods of their template.

use cluster::node::HANDLERS;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::check::Check;
use super::objects::metadata;
use super::{Object, Reading, defaults, images, spec, statics, typed};

/// So many replicas may a Deployment have: a mistake in this number should not be a full machine.
const REPLICAS_MAX: i64 = 1000;

/// Reads a Pod.
pub(super) fn pod(reading: &mut Reading, object: &mut Object<'_>) {
    let (mut pod, complete) = typed::read::<Pod>(&mut object.node, false, &mut object.wrongs);
    if !complete {
        return;
    }
    let named = metadata(object, &mut pod.metadata);
    pod.status = None;
    if reading.statics {
        statics::check(object, &pod);
    }
    of_spec(object, "spec", &mut pod);
    if !reading.statics {
        class(&mut Check::of(object), "spec", &pod);
    }
    if reading.take(object, &named, "metadata.name") && object.wrongs.is_empty() {
        reading.manifest.pods.insert(named, pod);
    }
}

/// Reads a Deployment: `replicas` pods NAME-0, NAME-1, …
pub(super) fn deployment(reading: &mut Reading, object: &mut Object<'_>) {
    let (mut deployment, complete) =
        typed::read::<Deployment>(&mut object.node, false, &mut object.wrongs);
    if !complete {
        return;
    }
    let (namespace, name) = metadata(object, &mut deployment.metadata);
    let Some(spec) = deployment.spec else {
        return Check::of(object).missing("spec", "give it a selector and a template");
    };
    let replicas = spec.replicas.unwrap_or(1);
    let mut check = Check::of(object);
    check.within("spec.replicas", Some(replicas.into()), 0, REPLICAS_MAX);
    let template = spec.template;
    let labels = template.metadata.unwrap_or_default();
    selects(&mut check, &spec.selector, &labels);
    let policy = template
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref());
    if policy.is_some_and(|policy| policy != "Always") {
        let field = "spec.template.spec.restartPolicy";
        check.wrong(
            field,
            "a Deployment's pods are always restarted; remove it, or write a Pod",
        );
    }
    let mut pod = Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.clone()),
            labels: labels.labels,
            annotations: labels.annotations,
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    };
    of_spec(object, "spec.template.spec", &mut pod);
    class(&mut Check::of(object), "spec.template.spec", &pod);
    for replica in 0..replicas.clamp(0, i32::try_from(REPLICAS_MAX).unwrap_or(i32::MAX)) {
        let named = (namespace.clone(), format!("{name}-{replica}"));
        if reading.take(object, &named, "metadata.name") && object.wrongs.is_empty() {
            let mut pod = pod.clone();
            pod.metadata.name = Some(named.1.clone());
            reading.manifest.pods.insert(named, pod);
        }
    }
}

/// The API server takes no Deployment whose selector does not select its own pods.
fn selects(check: &mut Check<'_>, selector: &LabelSelector, template: &ObjectMeta) {
    for (key, value) in selector.match_labels.iter().flatten() {
        let has = template.labels.as_ref().and_then(|labels| labels.get(key));
        if has != Some(value) {
            let message = format!(
                "the template's pods don't have the label {key}: {value}; add it to \
                 spec.template.metadata.labels"
            );
            check.wrong(&format!("spec.selector.matchLabels[{key}]"), &message);
        }
    }
}

/// Checks the spec of a pod, that stands at `prefix`, and completes it.
fn of_spec(object: &mut Object<'_>, prefix: &str, pod: &mut Pod) {
    let unsupported = lifecycle::unsupported(pod);
    let folder = object.source.folder.clone();
    let mut check = Check::of(object);
    for one in unsupported {
        // Names are checked below, each at its own place.
        if one.field.contains("[]") {
            continue;
        }
        let field = match one.field.strip_prefix("spec") {
            Some(rest) => format!("{prefix}{rest}"),
            None => one.field,
        };
        let message = match one.value.as_str() {
            "set" => format!("not supported: {}", one.help),
            value => format!("{value}: {}", one.help),
        };
        check.wrong(&field, &message);
    }
    let Some(spec) = &mut pod.spec else { return };
    spec::check(&mut check, prefix, spec);
    resolve_images(&mut check, prefix, spec, &folder);
    defaults::complete(spec);
}

/// Without a cluster there are no RuntimeClasses but those that are called as their handlers.
fn class(check: &mut Check<'_>, prefix: &str, pod: &Pod) {
    let class = pod.spec.as_ref();
    let class = class.and_then(|spec| spec.runtime_class_name.as_deref());
    let Some(class) = class.filter(|class| !HANDLERS.contains(class)) else {
        return;
    };
    let known = HANDLERS.last().copied().unwrap_or_default();
    let message =
        format!("{class:?} is no RuntimeClass of this machine; use {known:?}, or remove it");
    check.wrong(&format!("{prefix}.runtimeClassName"), &message);
}

fn resolve_images(
    check: &mut Check<'_>,
    prefix: &str,
    spec: &mut PodSpec,
    folder: &std::path::Path,
) {
    let inits = spec.init_containers.iter_mut().flatten();
    let inits = inits.map(|one| &mut one.image).enumerate();
    let mains = spec.containers.iter_mut();
    let mains = mains.map(|one| &mut one.image).enumerate();
    let ephemerals = spec.ephemeral_containers.iter_mut().flatten();
    let ephemerals = ephemerals.map(|one| &mut one.image).enumerate();
    let all = inits
        .map(|one| ("initContainers", one))
        .chain(mains.map(|one| ("containers", one)))
        .chain(ephemerals.map(|one| ("ephemeralContainers", one)));
    for (list, (place, image)) in all {
        let field = format!("{prefix}.{list}[{place}].image");
        let said = image.clone().unwrap_or_default();
        if said.is_empty() {
            check.missing(&field, "name an image, or file:PATH for a module in a file");
            continue;
        }
        match images::resolved(&said, folder) {
            Ok(resolved) => *image = Some(resolved),
            Err(message) => check.wrong(&field, &message),
        }
    }
}
