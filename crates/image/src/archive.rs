//! Images on disk: the folder of an OCI layout, or a tar of one (`oci-archive`), or what `docker save` writes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tar::EntryType;

use crate::digest::Digest;
use crate::error::{Error, IoContext};
use crate::manifest::DOCUMENT_MAX;
use crate::tarball::Entries;

/// An archive of an image has a few files a layer.
const FILES_MAX: usize = 100_000;

/// Files by their path, in a folder or a tar.
#[derive(Debug)]
pub(crate) enum Files {
    Folder(PathBuf),
    Archive {
        path: PathBuf,
        file: File,
        members: HashMap<String, Member>,
    },
}

#[derive(Debug)]
pub(crate) enum Member {
    /// Where its bytes are in the tar, and how many.
    File { offset: u64, size: u64 },
    /// `docker save` once linked layers to each other.
    Link(String),
}

impl Files {
    /// Opens a folder or a plain tar.
    pub(crate) fn open(path: &Path) -> Result<Files, Error> {
        let meta = std::fs::metadata(path).at("read", path)?;
        if meta.is_dir() {
            return Ok(Files::Folder(path.to_owned()));
        }
        let mut file = File::open(path).at("open", path)?;
        check_plain(&mut file, path)?;
        let mut members = HashMap::new();
        let wrong = |reason: String| Error::malformed(path.display().to_string(), reason);
        let mut entries = Entries::new(BufReader::new(file.try_clone().at("open", path)?));
        while let Some(entry) = entries.next().map_err(|e| wrong(e.to_string()))? {
            entries.seek_past().map_err(|e| wrong(e.to_string()))?;
            if members.len() > FILES_MAX {
                return Err(Error::TooLarge {
                    what: path.display().to_string(),
                    limit: FILES_MAX as u64,
                    unit: "files",
                });
            }
            let name = String::from_utf8_lossy(&entry.path)
                .trim_start_matches("./")
                .to_owned();
            match entry.kind {
                EntryType::Regular | EntryType::Continuous => {
                    members.insert(
                        name,
                        Member::File {
                            offset: entry.offset,
                            size: entry.size,
                        },
                    );
                }
                EntryType::Symlink | EntryType::Link => {
                    let target = linked(&name, &String::from_utf8_lossy(&entry.link), entry.kind);
                    members.insert(name, Member::Link(target));
                }
                _ => {}
            }
        }
        Ok(Files::Archive {
            path: path.to_owned(),
            file,
            members,
        })
    }

    /// The same, by the name its user knows, for errors.
    pub(crate) fn called(self, name: &Path) -> Files {
        match self {
            Files::Archive { file, members, .. } => Files::Archive {
                path: name.to_owned(),
                file,
                members,
            },
            folder => folder,
        }
    }

    /// The folder or archive itself, for errors.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Files::Folder(path) | Files::Archive { path, .. } => path,
        }
    }

    /// A reader of one file. `None` where there is none of that name.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Box<dyn Read + '_>>, Error> {
        match self {
            Files::Folder(folder) => {
                let path = folder.join(name);
                match File::open(&path) {
                    Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
                    other => Ok(Some(Box::new(other.at("open", &path)?))),
                }
            }
            Files::Archive {
                path,
                file,
                members,
            } => {
                let place = match members.get(name) {
                    Some(Member::Link(target)) => members.get(target),
                    other => other,
                };
                let Some(Member::File { offset, size }) = place else {
                    return Ok(None);
                };
                let mut file = file;
                file.seek(SeekFrom::Start(*offset)).at("read", path)?;
                Ok(Some(Box::new(file.take(*size))))
            }
        }
    }

    /// A small file, whole.
    pub(crate) fn document(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(reader) = self.read(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        reader
            .take(DOCUMENT_MAX + 1)
            .read_to_end(&mut bytes)
            .at("read", &self.path().join(name))?;
        crate::store::check_document_size(
            &format!("{name} of {}", self.path().display()),
            bytes.len() as u64,
        )?;
        Ok(Some(bytes))
    }

    /// A blob, which has to be there.
    pub(crate) fn blob(&self, digest: Digest) -> Result<Box<dyn Read + '_>, Error> {
        let name = blob_name(digest);
        self.read(&name)?.ok_or_else(|| {
            Error::malformed(
                self.path().display().to_string(),
                format!("{name} is missing"),
            )
        })
    }
}

pub(crate) fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Symbolic links are relative to their folder, hard links to the archive.
fn linked(name: &str, target: &str, kind: EntryType) -> String {
    if kind == EntryType::Link {
        return target.trim_start_matches("./").to_owned();
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn check_plain(file: &mut File, path: &Path) -> Result<(), Error> {
    let mut start = [0; 4];
    let n = file.read(&mut start).at("read", path)?;
    file.rewind().at("read", path)?;
    let compressed = match start.get(..n).unwrap_or_default() {
        [0x1f, 0x8b, ..] => "gunzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "unzstd",
        [0xfd, b'7', b'z', b'X'] => "unxz",
        _ => return Ok(()),
    };
    let reason = format!("is a compressed archive; {compressed} it first");
    Err(Error::malformed(path.display().to_string(), reason))
}
