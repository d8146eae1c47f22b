//! All that a name in the store stands for, as it leaves: documents and blobs, each once, what is named before what
//! names it.

use std::collections::HashSet;

use crate::blob::Expected;
use crate::digest::Digest;
use crate::error::Error;
use crate::image::{Image, Walk};
use crate::kind;
use crate::manifest::{
    DOCKER_CONFIG, DOCKER_MANIFEST, Descriptor, Document, OCI_INDEX, OCI_MANIFEST,
};
use crate::reference::Reference;
use crate::store::Store;

/// Nested deeper, an index is nobody's.
const DEPTH_MAX: usize = 4;

/// An image on its way out of the store.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Of the root.
    pub(crate) root: Descriptor,
    /// Manifests and indexes; the root is the last.
    pub(crate) manifests: Vec<(Descriptor, Vec<u8>)>,
    /// Configurations, layers and modules, as their manifests describe them.
    pub(crate) blobs: Vec<Descriptor>,
}

#[derive(Default)]
struct Gathering {
    manifests: Vec<(Descriptor, Vec<u8>)>,
    blobs: Vec<Descriptor>,
    seen: HashSet<Digest>,
}

impl Store {
    /// Gathers what `name` stands for. Of a multi-platform image that was pulled for Wasm alone, that is the manifest
    /// for Wasm.
    ///
    /// # Errors
    /// `NotPresent` where there is no such name; `Unsupported` where blobs of it are missing.
    pub(crate) fn bundle(&self, name: &Reference) -> Result<Bundle, Error> {
        let absent = || Error::NotPresent(name.to_string());
        let digest = self.resolve(name)?.ok_or_else(absent)?;
        let what = format!("the manifest of {name}");
        let (root, bytes) = self.root(&what, digest)?.ok_or_else(absent)?;
        let mut all = Gathering::default();
        let missing = self.gather(&mut all, &what, root.clone(), 0)?;
        let Some(missing) = missing else {
            return Ok(all.bundle(root));
        };
        let Document::Index(index) = Document::parse(&what, &bytes)? else {
            return Err(incomplete(name, missing));
        };
        let chosen = kind::choose(&name.to_string(), &index)?.clone();
        let mut one = Gathering::default();
        match self.gather(&mut one, &what, chosen.clone(), 0)? {
            None => {
                let root = Descriptor::new(&chosen.media_type, chosen.digest, chosen.size);
                Ok(one.bundle(root))
            }
            Some(missing) => Err(incomplete(name, missing)),
        }
    }

    /// The blobs of an image's layers, lowest first.
    ///
    /// # Errors
    /// `Unsupported` where one is missing.
    pub(crate) fn layer_blobs(&self, image: &Image) -> Result<Vec<Digest>, Error> {
        let name = &image.name;
        let mut walk = Walk::new(&name.to_string(), Descriptor::new("", image.digest, 0));
        let content = loop {
            let wanted = walk.wanted().digest;
            let bytes = self.document(&walk.what(), wanted)?;
            let bytes = bytes.ok_or_else(|| incomplete(name, wanted))?;
            if let Some(content) = walk.give(&bytes, self.limits())? {
                break content;
            }
        };
        for (blob, _) in &content.blobs {
            if !self.has_blob(blob.into()) {
                return Err(incomplete(name, blob.digest));
            }
        }
        Ok(content.blobs.iter().map(|(blob, _)| blob.digest).collect())
    }

    /// A document, described as its media type says.
    pub(crate) fn root(
        &self,
        what: &str,
        digest: Digest,
    ) -> Result<Option<(Descriptor, Vec<u8>)>, Error> {
        let Some(bytes) = self.document(what, digest)? else {
            return Ok(None);
        };
        let media_type = match Document::parse(what, &bytes)? {
            Document::Index(index) => index.media_type.unwrap_or_else(|| OCI_INDEX.to_owned()),
            Document::Manifest(manifest) => {
                let docker = manifest.config.media_type == DOCKER_CONFIG;
                let guess = if docker {
                    DOCKER_MANIFEST
                } else {
                    OCI_MANIFEST
                };
                manifest.media_type.unwrap_or_else(|| guess.to_owned())
            }
        };
        let root = Descriptor::new(&media_type, digest, bytes.len() as u64);
        Ok(Some((root, bytes)))
    }

    /// Adds `wanted` and what it names; gives the first thing that the store lacks.
    fn gather(
        &self,
        all: &mut Gathering,
        what: &str,
        wanted: Descriptor,
        depth: usize,
    ) -> Result<Option<Digest>, Error> {
        if !all.seen.insert(wanted.digest) {
            return Ok(None);
        }
        let Some(bytes) = self.document(what, wanted.digest)? else {
            return Ok(Some(wanted.digest));
        };
        match Document::parse(what, &bytes)? {
            Document::Index(_) if depth >= DEPTH_MAX => {
                return Err(Error::malformed(what, "an index within an index, too deep"));
            }
            Document::Index(index) => {
                for manifest in index.manifests {
                    if let Some(missing) = self.gather(all, what, manifest, depth + 1)? {
                        return Ok(Some(missing));
                    }
                }
            }
            Document::Manifest(manifest) => {
                for blob in std::iter::once(manifest.config).chain(manifest.layers) {
                    if !self.has_blob(Expected::from(&blob)) {
                        return Ok(Some(blob.digest));
                    }
                    if all.seen.insert(blob.digest) {
                        all.blobs.push(blob);
                    }
                }
            }
        }
        all.manifests.push((wanted, bytes));
        Ok(None)
    }
}

impl Gathering {
    fn bundle(self, root: Descriptor) -> Bundle {
        Bundle {
            root,
            manifests: self.manifests,
            blobs: self.blobs,
        }
    }
}

fn incomplete(name: &Reference, missing: Digest) -> Error {
    Error::Unsupported {
        image: name.to_string(),
        reason: format!("{missing} of it is not in the store; pull it again"),
    }
}
