//! Volumes: `emptyDir`, `hostPath`, and what is written from ConfigMaps, Secrets and the Pod itself.

use k8s_openapi::api::core::v1::{Volume, VolumeProjection};

use super::Found;

/// Looks at one volume.
pub(super) fn of_volume(field: &str, volume: &Volume, found: &mut Found) {
    if let Some(empty) = &volume.empty_dir {
        let medium = empty.medium.as_deref().unwrap_or_default();
        found.add_if(
            !matches!(medium, "" | "Memory"),
            format!("{field}.emptyDir.medium"),
            &format!("{medium:?}"),
            "use Memory, or remove it: the folder is on the node's disk then",
        );
        return;
    }
    if let Some(host) = &volume.host_path {
        let kind = host.type_.as_deref().unwrap_or_default();
        found.add_if(
            !matches!(kind, "" | "Directory" | "DirectoryOrCreate" | "File"),
            format!("{field}.hostPath.type"),
            &format!("{kind:?}"),
            "use Directory, DirectoryOrCreate or File, or leave it empty",
        );
        return;
    }
    if let Some(projected) = &volume.projected {
        for (place, source) in projected.sources.iter().flatten().enumerate() {
            let field = format!("{field}.projected.sources[{place}]");
            of_source(&field, &volume.name, source, found);
        }
        return;
    }
    if volume.config_map.is_some() || volume.secret.is_some() || volume.downward_api.is_some() {
        return;
    }
    let help = "this version has emptyDir, hostPath, configMap, secret, downwardAPI and projected \
                volumes; use one of these, or bring the files in the image";
    if let Some(source) = source(volume) {
        found.add(
            format!("{field}.{source}"),
            format!("set (volume {:?})", volume.name),
            help,
        );
    }
}

/// A source of a projected volume; the API server adds one with a token to each pod.
fn of_source(field: &str, volume: &str, source: &VolumeProjection, found: &mut Found) {
    let refused = [
        (
            "serviceAccountToken",
            source.service_account_token.is_some(),
            "this version has no service account tokens: set automountServiceAccountToken: false \
             in the Pod or its ServiceAccount",
        ),
        (
            "clusterTrustBundle",
            source.cluster_trust_bundle.is_some(),
            "this version reads no trust bundles; bring the certificates in a ConfigMap",
        ),
        (
            "podCertificate",
            source.pod_certificate.is_some(),
            "this version asks for no certificates; bring one in a Secret",
        ),
    ];
    for (name, set, help) in refused {
        let value = format!("set (volume {volume:?})");
        found.add_if(set, format!("{field}.{name}"), &value, help);
    }
}

/// The name of the field that says what the volume is; `None` if none does, which is an emptyDir.
fn source(volume: &Volume) -> Option<String> {
    let fields = serde_json::to_value(volume).ok()?;
    fields
        .as_object()?
        .keys()
        .find(|key| *key != "name")
        .cloned()
}
