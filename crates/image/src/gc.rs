//! What nobody needs any more goes; what is damaged is found.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use crate::digest::{Digest, Hashing};
use crate::error::{Error, IoContext};
use crate::image::Walk;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::store::Store;

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Freed {
    /// Blobs.
    pub blobs: usize,
    /// Unpacked layers.
    pub layers: usize,
    /// Bytes of the blobs.
    pub bytes: u64,
}

/// A blob whose bytes are not those that its name promises.
#[derive(Clone, Debug, PartialEq)]
pub struct Damage {
    /// Its name.
    pub expected: Digest,
    /// What its bytes have.
    pub actual: Digest,
}

#[derive(Default)]
struct Needed {
    blobs: HashSet<Digest>,
    layers: HashSet<Digest>,
}

impl Store {
    /// Removes blobs and layers that no name reaches, nor an image of `in_use` (digests as in [`crate::Image::digest`]),
    /// nor one that a process has in hand.
    /// Waits until no pull or import runs. Blocks the thread.
    pub fn collect(&self, in_use: &[Digest]) -> Result<Freed, Error> {
        let _lock = self.lock_for_collection()?;
        let named = self.list()?.into_iter().map(|n| n.digest);
        let mut needed = Needed::default();
        let leased = self.leased()?;
        for root in named.chain(leased).chain(in_use.iter().copied()) {
            self.need(root, &mut needed)?;
        }
        let mut freed = Freed::default();
        for (path, digest) in hexes(&self.path("blobs/sha256"))? {
            if !needed.blobs.contains(&digest) {
                freed.bytes += std::fs::metadata(&path).map_or(0, |m| m.len());
                std::fs::remove_file(&path).at("remove", &path)?;
                freed.blobs += 1;
            }
        }
        for (path, digest) in hexes(&self.path("layers"))? {
            if !needed.layers.contains(&digest) {
                // Out of sight at once, then in peace.
                let temp = self.temp("removed")?;
                std::fs::rename(&path, temp.path()).at("rename", &path)?;
                freed.layers += 1;
            }
        }
        Ok(freed)
    }

    fn need(&self, root: Digest, needed: &mut Needed) -> Result<(), Error> {
        let name: Reference = "localhost/collected".parse()?;
        let mut walk = Walk::new(&name.to_string(), Descriptor::new("", root, 0));
        loop {
            let wanted = walk.wanted().digest;
            needed.blobs.insert(wanted);
            // An image that is not whole keeps what it has: the next pull goes on from there.
            let Some(bytes) = self.document(&walk.what(), wanted)? else {
                return Ok(());
            };
            if let Some(content) = walk.give(&bytes, self.limits())? {
                for (blob, diff_id) in content.blobs {
                    needed.blobs.insert(blob.digest);
                    needed.layers.extend(diff_id);
                }
                return Ok(());
            }
        }
    }

    /// Reads every blob and names those that are damaged. Blocks the thread for as long as the disk takes.
    pub fn verify(&self) -> Result<Vec<Damage>, Error> {
        let mut damaged = Vec::new();
        for (path, expected) in hexes(&self.path("blobs/sha256"))? {
            let mut hashing = Hashing::new(File::open(&path).at("open", &path)?);
            std::io::copy(&mut hashing, &mut std::io::sink()).at("read", &path)?;
            let (_, actual, _) = hashing.finish();
            if actual != expected {
                damaged.push(Damage { expected, actual });
            }
        }
        Ok(damaged)
    }
}

/// The entries of a folder that are named by a digest.
fn hexes(folder: &Path) -> Result<Vec<(std::path::PathBuf, Digest)>, Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).at("read", folder)? {
        let entry = entry.at("read", folder)?;
        if let Some(digest) = entry
            .file_name()
            .to_str()
            .and_then(|n| Digest::from_hex(n).ok())
        {
            found.push((entry.path(), digest));
        }
    }
    Ok(found)
}
