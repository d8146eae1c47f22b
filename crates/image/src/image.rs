//! An image: its documents read and checked, its layers unpacked.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::blob::Expected;
use crate::digest::Digest;
use crate::error::Error;
use crate::kind::{self, Shape};
use crate::layer::Layer;
use crate::lease::Lease;
use crate::manifest::{Descriptor, Document, Execution, ImageConfig, Index, Manifest};
use crate::reference::Reference;
use crate::store::{Store, check_document_size};

/// An index may name an index; deeper nesting is nobody's image.
const INDEX_DEPTH: usize = 2;

/// What a container needs of an image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The name it was asked for by.
    pub name: Reference,
    /// What the name stands for: the digest of the manifest, or of the index it was chosen from. With the repository
    /// it makes the `imageID` of a container's status.
    pub digest: Digest,
    /// The digest of the configuration, docker's "image id".
    pub id: Digest,
    /// Image or artifact.
    pub kind: Kind,
    /// How the image wants to be run.
    pub config: Config,
    /// Its unpacked layers, lowest first. An artifact has none.
    pub layers: Vec<Layer>,
    /// All its blobs as fetched, in bytes.
    pub size: u64,
    pub(crate) store: Store,
    /// Whoever holds the image keeps it from the collector.
    pub(crate) _lease: Arc<Lease>,
}

/// How an image holds its module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// As a file in its layers.
    Compat,
    /// As its only blob.
    Artifact {
        /// The digest of the module or component itself.
        module: Digest,
    },
}

/// How an image wants to be run. Nothing here is checked against a pod: that is for whoever merges the two.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The command's fixed words. An artifact has one, the name of its module.
    pub entrypoint: Vec<String>,
    /// The words that arguments replace.
    pub cmd: Vec<String>,
    /// Variables, in order.
    pub env: Vec<(String, String)>,
    /// The working directory; empty for `/`.
    pub working_dir: String,
    /// `user[:group]`, by name or number; empty for none.
    pub user: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// What a set of documents says, before any layer is there.
#[derive(Debug)]
pub(crate) struct Content {
    id: Digest,
    kind: Kind,
    config: Config,
    /// With the diffID of those to be unpacked.
    pub(crate) blobs: Vec<(Descriptor, Option<Digest>)>,
    size: u64,
}

impl Content {
    /// All documents and blobs, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

/// Walks from a root document to the content, whoever fetches the documents: `wanted`, fetch, `give`, and again.
#[derive(Debug)]
pub(crate) struct Walk {
    image: String,
    /// The platform that it must be for, `os/architecture`.
    platform: Option<String>,
    /// What names the image: the root, or the manifest that a platform was chosen for in its index.
    root: Descriptor,
    wanted: Descriptor,
    depth: usize,
    manifest: Option<Manifest>,
    read: u64,
}

impl Walk {
    pub(crate) fn new(image: &str, root: Descriptor) -> Walk {
        Walk {
            image: image.to_owned(),
            platform: None,
            root: root.clone(),
            wanted: root,
            depth: 0,
            manifest: None,
            read: 0,
        }
    }

    /// Takes no image but one for this platform, `os/architecture`.
    pub(crate) fn only_for(mut self, platform: Option<&str>) -> Walk {
        self.platform = platform.map(str::to_owned);
        self
    }

    /// What names the image when the walk has ended: the root that it began with, or, where its index would
    /// have another entry run than the platform's, that entry.
    pub(crate) fn into_root(self) -> Descriptor {
        self.root
    }

    /// The next document to give.
    pub(crate) fn wanted(&self) -> &Descriptor {
        &self.wanted
    }

    /// What the wanted document is, for errors.
    pub(crate) fn what(&self) -> String {
        match &self.manifest {
            Some(_) => format!("the configuration of {}", self.image),
            None => format!("the manifest of {}", self.image),
        }
    }

    /// Takes the wanted document, whose digest the giver has checked; the content, if it was the last.
    pub(crate) fn give(
        &mut self,
        bytes: &[u8],
        limits: &crate::layer::Limits,
    ) -> Result<Option<Content>, Error> {
        check_document_size(&self.what(), bytes.len() as u64)?;
        self.read += bytes.len() as u64;
        if let Some(manifest) = self.manifest.take() {
            // The entry of an index has said it already, and need not say it again.
            if self.depth == 0 {
                self.check_platform(bytes)?;
            }
            return self.content(&manifest, bytes).map(Some);
        }
        match Document::parse(&self.what(), bytes)? {
            Document::Index(index) if self.depth < INDEX_DEPTH => {
                self.depth += 1;
                self.wanted = self.choose(&index)?;
            }
            document => {
                let manifest = kind::manifest_of(&self.image, document)?;
                // What can't be supported is refused before a byte of it is fetched.
                kind::shape(&self.image, &manifest)?;
                self.check_sizes(&manifest, limits)?;
                self.wanted = manifest.config.clone();
                self.manifest = Some(manifest);
            }
        }
        Ok(None)
    }

    fn choose(&mut self, index: &Index) -> Result<Descriptor, Error> {
        let usual = kind::choose(&self.image, index);
        let Some(platform) = &self.platform else {
            return usual.cloned();
        };
        let wanted = kind::choose_for(&self.image, index, platform)?;
        if !usual.is_ok_and(|usual| usual.digest == wanted.digest) {
            self.root = wanted.clone();
        }
        Ok(wanted.clone())
    }

    fn check_platform(&self, config: &[u8]) -> Result<(), Error> {
        let Some(asked) = &self.platform else {
            return Ok(());
        };
        // An artifact's configuration may be anything, such as two bytes that say nothing.
        let config = serde_json::from_slice::<ImageConfig>(config);
        let found = config.map_or_else(
            |_| "unknown/unknown".to_owned(),
            |config| config.platform().to_string(),
        );
        if found == *asked {
            return Ok(());
        }
        Err(Error::OtherPlatform {
            image: self.image.clone(),
            asked: asked.clone(),
            available: vec![found],
        })
    }

    fn check_sizes(&self, manifest: &Manifest, limits: &crate::layer::Limits) -> Result<(), Error> {
        let too_large = |what: &str, limit, unit| Error::TooLarge {
            what: format!("{what} of {}", self.image),
            limit,
            unit,
        };
        let total = manifest
            .layers
            .iter()
            .try_fold(manifest.config.size, |sum, l| sum.checked_add(l.size));
        if total.is_none_or(|t| t > limits.image_bytes) {
            return Err(too_large("the size", limits.image_bytes, "bytes"));
        }
        if manifest.layers.len() > limits.layers {
            return Err(too_large(
                "the number of layers",
                limits.layers as u64,
                "layers",
            ));
        }
        Ok(())
    }

    fn content(&self, manifest: &Manifest, config: &[u8]) -> Result<Content, Error> {
        let layers = &manifest.layers;
        let (kind, config, diff_ids) = match kind::shape(&self.image, manifest)? {
            Shape::Artifact(layer) => {
                let config = Config {
                    entrypoint: vec![artifact_name(layer)],
                    ..Config::default()
                };
                (
                    Kind::Artifact {
                        module: layer.digest,
                    },
                    config,
                    vec![None; layers.len()],
                )
            }
            Shape::Ordinary => {
                let config: ImageConfig = serde_json::from_slice(config)
                    .map_err(|e| Error::malformed(self.what_config(), e))?;
                kind::check_compat(&self.image, manifest, &config)?;
                let diff_ids: Vec<_> = config.rootfs.diff_ids.iter().copied().map(Some).collect();
                if diff_ids.len() != layers.len() {
                    let reason = format!("{} diff_ids for {} layers", diff_ids.len(), layers.len());
                    return Err(Error::malformed(self.what_config(), reason));
                }
                (Kind::Compat, Config::from(config.config), diff_ids)
            }
        };
        Ok(Content {
            id: manifest.config.digest,
            kind,
            config,
            size: self.read + layers.iter().map(|l| l.size).sum::<u64>(),
            blobs: layers.iter().cloned().zip(diff_ids).collect(),
        })
    }

    fn what_config(&self) -> String {
        format!("the configuration of {}", self.image)
    }
}

/// What `argv[0]` of an artifact is: the title its maker gave the file, else a plain word.
fn artifact_name(layer: &Descriptor) -> String {
    let title = layer.annotations.get("org.opencontainers.image.title");
    title
        .filter(|t| !t.is_empty() && !t.contains('/'))
        .cloned()
        .unwrap_or_else(|| "main.wasm".to_owned())
}

impl From<Execution> for Config {
    fn from(e: Execution) -> Config {
        let pair = |v: String| match v.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (v, String::new()),
        };
        Config {
            entrypoint: e.entrypoint,
            cmd: e.cmd,
            env: e.env.into_iter().map(pair).collect(),
            working_dir: e.working_dir,
            user: e.user,
            labels: e.labels,
        }
    }
}

impl From<&Descriptor> for Expected {
    fn from(d: &Descriptor) -> Expected {
        Expected {
            digest: d.digest,
            size: d.size,
        }
    }
}

impl Store {
    /// The image of that name, if the store has it whole. A layer that is fetched and not unpacked is unpacked now,
    /// which blocks the thread; else this costs a few small files.
    ///
    /// # Errors
    /// `Mismatch` or `Malformed` for a damaged store.
    pub fn get(&self, name: &Reference) -> Result<Option<Image>, Error> {
        match self.resolve(name)? {
            Some(root) => self.assemble(name, root),
            None => Ok(None),
        }
    }

    /// Reads an image whose blobs are in the store. `None` if one is missing.
    pub(crate) fn assemble(&self, name: &Reference, root: Digest) -> Result<Option<Image>, Error> {
        let lease = Arc::new(self.lease(root)?);
        let mut walk = Walk::new(&name.to_string(), Descriptor::new("", root, 0));
        let content = loop {
            let Some(bytes) = self.document(&walk.what(), walk.wanted().digest)? else {
                return Ok(None);
            };
            if let Some(content) = walk.give(&bytes, self.limits())? {
                break content;
            }
        };
        let mut layers = Vec::new();
        for (blob, diff_id) in &content.blobs {
            match diff_id {
                None if !self.has_blob(blob.into()) => return Ok(None),
                None => {}
                Some(diff_id) => match self.unpacked(*diff_id)? {
                    Some(layer) => layers.push(layer),
                    None if !self.has_blob(blob.into()) => return Ok(None),
                    None => layers.push(self.layer(*diff_id, blob.into())?),
                },
            }
        }
        Ok(Some(Image {
            name: name.clone(),
            digest: root,
            id: content.id,
            kind: content.kind,
            config: content.config,
            layers,
            size: content.size,
            store: self.clone(),
            _lease: lease,
        }))
    }

    /// Whether nothing of this blob needs fetching.
    pub(crate) fn has_content(&self, blob: &Descriptor, diff_id: Option<Digest>) -> bool {
        self.has_blob(blob.into())
            || diff_id.is_some_and(|d| self.layer_dir(d).join("layer.json").exists())
    }

    /// Names what is now whole: by the tag and by the digest.
    pub(crate) fn finish(&self, name: &Reference, root: &Descriptor) -> Result<Image, Error> {
        let image = self
            .assemble(name, root.digest)?
            .ok_or_else(|| Error::NotPresent(name.to_string()))?;
        self.name(
            &[name.clone(), name.pinned(root.digest)],
            &root.media_type,
            root.into(),
        )?;
        Ok(image)
    }
}
