//! The files of a pod's written volumes: configMap, secret, downwardAPI and projected, as the
//! kubelet's volume plugins make them (`pkg/volume/{configmap,secret,downwardapi,projected}`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume, VolumeProjection,
};
use volume::FileContent;

use super::{Given, Needs, PodFacts, ProcessError, downward};

/// The mode of files where none is given.
const MODE: i32 = 0o644;

/// Paths and what is there.
pub(crate) type Files = BTreeMap<String, FileContent>;

/// Whether a volume's files are written by the agent. Guests see such a volume read-only.
pub(crate) fn is_written(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

impl Needs {
    /// Adds those of a volume.
    pub(crate) fn add_volume(&mut self, volume: &Volume) {
        let maps = volume.config_map.iter().map(|source| source.name.clone());
        self.config_maps.extend(maps);
        let secrets = volume.secret.iter().filter_map(|s| s.secret_name.clone());
        self.secrets.extend(secrets);
        let sources = volume.projected.iter().flat_map(|all| &all.sources);
        for source in sources.flatten() {
            let maps = source.config_map.iter().map(|source| source.name.clone());
            self.config_maps.extend(maps);
            self.secrets
                .extend(source.secret.iter().map(|s| s.name.clone()));
        }
    }
}

/// The files of a written volume.
///
/// # Errors
/// What is missing, in the kubelet's words.
pub(crate) fn files(
    pod: &Pod,
    volume: &Volume,
    given: &Given,
    facts: &PodFacts,
) -> Result<Files, ProcessError> {
    if let Some(source) = &volume.config_map {
        let (mode, optional) = (source.default_mode, source.optional);
        let map = given.config_map(&source.name, optional)?;
        return of_config_map(map, source.items.as_deref(), mode, optional);
    }
    if let Some(source) = &volume.secret {
        let (mode, optional) = (source.default_mode, source.optional);
        let name = source.secret_name.as_deref().unwrap_or_default();
        let secret = given.secret(name, optional)?;
        return of_secret(secret, source.items.as_deref(), mode, optional);
    }
    if let Some(source) = &volume.downward_api {
        return of_pod(pod, source.items.as_deref(), source.default_mode, facts);
    }
    let mut files = Files::new();
    if let Some(projected) = &volume.projected {
        for source in projected.sources.iter().flatten() {
            // A later source wins where two have one path.
            files.extend(of_source(
                pod,
                source,
                projected.default_mode,
                given,
                facts,
            )?);
        }
    }
    Ok(files)
}

fn of_source(
    pod: &Pod,
    source: &VolumeProjection,
    mode: Option<i32>,
    given: &Given,
    facts: &PodFacts,
) -> Result<Files, ProcessError> {
    if let Some(source) = &source.config_map {
        let map = given.config_map(&source.name, source.optional)?;
        return of_config_map(map, source.items.as_deref(), mode, source.optional);
    }
    if let Some(source) = &source.secret {
        let secret = given.secret(&source.name, source.optional)?;
        return of_secret(secret, source.items.as_deref(), mode, source.optional);
    }
    match &source.downward_api {
        Some(source) => of_pod(pod, source.items.as_deref(), mode, facts),
        None => Ok(Files::new()),
    }
}

fn content(data: Vec<u8>, own: Option<i32>, default: Option<i32>) -> FileContent {
    let mode = own.or(default).unwrap_or(MODE);
    let mode = u32::try_from(mode).unwrap_or_default() & 0o777;
    FileContent { data, mode }
}

fn of_config_map(
    map: Option<&ConfigMap>,
    items: Option<&[KeyToPath]>,
    mode: Option<i32>,
    optional: Option<bool>,
) -> Result<Files, ProcessError> {
    let empty = ConfigMap::default();
    let map = map.unwrap_or(&empty);
    let texts = map.data.iter().flatten();
    let texts = texts.map(|(key, text)| (key.as_str(), text.as_bytes()));
    let bytes = map.binary_data.iter().flatten();
    let bytes = bytes.map(|(key, bytes)| (key.as_str(), bytes.0.as_slice()));
    let missing = |key: &str| {
        ProcessError::VolumeKey(
            "configmap references non-existent config key",
            key.to_owned(),
        )
    };
    chosen(
        texts.chain(bytes).collect(),
        items,
        (mode, optional),
        missing,
    )
}

fn of_secret(
    secret: Option<&Secret>,
    items: Option<&[KeyToPath]>,
    mode: Option<i32>,
    optional: Option<bool>,
) -> Result<Files, ProcessError> {
    let empty = Secret::default();
    let data = secret.unwrap_or(&empty).data.iter().flatten();
    let data = data.map(|(key, bytes)| (key.as_str(), bytes.0.as_slice()));
    let missing =
        |key: &str| ProcessError::VolumeKey("references non-existent secret key", key.to_owned());
    chosen(data.collect(), items, (mode, optional), missing)
}

/// All keys, or those that `items` name (`MakePayload`).
fn chosen(
    data: BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    (mode, optional): (Option<i32>, Option<bool>),
    missing: impl Fn(&str) -> ProcessError,
) -> Result<Files, ProcessError> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let all = data.into_iter();
        return Ok(all
            .map(|(key, data)| (key.to_owned(), content(data.to_vec(), None, mode)))
            .collect());
    };
    let mut files = Files::new();
    for item in items {
        match data.get(item.key.as_str()) {
            Some(data) => {
                files.insert(item.path.clone(), content(data.to_vec(), item.mode, mode));
            }
            None if optional == Some(true) => {}
            None => return Err(missing(&item.key)),
        }
    }
    Ok(files)
}

/// `CollectData` of `pkg/volume/downwardapi`.
fn of_pod(
    pod: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: Option<i32>,
    facts: &PodFacts,
) -> Result<Files, ProcessError> {
    let mut files = Files::new();
    for item in items.unwrap_or_default() {
        let text = if let Some(field) = &item.field_ref {
            downward::file(pod, &field.field_path).ok_or_else(|| ProcessError::FileField {
                path: field.field_path.clone(),
            })?
        } else if let Some(selector) = &item.resource_field_ref {
            let name = selector.container_name.as_deref().unwrap_or_default();
            let container = crate::hands::container(pod, name)
                .ok_or_else(|| ProcessError::NoContainer(name.to_owned()))?;
            downward::resource(&container, selector, facts)?
        } else {
            continue;
        };
        let file = content(text.into_bytes(), item.mode, mode);
        files.insert(item.path.clone(), file);
    }
    Ok(files)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_str(
            r#"{"metadata":{"name":"web","namespace":"prod","labels":{"app":"web","tier":"1"}},
                "spec":{"containers":[{"name":"c","resources":{"limits":{"memory":"64Mi"}}}]}}"#,
        )
        .unwrap()
    }

    fn given() -> Given {
        let map = r#"{"data":{"a":"1","b":"2"},"binaryData":{"c":"AP8="}}"#;
        let secret = r#"{"data":{"key":"dG9w"}}"#;
        let mut given = Given::default();
        let map: ConfigMap = serde_json::from_str(map).unwrap();
        given.config_maps.insert("m".into(), Arc::new(map));
        let secret: Secret = serde_json::from_str(secret).unwrap();
        given.secrets.insert("s".into(), Arc::new(secret));
        given
    }

    /// `path=text:mode`
    fn read(volume: &str) -> Result<Vec<String>, String> {
        let volume: Volume = serde_json::from_str(volume).unwrap();
        assert!(is_written(&volume));
        let files = files(&pod(), &volume, &given(), &PodFacts::default());
        let told = |(path, file): (String, FileContent)| {
            let text = String::from_utf8_lossy(&file.data).into_owned();
            format!("{path}={text}:{:o}", file.mode)
        };
        files
            .map(|files| files.into_iter().map(told).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_config_map_is_its_keys_or_the_ones_that_are_named() {
        let all = read(r#"{"name":"v","configMap":{"name":"m"}}"#).unwrap();
        assert_eq!(all, ["a=1:644", "b=2:644", "c=\u{0}\u{fffd}:644"]);
        let some = r#"{"name":"v","configMap":{"name":"m","defaultMode":256,
            "items":[{"key":"a","path":"x/y"},{"key":"b","path":"z","mode":384}]}}"#;
        assert_eq!(read(some).unwrap(), ["x/y=1:400", "z=2:600"]);
    }

    #[test]
    fn what_is_missing_is_said_as_the_kubelet_says_it_unless_it_may_be() {
        for (volume, expected) in [
            (
                r#"{"name":"v","configMap":{"name":"x"}}"#,
                "configmap \"x\" not found",
            ),
            (
                r#"{"name":"v","secret":{"secretName":"x"}}"#,
                "secret \"x\" not found",
            ),
            (
                r#"{"name":"v","configMap":{"name":"m","items":[{"key":"q","path":"p"}]}}"#,
                "configmap references non-existent config key: q",
            ),
            (
                r#"{"name":"v","secret":{"secretName":"s","items":[{"key":"q","path":"p"}]}}"#,
                "references non-existent secret key: q",
            ),
        ] {
            assert_eq!(read(volume).unwrap_err(), expected);
            let optional = volume.replace("Map\":{", "Map\":{\"optional\":true,");
            let optional = optional.replace("secret\":{", "secret\":{\"optional\":true,");
            assert_eq!(read(&optional).unwrap(), Vec::<String>::new());
        }
    }

    #[test]
    fn a_projection_is_its_sources_in_turn() {
        let volume = r#"{"name":"v","projected":{"defaultMode":288,"sources":[
            {"configMap":{"name":"m","items":[{"key":"a","path":"same"}]}},
            {"secret":{"name":"s","items":[{"key":"key","path":"same","mode":256}]}},
            {"downwardAPI":{"items":[
                {"path":"labels","fieldRef":{"fieldPath":"metadata.labels"}},
                {"path":"name","fieldRef":{"fieldPath":"metadata.name"}},
                {"path":"limit","resourceFieldRef":{"containerName":"c","resource":"limits.memory","divisor":"1Mi"}}]}}]}}"#;
        let expected = [
            "labels=app=\"web\"\ntier=\"1\":440",
            "limit=64:440",
            "name=web:440",
            "same=top:400",
        ];
        assert_eq!(read(volume).unwrap(), expected);
    }

    #[test]
    fn a_field_that_no_file_shows_is_named() {
        let volume = r#"{"name":"v","downwardAPI":{"items":[{"path":"ip","fieldRef":{"fieldPath":"status.podIP"}}]}}"#;
        assert!(read(volume).unwrap_err().contains("status.podIP"));
        let volume = r#"{"name":"v","downwardAPI":{"items":[{"path":"m","resourceFieldRef":{"containerName":"none","resource":"limits.cpu"}}]}}"#;
        assert!(read(volume).unwrap_err().contains("none"));
    }

    #[test]
    fn what_a_volume_needs() {
        let mut needs = Needs::default();
        for volume in [
            r#"{"name":"v","configMap":{"name":"a"}}"#,
            r#"{"name":"v","secret":{"secretName":"b"}}"#,
            r#"{"name":"v","projected":{"sources":[{"configMap":{"name":"c"}},{"secret":{"name":"d"}}]}}"#,
        ] {
            needs.add_volume(&serde_json::from_str(volume).unwrap());
        }
        let names =
            |set: &std::collections::BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
        assert_eq!(names(&needs.config_maps), ["a", "c"]);
        assert_eq!(names(&needs.secrets), ["b", "d"]);
    }
}
