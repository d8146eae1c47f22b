//! Where checkpoints are kept: a folder, or nowhere. Knows nothing of when.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use lifecycle::{Checkpoint, CheckpointError};

/// A larger file is no checkpoint: an object of the API is at most 1.5 MiB.
const MAX_SIZE: u64 = 16 << 20;

/// Keeps checkpoints by the pods' UIDs.
pub trait Checkpoints: Send + Sync + 'static {
    /// All of them, at the agent's start. Damaged ones are set aside and told, and harm no other.
    ///
    /// # Errors
    /// The store can't be read at all.
    fn load(&self) -> Result<Loaded, StoreError>;

    /// One of them; `None` if there is none.
    ///
    /// # Errors
    /// It can't be read.
    fn read(&self, uid: &str) -> Result<Option<Checkpoint>, StoreError>;

    /// Keeps one, in place of the earlier one of that pod: at any instant there is one of the two.
    ///
    /// # Errors
    /// The earlier one is still there.
    fn save(&self, uid: &str, checkpoint: &Checkpoint) -> Result<(), StoreError>;

    /// Removes one; one that is not there is no error.
    ///
    /// # Errors
    /// It is still there.
    fn remove(&self, uid: &str) -> Result<(), StoreError>;

    /// True if saving waits for nothing, so that it may be called anywhere.
    fn instant(&self) -> bool {
        false
    }
}

/// What a store held.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Checkpoints that can be used.
    pub checkpoints: Vec<Checkpoint>,
    /// What is wrong with the others. Their pods are new ones.
    pub damaged: Vec<StoreError>,
}

/// Why a checkpoint could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The UID can't name a file.
    #[error("UID {0:?}: must be 1 to 128 of the characters A-Z a-z 0-9 - _ and not begin with '-'")]
    Uid(String),
    /// The disk refused: it is full, failing, or not ours.
    #[error("can't {what} the checkpoint {path}")]
    Io {
        /// read, write, remove.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its content is of no use.
    #[error(
        "the checkpoint {path} is damaged; it is set aside as .bad, and its pod is treated as new"
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: CheckpointError,
    },
    /// It is another pod's, by what it says.
    #[error("the checkpoint {path} is of the pod {uid:?}; it is set aside as .bad")]
    Misplaced {
        /// Which.
        path: PathBuf,
        /// The UID in it.
        uid: String,
    },
    /// The checkpoint can't be encoded.
    #[error("can't encode the checkpoint")]
    Encode(#[source] CheckpointError),
}

/// A folder with a file a pod, `<uid>.json`; written beside and renamed, without fsync: it has to
/// survive the agent, and what a power cut takes takes the guests with it.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// In the folder at `path`, which is made, for its owner alone, if need be.
    ///
    /// # Errors
    /// It can't be made.
    pub fn open(path: impl Into<PathBuf>) -> Result<Folder, StoreError> {
        let path = path.into();
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path);
        made.map_err(failed("make the folder of", &path))?;
        Ok(Folder { path })
    }

    fn file(&self, uid: &str) -> Result<PathBuf, StoreError> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        if uid.is_empty() || uid.len() > 128 || uid.starts_with('-') || !uid.bytes().all(fits) {
            return Err(StoreError::Uid(uid.to_owned()));
        }
        Ok(self.path.join(format!("{uid}.json")))
    }

    fn examine(&self, path: &Path) -> Result<Option<Checkpoint>, StoreError> {
        let Some(bytes) = bytes(path)? else {
            return Ok(None);
        };
        let damaged = |source| StoreError::Damaged {
            path: path.to_owned(),
            source,
        };
        let checkpoint = Checkpoint::decode(&bytes).map_err(damaged)?;
        let uid = checkpoint.pod.metadata.uid.clone().unwrap_or_default();
        match path.file_stem().is_some_and(|stem| stem == uid.as_str()) {
            true => Ok(Some(checkpoint)),
            false => Err(StoreError::Misplaced {
                path: path.to_owned(),
                uid,
            }),
        }
    }
}

impl Checkpoints for Folder {
    fn load(&self) -> Result<Loaded, StoreError> {
        let failed_here = || failed("read the folder of", &self.path);
        let mut loaded = Loaded::default();
        for entry in std::fs::read_dir(&self.path).map_err(failed_here())? {
            let path = entry.map_err(failed_here())?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => {}
                Some("tmp") => {
                    remove(&path)?;
                    continue;
                }
                _ => continue,
            }
            match self.examine(&path) {
                Ok(checkpoint) => loaded.checkpoints.extend(checkpoint),
                Err(error @ StoreError::Io { .. }) => loaded.damaged.push(error),
                Err(error) => {
                    loaded.damaged.push(error);
                    let aside = path.with_extension("json.bad");
                    if let Err(error) =
                        std::fs::rename(&path, aside).map_err(failed("set aside", &path))
                    {
                        loaded.damaged.push(error);
                    }
                }
            }
        }
        Ok(loaded)
    }

    fn read(&self, uid: &str) -> Result<Option<Checkpoint>, StoreError> {
        self.examine(&self.file(uid)?)
    }

    fn save(&self, uid: &str, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let path = self.file(uid)?;
        let bytes = checkpoint.encode().map_err(StoreError::Encode)?;
        let beside = path.with_extension("json.tmp");
        let write = || {
            let mut options = std::fs::OpenOptions::new();
            options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?
                .write_all(&bytes)?;
            std::fs::rename(&beside, &path)
        };
        write().map_err(|error| {
            // It only takes space; the write's error is the one to tell.
            let _ = std::fs::remove_file(&beside);
            failed("write", &path)(error)
        })
    }

    fn remove(&self, uid: &str) -> Result<(), StoreError> {
        remove(&self.file(uid)?)
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { what, path, source }
}

fn bytes(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(MAX_SIZE).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Keeps nothing: for pods that live no longer than this process.
pub struct Volatile;

impl Checkpoints for Volatile {
    fn load(&self) -> Result<Loaded, StoreError> {
        Ok(Loaded::default())
    }

    fn read(&self, _: &str) -> Result<Option<Checkpoint>, StoreError> {
        Ok(None)
    }

    fn save(&self, _: &str, _: &Checkpoint) -> Result<(), StoreError> {
        Ok(())
    }

    fn remove(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    fn instant(&self) -> bool {
        true
    }
}
