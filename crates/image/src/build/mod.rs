//! Makes images of a module and files, straight into the store: the same bytes for the same input, wherever and
//! whenever it is done.
//!
//! Two forms: a *compat image* is an ordinary one, with a configuration, one layer and the platform `wasi/wasm`, which
//! every tool can move and every runtime for Wasm runs; a *CNCF Wasm artifact* is the module alone, with a configuration
//! that says what it imports and exports (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>).

mod layer;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::Error;
use crate::image::{Config, Image};
use crate::manifest::{
    COMPAT, Descriptor, Manifest, OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, TITLE, VARIANT,
    WASM_CONFIG, WASM_LAYER,
};
use crate::reference::Reference;
use crate::store::Store;
use crate::wasm::{self, Binary};
use tree::{Node, Tree};

/// What an image is made of.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// The module or component, binary or text.
    pub module: PathBuf,
    /// What lies beside it in a compat image.
    pub files: Vec<BuildFile>,
    /// How the image wants to be run. Without an entrypoint, that is the module.
    pub config: Config,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether to make a CNCF Wasm artifact in place of a compat image.
    pub artifact: bool,
    /// The time that everything in the image gets, in seconds since 1970 (`SOURCE_DATE_EPOCH`).
    pub created: u64,
}

/// A file or folder that goes into an image.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildFile {
    /// On this machine.
    pub source: PathBuf,
    /// In the image, absolute. A folder's contents go into it; a file goes into it where it ends with a slash.
    pub guest: String,
}

impl Store {
    /// Makes an image and names it, each of `names` in place of what it stood for. Blocks the thread.
    ///
    /// # Errors
    /// `NotWasm` for the module, `Input` for what can't be in an image, `Entrypoint` where the entrypoint is no file of
    /// it, `Io` for what can't be read or written. A failed build leaves nothing but blobs for the collector.
    pub fn build(&self, build: &Build, names: &[Reference]) -> Result<Image, Error> {
        let Some(name) = names.first() else {
            return Err(Error::input("the image", "it needs a name"));
        };
        let _lock = self.lock_against_collection()?;
        let created = timestamp(build.created)?;
        let binary = wasm::read(&build.module)?;
        let manifest = match build.artifact {
            true => self.artifact(build, binary, &created)?,
            false => self.compat(build, binary, &created)?,
        };
        let bytes =
            serde_json::to_vec(&manifest).map_err(|e| Error::malformed("the manifest", e))?;
        let blob = self.put("the manifest", &bytes)?;
        let image = self
            .assemble(name, blob.digest)?
            .ok_or_else(|| Error::NotPresent(name.to_string()))?;
        // What could never start is not named.
        image.module(image.config.entrypoint.first().map_or("", String::as_str))?;
        self.name(names, OCI_MANIFEST, blob)?;
        Ok(image)
    }

    fn compat(&self, build: &Build, binary: Binary, created: &str) -> Result<Manifest, Error> {
        let file = file_name(&build.module)?;
        let mut config = build.config.clone();
        if config.entrypoint.is_empty() {
            config.entrypoint = vec![format!("/{file}")];
        }
        let mut tree = Tree::default();
        tree.put(Path::new(&file), Node::Bytes(binary.bytes))?;
        for copy in &build.files {
            tree.copy(&copy.source, &copy.guest, self.limits().layer_entries)?;
        }
        let layer = layer::write(self, &tree, build.created)?;
        let config = self.put(
            "the configuration",
            &image_config(&config, created, layer.diff_id),
        )?;
        let mut annotations = build.annotations.clone();
        annotations
            .entry(VARIANT.to_owned())
            .or_insert_with(|| COMPAT.to_owned());
        Ok(Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::new(OCI_CONFIG, config.digest, config.size),
            layers: vec![Descriptor::new(
                OCI_LAYER_GZIP,
                layer.blob.digest,
                layer.blob.size,
            )],
            annotations,
        })
    }

    fn artifact(&self, build: &Build, binary: Binary, created: &str) -> Result<Manifest, Error> {
        if !build.files.is_empty() || build.config != Config::default() {
            let reason = "a Wasm artifact is a module alone: it has no files, variables, entrypoint, arguments or labels; \
                          build an ordinary image for those";
            return Err(Error::input("the artifact", reason));
        }
        let module = self.put("the module", &binary.bytes)?;
        let (os, component) = match &binary.component {
            None => ("wasip1", Value::Null),
            Some(found) => (
                "wasip2",
                json!({"exports": found.exports, "imports": found.imports, "target": null}),
            ),
        };
        let config = json!({
            "created": created, "architecture": "wasm", "os": os,
            "layerDigests": [module.digest], "component": component,
        });
        let config = self.put("the configuration", config.to_string().as_bytes())?;
        let mut layer = Descriptor::new(WASM_LAYER, module.digest, module.size);
        layer
            .annotations
            .insert(TITLE.to_owned(), file_name(&build.module)?);
        Ok(Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::new(WASM_CONFIG, config.digest, config.size),
            layers: vec![layer],
            annotations: build.annotations.clone(),
        })
    }
}

/// An ordinary image's configuration (`config.md` of the OCI image specification). What is empty is left out, as
/// buildah leaves it out.
fn image_config(config: &Config, created: &str, diff_id: crate::digest::Digest) -> Vec<u8> {
    let env: Vec<String> = config
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let fields = [
        ("Entrypoint", json!(config.entrypoint)),
        ("Cmd", json!(config.cmd)),
        ("Env", json!(env)),
        ("WorkingDir", json!(config.working_dir)),
        ("User", json!(config.user)),
        ("Labels", json!(config.labels)),
    ];
    let is_empty = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    let execution: serde_json::Map<String, Value> = fields
        .into_iter()
        .filter(|(_, value)| !is_empty(value))
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let config = json!({
        "created": created, "architecture": "wasm", "os": "wasi", "config": execution,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "created_by": "coracle image build"}],
    });
    config.to_string().into_bytes()
}

/// What the module is called in the image: its file's name; assembled text is not called text any more.
fn file_name(module: &Path) -> Result<String, Error> {
    let wrong = |reason: &str| Error::input(module.display().to_string(), reason);
    let name = module
        .file_name()
        .and_then(|n| n.to_str())
        .ok_or_else(|| wrong("its name is not UTF-8, as an entrypoint must be; rename it"))?;
    if name.contains('#') {
        return Err(wrong(
            "a # in its name would be read as the name of an export; rename it",
        ));
    }
    let stem = name.strip_suffix(".wat").or(name.strip_suffix(".wasm"));
    Ok(format!("{}.wasm", stem.unwrap_or(name)))
}

/// RFC 3339, in UTC.
fn timestamp(seconds: u64) -> Result<String, Error> {
    i64::try_from(seconds)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok())
        .map(|t| t.to_string())
        .ok_or_else(|| {
            Error::input(
                format!("SOURCE_DATE_EPOCH={seconds}"),
                "is no time of this era",
            )
        })
}
