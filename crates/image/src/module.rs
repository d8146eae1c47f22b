//! Which bytes a container starts, and their digest.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hashing};
use crate::error::{Error, IoContext};
use crate::image::{Image, Kind};
use crate::lookup::{Found, find};
use crate::store::Store;

/// What a search path is where an image names none, as docker has it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Below this, hashing a file is cheaper than remembering its digest.
const REMEMBER_FROM: u64 = 256 << 10;
/// A file changed less than this ago may change again with the same times.
const SETTLED_NANOS: i128 = 2_000_000_000;

/// A module or component to start.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// The sha256 of its bytes.
    pub digest: Digest,
    /// Where the bytes are on this machine. In the store nobody changes them; elsewhere check the digest.
    pub path: PathBuf,
    /// Where a container sees them; for an artifact, a name alone.
    pub guest_path: PathBuf,
    /// What to call in it, from `file.wasm#export`; else its start function.
    pub export: Option<String>,
    /// In bytes.
    pub size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    digest: Digest,
    size: u64,
}

impl Image {
    /// The module that a command's first word names, looked for with the image's own PATH and working directory. See
    /// [`Image::module_in`].
    pub fn module(&self, word: &str) -> Result<Module, Error> {
        let path = self
            .config
            .env
            .iter()
            .rev()
            .find(|(name, _)| name == "PATH");
        self.module_in(
            word,
            &self.config.working_dir,
            path.map_or(DEFAULT_PATH, |(_, value)| value),
        )
    }

    /// The module that a command's first word names: a path, or a bare word that is looked for on `path` (folders
    /// divided by `:`), in `cwd` and in `/`; with `.wasm` added where it is not there as it stands. `#export` may
    /// follow. Remembered, so that it is hashed once.
    ///
    /// # Errors
    /// `NoFile` where there is no such file, which says where it was looked for; `Entrypoint` for one that is no module.
    pub fn module_in(&self, word: &str, cwd: &str, path: &str) -> Result<Module, Error> {
        let (file, export) = match word.split_once('#') {
            Some((file, export)) => (file, Some(export.to_owned()).filter(|e| !e.is_empty())),
            None => (word, None),
        };
        if file == "/" {
            return Err(self.wrong("\"/\" is what Spin's pods say for their command; leave the command out, or name a .wasm file"));
        }
        if file.is_empty() || file.contains('\0') {
            return Err(self.wrong(&format!(
                "{word:?} names no file; set the entrypoint to a .wasm file of the image"
            )));
        }
        match self.kind {
            Kind::Artifact { module } => self.artifact(file, module, export),
            Kind::Compat => self.file(file, cwd, path, export),
        }
    }

    fn wrong(&self, reason: &str) -> Error {
        Error::Entrypoint {
            image: self.name.to_string(),
            reason: reason.to_owned(),
        }
    }

    pub(crate) fn absent(&self, reason: String) -> Error {
        Error::NoFile {
            image: self.name.to_string(),
            reason,
        }
    }

    fn artifact(
        &self,
        file: &str,
        digest: Digest,
        export: Option<String>,
    ) -> Result<Module, Error> {
        let name = self.artifact_name();
        let stem = name.strip_suffix(".wasm").unwrap_or(name);
        let base = file.rsplit('/').next().unwrap_or(file);
        // runwasi never looks at the name; what can't mean the module is a mistake all the same.
        if base != name && base != stem && !base.ends_with(".wasm") {
            return Err(self.absent(format!(
                "{file:?} is not in it: an artifact holds one module, {name:?}, and no other files"
            )));
        }
        let path = self.store.blob_path(digest);
        let size = std::fs::metadata(&path).at("read", &path)?.len();
        Ok(Module {
            digest,
            path,
            guest_path: PathBuf::from(name),
            export,
            size,
        })
    }

    fn file(
        &self,
        file: &str,
        cwd: &str,
        path: &str,
        export: Option<String>,
    ) -> Result<Module, Error> {
        let candidates = candidates(file, cwd, path);
        for candidate in &candidates {
            match find(&self.layers, candidate)? {
                Found::Absent => {}
                Found::Other(what) if file.contains('/') => {
                    return Err(
                        self.wrong(&format!("{} is {what}, not a module", candidate.display()))
                    );
                }
                Found::Other(_) => {}
                Found::File { path, host, size } => {
                    let digest = self.digest(&path, &host, size)?;
                    return Ok(Module {
                        digest,
                        path: host,
                        guest_path: Path::new("/").join(path),
                        export,
                        size,
                    });
                }
            }
        }
        let looked: Vec<_> = candidates.iter().map(|c| c.display().to_string()).collect();
        Err(self.absent(format!(
            "there is no {file:?} in it; looked for {}",
            looked.join(", ")
        )))
    }

    /// Layers never change, so that a file of one is known for ever by its place.
    fn digest(&self, path: &Path, host: &Path, size: u64) -> Result<Digest, Error> {
        let place = host.strip_prefix(self.store.path("")).unwrap_or(host);
        let memory = self.store.memory(place.as_os_str().as_bytes());
        if let Some(digest) = recall(&memory, size) {
            return Ok(digest);
        }
        let file = File::open(host).at("open", host)?;
        let (digest, _) = hash(file, host)?
            .map_err(|reason| self.wrong(&format!("/{}: {reason}", path.display())))?;
        self.store.remember(&memory, digest, size)?;
        Ok(digest)
    }
}

fn candidates(file: &str, cwd: &str, path: &str) -> Vec<PathBuf> {
    let root = Path::new("/");
    let cwd = root.join(cwd);
    let folders: Vec<PathBuf> = match file.contains('/') {
        true => vec![cwd],
        false => path
            .split(':')
            .filter(|f| f.starts_with('/'))
            .map(PathBuf::from)
            .chain([cwd, root.to_owned()])
            .collect(),
    };
    let mut candidates: Vec<PathBuf> = Vec::new();
    for folder in folders {
        let plain = folder.join(file);
        let mut with = plain.clone().into_os_string();
        with.push(".wasm");
        for candidate in [plain, PathBuf::from(with)] {
            if !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
    }
    candidates
}

impl Store {
    /// A module from a file outside of any image: binary or text. A large file's digest is remembered by its identity
    /// and times, a small one is read; nothing is copied and nothing is synced.
    ///
    /// # Errors
    /// `NotWasm` with what the file is instead; `Io` where it can't be read.
    pub fn import_module(&self, path: &Path) -> Result<Module, Error> {
        let file = File::open(path).at("open", path)?;
        let meta = file.metadata().at("read", path)?;
        let not_wasm = |reason: String| Error::NotWasm {
            path: path.to_owned(),
            reason,
        };
        if !meta.is_file() {
            return Err(not_wasm("is no regular file".to_owned()));
        }
        let name = PathBuf::from(path.file_name().unwrap_or(path.as_os_str()));
        let module = |digest, size| Module {
            digest,
            path: path.to_owned(),
            guest_path: name,
            export: None,
            size,
        };
        let memory = (meta.len() >= REMEMBER_FROM).then(|| {
            let changed = (
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime(),
                meta.ctime_nsec(),
            );
            self.memory(
                format!("{}:{}:{}:{changed:?}", meta.dev(), meta.ino(), meta.len()).as_bytes(),
            )
        });
        if let Some(digest) = memory.as_ref().and_then(|m| recall(m, meta.len())) {
            return Ok(module(digest, meta.len()));
        }
        let (digest, size) = hash(file, path)?.map_err(not_wasm)?;
        if let Some(memory) =
            memory.filter(|_| settled(meta.ctime(), meta.ctime_nsec()) && size == meta.len())
        {
            self.remember(&memory, digest, size)?;
        }
        Ok(module(digest, size))
    }

    fn memory(&self, of: &[u8]) -> PathBuf {
        self.path(&format!("modules/{}", Digest::of(of).hex()))
    }

    fn remember(&self, memory: &Path, digest: Digest, size: u64) -> Result<(), Error> {
        let bytes = serde_json::to_vec(&Remembered { digest, size })
            .map_err(|e| Error::malformed("a memory", e))?;
        self.replace(memory, &bytes)
    }
}

/// A torn or foreign memory is none.
fn recall(memory: &Path, size: u64) -> Option<Digest> {
    let remembered: Remembered = serde_json::from_slice(&std::fs::read(memory).ok()?).ok()?;
    (remembered.size == size).then_some(remembered.digest)
}

fn settled(seconds: i64, nanos: i64) -> bool {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let changed = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    i128::try_from(now.as_nanos()).is_ok_and(|now| now - changed > SETTLED_NANOS)
}

/// Digest and size of a module; the inner error says why it is none.
fn hash(mut file: File, path: &Path) -> Result<Result<(Digest, u64), String>, Error> {
    let mut start = Vec::new();
    (&mut file)
        .take(4096)
        .read_to_end(&mut start)
        .at("read", path)?;
    if let Err(reason) = sniff(&start) {
        return Ok(Err(reason));
    }
    let mut hashing = Hashing::new(std::io::Cursor::new(start).chain(file));
    let mut buffer = vec![0; 64 << 10];
    loop {
        match hashing.read(&mut buffer) {
            Ok(0) => break,
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e).at("read", path),
            _ => {}
        }
    }
    let (_, digest, size) = hashing.finish();
    Ok(Ok((digest, size)))
}

/// Whether bytes begin as a module, a component or a text module does. Nothing more is asked here: the compiler reads
/// the rest.
pub(crate) fn sniff(start: &[u8]) -> Result<(), String> {
    let text = |bytes: &[u8]| {
        let first = bytes
            .iter()
            .position(|b| !b.is_ascii_whitespace())
            .and_then(|at| bytes.get(at..));
        first.is_some_and(|rest| rest.starts_with(b"(") || rest.starts_with(b";;"))
    };
    match start {
        [] => Err("is empty; expected a WebAssembly module".to_owned()),
        [0, b'a', b's', b'm', ..] if start.len() < 8 => Err("is cut off: a WebAssembly module has at least 8 bytes".to_owned()),
        [0, b'a', b's', b'm', ..] => Ok(()),
        [0x7f, b'E', b'L', b'F', ..] => Err("is an ELF program; only WebAssembly runs here (build it for wasm32-wasip1 or wasm32-wasip2)".to_owned()),
        [b'#', b'!', ..] => Err("is a script; only WebAssembly runs here (name the interpreter's .wasm file and give it the script)".to_owned()),
        bytes if text(bytes) => Ok(()),
        bytes => {
            let shown = hex::encode(bytes.get(..bytes.len().min(4)).unwrap_or_default());
            Err(format!("is not WebAssembly: it begins with 0x{shown}, a module with 0x0061736d"))
        }
    }
}

#[cfg(test)]
mod tests;
