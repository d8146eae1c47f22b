//! ConfigMaps and Secrets.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::check::Check;
use super::{Named, Object, Reading, names, typed};

/// The most that the values of one may have together, bytes (`MaxSecretSize`).
const DATA_MAX: usize = 1 << 20;

/// Reads a ConfigMap.
pub(super) fn config_map(reading: &mut Reading, object: &mut Object<'_>) {
    let (mut map, complete) = typed::read::<ConfigMap>(&mut object.node, false, &mut object.wrongs);
    if !complete {
        return;
    }
    let named = metadata(object, &mut map.metadata);
    let text = lengths(&map.data, String::len);
    let binary = lengths(&map.binary_data, |bytes| bytes.0.len());
    keys(object, &[("data", text), ("binaryData", binary)]);
    let both = map.data.iter().flatten().map(|(key, _)| key);
    let twice: Vec<String> = both
        .filter(|key| {
            map.binary_data
                .as_ref()
                .is_some_and(|binary| binary.contains_key(*key))
        })
        .cloned()
        .collect();
    let mut check = Check::of(object);
    for key in twice {
        check.wrong(
            &format!("binaryData[{key}]"),
            "the key is in data too; keep it in one of them",
        );
    }
    if reading.take(object, &named, "metadata.name") && object.wrongs.is_empty() {
        reading.manifest.config_maps.insert(named, map);
    }
}

/// Reads a Secret.
pub(super) fn secret(reading: &mut Reading, object: &mut Object<'_>) {
    let (mut secret, complete) = typed::read::<Secret>(&mut object.node, true, &mut object.wrongs);
    if !complete {
        return;
    }
    let named = metadata(object, &mut secret.metadata);
    let data = lengths(&secret.data, |bytes| bytes.0.len());
    let text = lengths(&secret.string_data, String::len);
    keys(object, &[("data", data), ("stringData", text)]);
    let texts = secret.string_data.take().unwrap_or_default();
    let texts = texts
        .into_iter()
        .map(|(key, text)| (key, ByteString(text.into_bytes())));
    // What is given as text wins, as with the API server.
    secret.data.get_or_insert_with(BTreeMap::new).extend(texts);
    if reading.take(object, &named, "metadata.name") && object.wrongs.is_empty() {
        reading.manifest.secrets.insert(named, secret);
    }
}

type Lengths = Vec<(String, usize)>;

fn lengths<T>(data: &Option<BTreeMap<String, T>>, length: impl Fn(&T) -> usize) -> Lengths {
    data.iter()
        .flatten()
        .map(|(key, value)| (key.clone(), length(value)))
        .collect()
}

fn keys(object: &mut Object<'_>, maps: &[(&str, Lengths)]) {
    let mut check = Check::of(object);
    let mut total = 0_usize;
    for (field, lengths) in maps {
        for (key, length) in lengths {
            total = total.saturating_add(*length);
            check.named(&format!("{field}[{key}]"), key, names::config_key);
        }
    }
    if total > DATA_MAX {
        let message = format!(
            "the values have {total} bytes together; at most {DATA_MAX} are allowed: split it, or bring \
             the data in an image"
        );
        check.wrong("", &message);
    }
}

/// Checks an object's metadata and leaves what its writer may say; gives its name.
pub(super) fn metadata(object: &mut Object<'_>, metadata: &mut ObjectMeta) -> Named {
    let mut check = Check::of(object);
    let name = metadata.name.clone().unwrap_or_default();
    if name.is_empty() {
        check.missing("metadata.name", "give it a name");
    } else {
        check.named("metadata.name", &name, names::subdomain);
    }
    let namespace = metadata
        .namespace
        .clone()
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or_else(|| "default".to_owned());
    check.named("metadata.namespace", &namespace, names::label);
    // The rest is a server's, and stands in what was taken from one.
    *metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: Some(namespace.clone()),
        labels: metadata.labels.take(),
        annotations: metadata.annotations.take(),
        ..ObjectMeta::default()
    };
    (namespace, name)
}
