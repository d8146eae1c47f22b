//! What says that a session lives, and what is left of one that was killed.
//!
//! A session holds the lock on `<root>/runs/<id>.lock` for as long as it lives; the kernel lets go of
//! it however the session ends. A lock that nobody holds is of a session that was killed: the next
//! command removes what its pods left, but for the records and logs that are kept until `rm`. Those
//! of a session are in its folder, `<root>/runs/<id>/`, which a `run` in the foreground does without:
//! making a folder takes longer than all else that it does on disk. Pods of a node have neither, and
//! are never touched.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

use super::names;
use crate::dirs::{self, Dirs};

/// Held by a session.
const LOCK: &str = "lock";

/// Where other commands reach it.
const SOCKET: &str = "sock";

/// Says of one pod that it is of a session whose id is another than the pod's UID.
const MARK: &str = "pod";

/// What is known of a pod when its session does not live.
pub(super) const RECORD: &str = "json";

/// Where the files of a session are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Site {
    runs: PathBuf,
    id: String,
}

impl Site {
    pub(crate) fn of(dirs: &Dirs, id: &str) -> Site {
        Site {
            runs: dirs.runs(),
            id: id.to_owned(),
        }
    }

    /// The session's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The folder of its lock and its socket, which is its user's alone.
    pub(super) fn runs(&self) -> &Path {
        &self.runs
    }

    /// The folder of its records.
    pub(crate) fn folder(&self) -> PathBuf {
        self.runs.join(&self.id)
    }

    fn lock(&self) -> PathBuf {
        self.runs.join(format!("{}.{LOCK}", self.id))
    }

    /// The name of its socket in [`Site::runs`].
    pub(super) fn socket(&self) -> String {
        format!("{}.{SOCKET}", self.id)
    }

    /// Whether the session lives.
    pub(crate) fn lives(&self) -> bool {
        // Shared: two that ask at once do not take each other for the session.
        self.open_lock().is_some_and(|lock| {
            flock(lock.as_fd(), FlockOperation::NonBlockingLockShared)
                == Err(rustix::io::Errno::WOULDBLOCK)
        })
    }

    /// The file that the session locks; nothing once it has ended in order.
    pub(super) fn open_lock(&self) -> Option<File> {
        File::open(self.lock()).ok()
    }

    /// The records that are kept of its pods.
    pub(super) fn records(&self) -> Vec<PathBuf> {
        with_extension(&self.folder(), RECORD)
    }

    /// Whether something of it is kept until `rm`.
    pub(crate) fn holds_records(&self) -> bool {
        !self.records().is_empty()
    }

    /// The UIDs of the pods that it made.
    fn uids(&self) -> Vec<String> {
        let marks = with_extension(&self.folder(), MARK);
        let stem = |path: &PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
        let marked = marks.iter().filter_map(stem);
        marked.chain([self.id.clone()]).collect()
    }
}

fn with_extension(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .collect()
}

/// All sessions of a root folder of which there is anything.
pub(super) fn sites(dirs: &Dirs) -> Vec<Site> {
    let entries = std::fs::read_dir(dirs.runs());
    let mut ids = BTreeSet::new();
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        match name.rsplit_once('.') {
            Some((id, LOCK)) => ids.insert(id.to_owned()),
            Some((_, SOCKET)) => false,
            _ => ids.insert(name.to_owned()),
        };
    }
    ids.iter().map(|id| Site::of(dirs, id)).collect()
}

/// Says that a session lives.
#[derive(Debug)]
pub(crate) struct Alive {
    dirs: Dirs,
    site: Site,
    _lock: File,
}

impl Alive {
    /// To be taken before anything of the session is made.
    ///
    /// # Errors
    /// When the lock can't be made.
    pub(crate) fn take(dirs: &Dirs, id: &str) -> anyhow::Result<Alive> {
        let site = Site::of(dirs, id);
        let path = site.lock();
        let lock = loop {
            let opened = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path);
            let lock = match opened {
                Ok(lock) => lock,
                // The first session of this root.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    dirs::make(&dirs.runs())?;
                    continue;
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("can't make {}", path.display()));
                }
            };
            flock(lock.as_fd(), FlockOperation::LockExclusive)
                .with_context(|| format!("can't lock {}", path.display()))?;
            // One that was swept before it was locked is not seen by anybody.
            if lock.metadata().is_ok_and(|found| found.nlink() > 0) {
                break lock;
            }
        };
        Ok(Alive {
            dirs: dirs.clone(),
            site,
            _lock: lock,
        })
    }

    /// Where its files are.
    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    /// A pod of the session, to be told before anything of it is made; `kept` if it has a record.
    ///
    /// # Errors
    /// When that can't be noted.
    pub(crate) fn adds(&self, uid: &str, kept: bool) -> anyhow::Result<()> {
        let marked = uid != self.site.id; // The lock's own name tells of the other.
        if marked || kept {
            dirs::make(&self.site.folder())?;
        }
        if marked {
            let mark = self.site.folder().join(uid).with_extension(MARK);
            File::create(&mark)
                .map(drop)
                .with_context(|| format!("can't make {}", mark.display()))?;
        }
        Ok(())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // What stays is swept by the next command, with what this one could not remove.
        if let Err(error) = clear(&self.dirs, &self.site) {
            tracing::debug!(
                id = self.site.id,
                error = format!("{error:#}"),
                "left to be swept"
            );
        }
    }
}

/// Removes what killed sessions left. A failure costs room, and nothing that runs.
pub(crate) fn sweep(dirs: &Dirs) {
    for site in sites(dirs) {
        if let Err(error) = sweep_one(dirs, &site) {
            tracing::warn!(
                id = site.id,
                error = format!("{error:#}"),
                "what a killed session left stays"
            );
        }
    }
}

fn sweep_one(dirs: &Dirs, site: &Site) -> anyhow::Result<()> {
    let Some(lock) = site.open_lock() else {
        // It has ended in order, unless an `rm` of its last pod was killed.
        if !site.holds_records() {
            volume::remove(&site.folder())?;
        }
        return Ok(());
    };
    if flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(()); // It lives.
    }
    for uid in site.uids() {
        if !site.folder().join(&uid).with_extension(RECORD).exists() {
            remove_logs(dirs, &uid)?;
        }
    }
    if !site.holds_records() {
        names::free(dirs, &site.id, None);
    }
    clear(dirs, site)
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

/// Removes what is kept of one pod of a session that has ended, and the session's folder with the last.
///
/// # Errors
/// When something can't be removed; the record goes last, so that it can be asked for again.
pub(crate) fn remove(dirs: &Dirs, site: &Site, uid: &str) -> anyhow::Result<()> {
    remove_logs(dirs, uid)?;
    names::free(dirs, &site.id, Some(uid));
    gone(&site.folder().join(uid).with_extension(RECORD))?;
    if !site.holds_records() && !site.lives() {
        volume::remove(&site.folder())?;
    }
    Ok(())
}

/// Removes all of a session that is not kept. Its lock is held, and goes last.
fn clear(dirs: &Dirs, site: &Site) -> anyhow::Result<()> {
    gone(&site.runs.join(site.socket()))?;
    for uid in site.uids() {
        crate::hands::remove_pod(dirs, &uid)?;
        gone(&site.folder().join(uid).with_extension(MARK))?;
    }
    if !site.holds_records() {
        // A run in the foreground has none.
        volume::remove(&site.folder())?;
    }
    Ok(gone(&site.lock())?)
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
    fn dead(dirs: &Dirs, id: &str) -> Site {
        let site = Site::of(dirs, id);
        dirs::make(site.runs()).unwrap();
        std::fs::write(site.lock(), "").unwrap();
        std::fs::write(site.runs().join(site.socket()), "").unwrap();
        site
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
        assert!(living.site().lives());
        drop(living);
        sweep(&root);
        assert_eq!([is_there("living"), is_there("of-a-node")], [false, true]);
        assert_eq!(std::fs::read_dir(root.runs()).unwrap().count(), 0);
    }

    #[test]
    fn a_killed_sessions_pods_go_and_its_records_stay() {
        let (_folder, root) = root();
        let site = dead(&root, "session");
        let folder = site.folder();
        dirs::make(&folder).unwrap();
        for uid in ["one", "two"] {
            std::fs::create_dir_all(root.run(uid, "main", 0)).unwrap();
            std::fs::write(folder.join(uid).with_extension(MARK), "").unwrap();
        }
        for kept in ["one.json", "out.log"] {
            std::fs::write(folder.join(kept), "{}").unwrap();
        }
        assert!(!site.lives());
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
    fn what_is_kept_of_a_session_goes_with_its_last_pod() {
        let (_folder, root) = root();
        let alive = Alive::take(&root, "session").unwrap();
        let site = alive.site().clone();
        for uid in ["one", "two"] {
            alive.adds(uid, true).unwrap();
            std::fs::write(site.folder().join(uid).with_extension(RECORD), "{}").unwrap();
            std::fs::create_dir_all(root.all_logs().join(format!("ns_{uid}-name_{uid}"))).unwrap();
        }
        drop(alive);
        assert!(site.holds_records() && site.open_lock().is_none());
        remove(&root, &site, "one").unwrap();
        assert!(site.folder().exists());
        assert_eq!(std::fs::read_dir(root.all_logs()).unwrap().count(), 1);
        remove(&root, &site, "two").unwrap();
        dirs::make(&site.folder()).unwrap();
        std::fs::write(site.folder().join("out.log"), "").unwrap();
        sweep(&root);
        assert!(sites(&root).is_empty());
        assert_eq!(std::fs::read_dir(root.all_logs()).unwrap().count(), 0);
    }

    #[test]
    fn sessions_that_begin_while_others_sweep_are_not_taken_for_dead() {
        let (_folder, root) = root();
        std::thread::scope(|scope| {
            let sweeper = scope.spawn(|| (0..200).for_each(|_| sweep(&root)));
            for number in 0..200 {
                let id = format!("s{number}");
                let alive = Alive::take(&root, &id).unwrap();
                alive.adds("other", false).unwrap();
                std::fs::create_dir_all(root.pod("other")).unwrap();
                sweep(&root);
                assert!(root.pod("other").exists() && alive.site().lives(), "{id}");
                drop(alive);
                assert!(sites(&root).is_empty(), "{id}");
            }
            sweeper.join().unwrap();
        });
    }
}
