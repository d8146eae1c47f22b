//! Writes a tree as one layer: a gzipped tar, the same bytes for the same files, on any machine and at any time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder, write::GzEncoder};
use tar::{Builder, EntryType, Header};

use super::tree::{Node, Tree};
use crate::blob::{BlobWriter, Expected};
use crate::digest::{Digest, Hashing};
use crate::error::{Error, IoContext};
use crate::source::Source;
use crate::store::Store;

/// gzip's own default. Written down, since another level gives other bytes.
const LEVEL: u32 = 6;
/// gzip's number for "unknown": the machine that builds must not show.
const NO_SYSTEM: u8 = 255;

/// A layer in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) diff_id: Digest,
    pub(crate) blob: Expected,
}

/// Compresses and stores `tree`; all its entries get the time `mtime`, in seconds since 1970.
///
/// # Errors
/// `Io` for what can't be read or written, `Input` for a file that changes meanwhile.
pub(crate) fn write(store: &Store, tree: &Tree, mtime: u64) -> Result<Written, Error> {
    let writer = Sink {
        blob: BlobWriter::create(store, "the layer", None)?,
        failure: None,
    };
    let gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(NO_SYSTEM)
        .write(writer, Compression::new(LEVEL));
    let mut layer = Layer {
        tar: Builder::new(Hashing::new(gzip)),
        mtime,
    };
    for (path, node) in tree.iter() {
        layer.entry(path, node)?;
    }
    layer.finish()
}

/// The blob, as a writer: the error it gives is kept, since an `io::Error` says less.
struct Sink {
    blob: BlobWriter,
    failure: Option<Error>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.blob.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                let shown = io::Error::other(error.to_string());
                self.failure = Some(error);
                Err(shown)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Layer {
    tar: Builder<Hashing<GzEncoder<Sink>>>,
    mtime: u64,
}

impl Layer {
    fn entry(&mut self, path: &Path, node: &Node) -> Result<(), Error> {
        match node {
            Node::Folder => {
                let header = self.header(EntryType::Directory, 0o755, 0);
                self.append(header, path, io::empty())
            }
            Node::Link(target) => {
                let mut header = self.header(EntryType::Symlink, 0o777, 0);
                let appended = self.tar.append_link(&mut header, path, target);
                appended.map_err(|e| self.failed(path, e))
            }
            Node::Bytes(bytes) => {
                let header = self.header(EntryType::Regular, 0o644, bytes.len() as u64);
                self.append(header, path, bytes.as_slice())
            }
            Node::File { source, executable } => self.file(path, source, *executable),
        }
    }

    fn file(&mut self, path: &Path, source: &Path, executable: bool) -> Result<(), Error> {
        let file = File::open(source).at("open", source)?;
        let size = file.metadata().at("read", source)?.len();
        let mode = if executable { 0o755 } else { 0o644 };
        let header = self.header(EntryType::Regular, mode, size);
        // The header has promised a size: not a byte more, nor fewer.
        let mut data = Source::new(file, size);
        let appended = self.append(header, path, &mut data);
        let missing = data.finish().at("read", source)?;
        appended?;
        match missing {
            0 => Ok(()),
            _ => Err(Error::input(
                source.display().to_string(),
                "became shorter while it was copied; build again",
            )),
        }
    }

    fn append(&mut self, mut header: Header, path: &Path, data: impl Read) -> Result<(), Error> {
        let appended = self.tar.append_data(&mut header, path, data);
        appended.map_err(|e| self.failed(path, e))
    }

    /// What the store said, if it was the store.
    fn failed(&mut self, path: &Path, error: io::Error) -> Error {
        let sink = self.tar.get_mut().inner_mut().get_mut();
        let own = sink.failure.take();
        own.unwrap_or_else(|| Error::input(format!("/{}", path.display()), error.to_string()))
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.mtime);
        header.set_size(size);
        header
    }

    fn finish(mut self) -> Result<Written, Error> {
        let ended = self.tar.finish();
        ended.map_err(|e| self.failed(Path::new(""), e))?;
        let hashing = self.tar.into_inner().map_err(compressing)?;
        let (gzip, diff_id, _) = hashing.finish();
        let sink = gzip.finish().map_err(compressing)?;
        match sink.failure {
            Some(failure) => Err(failure),
            None => Ok(Written {
                diff_id,
                blob: sink.blob.commit()?,
            }),
        }
    }
}

fn compressing(error: io::Error) -> Error {
    Error::input("the layer", error.to_string())
}
