//! The folder of a session, `<root>/runs/<id>/`, and what is left of one that was killed.
//!
//! A session holds the lock on the file `lock` in it for as long as it lives; the kernel lets go of
//! it however the session ends. A lock that nobody holds is of a session that was killed: the next
//! command removes what its pods left, but for the records and logs that are kept until `rm`. A
//! folder without a lock is of a session that has ended in order. Pods of a node have no such folder
//! and are never touched.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

use super::names;
use crate::dirs::{self, Dirs};

/// Held by the session that the folder is of.
pub(super) const LOCK: &str = "lock";

/// Says of one pod that it is of a session whose id is another than the pod's UID.
const MARK: &str = "pod";

/// What is known of a pod when its session does not live.
pub(crate) const RECORD: &str = "json";

/// Says that a session lives.
#[derive(Debug)]
pub(crate) struct Alive {
    dirs: Dirs,
    id: String,
    folder: PathBuf,
    _lock: File,
}

impl Alive {
    /// To be taken before anything of the session is made.
    ///
    /// # Errors
    /// When the folder or its lock can't be made.
    pub(crate) fn take(dirs: &Dirs, id: &str) -> anyhow::Result<Alive> {
        let folder = dirs.session(id);
        let lock = loop {
            match locked(&folder) {
                Ok(Some(lock)) => break lock,
                // Swept before it was locked: nobody has seen it.
                Ok(None) => {}
                // The first session of this root, or one that was swept between two calls.
                Err(error) if error.kind() == ErrorKind::NotFound => dirs::make(&dirs.runs())?,
                Err(error) => {
                    // What is empty and nobody's is not left behind.
                    let _ = std::fs::remove_file(folder.join(LOCK));
                    let _ = std::fs::remove_dir(&folder);
                    return Err(error)
                        .with_context(|| format!("can't make the folder {}", folder.display()));
                }
            }
        };
        Ok(Alive {
            dirs: dirs.clone(),
            id: id.to_owned(),
            folder,
            _lock: lock,
        })
    }

    /// The session's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A pod of the session, to be told before anything of it is made.
    ///
    /// # Errors
    /// When that can't be noted.
    pub(crate) fn adds(&self, uid: &str) -> anyhow::Result<()> {
        if uid == self.id {
            return Ok(()); // The folder's own name says so.
        }
        let mark = self.folder.join(uid).with_extension(MARK);
        File::create(&mark)
            .map(drop)
            .with_context(|| format!("can't make {}", mark.display()))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // What stays is swept by the next command, with what this one could not remove.
        if let Err(error) = clear(&self.dirs, &self.id) {
            tracing::debug!(
                id = self.id,
                error = format!("{error:#}"),
                "left to be swept"
            );
        }
    }
}

/// Makes and locks; nothing if it was swept meanwhile.
fn locked(folder: &Path) -> std::io::Result<Option<File>> {
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(folder.join(LOCK))?;
    flock(lock.as_fd(), FlockOperation::LockExclusive)?;
    Ok(lock.metadata()?.nlink().gt(&0).then_some(lock))
}

/// Whether the session of a folder lives.
pub(crate) fn lives(folder: &Path) -> bool {
    // Shared: two that ask at once do not take each other for the session.
    File::open(folder.join(LOCK)).is_ok_and(|lock| {
        flock(lock.as_fd(), FlockOperation::NonBlockingLockShared)
            == Err(rustix::io::Errno::WOULDBLOCK)
    })
}

/// Removes what killed sessions left. A failure costs room, and nothing that runs.
pub(crate) fn sweep(dirs: &Dirs) {
    let Ok(entries) = std::fs::read_dir(dirs.runs()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if let Some(id) = name.to_str()
            && let Err(error) = sweep_one(dirs, id)
        {
            tracing::warn!(
                id,
                error = format!("{error:#}"),
                "what a killed session left stays"
            );
        }
    }
}

fn sweep_one(dirs: &Dirs, id: &str) -> anyhow::Result<()> {
    let folder = dirs.session(id);
    let lock = match File::open(folder.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Killed before it had a lock; one that holds records stays.
            let _ = std::fs::remove_dir(&folder);
            return Ok(());
        }
        // Before sessions had folders, a run's lock was a file.
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(()); // It lives.
    }
    let of_pods = |uid: &str| -> anyhow::Result<()> {
        match folder.join(uid).with_extension(RECORD).exists() {
            true => Ok(()),
            false => remove_logs(dirs, uid),
        }
    };
    for uid in uids(&folder, id) {
        of_pods(&uid)?;
    }
    if !holds_records(&folder) {
        names::free(dirs, id, None);
    }
    clear(dirs, id)
}

/// The UIDs of the pods that a session made.
fn uids(folder: &Path, id: &str) -> Vec<String> {
    let marked = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let marked = marked.filter_map(|entry| {
        let path = entry.path();
        let uid = path.file_stem()?.to_str()?.to_owned();
        (path.extension()? == MARK).then_some(uid)
    });
    marked.chain([id.to_owned()]).collect()
}

/// The records in a session's folder.
pub(super) fn records(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == RECORD))
        .collect()
}

/// Whether a session that has ended keeps something until `rm`.
pub(crate) fn holds_records(folder: &Path) -> bool {
    !records(folder).is_empty()
}

/// Removes what is kept of one pod of a session that has ended, and the session's folder with the last.
///
/// # Errors
/// When something can't be removed; the record goes last, so that it can be asked for again.
pub(crate) fn remove(dirs: &Dirs, id: &str, uid: &str) -> anyhow::Result<()> {
    let folder = dirs.session(id);
    remove_logs(dirs, uid)?;
    names::free(dirs, id, Some(uid));
    gone(&folder.join(uid).with_extension(RECORD))?;
    if !holds_records(&folder) && !lives(&folder) {
        volume::remove(&folder)?;
    }
    Ok(())
}

/// Removes the logs of a pod, whatever it was called.
pub(crate) fn remove_logs(dirs: &Dirs, uid: &str) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(dirs.all_logs());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let of = name.to_str().and_then(|name| name.rsplit('_').next());
        if of == Some(uid) {
            volume::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes all of a session that is not kept. Its lock is held, and goes last.
fn clear(dirs: &Dirs, id: &str) -> anyhow::Result<()> {
    let folder = dirs.session(id);
    let left = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        // Another one swept it at the same time.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    volume::remove(&dirs.pod(id))?;
    let paths: Vec<PathBuf> = left.flatten().map(|entry| entry.path()).collect();
    let has = |extension: &str| {
        paths
            .iter()
            .any(|path| path.extension().is_some_and(|it| it == extension))
    };
    let kept = has(RECORD);
    for path in &paths {
        let extension = path.extension().and_then(|it| it.to_str());
        let stem = path.file_stem().and_then(|it| it.to_str());
        match (extension, stem) {
            (Some(MARK), Some(uid)) => {
                volume::remove(&dirs.pod(uid))?;
                gone(path)?;
            }
            (Some(RECORD), _) => {}
            (Some("log"), _) if kept => {}
            (None, Some(LOCK)) => {}
            _ => gone(path)?,
        }
    }
    gone(&folder.join(LOCK))?;
    // It stays if it holds records.
    let _ = std::fs::remove_dir(&folder);
    Ok(())
}

/// Removes a file; one that is not there is removed already.
pub(super) fn gone(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Dirs) {
        let folder = tempfile::tempdir().unwrap();
        let dirs = Dirs::open(folder.path()).unwrap();
        (folder, dirs)
    }

    /// A session that was killed: its lock is nobody's.
    fn dead(dirs: &Dirs, id: &str) -> PathBuf {
        let folder = dirs.session(id);
        dirs::make(&folder).unwrap();
        std::fs::write(folder.join(LOCK), "").unwrap();
        std::fs::write(folder.join("control.sock"), "").unwrap();
        folder
    }

    #[test]
    fn the_dead_are_swept_and_the_living_and_a_nodes_are_not() {
        let (_folder, root) = root();
        for uid in ["dead", "living", "of-a-node"] {
            std::fs::create_dir_all(root.run(uid, "main", 0)).unwrap();
        }
        let living = Alive::take(&root, "living").unwrap();
        dead(&root, "dead");
        sweep(&root);
        let is_there = |uid| root.pod(uid).exists();
        assert_eq!(
            ["dead", "living", "of-a-node"].map(is_there),
            [false, true, true]
        );
        assert!(lives(living.folder()));
        drop(living);
        sweep(&root);
        assert_eq!([is_there("living"), is_there("of-a-node")], [false, true]);
        assert_eq!(std::fs::read_dir(root.runs()).unwrap().count(), 0);
    }

    #[test]
    fn a_killed_sessions_pods_go_and_its_records_stay() {
        let (_folder, root) = root();
        let folder = dead(&root, "session");
        for uid in ["one", "two"] {
            std::fs::create_dir_all(root.run(uid, "main", 0)).unwrap();
            std::fs::write(folder.join(uid).with_extension(MARK), "").unwrap();
        }
        for kept in ["one.json", "out.log"] {
            std::fs::write(folder.join(kept), "{}").unwrap();
        }
        assert!(!lives(&folder));
        sweep(&root);
        assert!(!root.pod("one").exists() && !root.pod("two").exists());
        let mut left: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["one.json", "out.log"]);
        sweep(&root);
        assert!(
            folder.join("one.json").exists(),
            "swept once, kept for ever"
        );
    }

    #[test]
    fn a_folder_that_never_got_its_lock_goes() {
        let (_folder, root) = root();
        dirs::make(&root.session("early")).unwrap();
        sweep(&root);
        assert!(!root.session("early").exists());
    }

    #[test]
    fn sessions_that_begin_while_others_sweep_are_not_taken_for_dead() {
        let (_folder, root) = root();
        std::thread::scope(|scope| {
            let sweeper = scope.spawn(|| (0..200).for_each(|_| sweep(&root)));
            for number in 0..200 {
                let id = format!("s{number}");
                let alive = Alive::take(&root, &id).unwrap();
                alive.adds("other").unwrap();
                std::fs::create_dir_all(root.pod("other")).unwrap();
                sweep(&root);
                assert!(root.pod("other").exists() && lives(alive.folder()), "{id}");
                drop(alive);
                assert!(!root.session(&id).exists(), "{id}");
            }
            sweeper.join().unwrap();
        });
    }
}
