//! The documents of an image: descriptors, manifests, indexes, configurations. Only the fields that are used.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::error::Error;

/// The most a manifest, index or configuration may have, as in containerd and distribution.
pub(crate) const DOCUMENT_MAX: u64 = 4 << 20;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The configuration and the layer of a CNCF Wasm artifact.
pub(crate) const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub(crate) const WASM_LAYER: &str = "application/wasm";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Where an OCI layout's index keeps an image's name.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Where containerd and docker keep the full name.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// What a file was called.
pub(crate) const TITLE: &str = "org.opencontainers.image.title";
/// The annotation that says that an ordinary image is meant for Wasm, and how.
pub(crate) const VARIANT: &str = "module.wasm.image/variant";
pub(crate) const COMPAT: &str = "compat";

/// Null in place of a map or list is an empty one: Go writes it so.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    input: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(input)?.unwrap_or_default())
}

/// A blob by type, digest and size in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// Whether the platform is one of the names in use for Wasm: wasi/wasm, wasi/wasm32, wasip1/wasm, wasip2/wasm.
    pub(crate) fn is_wasm(&self) -> bool {
        matches!(self.architecture.as_str(), "wasm" | "wasm32") || self.os.starts_with("wasi")
    }

    /// What buildx gives its attestations, which no one runs.
    pub(crate) fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or = |s: &str| {
            if s.is_empty() {
                "unknown".to_owned()
            } else {
                s.to_owned()
            }
        };
        write!(f, "{}/{}", or(&self.os), or(&self.architecture))?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    pub(crate) config: Descriptor,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) layers: Vec<Descriptor>,
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) manifests: Vec<Descriptor>,
}

/// A manifest or an index, told apart by its fields, since the media type may be absent or wrong.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    Manifest(Box<Manifest>),
    Index(Index),
}

impl Document {
    /// Reads a document; `what` names it in errors.
    pub(crate) fn parse(what: &str, bytes: &[u8]) -> Result<Document, Error> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| Error::malformed(what, e))?;
        let version = value
            .get("schemaVersion")
            .and_then(serde_json::Value::as_u64);
        if version != Some(2) {
            let found = version.map_or("absent".to_owned(), |v| v.to_string());
            return Err(Error::malformed(
                what,
                format!("schemaVersion is {found}; only version 2 is supported"),
            ));
        }
        match (
            value.get("manifests").is_some(),
            value.get("config").is_some(),
        ) {
            (true, false) => serde_json::from_value(value).map(Document::Index),
            (false, true) => serde_json::from_value(value).map(|m| Document::Manifest(Box::new(m))),
            // Each would be read as something else by someone: the distribution spec asks to refuse it.
            (true, true) => {
                return Err(Error::malformed(
                    what,
                    "has both manifests and config: an index or a manifest, not both",
                ));
            }
            (false, false) => {
                return Err(Error::malformed(what, "has neither manifests nor config"));
            }
        }
        .map_err(|e| Error::malformed(what, e))
    }
}

/// An ordinary image's configuration.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ImageConfig {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) variant: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) config: Execution,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) rootfs: RootFs,
}

impl ImageConfig {
    pub(crate) fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Execution {
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) cmd: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) env: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) working_dir: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) user: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) diff_ids: Vec<Digest>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn documents_are_told_apart_by_their_fields() {
        let index = br#"{"schemaVersion":2,"manifests":null}"#;
        assert!(
            matches!(Document::parse("x", index).unwrap(), Document::Index(i) if i.manifests.is_empty())
        );
        for (bad, word) in [
            (&b"{"[..], "EOF"),
            (b"[]", "schemaVersion"),
            (br#"{"schemaVersion":1}"#, "schemaVersion is 1"),
            (br#"{"schemaVersion":2}"#, "neither"),
            (br#"{"schemaVersion":2,"manifests":[],"config":{}}"#, "both"),
            (
                br#"{"schemaVersion":2,"config":{"digest":"sha256:1","size":1}}"#,
                "sha256:1",
            ),
            (br#"{"schemaVersion":2,"config":{"size":-1}}"#, ""),
        ] {
            let error = Document::parse("the manifest", bad)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("the manifest") && error.contains(word),
                "{error}"
            );
        }
    }

    #[test]
    fn nulls_of_go_are_empty() {
        let config: ImageConfig = serde_json::from_str(
            r#"{"os":"wasi","architecture":"wasm32","config":{"Env":null,"Cmd":["x"]}}"#,
        )
        .unwrap();
        assert_eq!(config.config.cmd, ["x"]);
        assert!(config.platform().is_wasm());
    }
}
