//! What a static pod can't have: anything that an API server holds (`HasAPIObjectReference` of
//! `pkg/api/pod/util.go`), since it runs without one, and its mirror would be refused.

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use super::check::Check;
use super::{Object, images};

/// Refuses an object that is no Pod.
pub(super) fn refuse(object: &mut Object<'_>) {
    let message = format!(
        "a {} is nothing that a static pod's folder takes; write Pods, or create it in the cluster",
        object.kind
    );
    Check::of(object).wrong("kind", &message);
}

/// Refuses what refers to the API.
pub(super) fn check(object: &mut Object<'_>, pod: &Pod) {
    let Some(spec) = &pod.spec else { return };
    let mut check = Check::of(object);
    let mut refers = |field: &str, what: &str| {
        let message = format!(
            "a static pod may not refer to {what}, which only the API server has; remove it, or \
             create the pod in the cluster"
        );
        check.wrong(field, &message);
    };
    let accounts = [
        ("spec.serviceAccountName", &spec.service_account_name),
        ("spec.serviceAccount", &spec.service_account),
    ];
    for (field, name) in accounts {
        if name.as_deref().is_some_and(|name| !name.is_empty()) {
            refers(field, "a ServiceAccount");
        }
    }
    if spec
        .image_pull_secrets
        .as_ref()
        .is_some_and(|all| !all.is_empty())
    {
        refers("spec.imagePullSecrets", "a Secret");
    }
    if spec
        .resource_claims
        .as_ref()
        .is_some_and(|all| !all.is_empty())
    {
        refers("spec.resourceClaims", "a ResourceClaim");
    }
    for (place, volume) in spec.volumes.iter().flatten().enumerate() {
        for (part, what) in of_volume(volume) {
            refers(&format!("spec.volumes[{place}].{part}"), what);
        }
    }
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let lists = [
        ("initContainers", inits),
        ("containers", spec.containers.as_slice()),
    ];
    for (list, containers) in lists {
        for (place, container) in containers.iter().enumerate() {
            for (part, what) in of_container(container) {
                refers(&format!("spec.{list}[{place}].{part}"), what);
            }
        }
    }
    if let Some(one) = spec.ephemeral_containers.iter().flatten().next() {
        let message = format!(
            "{:?}: a static pod has no ephemeral containers; remove it",
            one.name
        );
        check.wrong("spec.ephemeralContainers", &message);
    }
    for (list, containers) in lists {
        for (place, container) in containers.iter().enumerate() {
            if container.image.as_deref().is_some_and(images::is_local) {
                let field = format!("spec.{list}[{place}].image");
                check.wrong(&field, "a node pulls its images; name one of a registry");
            }
        }
    }
}

type Reference = (String, &'static str);

fn of_volume(volume: &Volume) -> Vec<Reference> {
    let mut found = Vec::new();
    let sources = [
        (volume.config_map.is_some(), "configMap", "a ConfigMap"),
        (volume.secret.is_some(), "secret", "a Secret"),
        (
            volume.persistent_volume_claim.is_some(),
            "persistentVolumeClaim",
            "a PersistentVolumeClaim",
        ),
        (
            volume.ephemeral.is_some(),
            "ephemeral",
            "a PersistentVolumeClaim",
        ),
        (volume.csi.is_some(), "csi", "a CSIDriver"),
    ];
    for (there, field, what) in sources {
        if there {
            found.push((field.to_owned(), what));
        }
    }
    let projected = volume.projected.as_ref().and_then(|it| it.sources.as_ref());
    for (place, source) in projected.into_iter().flatten().enumerate() {
        let sources = [
            (source.config_map.is_some(), "configMap", "a ConfigMap"),
            (source.secret.is_some(), "secret", "a Secret"),
            (
                source.service_account_token.is_some(),
                "serviceAccountToken",
                "a ServiceAccount",
            ),
            (
                source.cluster_trust_bundle.is_some(),
                "clusterTrustBundle",
                "a ClusterTrustBundle",
            ),
        ];
        for (there, field, what) in sources {
            if there {
                found.push((format!("projected.sources[{place}].{field}"), what));
            }
        }
    }
    found
}

fn of_container(container: &Container) -> Vec<Reference> {
    let mut found = Vec::new();
    for (place, variable) in container.env.iter().flatten().enumerate() {
        let Some(from) = &variable.value_from else {
            continue;
        };
        let at = |field: &str| format!("env[{place}].valueFrom.{field}");
        if from.config_map_key_ref.is_some() {
            found.push((at("configMapKeyRef"), "a ConfigMap"));
        }
        if from.secret_key_ref.is_some() {
            found.push((at("secretKeyRef"), "a Secret"));
        }
    }
    for (place, from) in container.env_from.iter().flatten().enumerate() {
        if from.config_map_ref.is_some() {
            found.push((format!("envFrom[{place}].configMapRef"), "a ConfigMap"));
        }
        if from.secret_ref.is_some() {
            found.push((format!("envFrom[{place}].secretRef"), "a Secret"));
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::manifest::{Source, read_static};

    fn problems(text: &str) -> String {
        let source = Source {
            name: "p.yaml".to_owned(),
            folder: "/".into(),
            text: text.to_owned(),
        };
        match read_static(&[source]) {
            Ok(_) => String::new(),
            Err(problems) => problems.to_string(),
        }
    }

    fn pod(spec: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  containers:\n  - name: c\n    \
             image: a:1\n{spec}"
        )
    }

    #[test]
    fn what_an_api_server_has_is_refused_where_it_stands() {
        assert_eq!(problems(&pod("")), "");
        for (spec, place) in [
            ("  serviceAccountName: sa\n", "p.yaml:8:"),
            (
                "    env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]\n",
                "secretKeyRef",
            ),
            (
                "    envFrom: [{configMapRef: {name: m}}]\n",
                "envFrom[0].configMapRef",
            ),
            (
                "  volumes: [{name: v, secret: {secretName: s}}]\n",
                "spec.volumes[0].secret",
            ),
            (
                "  volumes: [{name: v, projected: {sources: [{configMap: {name: m}}]}}]\n",
                "spec.volumes[0].projected.sources[0].configMap",
            ),
        ] {
            let told = problems(&pod(spec));
            assert!(
                told.contains(place) && told.contains("a static pod may not"),
                "{told}"
            );
        }
        let told = problems(&pod("").replace("a:1", "file:/etc/hostname"));
        assert!(told.contains("name one of a registry"), "{told}");
    }

    #[test]
    fn only_pods_are_taken() {
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n";
        let told = problems(map);
        assert!(
            told.starts_with("p.yaml:2:") && told.contains("write Pods"),
            "{told}"
        );
    }
}
