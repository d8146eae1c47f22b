//! What a manifest is: a compat image, an artifact, or neither; and which entry of an index is for Wasm.

use crate::error::Error;
use crate::manifest::{
    COMPAT, DOCKER_CONFIG, Descriptor, Document, ImageConfig, Index, Manifest, OCI_CONFIG, VARIANT,
    WASM_LAYER,
};

/// Layers that are a module or component as they stand. The first is the CNCF's, the others are those of Krustlet
/// and oci-client, of runwasi, and of the older wasmCloud.
const WASM_LAYERS: [&str; 4] = [
    WASM_LAYER,
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];
const SPIN_CONFIG: &str = "application/vnd.fermyon.spin.application.v1+config";

/// What the manifest says of itself, before its configuration is read.
#[derive(Debug)]
pub(crate) enum Shape<'a> {
    /// An ordinary configuration and tar layers.
    Ordinary,
    /// This one layer is the module.
    Artifact(&'a Descriptor),
}

/// Tells an ordinary image from an artifact.
///
/// # Errors
/// `Unsupported` for everything else, with what it is.
pub(crate) fn shape<'a>(image: &str, manifest: &'a Manifest) -> Result<Shape<'a>, Error> {
    let unsupported = |reason: String| Error::Unsupported {
        image: image.to_owned(),
        reason,
    };
    let config = manifest.config.media_type.as_str();
    if config == SPIN_CONFIG {
        return Err(unsupported("it is a Spin application (config of Fermyon's Spin); package its component as a CNCF Wasm artifact or a compat image".to_owned()));
    }
    let is_wasm = |layer: &&Descriptor| WASM_LAYERS.contains(&layer.media_type.as_str());
    let mut modules = manifest.layers.iter().filter(is_wasm);
    match (modules.next(), modules.next()) {
        (Some(module), None) if manifest.layers.len() == 1 => Ok(Shape::Artifact(module)),
        (Some(_), _) => Err(unsupported(format!(
            "a Wasm artifact has exactly one layer, the module; this one has {}",
            manifest.layers.len()
        ))),
        (None, _) => ordinary(manifest)
            .map(|()| Shape::Ordinary)
            .map_err(unsupported),
    }
}

fn ordinary(manifest: &Manifest) -> Result<(), String> {
    let config = manifest.config.media_type.as_str();
    if !matches!(config, OCI_CONFIG | DOCKER_CONFIG) {
        let artifact = manifest.artifact_type.as_deref().unwrap_or(config);
        return Err(format!(
            "it is an artifact of type {artifact:?}, not a Wasm module or an image"
        ));
    }
    match manifest.layers.iter().find(|l| !is_tar(&l.media_type)) {
        Some(layer) => Err(format!(
            "layer {} has media type {:?}, which is no tar",
            layer.digest, layer.media_type
        )),
        None => Ok(()),
    }
}

/// Whether a layer is a tar, plain or compressed. What it is compressed with is read from its first bytes.
fn is_tar(media_type: &str) -> bool {
    const KINDS: [&str; 4] = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    KINDS
        .iter()
        .any(|kind| match media_type.strip_prefix(kind) {
            Some(rest) => matches!(rest, "" | "+gzip" | ".gzip" | "+zstd" | ".zstd"),
            None => false,
        })
}

/// Checks that an ordinary image is meant for Wasm: by platform, by annotation, or by an entrypoint that names a
/// `.wasm` file.
pub(crate) fn check_compat(
    image: &str,
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<(), Error> {
    let platform = config.platform();
    let first = config
        .config
        .entrypoint
        .first()
        .or(config.config.cmd.first());
    let names_wasm = first.is_some_and(|word| {
        let file = word.split('#').next().unwrap_or_default();
        file.ends_with(".wasm") || file.ends_with(".wat")
    });
    if platform.is_wasm() || names_wasm || is_annotated(&manifest.annotations) {
        return Ok(());
    }
    Err(Error::Platform {
        image: image.to_owned(),
        platform: platform.to_string(),
    })
}

fn is_annotated(annotations: &std::collections::BTreeMap<String, String>) -> bool {
    let variant = annotations.get(VARIANT);
    let handler = annotations.get("run.oci.handler");
    variant.is_some_and(|v| matches!(v.as_str(), COMPAT | "compat-smart"))
        || handler.is_some_and(|h| h.starts_with("wasm"))
}

/// The entry of an index to run: by platform, else by annotation, else the only one there is.
///
/// # Errors
/// `NoPlatform` with the platforms that the index has.
pub(crate) fn choose<'a>(image: &str, index: &'a Index) -> Result<&'a Descriptor, Error> {
    let runnable = |d: &&Descriptor| !d.platform.as_ref().is_some_and(|p| p.is_unknown());
    let candidates: Vec<&Descriptor> = index.manifests.iter().filter(runnable).collect();
    let by_platform = candidates
        .iter()
        .find(|d| d.platform.as_ref().is_some_and(|p| p.is_wasm()));
    let by_annotation = || candidates.iter().find(|d| is_annotated(&d.annotations));
    let artifact = || {
        candidates.iter().find(|d| {
            d.artifact_type
                .as_deref()
                .is_some_and(|t| t.starts_with("application/vnd.wasm"))
        })
    };
    let only = || {
        if candidates.len() == 1 {
            candidates.first()
        } else {
            None
        }
    };
    let untold = || candidates.iter().find(|d| d.platform.is_none());
    by_platform
        .or_else(by_annotation)
        .or_else(artifact)
        .or_else(only)
        .or_else(untold)
        .copied()
        .ok_or_else(|| {
            let available = candidates
                .iter()
                .filter_map(|d| d.platform.as_ref().map(ToString::to_string))
                .collect();
            Error::NoPlatform {
                image: image.to_owned(),
                available,
            }
        })
}

/// The entry of an index for a platform, `os/architecture`.
///
/// # Errors
/// `OtherPlatform` with the platforms that the index has.
pub(crate) fn choose_for<'a>(
    image: &str,
    index: &'a Index,
    platform: &str,
) -> Result<&'a Descriptor, Error> {
    let named = |d: &Descriptor| d.platform.as_ref().map(ToString::to_string);
    let mut entries = index.manifests.iter();
    let found = entries.find(|d| named(d).is_some_and(|name| name == platform));
    found.ok_or_else(|| Error::OtherPlatform {
        image: image.to_owned(),
        asked: platform.to_owned(),
        available: index.manifests.iter().filter_map(named).collect(),
    })
}

/// Refuses an index where a manifest must stand.
pub(crate) fn manifest_of(image: &str, document: Document) -> Result<Manifest, Error> {
    match document {
        Document::Manifest(manifest) => Ok(*manifest),
        Document::Index(_) => Err(Error::malformed(
            format!("image {image}"),
            "an index within an index within an index",
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const ZERO: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(config: &str, layers: &[&str], annotations: &str) -> Manifest {
        let layers: Vec<_> = layers
            .iter()
            .map(|l| format!(r#"{{"mediaType":"{l}","digest":"{ZERO}","size":1}}"#))
            .collect();
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{config}","digest":"{ZERO}","size":1}},"layers":[{}],"annotations":{annotations}}}"#,
            layers.join(",")
        );
        match Document::parse("t", text.as_bytes()).unwrap() {
            Document::Manifest(manifest) => *manifest,
            Document::Index(_) => panic!("an index"),
        }
    }

    #[test]
    fn artifacts_by_their_layer() {
        for layer in WASM_LAYERS {
            let m = manifest("application/vnd.wasm.config.v0+json", &[layer], "{}");
            assert!(
                matches!(shape("i", &m).unwrap(), Shape::Artifact(_)),
                "{layer}"
            );
        }
        let two = manifest(
            "application/vnd.wasm.config.v0+json",
            &["application/wasm", "application/wasm"],
            "{}",
        );
        assert!(
            shape("i", &two)
                .unwrap_err()
                .to_string()
                .contains("exactly one layer")
        );
        let spin = manifest(SPIN_CONFIG, &["application/wasm"], "{}");
        assert!(shape("i", &spin).unwrap_err().to_string().contains("Spin"));
        let helm = manifest(
            "application/vnd.cncf.helm.config.v1+json",
            &["application/vnd.oci.image.layer.v1.tar"],
            "{}",
        );
        assert!(shape("i", &helm).unwrap_err().to_string().contains("helm"));
        let odd = manifest(OCI_CONFIG, &["text/plain"], "{}");
        assert!(
            shape("i", &odd)
                .unwrap_err()
                .to_string()
                .contains("text/plain")
        );
    }

    #[test]
    fn compat_by_platform_annotation_or_entrypoint() {
        let plain = manifest(OCI_CONFIG, &[], "{}");
        let config = |json: &str| serde_json::from_str::<ImageConfig>(json).unwrap();
        check_compat(
            "i",
            &plain,
            &config(r#"{"os":"wasi","architecture":"wasm32"}"#),
        )
        .unwrap();
        check_compat(
            "i",
            &plain,
            &config(
                r#"{"os":"linux","architecture":"amd64","config":{"Entrypoint":["/a.wasm#f"]}}"#,
            ),
        )
        .unwrap();
        for annotation in [
            r#"{"module.wasm.image/variant":"compat-smart"}"#,
            r#"{"run.oci.handler":"wasm"}"#,
            r#"{"run.oci.handler":"wasmtime"}"#,
        ] {
            check_compat("i", &manifest(OCI_CONFIG, &[], annotation), &config("{}")).unwrap();
        }
        let linux = config(r#"{"os":"linux","architecture":"amd64","config":{"Cmd":["bash"]}}"#);
        let error = check_compat("docker.io/library/bash:latest", &plain, &linux)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("linux/amd64") && error.contains("--os wasi --arch wasm32"),
            "{error}"
        );
    }

    #[test]
    fn the_wasm_entry_is_chosen() {
        let entry = |n: u64, platform: &str| {
            let platform = if platform.is_empty() {
                String::new()
            } else {
                let (os, arch) = platform.split_once('/').unwrap();
                format!(r#","platform":{{"os":"{os}","architecture":"{arch}"}}"#)
            };
            format!(r#"{{"digest":"{ZERO}","size":{n}{platform}}}"#)
        };
        let index = |entries: &[String]| -> Index {
            serde_json::from_str(&format!(
                r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
                entries.join(",")
            ))
            .unwrap()
        };
        let many = index(&[
            entry(1, "linux/amd64"),
            entry(2, "wasip1/wasm"),
            entry(3, "unknown/unknown"),
        ]);
        assert_eq!(choose("i", &many).unwrap().size, 2);
        assert_eq!(
            choose(
                "i",
                &index(&[entry(7, "linux/amd64"), entry(3, "unknown/unknown")])
            )
            .unwrap()
            .size,
            7
        );
        assert_eq!(
            choose("i", &index(&[entry(1, "linux/amd64"), entry(9, "")]))
                .unwrap()
                .size,
            9
        );
        let none = index(&[entry(1, "linux/amd64"), entry(2, "linux/arm64")]);
        let error = choose("i", &none).unwrap_err().to_string();
        assert!(error.contains("linux/amd64, linux/arm64"), "{error}");
        assert!(
            choose("i", &index(&[]))
                .unwrap_err()
                .to_string()
                .contains("none at all")
        );
    }
}
