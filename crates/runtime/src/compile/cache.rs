//! The folder of compiled code.
//!
//! ```text
//! <cache>/                        0700, ours: loading a forged file is running native code
//!   keys/<identity>               the compatibility key that this binary computed on this boot
//!   <key>/<digest>.cwasm          a module's code
//!   <key>/<digest>.json           what it is, its checksum, and when that was last found right
//!   tmp-…                         what is being written
//! ```
//!
//! Files are written aside and renamed, with no fsync: a crash of the machine may leave an entry
//! that is cut or zeroed, and the checksum finds it. The whole checksum of tens of megabytes is too
//! slow for every start, so an entry that was found right is trusted while its file is the same
//! (device, inode, size, mtime and ctime) and the machine has not booted since.
//!
//! What is left: whoever has our user's rights can forge an entry (and could as well replace the
//! binary), and a disk that returns other bytes later in the same boot, after the pages were dropped
//! from memory, is not noticed. Files are replaced and unlinked, never changed in place, so code
//! that is mapped stays what it was.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, Mode, OFlags, fstat, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::CompileError;
use super::inspect::ModuleInfo;
use super::stamp::{Stamp, boot_id};
use super::wire::Compiled;

/// The largest sidecar that is read, bytes.
const MAX_SIDECAR: u64 = 1 << 20;

/// Where the remembered keys are.
pub(super) const KEYS: &str = "keys";

/// The start of the names of files that are being written.
pub(super) const TEMPORARY: &str = "tmp-";

/// What stands beside a module's code.
#[derive(Debug, Serialize, Deserialize)]
struct Sidecar {
    key: String,
    digest: String,
    size: u64,
    sha256: String,
    info: ModuleInfo,
    /// The boot and the file that the checksum was last found right for.
    verified: Option<(String, Stamp)>,
}

/// An entry that is whole.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) file: OwnedFd,
    pub(super) info: ModuleInfo,
}

/// What a look into the cache found.
pub(super) enum Found {
    /// The entry.
    Whole(Entry),
    /// An entry whose checksum has to be computed first, which takes a while.
    Unverified(Box<Unverified>),
    /// None, or one that is of no use.
    Nothing,
}

/// An entry whose checksum has not been computed since the machine booted.
pub(super) struct Unverified {
    file: OwnedFd,
    stamp: Stamp,
    sidecar: Sidecar,
}

/// The open folder.
pub(super) struct Cache {
    path: PathBuf,
    root: Arc<OwnedFd>,
    /// What this process verified, for a folder where that can't be written down.
    verified: Mutex<HashSet<Stamp>>,
}

impl Cache {
    /// Opens the folder, making it if need be, and refuses one that others can get at.
    pub(super) fn open(path: &Path) -> Result<Cache, CompileError> {
        let root = private_folder(path).map_err(|problem| CompileError::Cache {
            path: path.display().to_string(),
            problem,
        })?;
        Ok(Cache {
            path: path.to_owned(),
            root: Arc::new(root),
            verified: Mutex::default(),
        })
    }

    /// The folder's descriptor, for [`super::gc`].
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The key that was remembered under an identity.
    pub(super) fn key(&self, identity: &str) -> Option<String> {
        let file = self.read(&format!("{KEYS}/{identity}")).ok()?;
        let mut key = String::new();
        File::from(file).take(256).read_to_string(&mut key).ok()?;
        let key = key.strip_suffix('\n')?;
        is_hex(key).then(|| key.to_owned())
    }

    /// Remembers a key. That it can't be is no error: it is computed again.
    pub(super) fn remember(&self, identity: &str, key: &str) {
        let written = self.folder(KEYS).and_then(|()| {
            self.write(&format!("{KEYS}/{identity}"), format!("{key}\n").as_bytes())
        });
        if let Err(error) = written {
            tracing::debug!(%error, "the compatibility key was not written down");
        }
    }

    /// Looks for a module's code. It reads the sidecar, and of the code not a byte.
    pub(super) fn find(&self, key: &str, digest: &str) -> Found {
        match self.look(key, digest) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
            Err(error) => {
                tracing::warn!(digest, %error, "an entry of the code cache is of no use");
                Found::Nothing
            }
        }
    }

    fn look(&self, key: &str, digest: &str) -> io::Result<Found> {
        let mut json = Vec::new();
        File::from(self.read(&sidecar_name(key, digest))?)
            .take(MAX_SIDECAR)
            .read_to_end(&mut json)?;
        let sidecar: Sidecar = serde_json::from_slice(&json)?;
        let file = self.read(&code_name(key, digest))?;
        let stamp = Stamp::of(&fstat(&file)?);
        if sidecar.key != key || sidecar.digest != digest {
            return Err(io::Error::other("it is another module's"));
        }
        if stamp.size != sidecar.size {
            return Err(io::Error::other(format!(
                "its code has {} bytes and should have {}",
                stamp.size, sidecar.size
            )));
        }
        let known = sidecar
            .verified
            .as_ref()
            .is_some_and(|(boot, of)| *of == stamp && boot_id() == Some(boot.as_str()))
            || self.is_verified(&stamp);
        Ok(match known {
            true => Found::Whole(Entry {
                file,
                info: sidecar.info,
            }),
            false => Found::Unverified(Box::new(Unverified {
                file,
                stamp,
                sidecar,
            })),
        })
    }

    /// Computes an entry's checksum, blocking, and writes down that it is right. `None` if it is not.
    pub(super) fn verify(&self, unverified: Box<Unverified>) -> Option<Entry> {
        let Unverified {
            file,
            stamp,
            sidecar,
        } = *unverified;
        let digest = sidecar.digest.clone();
        let sum = checksum(file).and_then(|(file, sum)| match sum == sidecar.sha256 {
            true => Ok(file),
            false => Err(io::Error::other("its checksum is wrong")),
        });
        match sum {
            Ok(file) => {
                self.note_verified(stamp);
                let info = sidecar.info.clone();
                self.write_sidecar(sidecar, stamp).unwrap_or_else(|error| {
                    tracing::debug!(digest, %error, "a checksum was not written down");
                });
                Some(Entry { file, info })
            }
            Err(error) => {
                tracing::warn!(digest, %error, "an entry of the code cache is damaged");
                None
            }
        }
    }

    /// A file to write code into, gone unless it is [kept](Self::keep).
    pub(super) fn temporary(&self) -> Result<Temporary, CompileError> {
        Temporary::new(&self.root).map_err(|error| self.unwritable(error))
    }

    /// Makes what the child wrote the code of a module.
    pub(super) fn keep(
        &self,
        temporary: Temporary,
        key: &str,
        digest: &str,
        compiled: Compiled,
    ) -> Result<(), CompileError> {
        let name = code_name(key, digest);
        let kept = self.folder(key).and_then(|()| {
            let file = temporary.file.try_clone()?;
            temporary.rename(&name)?;
            let stamp = Stamp::of(&fstat(&file)?);
            let sidecar = Sidecar {
                key: key.to_owned(),
                digest: digest.to_owned(),
                size: compiled.size,
                sha256: compiled.sha256,
                info: compiled.info,
                verified: None,
            };
            self.note_verified(stamp);
            self.write_sidecar(sidecar, stamp)
        });
        kept.map_err(|error| self.unwritable(error))
    }

    /// Removes a module's code.
    pub(super) fn remove(&self, key: &str, digest: &str) -> Result<(), CompileError> {
        for name in [sidecar_name(key, digest), code_name(key, digest)] {
            match unlinkat(&*self.root, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(self.unwritable(error.into())),
            }
        }
        Ok(())
    }

    fn write_sidecar(&self, mut sidecar: Sidecar, stamp: Stamp) -> io::Result<()> {
        sidecar.verified = boot_id().map(|boot| (boot.to_owned(), stamp));
        let name = sidecar_name(&sidecar.key, &sidecar.digest);
        self.write(&name, &serde_json::to_vec(&sidecar)?)
    }

    fn is_verified(&self, stamp: &Stamp) -> bool {
        let verified = self.verified.lock();
        verified.is_ok_and(|verified| verified.contains(stamp))
    }

    fn note_verified(&self, stamp: Stamp) {
        if let Ok(mut verified) = self.verified.lock() {
            verified.insert(stamp);
        }
    }

    fn folder(&self, name: &str) -> io::Result<()> {
        match mkdirat(&*self.root, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file of ours to read it.
    fn read(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(&*self.root, name, flags, Mode::empty())?;
        let stat = fstat(&file)?;
        let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
        let ours = stat.st_uid == rustix::process::geteuid().as_raw();
        match regular && ours && stat.st_mode & 0o022 == 0 {
            true => Ok(file),
            false => Err(io::Error::other("it is not a file that we alone can write")),
        }
    }

    /// Writes a small file whole, or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut temporary = Temporary::new(&self.root)?;
        temporary.file.write_all(bytes)?;
        temporary.rename(name)
    }

    fn unwritable(&self, error: io::Error) -> CompileError {
        match CompileError::system("write the code", error) {
            CompileError::System { message, .. } => CompileError::Cache {
                path: self.path.display().to_string(),
                problem: format!("it can't be written: {message}"),
            },
            full => full,
        }
    }
}

/// A file in the cache that has no name yet that anyone looks for.
pub(super) struct Temporary {
    root: Arc<OwnedFd>,
    name: String,
    /// The file, open to read and write.
    pub(super) file: File,
    renamed: bool,
}

impl Temporary {
    fn new(root: &Arc<OwnedFd>) -> io::Result<Temporary> {
        let mut random = [0; 12];
        rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())?;
        let name = format!("{TEMPORARY}{}", hex::encode(random));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&**root, &name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Temporary {
            root: Arc::clone(root),
            name,
            file: file.into(),
            renamed: false,
        })
    }

    fn rename(mut self, name: &str) -> io::Result<()> {
        renameat(&*self.root, &self.name, &*self.root, name)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // What is left of a failure here is collected as garbage later.
            let _ = unlinkat(&*self.root, &self.name, AtFlags::empty());
        }
    }
}

/// Opens or makes a folder that nobody else can get at, or says why not.
fn private_folder(path: &Path) -> Result<OwnedFd, String> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| format!("it can't be made: {error}"))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| format!("it can't be opened: {}", io::Error::from(error)))?;
    let stat = fstat(&folder).map_err(|error| io::Error::from(error).to_string())?;
    let (ours, mode) = (rustix::process::geteuid().as_raw(), stat.st_mode & 0o7777);
    if stat.st_uid != ours {
        return Err(format!(
            "it belongs to user {} and not to {ours}, and what lies in it is run as native code: name another folder",
            stat.st_uid
        ));
    }
    if mode & 0o077 != 0 {
        return Err(format!(
            "its mode is {mode:04o}, and what lies in it is run as native code: empty it and make it 0700, or name another folder"
        ));
    }
    Ok(folder)
}

/// The SHA-256 of a file, in hex.
fn checksum(file: OwnedFd) -> io::Result<(OwnedFd, String)> {
    let mut reader = File::from(file);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    io::Seek::rewind(&mut reader)?;
    Ok((reader.into(), hex::encode(hasher.finalize())))
}

fn code_name(key: &str, digest: &str) -> String {
    format!("{key}/{digest}.cwasm")
}

fn sidecar_name(key: &str, digest: &str) -> String {
    format!("{key}/{digest}.json")
}

/// Whether a name is one of our digests: nothing else becomes part of a path.
pub(super) fn is_hex(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
