//! Unpacked layers: one folder a diffID, made once, shared by every image and container.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::below::Refusal;
use crate::blob::Expected;
use crate::decompress::{self, Bounded, LimitPassed, limit_passed};
use crate::digest::{Digest, Hashing};
use crate::error::{Error, IoContext};
use crate::store::Store;
use crate::tarball::{Entries, Entry, TarError};
use crate::unpack::{Marking, Unpacked, Unpacker, marking};

const FORMAT: u32 = 1;
const COMPRESSED_BUFFER: usize = 256 << 10;

/// How much a layer and an image may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// The most one layer may unpack to, in bytes of tar.
    pub layer_bytes: u64,
    /// The most files, folders and links in one layer.
    pub layer_entries: u64,
    /// The most a layer may unpack to, in times its compressed size. Asked only beyond 256 MiB of tar.
    pub layer_ratio: u64,
    /// The most all blobs of one image may have, in bytes, as they are fetched.
    pub image_bytes: u64,
    /// The most layers of an image; overlayfs takes 500.
    pub layers: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            layer_bytes: 16 << 30,
            layer_entries: 500_000,
            layer_ratio: 200,
            image_bytes: 16 << 30,
            layers: 128,
        }
    }
}

/// Below this a ratio says nothing: a small layer of zeros is harmless.
const RATIO_FLOOR: u64 = 256 << 20;

/// What a layer removes from the layers below it. The lists are always there; overlayfs reads marks in the tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Whiteouts {
    /// Whether the tree has the marks of overlayfs: a character device 0:0 in place of a removed name, and
    /// `trusted.overlay.opaque=y` on a folder that hides what lower layers have in it. Making them takes privilege;
    /// without, the folder is a lower directory of overlayfs only where both lists are empty.
    pub marked: bool,
    /// Names that lower layers lose: relative to the root of the layer, with no links in them.
    pub removed: Vec<PathBuf>,
    /// Folders that hide what lower layers have in them, named likewise.
    pub opaque: Vec<PathBuf>,
}

/// One unpacked layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The folder with its files. Shared: never to be written to.
    pub path: PathBuf,
    /// What it removes from the layers below it.
    pub whiteouts: Whiteouts,
    /// Bytes of tar it was unpacked from.
    pub size: u64,
    /// What was left out while unpacking, for people.
    pub warnings: Vec<String>,
}

/// `layer.json`: paths in hex, since they need not be text.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    size: u64,
    entries: u64,
    marked: bool,
    removed: Vec<String>,
    opaque: Vec<String>,
    warnings: Vec<String>,
}

impl Store {
    /// The unpacked layer, made from its blob where it is not there yet. Blocks the thread.
    ///
    /// # Errors
    /// `Mismatch` where the tar is not the one that the image's configuration names; `Layer` and `TooLarge` for what
    /// must not be unpacked; `Io` for a full disk. Nothing is left behind by any of them.
    pub(crate) fn layer(&self, diff_id: Digest, blob: Expected) -> Result<Layer, Error> {
        if let Some(layer) = self.unpacked(diff_id)? {
            return Ok(layer);
        }
        let _lock = self.lock_digest(diff_id)?;
        if let Some(layer) = self.unpacked(diff_id)? {
            return Ok(layer);
        }
        let temp = self.temp("layer")?;
        let files = temp.path().join("fs");
        std::fs::create_dir_all(&files).at("create", &files)?;
        let record = self.unpack(diff_id, blob, &files)?;
        let note = temp.path().join("layer.json");
        let bytes = serde_json::to_vec(&record).map_err(|e| Error::malformed("layer.json", e))?;
        std::fs::write(&note, bytes).at("write", &note)?;
        let place = self.layer_dir(diff_id);
        std::fs::rename(temp.path(), &place).at("rename", &place)?;
        record.layer(diff_id, &place)
    }

    /// The layer if it is unpacked already.
    pub(crate) fn unpacked(&self, diff_id: Digest) -> Result<Option<Layer>, Error> {
        let place = self.layer_dir(diff_id);
        let note = place.join("layer.json");
        let bytes = match std::fs::read(&note) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.at("read", &note)?,
        };
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|e| Error::malformed(note.display().to_string(), e))?;
        record.layer(diff_id, &place).map(Some)
    }

    pub(crate) fn layer_dir(&self, diff_id: Digest) -> PathBuf {
        self.path(&format!("layers/{}", diff_id.hex()))
    }

    fn unpack(&self, diff_id: Digest, blob: Expected, files: &Path) -> Result<Record, Error> {
        let path = self.blob_path(blob.digest);
        let file = File::open(&path).at("open", &path)?;
        // A blob is checked when it is fetched; here its tar is, by the diffID, which also tells a damaged disk.
        let compressed = BufReader::with_capacity(COMPRESSED_BUFFER, file);
        let what = format!("layer {}", blob.digest);
        let (bytes, passed) = self.bound(blob.size);
        let tar = Hashing::new(Bounded::new(
            decompress::open(&what, compressed)?,
            bytes,
            passed,
        ));
        let mut work = Work {
            store: self,
            diff_id,
            files,
            entries: 0,
            bytes,
            passed,
        };
        let (unpacked, marking, tar) = work.run(tar)?;
        let (_, actual, size) = tar.finish();
        if actual != diff_id {
            return Err(Error::digest(
                format!("diffID of layer {}", blob.digest),
                diff_id,
                actual,
            ));
        }
        Ok(Record::new(unpacked, marking, size, work.entries))
    }

    /// The most bytes of tar to take from a blob of `compressed` bytes.
    fn bound(&self, compressed: u64) -> (u64, LimitPassed) {
        let limits = self.limits();
        let by_ratio = compressed
            .saturating_mul(limits.layer_ratio)
            .max(RATIO_FLOOR);
        if by_ratio < limits.layer_bytes {
            (
                by_ratio,
                LimitPassed {
                    limit: limits.layer_ratio,
                    unit: "times its compressed size",
                },
            )
        } else {
            (
                limits.layer_bytes,
                LimitPassed {
                    limit: limits.layer_bytes,
                    unit: "bytes",
                },
            )
        }
    }
}

struct Work<'a> {
    store: &'a Store,
    diff_id: Digest,
    files: &'a Path,
    entries: u64,
    /// The most that the tar may have.
    bytes: u64,
    passed: LimitPassed,
}

impl Work<'_> {
    fn run<R: Read>(&mut self, tar: R) -> Result<(Unpacked, Marking, R), Error> {
        let marking = marking(self.files);
        let mut unpacker = Unpacker::new(self.files, marking).at("open", self.files)?;
        let mut archive = Entries::new(tar);
        while let Some(entry) = archive.next().map_err(|e| self.tar(e))? {
            self.entries += 1;
            let limit = self.store.limits().layer_entries;
            if self.entries > limit {
                return Err(self.too_large(LimitPassed {
                    limit,
                    unit: "entries",
                }));
            }
            // What says that it is too large costs not a byte.
            if entry.size > self.bytes {
                return Err(self.too_large(self.passed));
            }
            unpacker
                .entry(&entry, &mut archive.data())
                .map_err(|e| self.refusal(&entry, e))?;
        }
        let unpacked = unpacker.finish().map_err(|e| self.io(e))?;
        let mut tar = archive.into_inner();
        // The diffID covers what stands behind the end of the archive too.
        io::copy(&mut tar, &mut io::sink()).map_err(|e| self.read(e))?;
        Ok((unpacked, marking, tar))
    }

    fn too_large(&self, passed: LimitPassed) -> Error {
        Error::TooLarge {
            what: format!("layer {}, unpacked,", self.diff_id),
            limit: passed.limit,
            unit: passed.unit,
        }
    }

    fn read(&self, error: io::Error) -> Error {
        match limit_passed(&error) {
            Some(passed) => self.too_large(passed),
            None => Error::malformed(format!("layer {}", self.diff_id), error),
        }
    }

    fn tar(&self, error: TarError) -> Error {
        match error {
            TarError::Read(e) => self.read(e),
            format => Error::malformed(format!("layer {}", self.diff_id), format),
        }
    }

    fn io(&self, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Io(source) => Error::Io {
                what: "write",
                path: self.files.to_owned(),
                source,
            },
            Refusal::Entry(reason) => Error::malformed(format!("layer {}", self.diff_id), reason),
        }
    }

    fn refusal(&self, entry: &Entry, refusal: Refusal) -> Error {
        let shown = String::from_utf8_lossy(&entry.path).into_owned();
        match refusal {
            Refusal::Entry(reason) => Error::Layer {
                layer: self.diff_id.to_string(),
                entry: shown,
                reason,
            },
            // The data's reader failed: a limit, a damaged or a short archive.
            Refusal::Io(e) if e.raw_os_error().is_none() => self.read(e),
            Refusal::Io(source) => Error::Io {
                what: "unpack",
                path: self.files.join(shown.trim_start_matches('/')),
                source,
            },
        }
    }
}

impl Record {
    fn new(unpacked: Unpacked, marking: Marking, size: u64, entries: u64) -> Record {
        let hexes = |paths: &std::collections::BTreeSet<PathBuf>| {
            paths
                .iter()
                .map(|p| hex::encode(p.as_os_str().as_bytes()))
                .collect()
        };
        Record {
            format: FORMAT,
            size,
            entries,
            marked: marking == Marking::Overlay,
            removed: hexes(&unpacked.removed),
            opaque: hexes(&unpacked.opaque),
            warnings: unpacked.warnings,
        }
    }

    fn layer(self, diff_id: Digest, place: &Path) -> Result<Layer, Error> {
        let wrong = |reason: String| {
            Error::malformed(place.join("layer.json").display().to_string(), reason)
        };
        if self.format != FORMAT {
            return Err(wrong(format!(
                "format {}; this version reads {FORMAT}",
                self.format
            )));
        }
        let paths = |hexes: Vec<String>| -> Result<Vec<PathBuf>, Error> {
            let path =
                |h: String| hex::decode(h).map(|b| PathBuf::from(std::ffi::OsString::from_vec(b)));
            hexes
                .into_iter()
                .map(|h| path(h).map_err(|e| wrong(e.to_string())))
                .collect()
        };
        let whiteouts = Whiteouts {
            marked: self.marked,
            removed: paths(self.removed)?,
            opaque: paths(self.opaque)?,
        };
        Ok(Layer {
            diff_id,
            path: place.join("fs"),
            whiteouts,
            size: self.size,
            warnings: self.warnings,
        })
    }
}
