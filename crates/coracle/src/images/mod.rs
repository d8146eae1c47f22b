//! What `coracle image` does: adapts the store of images to docker's and podman's habits.
//!
//! Must not know what a command line is.

pub(crate) mod archive;
pub(crate) mod list;
pub(crate) mod registry;
pub(crate) mod remove;

use std::io::Write;

use image::{Digest, Reference, Store, Summary};

use crate::dirs::Dirs;

/// How much of an id is shown, as docker has it.
const SHORT_ID: usize = 12;

/// The images of one root folder.
#[derive(Debug)]
pub(crate) struct Images {
    pub(crate) store: Store,
    dirs: Dirs,
}

/// Why a word names no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    /// None of that name or id.
    #[error("no such image: {0}; coracle image ls shows those there are")]
    None(String),
    /// An id of several.
    #[error("{word} is the beginning of {count} images' ids; write more of it")]
    Several {
        /// The word.
        word: String,
        /// How many.
        count: usize,
    },
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] image::Error),
}

impl Images {
    /// Opens the store below the root folder.
    ///
    /// # Errors
    /// When it can't be made or read.
    pub(crate) fn open(dirs: &Dirs) -> anyhow::Result<Images> {
        Ok(Images {
            store: Store::open(&dirs.images())?,
            dirs: dirs.clone(),
        })
    }

    /// The image that a word names: by its name, else by the beginning of its id or digest.
    ///
    /// # Errors
    /// When there is none, or several.
    pub(crate) fn find(&self, word: &str) -> Result<Summary, FindError> {
        let name: Result<Reference, _> = word.parse();
        if let Ok(name) = &name
            && let Some(details) = self.store.details(name)?
        {
            return Ok(details.summary);
        }
        let mut found = self.by_id(word)?;
        found.dedup_by_key(|summary| summary.digest);
        match (found.len(), name) {
            (1, _) => found.pop().ok_or_else(|| FindError::None(word.to_owned())),
            (0, Ok(name)) => Err(FindError::None(name.to_string())),
            (0, Err(_)) => Err(FindError::None(word.to_owned())),
            (count, _) => Err(FindError::Several {
                word: word.to_owned(),
                count,
            }),
        }
    }

    /// All names of the images whose id or digest begins so; images side by side, tags before digests.
    pub(crate) fn by_id(&self, word: &str) -> Result<Vec<Summary>, image::Error> {
        let hex = word.strip_prefix("sha256:").unwrap_or(word);
        let is_id = !hex.is_empty() && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_id {
            return Ok(Vec::new());
        }
        let begins = |digest: Digest| digest.hex().starts_with(hex);
        let mut found: Vec<Summary> = self
            .store
            .summaries()?
            .into_iter()
            .filter(|s| begins(s.id) || begins(s.digest))
            .collect();
        found.sort_by_key(|s| (s.digest, s.reference.tag().is_none()));
        Ok(found)
    }

    /// Whether a pod uses an image: one that a process has in hand, or one that a node's checkpoints name.
    pub(crate) fn in_use(&self, digest: Digest) -> Result<bool, image::Error> {
        Ok(self.store.in_use(digest)? || self.checkpointed().contains(&digest))
    }

    /// The images of a node's pods, whose guests may run while their agent is away.
    fn checkpointed(&self) -> Vec<Digest> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.dirs.checkpoints())
            .into_iter()
            .flatten()
            .flatten()
        {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            // An image id is NAME@sha256:HEX wherever it stands in a checkpoint.
            for part in text.split('@').skip(1) {
                let digest: Option<Digest> = part.get(..71).and_then(|p| p.parse().ok());
                found.extend(digest);
            }
        }
        found
    }
}

/// An id as lists show it.
pub(crate) fn short(id: Digest) -> String {
    id.hex().chars().take(SHORT_ID).collect()
}

/// Tells people something, on standard error. Where nobody listens, nobody is told.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
