//! Takes images from disk into the store.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::archive::{Files, blob_name};
use crate::blob::{BlobWriter, Expected};
use crate::digest::Digest;
use crate::error::{Error, IoContext};
use crate::image::{Image, Walk};
use crate::manifest::{
    CONTAINERD_NAME, DOCKER_CONFIG, Descriptor, Index, Manifest, OCI_LAYER, OCI_MANIFEST, REF_NAME,
};
use crate::reference::Reference;
use crate::store::{Store, check_document_size};

/// An image on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The folder of an OCI layout, an `oci-archive` tar, or a tar of `docker save`.
    pub path: PathBuf,
    /// Which of its images, by the name it has there; not needed where there is one.
    pub image: Option<String>,
}

/// One of the images that `docker save` wrote.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

impl Saved {
    pub(crate) fn tags(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }
}

impl Store {
    /// Copies an image from disk into the store and unpacks it. Its name is `name`, else the full name it has in the
    /// source, else `localhost/<file name>:<its tag>`. Blocks the thread.
    ///
    /// # Errors
    /// `Malformed` where the source is no image; `Mismatch` where bytes are not those that their digest promises;
    /// what [`Store::get`] and unpacking give. A failed import leaves nothing but checked blobs.
    pub fn import(&self, source: &Source, name: Option<&Reference>) -> Result<Image, Error> {
        let _lock = self.lock_against_collection()?;
        let files = Files::open(&source.path)?;
        let wanted = source.image.as_deref();
        let root = if let Some(index) = files.document("index.json")? {
            pick(&files, &index, wanted)?
        } else if let Some(saved) = files.document("manifest.json")? {
            self.import_saved(&files, &saved, wanted)?
        } else {
            return Err(Error::malformed(
                source.path.display().to_string(),
                "has neither index.json (OCI layout) nor manifest.json (docker save): not an image",
            ));
        };
        let name = match name {
            Some(name) => name.clone(),
            None => own_name(&stem(&source.path)?, &root)?,
        };
        self.import_from(&files, root, &name)
    }

    /// Copies one image of an open source.
    pub(crate) fn import_from(
        &self,
        files: &Files,
        root: Descriptor,
        name: &Reference,
    ) -> Result<Image, Error> {
        let mut walk = Walk::new(&name.to_string(), root.clone());
        let content = loop {
            let (wanted, what) = (walk.wanted().clone(), walk.what());
            check_document_size(&what, wanted.size)?;
            self.copy_blob(files, &what, (&wanted).into())?;
            let bytes = self.document(&what, wanted.digest)?;
            let bytes =
                bytes.ok_or_else(|| Error::malformed(&what, "vanished while it was read"))?;
            if let Some(content) = walk.give(&bytes, self.limits())? {
                break content;
            }
        };
        for (blob, diff_id) in &content.blobs {
            if !self.has_content(blob, *diff_id) {
                self.copy_blob(files, &format!("layer {}", blob.digest), blob.into())?;
            }
        }
        self.finish(name, &root)
    }

    fn copy_blob(&self, files: &Files, what: &str, expected: Expected) -> Result<(), Error> {
        let _lock = self.lock_digest(expected.digest)?;
        // A saved image's blobs came first, under other names.
        if self.has_blob(expected) {
            return Ok(());
        }
        let mut reader = files.blob(expected.digest)?;
        let mut writer = BlobWriter::create(self, what, Some(expected))?;
        writer.copy(&mut *reader, &files.path().join(blob_name(expected.digest)))?;
        writer.commit().map(|_| ())
    }

    /// Makes a manifest for what docker saved, whose layers are plain tars without digests.
    fn import_saved(
        &self,
        files: &Files,
        saved: &[u8],
        wanted: Option<&str>,
    ) -> Result<Descriptor, Error> {
        let what = what_saved(files);
        let images = parse_saved(files, saved)?;
        let names: Vec<String> = images.iter().flat_map(|i| i.tags().to_vec()).collect();
        let matches =
            |image: &Saved| wanted.is_none_or(|w| image.tags().iter().any(|t| same_name(t, w)));
        let mut found = images.iter().filter(|i| matches(i));
        let (Some(image), None) = (found.next(), found.next()) else {
            return Err(which(&what, &names));
        };
        self.saved_root(files, image)
    }

    /// Stores the blobs of one image that docker saved, and a manifest for them.
    pub(crate) fn saved_root(&self, files: &Files, image: &Saved) -> Result<Descriptor, Error> {
        let what = what_saved(files);
        let missing = |name: &str| {
            Error::malformed(
                &what,
                format!("names {name:?}, which is not in the archive"),
            )
        };
        let config = files
            .document(&image.config)?
            .ok_or_else(|| missing(&image.config))?;
        let config = self.put("the configuration", &config)?;
        let mut layers = Vec::new();
        for layer in &image.layers {
            let mut reader = files.read(layer)?.ok_or_else(|| missing(layer))?;
            let mut writer = BlobWriter::create(self, layer, None)?;
            writer.copy(&mut *reader, &files.path().join(layer))?;
            let blob = writer.commit()?;
            layers.push(Descriptor::new(OCI_LAYER, blob.digest, blob.size));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::new(DOCKER_CONFIG, config.digest, config.size),
            layers,
            annotations: Default::default(),
        };
        let bytes = serde_json::to_vec(&manifest).map_err(|e| Error::malformed(&what, e))?;
        let blob = self.put("the manifest", &bytes)?;
        let mut root = Descriptor::new(OCI_MANIFEST, blob.digest, blob.size);
        if let Some(tag) = image.tags().first() {
            root.annotations
                .insert(CONTAINERD_NAME.to_owned(), tag.clone());
        }
        Ok(root)
    }
}

fn what_saved(files: &Files) -> String {
    format!("manifest.json of {}", files.path().display())
}

/// The list that `docker save` wrote.
pub(crate) fn parse_saved(files: &Files, saved: &[u8]) -> Result<Vec<Saved>, Error> {
    serde_json::from_slice(saved).map_err(|e| Error::malformed(what_saved(files), e))
}

/// The one image of a layout, or the one of that name, or (with no names at all) the platforms of one image.
pub(crate) fn pick(files: &Files, index: &[u8], wanted: Option<&str>) -> Result<Descriptor, Error> {
    let what = format!("index.json of {}", files.path().display());
    let parsed: Index = serde_json::from_slice(index).map_err(|e| Error::malformed(&what, e))?;
    let names_of = |d: &Descriptor| -> Vec<String> {
        [CONTAINERD_NAME, REF_NAME]
            .iter()
            .filter_map(|a| d.annotations.get(*a).cloned())
            .collect()
    };
    let names: Vec<String> = parsed
        .manifests
        .iter()
        .filter_map(|d| names_of(d).into_iter().next())
        .collect();
    let found: Vec<&Descriptor> = match wanted {
        Some(wanted) => parsed
            .manifests
            .iter()
            .filter(|d| names_of(d).iter().any(|n| same_name(n, wanted)))
            .collect(),
        None => parsed.manifests.iter().collect(),
    };
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(which(&what, &names)),
        _ if wanted.is_none() && !names.is_empty() => Err(which(&what, &names)),
        _ => crate::kind::choose(&files.path().display().to_string(), &parsed).cloned(),
    }
}

fn which(what: &str, names: &[String]) -> Error {
    let reason = match names {
        [] => "names no image".to_owned(),
        names => format!("say which image is meant: it has {}", names.join(", ")),
    };
    Error::malformed(what, reason)
}

/// Whether two names mean the same image, one of them perhaps short.
fn same_name(a: &str, b: &str) -> bool {
    a == b || matches!((a.parse::<Reference>(), b.parse::<Reference>()), (Ok(a), Ok(b)) if a == b)
}

/// A file's name without its extension.
pub(crate) fn stem(path: &Path) -> Result<String, Error> {
    let real = std::fs::canonicalize(path).at("read", path)?;
    Ok(real
        .file_stem()
        .map(|s| s.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default())
}

/// The name that an image brings along, else one made of its file's name.
pub(crate) fn own_name(stem: &str, root: &Descriptor) -> Result<Reference, Error> {
    let full = root.annotations.get(CONTAINERD_NAME).or_else(|| {
        root.annotations
            .get(REF_NAME)
            .filter(|n| n.contains(['/', ':']))
    });
    if let Some(name) = full.and_then(|n| n.parse().ok()) {
        return Ok(name);
    }
    let word: String = stem
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .collect();
    let word = match word.trim_matches('-') {
        "" => "image".to_owned(),
        word => word.to_owned(),
    };
    let tag = root
        .annotations
        .get(REF_NAME)
        .map_or("latest", String::as_str);
    let named = format!("localhost/{word}:{tag}").parse();
    Ok(named
        .or_else(|_| format!("localhost/{word}:{}", Digest::of(tag.as_bytes()).hex()).parse())?)
}
