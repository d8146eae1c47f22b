//! Takes every image of an archive into the store, whatever tool wrote it.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use crate::archive::Files;
use crate::decompress::{self, Bounded, LimitPassed, limit_passed};
use crate::error::{Error, IoContext};
use crate::image::Image;
use crate::import::{own_name, parse_saved, pick, stem};
use crate::manifest::{CONTAINERD_NAME, Index, REF_NAME};
use crate::reference::Reference;
use crate::store::Store;

impl Store {
    /// Loads all images of an OCI layout's folder, an `oci-archive` or what `docker save` wrote, plain or compressed
    /// with gzip or zstd. Each gets the names it has there, else `localhost/<file name>:latest`. Blocks the thread.
    ///
    /// # Errors
    /// `Malformed` where it is no archive of images; what [`Store::import`] gives for the image that fails: those
    /// before it are loaded.
    pub fn load(&self, path: &Path) -> Result<Vec<Image>, Error> {
        let stem = stem(path)?;
        if std::fs::metadata(path).at("read", path)?.is_dir() {
            return self.load_from(&Files::open(path)?, &stem);
        }
        let mut file = File::open(path).at("open", path)?;
        // A pipe gives its bytes once.
        if file.metadata().at("read", path)?.is_file() {
            if !is_compressed(&mut file, path)? {
                return self.load_from(&Files::open(path)?, &stem);
            }
            file.rewind().at("read", path)?;
        }
        self.load_stream(path, file, &stem)
    }

    /// As [`Store::load`], from a stream; `name` stands for a file name where an image has no name of its own.
    ///
    /// # Errors
    /// As [`Store::load`]; `Io` where the store has no room for the archive beside its images.
    pub fn load_stream(
        &self,
        from: &Path,
        stream: impl Read,
        name: &str,
    ) -> Result<Vec<Image>, Error> {
        let limit = self.limits().image_bytes;
        let what = from.display().to_string();
        let plain = decompress::open(&what, BufReader::new(stream))?;
        let passed = LimitPassed {
            limit,
            unit: "bytes",
        };
        let temp = self.temp("archive")?;
        let mut file = File::create_new(temp.path()).at("create", temp.path())?;
        let mut plain = Bounded::new(plain, limit, passed);
        std::io::copy(&mut plain, &mut file).map_err(|error| match limit_passed(&error) {
            Some(LimitPassed { limit, unit }) => Error::TooLarge { what, limit, unit },
            None => Error::Io {
                what: "copy",
                path: from.to_owned(),
                source: error,
            },
        })?;
        self.load_from(&Files::open(temp.path())?.called(from), name)
    }

    fn load_from(&self, files: &Files, stem: &str) -> Result<Vec<Image>, Error> {
        let _lock = self.lock_against_collection()?;
        if let Some(index) = files.document("index.json")? {
            return self.load_layout(files, &index, stem);
        }
        if let Some(saved) = files.document("manifest.json")? {
            return self.load_saved(files, &saved, stem);
        }
        Err(Error::malformed(
            files.path().display().to_string(),
            "has neither index.json (OCI layout) nor manifest.json (docker save): not an archive of images",
        ))
    }

    fn load_layout(&self, files: &Files, index: &[u8], stem: &str) -> Result<Vec<Image>, Error> {
        let what = format!("index.json of {}", files.path().display());
        let parsed: Index =
            serde_json::from_slice(index).map_err(|e| Error::malformed(&what, e))?;
        let is_named = |d: &&crate::manifest::Descriptor| {
            d.annotations.contains_key(REF_NAME) || d.annotations.contains_key(CONTAINERD_NAME)
        };
        let named: Vec<_> = parsed.manifests.iter().filter(is_named).collect();
        if named.is_empty() {
            let root = pick(files, index, None)?;
            let name = own_name(stem, &root)?;
            return Ok(vec![self.import_from(files, root, &name)?]);
        }
        let mut images = Vec::new();
        for root in named {
            let name = own_name(stem, root)?;
            images.push(self.import_from(files, root.clone(), &name)?);
        }
        Ok(images)
    }

    fn load_saved(&self, files: &Files, saved: &[u8], stem: &str) -> Result<Vec<Image>, Error> {
        let mut images = Vec::new();
        for saved in parse_saved(files, saved)? {
            let root = self.saved_root(files, &saved)?;
            let mut names = Vec::new();
            for tag in saved.tags() {
                names.push(tag.parse::<Reference>()?);
            }
            if names.is_empty() {
                names.push(own_name(stem, &root)?);
            }
            for name in names {
                images.push(self.import_from(files, root.clone(), &name)?);
            }
        }
        Ok(images)
    }

    /// Lets `to` stand for what `from` stands for, each in place of what it stood for.
    ///
    /// # Errors
    /// `NotPresent` where `from` is not in the store; `Input` for a name that pins a digest.
    pub fn tag(&self, from: &Reference, to: &[Reference]) -> Result<(), Error> {
        if let Some(pinned) = to.iter().find(|name| name.digest().is_some()) {
            return Err(Error::input(
                pinned.to_string(),
                "a tag can't be a digest; write NAME:TAG",
            ));
        }
        let _lock = self.lock_against_collection()?;
        let absent = || Error::NotPresent(from.to_string());
        let digest = self.resolve(from)?.ok_or_else(absent)?;
        let (root, _) = self
            .root(&format!("the manifest of {from}"), digest)?
            .ok_or_else(absent)?;
        self.name(to, &root.media_type, (&root).into())
    }
}

fn is_compressed(file: &mut File, path: &Path) -> Result<bool, Error> {
    let mut start = [0; 4];
    let n = file.read(&mut start).at("read", path)?;
    Ok(matches!(
        start.get(..n).unwrap_or_default(),
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]
    ))
}
