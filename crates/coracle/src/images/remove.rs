//! Removes images: names first, then the bytes that no name and no pod needs.

use std::collections::BTreeSet;

use image::{Digest, Reference, Summary};

use super::{FindError, Images};

/// podman's exit codes of `rmi`.
const NO_SUCH_IMAGE: u8 = 1;
const IN_USE: u8 = 2;
const FAILED: u8 = 125;

/// What a removal did.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    /// docker's lines.
    pub(crate) lines: Vec<String>,
    /// Of each image that could not be removed.
    pub(crate) errors: Vec<String>,
    /// The exit code: the gravest.
    pub(crate) code: u8,
}

/// What pruning did.
#[derive(Debug)]
pub(crate) struct Pruned {
    /// docker's lines.
    pub(crate) lines: Vec<String>,
    /// In bytes.
    pub(crate) freed: u64,
}

/// Why an image stays.
#[derive(Debug, thiserror::Error)]
enum RemoveError {
    #[error(transparent)]
    Find(#[from] FindError),
    #[error(
        "image {0} is in use by a pod; stop it first, or say -f to forget the name and let the pod keep the files"
    )]
    InUse(String),
    #[error("image {id} has several names: {}; name one of them, or say -f to remove all", names.join(", "))]
    Several { id: String, names: Vec<String> },
}

impl RemoveError {
    fn code(&self) -> u8 {
        match self {
            RemoveError::Find(FindError::None(_)) => NO_SUCH_IMAGE,
            RemoveError::InUse(_) => IN_USE,
            _ => FAILED,
        }
    }
}

impl From<image::Error> for RemoveError {
    fn from(error: image::Error) -> RemoveError {
        RemoveError::Find(error.into())
    }
}

/// Removes each image that a word names, and then what nobody needs any more. One that can't be removed keeps no other
/// from it.
pub(crate) fn images(images: &Images, words: &[String], force: bool) -> Removed {
    let mut removed = Removed::default();
    for word in words {
        if let Err(error) = one(images, word, force, &mut removed.lines) {
            removed.code = removed.code.max(error.code());
            removed.errors.push(error.to_string());
        }
    }
    if let Err(error) = images.sweep() {
        removed.code = FAILED;
        removed.errors.push(error.to_string());
    }
    removed
}

fn one(
    images: &Images,
    word: &str,
    force: bool,
    lines: &mut Vec<String>,
) -> Result<(), RemoveError> {
    let named: Option<Reference> = word.parse().ok();
    let all = images.store.list()?;
    let by_name = named.and_then(|name| all.iter().find(|n| is_same(&n.reference, &name)));
    let (digest, mut names) = match by_name {
        Some(found) => (found.digest, vec![found.reference.clone()]),
        None => {
            let found = images.find(word)?;
            let names: Vec<_> = tags(&images.by_id(word)?, found.digest);
            if names.len() > 1 && !force {
                let names = names.iter().map(ToString::to_string).collect();
                return Err(RemoveError::Several {
                    id: word.to_owned(),
                    names,
                });
            }
            let whole = if names.is_empty() {
                vec![found.reference]
            } else {
                names
            };
            (found.digest, whole)
        }
    };
    // A name by digest goes with the last tag of its repository, as docker has it.
    let stays = |name: &Reference, names: &[Reference]| !names.contains(name);
    for other in all
        .iter()
        .filter(|n| n.digest == digest && n.reference.tag().is_none())
    {
        let is_tagged = all.iter().any(|n| {
            n.digest == digest
                && n.reference.tag().is_some()
                && n.reference.name() == other.reference.name()
                && stays(&n.reference, &names)
        });
        if !is_tagged && stays(&other.reference, &names) {
            names.push(other.reference.clone());
        }
    }
    let is_last = !all
        .iter()
        .any(|n| n.digest == digest && stays(&n.reference, &names));
    if is_last && !force && images.in_use(digest)? {
        return Err(RemoveError::InUse(word.to_owned()));
    }
    for name in &names {
        if images.store.remove(name)? {
            lines.push(format!("Untagged: {name}"));
        }
    }
    if is_last {
        lines.push(format!("Deleted: {digest}"));
    }
    Ok(())
}

/// A pinned name is the same whatever tag stands beside its digest.
fn is_same(stored: &Reference, asked: &Reference) -> bool {
    match asked.digest() {
        Some(digest) => *stored == asked.pinned(digest),
        None => stored == asked,
    }
}

fn tags(found: &[Summary], digest: Digest) -> Vec<Reference> {
    let is_tag = |s: &&Summary| s.digest == digest && s.reference.tag().is_some();
    found
        .iter()
        .filter(is_tag)
        .map(|s| s.reference.clone())
        .collect()
}

/// Removes the images that nothing uses and, without `all`, that no tag names.
///
/// # Errors
/// When the store can't be read or written.
pub(crate) fn prune(images: &Images, all: bool) -> anyhow::Result<Pruned> {
    let names = images.store.list()?;
    let tagged: BTreeSet<Digest> = names
        .iter()
        .filter(|n| n.reference.tag().is_some())
        .map(|n| n.digest)
        .collect();
    let mut lines = Vec::new();
    for named in &names {
        let is_wanted = !all && tagged.contains(&named.digest);
        if is_wanted || images.in_use(named.digest)? {
            continue;
        }
        if images.store.remove(&named.reference)? {
            lines.push(format!("Untagged: {}", named.reference));
        }
    }
    let freed = images.sweep()?;
    Ok(Pruned {
        lines,
        freed: freed.bytes,
    })
}

impl Images {
    /// Removes images by their digests, with all their names, but for those that a pod uses; gives the
    /// bytes that are free for it.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub(crate) fn remove_unused(&self, digests: &[Digest]) -> anyhow::Result<u64> {
        let had = self.checkpointed();
        for named in self.store.list()? {
            let unused = digests.contains(&named.digest) && !had.contains(&named.digest);
            if unused && !self.store.in_use(named.digest)? {
                self.store.remove(&named.reference)?;
            }
        }
        Ok(self.sweep()?.bytes)
    }

    /// Removes bytes that no name and no pod needs.
    fn sweep(&self) -> Result<image::Freed, image::Error> {
        self.store.collect(&self.checkpointed())
    }
}
