//! What the store has, told from its documents alone: no layer is looked at.

use jiff::Timestamp;
use serde_json::Value;

use crate::digest::Digest;
use crate::error::Error;
use crate::image::Walk;
use crate::kind::{self, Shape};
use crate::manifest::{Descriptor, Document};
use crate::reference::Reference;
use crate::store::Store;

/// An image as a list shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// One of its names.
    pub reference: Reference,
    /// What the name stands for: the digest of a manifest or index.
    pub digest: Digest,
    /// The digest of the configuration, docker's "image id".
    pub id: Digest,
    /// `os/architecture`, as the configuration has it.
    pub platform: String,
    /// Whether it is a Wasm artifact, not an ordinary image.
    pub artifact: bool,
    /// When it says that it was made.
    pub created: Option<Timestamp>,
    /// All its blobs, in bytes as they are stored and moved.
    pub size: u64,
}

/// An image and its documents.
#[derive(Clone, Debug, PartialEq)]
pub struct Details {
    /// What a list shows.
    pub summary: Summary,
    /// The manifest (of the index, that for Wasm).
    pub manifest: Value,
    /// The configuration.
    pub config: Value,
    /// The digests of the layers unpacked, lowest first; an artifact's one layer is its module.
    pub layers: Vec<Digest>,
}

impl Store {
    /// All names and their images, in the order of their names. One whose documents are missing or damaged is left out
    /// and warned of: it hides nothing else.
    ///
    /// # Errors
    /// `Io` or `Malformed` where the list of names can't be read.
    pub fn summaries(&self) -> Result<Vec<Summary>, Error> {
        let mut found = Vec::new();
        for named in self.list()? {
            match self.read_details(&named.reference, named.digest) {
                Ok(Some(details)) => found.push(details.summary),
                Ok(None) => {
                    tracing::warn!(image = %named.reference, "is not whole in the store; pull it again, or remove it");
                }
                Err(error) => tracing::warn!(image = %named.reference, %error, "can't be read"),
            }
        }
        found.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(found)
    }

    /// One image and its documents; `None` where there is no such name, or its documents are missing.
    ///
    /// # Errors
    /// `Mismatch` or `Malformed` for damaged documents.
    pub fn details(&self, name: &Reference) -> Result<Option<Details>, Error> {
        match self.resolve(name)? {
            Some(root) => self.read_details(name, root),
            None => Ok(None),
        }
    }

    fn read_details(&self, name: &Reference, root: Digest) -> Result<Option<Details>, Error> {
        let mut walk = Walk::new(&name.to_string(), Descriptor::new("", root, 0));
        let mut documents = Vec::new();
        let content = loop {
            let Some(bytes) = self.document(&walk.what(), walk.wanted().digest)? else {
                return Ok(None);
            };
            let given = walk.give(&bytes, self.limits())?;
            documents.push(bytes);
            if let Some(content) = given {
                break content;
            }
        };
        let mut last = documents.iter().rev();
        let (Some(config), Some(manifest)) = (last.next(), last.next()) else {
            return Ok(None);
        };
        let what = format!("the manifest of {name}");
        let parsed = kind::manifest_of(&name.to_string(), Document::parse(&what, manifest)?)?;
        let artifact = matches!(kind::shape(&name.to_string(), &parsed)?, Shape::Artifact(_));
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes);
        let manifest = json(manifest).map_err(|e| Error::malformed(&what, e))?;
        // An artifact's configuration may be anything, such as two bytes that say nothing.
        let config = json(config).unwrap_or(Value::Null);
        let text = |field: &str| config.get(field).and_then(Value::as_str);
        let or_unknown = |text: Option<&str>| {
            text.filter(|t| !t.is_empty())
                .unwrap_or("unknown")
                .to_owned()
        };
        let summary = Summary {
            reference: name.clone(),
            digest: root,
            id: parsed.config.digest,
            platform: format!(
                "{}/{}",
                or_unknown(text("os")),
                or_unknown(text("architecture"))
            ),
            artifact,
            created: text("created").and_then(|t| t.parse().ok()),
            size: content.size(),
        };
        let layers = content
            .blobs
            .iter()
            .map(|(blob, diff_id)| diff_id.unwrap_or(blob.digest));
        Ok(Some(Details {
            layers: layers.collect(),
            summary,
            manifest,
            config,
        }))
    }
}
