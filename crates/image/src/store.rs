//! The folder that all images share.
//!
//! ```text
//! oci-layout index.json blobs/sha256/<hex>   an OCI image layout: other tools read it as `oci:DIR:NAME`
//! layers/<hex of diffID>/{fs,layer.json}     unpacked layers, made once
//! modules/<hex>                              where a module lies in an image, and its digest
//! locks/ tmp/                                see `lock` and `temp`
//! ```
//!
//! Everything appears by rename, so a SIGKILL at any instant leaves it whole, and processes share it freely.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::blob::Expected;
use crate::digest::Digest;
use crate::error::{Error, IoContext};
use crate::layer::Limits;
use crate::lock::Lock;
use crate::manifest::{CONTAINERD_NAME, DOCUMENT_MAX, Descriptor, Index, OCI_INDEX, REF_NAME};
use crate::reference::Reference;
use crate::temp::{Scratch, Temp, clean};

pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A store of images. Cheap to clone; safe to use from any number of threads and processes at once.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    limits: Limits,
    scratch: Mutex<Option<Arc<Scratch>>>,
}

/// A name in the store, and what it stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The name: with a tag, or with a digest.
    pub reference: Reference,
    /// The digest of the manifest or index it stands for.
    pub digest: Digest,
}

impl Store {
    /// Opens the store in `dir`, making what is absent, and removes what dead processes left half-made.
    ///
    /// # Errors
    /// `Io` where the folder can't be made or written.
    pub fn open(dir: &Path) -> Result<Store, Error> {
        Store::open_with(dir, Limits::default())
    }

    /// As [`Store::open`], with limits other than the usual.
    pub fn open_with(dir: &Path, limits: Limits) -> Result<Store, Error> {
        let store = Store(Arc::new(Inner {
            dir: dir.to_owned(),
            limits,
            scratch: Mutex::new(None),
        }));
        let tmp = store.path("tmp");
        match clean(&tmp) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                store.create()?
            }
            other => other?,
        }
        Ok(store)
    }

    /// `tmp` comes last: where it stands, all stands.
    fn create(&self) -> Result<(), Error> {
        for folder in ["blobs/sha256", "layers", "modules", "locks"] {
            let path = self.path(folder);
            std::fs::create_dir_all(&path).at("create", &path)?;
        }
        let layout = self.path("oci-layout");
        if !layout.exists() {
            // The same bytes from whoever comes first: a race is harmless, a torn file is replaced.
            let half = self.path(&format!("oci-layout.{}", std::process::id()));
            std::fs::write(&half, LAYOUT).at("write", &half)?;
            std::fs::rename(&half, &layout).at("rename", &layout)?;
        }
        let tmp = self.path("tmp");
        std::fs::create_dir_all(&tmp).at("create", &tmp)
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.0.dir.join(below)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.path(&format!("blobs/sha256/{}", digest.hex()))
    }

    /// A name for something half-made. The folder for it is made with the first, since most starts need none.
    pub(crate) fn temp(&self, kind: &str) -> Result<Temp, Error> {
        let mut scratch = self
            .0
            .scratch
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let scratch = match &*scratch {
            Some(scratch) => Arc::clone(scratch),
            None => Arc::clone(scratch.insert(Arc::new(Scratch::create(&self.path("tmp"))?))),
        };
        Ok(scratch.name(kind))
    }

    /// One at a time among all processes, for whatever `digest` names. Blocks the thread.
    pub(crate) fn lock_digest(&self, digest: Digest) -> Result<Lock, Error> {
        // 256 files serve all digests: unrelated ones may wait for each other, and nobody holds two.
        let [first, ..] = digest.as_bytes();
        Lock::exclusive(&self.path(&format!("locks/{first:02x}")))
    }

    /// Held while blobs stand that no name reaches yet, so that the collector leaves them. Blocks the thread.
    pub(crate) fn lock_against_collection(&self) -> Result<Lock, Error> {
        Lock::shared(&self.path("locks/collect"))
    }

    /// Held by the collector.
    pub(crate) fn lock_for_collection(&self) -> Result<Lock, Error> {
        Lock::exclusive(&self.path("locks/collect"))
    }

    /// Reads a small blob (manifest, index, configuration) whole, and checks it: these are cheap to check each time.
    /// `None` where it is absent.
    pub(crate) fn document(&self, what: &str, digest: Digest) -> Result<Option<Vec<u8>>, Error> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.at("open", &path)?,
        };
        let mut bytes = Vec::new();
        file.take(DOCUMENT_MAX + 1)
            .read_to_end(&mut bytes)
            .at("read", &path)?;
        check_document_size(what, bytes.len() as u64)?;
        let actual = Digest::of(&bytes);
        if actual != digest {
            return Err(Error::digest(
                format!("digest of {what} in {}", path.display()),
                digest,
                actual,
            ));
        }
        Ok(Some(bytes))
    }

    /// Replaces `file` of the store by `bytes`, at once and whole.
    pub(crate) fn replace(&self, file: &Path, bytes: &[u8]) -> Result<(), Error> {
        let temp = self.temp("file")?;
        std::fs::write(temp.path(), bytes).at("write", temp.path())?;
        std::fs::rename(temp.path(), file).at("rename", file)
    }

    pub(crate) fn index(&self) -> Result<Index, Error> {
        let path = self.path("index.json");
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Ok(Index {
                    schema_version: 2,
                    media_type: Some(OCI_INDEX.to_owned()),
                    manifests: Vec::new(),
                });
            }
            other => other.at("read", &path)?,
        };
        serde_json::from_slice(&bytes).map_err(|e| Error::malformed(path.display().to_string(), e))
    }

    /// Changes the names under their lock.
    pub(crate) fn update_index(
        &self,
        change: impl FnOnce(&mut Vec<Descriptor>),
    ) -> Result<(), Error> {
        let _lock = Lock::exclusive(&self.path("locks/index"))?;
        let mut index = self.index()?;
        change(&mut index.manifests);
        let bytes = serde_json::to_vec(&index).map_err(|e| Error::malformed("index.json", e))?;
        self.replace(&self.path("index.json"), &bytes)
    }

    /// Lets `references` stand for a document, in place of whatever they stood for.
    pub(crate) fn name(
        &self,
        references: &[Reference],
        media_type: &str,
        blob: Expected,
    ) -> Result<(), Error> {
        let keys: Vec<String> = references.iter().map(key).collect();
        self.update_index(|names| {
            names.retain(|d| {
                !d.annotations
                    .get(REF_NAME)
                    .is_some_and(|n| keys.contains(n))
            });
            for key in keys {
                let mut descriptor = Descriptor::new(media_type, blob.digest, blob.size);
                descriptor
                    .annotations
                    .insert(REF_NAME.to_owned(), key.clone());
                descriptor
                    .annotations
                    .insert(CONTAINERD_NAME.to_owned(), key);
                names.push(descriptor);
            }
        })
    }

    /// What a name stands for.
    pub(crate) fn resolve(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let key = key(reference);
        let found = self
            .index()?
            .manifests
            .into_iter()
            .find(|d| d.annotations.get(REF_NAME) == Some(&key));
        Ok(found.map(|d| d.digest))
    }

    /// All names, in the order they came.
    pub fn list(&self) -> Result<Vec<Named>, Error> {
        let named = |d: Descriptor| {
            let reference = d.annotations.get(REF_NAME)?.parse().ok()?;
            Some(Named {
                reference,
                digest: d.digest,
            })
        };
        Ok(self
            .index()?
            .manifests
            .into_iter()
            .filter_map(named)
            .collect())
    }

    /// Forgets a name, and says whether it was there. Bytes go with the next [`Store::collect`].
    pub fn remove(&self, reference: &Reference) -> Result<bool, Error> {
        let key = key(reference);
        let mut found = false;
        self.update_index(|names| {
            let before = names.len();
            names.retain(|d| d.annotations.get(REF_NAME) != Some(&key));
            found = names.len() != before;
        })?;
        Ok(found)
    }
}

/// A digest says more than a tag beside it, so the tag is left out, as containerd does.
fn key(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => reference.pinned(digest).to_string(),
        None => reference.to_string(),
    }
}

pub(crate) fn check_document_size(what: &str, size: u64) -> Result<(), Error> {
    if size > DOCUMENT_MAX {
        return Err(Error::TooLarge {
            what: what.to_owned(),
            limit: DOCUMENT_MAX,
            unit: "bytes",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn names_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (a, b) = (
            store.put("a", b"{}").unwrap(),
            store.put("b", b"[]").unwrap(),
        );
        store
            .name(&[reference("x:1"), reference("x").pinned(a.digest)], "t", a)
            .unwrap();
        store.name(&[reference("x:1")], "t", b).unwrap();
        assert_eq!(store.resolve(&reference("x:1")).unwrap(), Some(b.digest));
        let pinned = reference(&format!("x:other@{}", a.digest));
        assert_eq!(store.resolve(&pinned).unwrap(), Some(a.digest));
        assert_eq!(store.list().unwrap().len(), 2);
        assert!(store.remove(&reference("x:1")).unwrap());
        assert!(!store.remove(&reference("x:1")).unwrap());
        assert_eq!(
            Store::open(dir.path())
                .unwrap()
                .resolve(&reference("x:1"))
                .unwrap(),
            None
        );
    }

    #[test]
    fn a_damaged_document_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let blob = store.put("the manifest", b"{}").unwrap();
        std::fs::write(store.blob_path(blob.digest), b"[]").unwrap();
        let error = store
            .document("the manifest", blob.digest)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&blob.digest.to_string())
                && error.contains(&Digest::of(b"[]").to_string()),
            "{error}"
        );
        assert!(
            store
                .document("x", Digest::of(b"absent"))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn threads_naming_at_once_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let blob = store.put("x", b"{}").unwrap();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let store = Store::open(dir.path()).unwrap();
                scope.spawn(move || {
                    store
                        .name(&[reference(&format!("x:{n}"))], "t", blob)
                        .unwrap()
                });
            }
        });
        assert_eq!(store.list().unwrap().len(), 8);
    }
}
