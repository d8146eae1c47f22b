//! The rules of a Pod's volumes, as [`super::spec`] has those of the rest.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, PodSpec, Volume};

use super::check::Check;
use super::names;
use super::spec::unique;

/// Checks the volumes of a spec that stands at `prefix`.
pub(super) fn check(check: &mut Check<'_>, prefix: &str, spec: &PodSpec) {
    let mut seen = BTreeSet::new();
    for (place, volume) in spec.volumes.iter().flatten().enumerate() {
        let field = format!("{prefix}.volumes[{place}]");
        let help = "give the volume a name";
        unique(
            check,
            &format!("{field}.name"),
            &volume.name,
            &mut seen,
            help,
        );
        of_volume(check, &field, volume);
    }
}

fn of_volume(check: &mut Check<'_>, field: &str, volume: &Volume) {
    let set = serde_json::to_value(volume).map(|fields| {
        let fields = fields.as_object().cloned().unwrap_or_default();
        fields
            .into_iter()
            .map(|(key, _)| key)
            .filter(|key| key != "name")
            .collect::<Vec<_>>()
    });
    if let Ok(set) = set
        && set.len() > 1
    {
        check.wrong(
            field,
            &format!(
                "is of several kinds, {}; keep one of them",
                set.join(" and ")
            ),
        );
    }
    if let Some(map) = &volume.config_map {
        let field = format!("{field}.configMap");
        check.required(&format!("{field}.name"), &map.name, "name the ConfigMap");
        mode(check, &format!("{field}.defaultMode"), map.default_mode);
        items(check, &field, map.items.as_deref());
    }
    if let Some(secret) = &volume.secret {
        let field = format!("{field}.secret");
        let name = secret.secret_name.as_deref().unwrap_or_default();
        check.required(&format!("{field}.secretName"), name, "name the Secret");
        mode(check, &format!("{field}.defaultMode"), secret.default_mode);
        items(check, &field, secret.items.as_deref());
    }
    if let Some(own) = &volume.downward_api {
        let field = format!("{field}.downwardAPI");
        mode(check, &format!("{field}.defaultMode"), own.default_mode);
        fields(check, &field, own.items.as_deref());
    }
    if let Some(host) = &volume.host_path {
        check.required(
            &format!("{field}.hostPath.path"),
            &host.path,
            "name a path of this machine",
        );
    }
    let Some(projected) = &volume.projected else {
        return;
    };
    mode(
        check,
        &format!("{field}.projected.defaultMode"),
        projected.default_mode,
    );
    for (place, source) in projected.sources.iter().flatten().enumerate() {
        let field = format!("{field}.projected.sources[{place}]");
        if let Some(map) = &source.config_map {
            check.required(
                &format!("{field}.configMap.name"),
                &map.name,
                "name the ConfigMap",
            );
            items(check, &format!("{field}.configMap"), map.items.as_deref());
        }
        if let Some(secret) = &source.secret {
            check.required(
                &format!("{field}.secret.name"),
                &secret.name,
                "name the Secret",
            );
            items(check, &format!("{field}.secret"), secret.items.as_deref());
        }
        if let Some(own) = &source.downward_api {
            fields(check, &format!("{field}.downwardAPI"), own.items.as_deref());
        }
    }
}

fn mode(check: &mut Check<'_>, field: &str, mode: Option<i32>) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        let message = format!("{mode} is no file mode; use 0 to 0777 (511 in JSON)");
        check.wrong(field, &message);
    }
}

fn items(check: &mut Check<'_>, field: &str, items: Option<&[KeyToPath]>) {
    for (place, item) in items.unwrap_or_default().iter().enumerate() {
        let field = format!("{field}.items[{place}]");
        check.required(
            &format!("{field}.key"),
            &item.key,
            "name one of the object's keys",
        );
        check.named(&format!("{field}.path"), &item.path, names::inside);
        mode(check, &format!("{field}.mode"), item.mode);
    }
}

fn fields(check: &mut Check<'_>, field: &str, items: Option<&[DownwardAPIVolumeFile]>) {
    for (place, item) in items.unwrap_or_default().iter().enumerate() {
        let field = format!("{field}.items[{place}]");
        check.named(&format!("{field}.path"), &item.path, names::inside);
        mode(check, &format!("{field}.mode"), item.mode);
        if item.field_ref.is_some() == item.resource_field_ref.is_some() {
            check.wrong(
                &field,
                "has to have exactly one of fieldRef and resourceFieldRef",
            );
        }
    }
}
