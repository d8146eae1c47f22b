//! Volumes: `emptyDir` and `hostPath` folders and files can be had.

use k8s_openapi::api::core::v1::Volume;

use super::Found;

/// Looks at one volume.
pub(super) fn of_volume(field: &str, volume: &Volume, found: &mut Found) {
    if let Some(empty) = &volume.empty_dir {
        let medium = empty.medium.as_deref().unwrap_or_default();
        found.add_if(
            !medium.is_empty(),
            format!("{field}.emptyDir.medium"),
            &format!("{medium:?}"),
            "this version keeps an emptyDir on the node's disk alone; remove the medium",
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
    let help = if is_api_access(volume) {
        "this version has no service account tokens: set automountServiceAccountToken: false in \
         the Pod or its ServiceAccount"
    } else {
        "this version has emptyDir and hostPath volumes; use one of these, or bring the files in \
         the image"
    };
    if let Some(source) = source(volume) {
        found.add(
            format!("{field}.{source}"),
            format!("set (volume {:?})", volume.name),
            help,
        );
    }
}

/// The volume that the API server adds to each pod for its service account.
fn is_api_access(volume: &Volume) -> bool {
    let sources = volume
        .projected
        .as_ref()
        .and_then(|projected| projected.sources.as_deref());
    volume.name.starts_with("kube-api-access-")
        || sources
            .unwrap_or_default()
            .iter()
            .any(|one| one.service_account_token.is_some())
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
