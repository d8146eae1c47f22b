//! Images as one file, for other tools and machines.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::archive::blob_name;
use crate::bundle::Bundle;
use crate::decompress;
use crate::digest::{Digest, Hashing};
use crate::error::{Error, IoContext};
use crate::image::{Image, Kind};
use crate::manifest::{CONTAINERD_NAME, Descriptor, OCI_INDEX, REF_NAME};
use crate::reference::Reference;
use crate::source::Source;
use crate::store::{LAYOUT, Store};

/// What an archive looks like inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An OCI layout in a tar: podman's, buildah's and skopeo's `oci-archive`, which docker and containerd load too.
    OciArchive,
    /// What `docker save` wrote of old, with layers that are not compressed: `docker-archive`.
    DockerArchive,
}

impl Store {
    /// Writes images as one archive, the same bytes for the same images. Blocks the thread; takes constant memory.
    ///
    /// # Errors
    /// `NotPresent` for a name that is not in the store; `Input` for what the format can't hold; `Io` for what can't be
    /// read or written, where `target` names the archive.
    pub fn save(
        &self,
        names: &[Reference],
        format: Format,
        archive: &mut dyn Write,
        target: &Path,
    ) -> Result<(), Error> {
        let _lock = self.lock_against_collection()?;
        let mut tar = Archive {
            tar: Builder::new(archive),
            target,
        };
        match format {
            Format::OciArchive => self.save_oci(names, &mut tar)?,
            Format::DockerArchive => self.save_docker(names, &mut tar)?,
        }
        let archive = tar.tar.into_inner().at("write", target)?;
        archive.flush().at("write", target)
    }

    fn save_oci(&self, names: &[Reference], tar: &mut Archive<'_>) -> Result<(), Error> {
        let mut roots = Vec::new();
        let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
        for name in names {
            let Bundle {
                root,
                manifests,
                blobs: found,
            } = self.bundle(name)?;
            for (descriptor, bytes) in &manifests {
                blobs.insert(descriptor.digest, bytes.len() as u64);
            }
            blobs.extend(found.iter().map(|b| (b.digest, b.size)));
            roots.push(named(root, name));
        }
        tar.bytes("oci-layout", LAYOUT)?;
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": roots});
        tar.bytes("index.json", index.to_string().as_bytes())?;
        for (digest, size) in blobs {
            let path = self.blob_path(digest);
            let file = File::open(&path).at("open", &path)?;
            tar.checked(&blob_name(digest), file, &path, size, digest)?;
        }
        Ok(())
    }

    fn save_docker(&self, names: &[Reference], tar: &mut Archive<'_>) -> Result<(), Error> {
        let mut saved: Vec<Value> = Vec::new();
        let mut written = HashSet::new();
        for name in names {
            let image = self
                .get(name)?
                .ok_or_else(|| Error::NotPresent(name.to_string()))?;
            if let Kind::Artifact { .. } = image.kind {
                let reason = "a Wasm artifact has no docker-archive, which holds layers of files; save it as an oci-archive";
                return Err(Error::input(name.to_string(), reason));
            }
            saved.push(self.save_docker_image(&image, &mut written, tar)?);
        }
        tar.bytes("manifest.json", Value::from(saved).to_string().as_bytes())
    }

    fn save_docker_image(
        &self,
        image: &Image,
        written: &mut HashSet<Digest>,
        tar: &mut Archive<'_>,
    ) -> Result<Value, Error> {
        let blobs = self.layer_blobs(image)?;
        let mut names = Vec::new();
        for (layer, blob) in image.layers.iter().zip(blobs) {
            let entry = format!("{}.tar", layer.diff_id.hex());
            if written.insert(layer.diff_id) {
                let path = self.blob_path(blob);
                let file = File::open(&path).at("open", &path)?;
                let what = format!("layer {blob}");
                let plain = decompress::open(&what, io::BufReader::new(file))?;
                tar.checked(&entry, plain, &path, layer.size, layer.diff_id)?;
            }
            names.push(entry);
        }
        let config = format!("{}.json", image.id.hex());
        if written.insert(image.id) {
            let what = format!("the configuration of {}", image.name);
            let bytes = self.document(&what, image.id)?;
            let absent = || Error::NotPresent(image.name.to_string());
            tar.bytes(&config, &bytes.ok_or_else(absent)?)?;
        }
        let tags: Vec<String> = image
            .name
            .tag()
            .map(|_| image.name.to_string())
            .into_iter()
            .collect();
        Ok(json!({"Config": config, "RepoTags": tags, "Layers": names}))
    }
}

fn named(mut root: Descriptor, name: &Reference) -> Descriptor {
    // A name by digest is no tag that a loader could give.
    if name.tag().is_some() {
        for annotation in [REF_NAME, CONTAINERD_NAME] {
            root.annotations
                .insert(annotation.to_owned(), name.to_string());
        }
    }
    root
}

struct Archive<'a> {
    tar: Builder<&'a mut dyn Write>,
    target: &'a Path,
}

impl Archive<'_> {
    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let mut header = header(bytes.len() as u64);
        self.tar
            .append_data(&mut header, name, bytes)
            .at("write", self.target)
    }

    /// Copies `size` bytes from `reader`, which have to be those of `digest`: damage must not spread.
    fn checked(
        &mut self,
        name: &str,
        reader: impl Read,
        source: &Path,
        size: u64,
        digest: Digest,
    ) -> Result<(), Error> {
        let mut hashing = Hashing::new(Source::new(reader, size));
        let mut header = header(size);
        let appended = self.tar.append_data(&mut header, name, &mut hashing);
        let (mut reader, actual, count) = hashing.finish();
        reader.finish().at("read", source)?;
        appended.at("write", self.target)?;
        let what = format!("of {}", source.display());
        if count != size {
            return Err(Error::size(format!("size {what}"), size, count));
        }
        match actual == digest {
            true => Ok(()),
            false => Err(Error::digest(format!("digest {what}"), digest, actual)),
        }
    }
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}
