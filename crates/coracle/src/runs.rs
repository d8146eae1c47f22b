//! Which pods of a root folder a `coracle run` made, and what is left of one that was killed.
//!
//! Each run holds a lock on `<root>/runs/<uid>` for as long as it lives; the kernel lets go of it
//! however the run ends. A file that nobody holds is of a run that was killed: the next one removes
//! what its pod left. Pods of a node have no such file and are never touched.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

use crate::dirs::{self, Dirs};

/// Says that the run of a pod lives.
#[derive(Debug)]
pub(crate) struct Alive {
    path: PathBuf,
    pod: PathBuf,
    _file: File,
}

impl Alive {
    /// To be taken before anything of the pod is made.
    ///
    /// # Errors
    /// When the file can't be made or locked.
    pub(crate) fn take(root: &Dirs, uid: &str) -> anyhow::Result<Alive> {
        dirs::make(&root.runs())?;
        let path = root.runs().join(uid);
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)
                .with_context(|| format!("can't make {}", path.display()))?;
            flock(file.as_fd(), FlockOperation::LockExclusive)
                .with_context(|| format!("can't lock {}", path.display()))?;
            // One that was swept before it was locked is not seen by anybody.
            if file.metadata().is_ok_and(|found| found.nlink() > 0) {
                let pod = root.pod(uid);
                return Ok(Alive {
                    path,
                    pod,
                    _file: file,
                });
            }
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // A file that stays is swept by the next run, with what this one could not remove.
        if !self.pod.exists() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes what killed runs left. A failure costs room, and not this run.
pub(crate) fn sweep(root: &Dirs) {
    let Ok(entries) = std::fs::read_dir(root.runs()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if let Some(uid) = name.to_str()
            && let Err(error) = sweep_one(root, uid, entry.path())
        {
            tracing::warn!(
                uid,
                error = format!("{error:#}"),
                "what a killed run left stays"
            );
        }
    }
}

fn sweep_one(root: &Dirs, uid: &str, path: PathBuf) -> anyhow::Result<()> {
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(()); // It lives.
    }
    volume::remove(&root.pod(uid))?;
    std::fs::remove_file(path).or_else(|error| match error.kind() {
        // Another run swept it at the same time.
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error.into()),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_swept_and_the_living_and_a_nodes_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = Dirs::open(folder.path()).unwrap();
        for uid in ["dead", "living", "of-a-node"] {
            std::fs::create_dir_all(root.run(uid, "main", 0)).unwrap();
        }
        let living = Alive::take(&root, "living").unwrap();
        std::fs::write(root.runs().join("dead"), "").unwrap();
        sweep(&root);
        let is_there = |uid| root.pod(uid).exists();
        assert_eq!(
            ["dead", "living", "of-a-node"].map(is_there),
            [false, true, true]
        );
        drop(living);
        assert!(
            root.runs().join("living").exists(),
            "its pod is still there"
        );
        sweep(&root);
        assert_eq!([is_there("living"), is_there("of-a-node")], [false, true]);
        assert_eq!(std::fs::read_dir(root.runs()).unwrap().count(), 0);
    }
}
