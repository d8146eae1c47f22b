//! Where checkpoints are kept: a folder, or nowhere. Knows nothing of when.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// A folder with a file a pod, `<uid>.json`: a line a checkpoint, of which the last one counts. It is written beside and
/// renamed at first, and when it has grown; in between a line is added, which takes a twentieth of the time. A line that
/// was cut off, by the end of the agent or of the disk, has no end and counts for nothing.
///
/// Without fsync: it has to survive the agent, and what a power cut takes takes the guests with it.
pub struct Folder {
    path: PathBuf,
    /// By UID, how long the file is that this process has written.
    lengths: Mutex<HashMap<String, u64>>,
}

/// A file that would be longer is written anew.
const LONGEST: u64 = 64 << 10;

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
        Ok(Folder {
            path,
            lengths: Mutex::default(),
        })
    }

    fn lengths(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.lengths.lock().unwrap_or_else(PoisonError::into_inner)
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
        let checkpoint = Checkpoint::decode(last(&bytes)).map_err(damaged)?;
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
        let mut line = checkpoint.encode().map_err(StoreError::Encode)?;
        line.push(b'\n');
        // Until it is known again, the file is one to be written anew.
        let known = self.lengths().remove(uid);
        let added = match known.filter(|known| known + line.len() as u64 <= LONGEST) {
            Some(known) => append(&path, known, &line),
            None => Ok(None),
        };
        let length = added
            .transpose()
            .unwrap_or_else(|| replace(&path, &line))
            .map_err(failed("write", &path))?;
        self.lengths().insert(uid.to_owned(), length);
        Ok(())
    }

    fn remove(&self, uid: &str) -> Result<(), StoreError> {
        self.lengths().remove(uid);
        remove(&self.file(uid)?)
    }
}

/// Adds a line to a file that is so long, and gives how long it is then; `None` if it is not as this process left it.
fn append(path: &Path, known: u64, line: &[u8]) -> io::Result<Option<u64>> {
    let opened = std::fs::OpenOptions::new().append(true).open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() != known {
        return Ok(None);
    }
    if let Err(error) = file.write_all(line) {
        // What was cut off has no end, and the write's error is the one to tell.
        let _ = file.set_len(known);
        return Err(error);
    }
    Ok(Some(known + line.len() as u64))
}

/// Writes a file of one line in the place of what is there, and gives how long it is.
fn replace(path: &Path, line: &[u8]) -> io::Result<u64> {
    let beside = path.with_extension("json.tmp");
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?
            .write_all(line)?;
        std::fs::rename(&beside, path)
    };
    let written = write();
    if written.is_err() {
        // It only takes space; the write's error is the one to tell.
        let _ = std::fs::remove_file(&beside);
    }
    written.map(|()| line.len() as u64)
}

/// The last line that has an end. A file in which none has one is as a whole what it is.
fn last(bytes: &[u8]) -> &[u8] {
    let ended = bytes.iter().rposition(|byte| *byte == b'\n');
    let Some(whole) = ended.and_then(|end| bytes.get(..end)) else {
        return bytes;
    };
    whole.rsplit(|byte| *byte == b'\n').next().unwrap_or(whole)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use std::os::unix::fs::MetadataExt as _;

    /// The pod `a`, whose name tells the checkpoint, with so many bytes of something else.
    fn checkpoint(name: &str, bytes: usize) -> Checkpoint {
        let mut pod = Pod::default();
        pod.metadata.uid = Some("a".to_owned());
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.generate_name = Some("x".repeat(bytes));
        Checkpoint::new(pod, lifecycle::Memory::default())
    }

    fn names(folder: &Folder) -> Vec<Option<String>> {
        let loaded = folder.load().unwrap();
        assert!(loaded.damaged.is_empty(), "{:?}", loaded.damaged);
        let all = loaded.checkpoints.iter();
        all.map(|one| one.pod.metadata.name.clone()).collect()
    }

    #[test]
    fn the_last_line_counts_and_one_that_was_cut_off_does_not() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("a.json");
        let folder = Folder::open(tmp.path()).unwrap();
        folder.save("a", &checkpoint("one", 0)).unwrap();
        let made = std::fs::metadata(&path).unwrap().ino();
        folder.save("a", &checkpoint("two", 0)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), made, "added to");
        assert_eq!(names(&folder), [Some("two".to_owned())]);

        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, bytes.get(..bytes.len() - 1).unwrap()).unwrap();
        assert_eq!(names(&folder), [Some("one".to_owned())]);
        // It is not as this one left it, so nothing is added to what has no end.
        folder.save("a", &checkpoint("three", 0)).unwrap();
        assert_eq!(names(&folder), [Some("three".to_owned())]);
        let again = Folder::open(tmp.path()).unwrap();
        again.save("a", &checkpoint("four", 0)).unwrap();
        assert_eq!(names(&again), [Some("four".to_owned())]);
        let lines = std::fs::read(&path).unwrap();
        let ends = lines.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(ends, 1, "another process begins with a file of its own");
    }

    #[test]
    fn a_file_does_not_grow_for_ever() {
        let tmp = tempfile::tempdir().unwrap();
        let folder = Folder::open(tmp.path()).unwrap();
        for (number, bytes) in [0, 9_000, 9_000, 100_000, 9_000, 9_000].iter().enumerate() {
            for turn in 0..20 {
                let name = format!("{number}-{turn}");
                folder.save("a", &checkpoint(&name, *bytes)).unwrap();
                assert_eq!(names(&folder), [Some(name)]);
                let length = std::fs::metadata(tmp.path().join("a.json")).unwrap().len();
                assert!(length <= LONGEST.max(*bytes as u64 + 4096), "{length}");
            }
        }
    }

    #[test]
    fn a_full_disk_leaves_the_earlier_checkpoint() {
        let tmp = tempfile::tempdir().unwrap();
        let folder = Folder::open(tmp.path()).unwrap();
        folder.save("a", &checkpoint("one", 0)).unwrap();
        let known = folder.lengths().get("a").copied().unwrap();
        let full = Path::new("/dev/full");
        // It has no length, as a file of this process's would; its writes fail as those of a full disk do.
        assert!(append(full, 0, b"line\n").is_err());
        assert!(
            append(&tmp.path().join("a.json"), known + 1, b"line\n")
                .unwrap()
                .is_none()
        );
        assert!(
            append(&tmp.path().join("b.json"), 0, b"line\n")
                .unwrap()
                .is_none()
        );
        assert_eq!(names(&folder), [Some("one".to_owned())]);
    }
}
