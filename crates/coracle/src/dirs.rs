//! Where everything lies below the root folder, and the lock that keeps it one agent's.
//!
//! ```text
//! <root>/images/                                the store: blobs, layers
//! <root>/code/                                  compiled modules
//! <root>/checkpoints/<uid>.json                 what each pod's worker knew
//! <root>/pods/<uid>/containers/<name>/<run>/    a run's root: what it wrote
//! <root>/pods/<uid>/volumes/<name>/             the pod's emptyDirs
//! <root>/logs/<ns>_<pod>_<uid>/<name>/<run>.log what its guests said
//! <root>/runs/<id>.{lock,sock}                  a session that lives
//! <root>/runs/<id>/                             what is kept of its pods
//! <root>/names/<ns>/<pod>                       which session has a pod of that name
//! <root>/config.json                            who the node is to registries, in docker's form; may be absent
//! <root>/pki/                                    the node's certificates and keys
//! <root>/agent                                   its mark, which tells this folder's agent from every other
//! <root>/kubeconfig                              what bootstrap wrote, where no other file was named
//! <root>/guest-host.sock                        the guest host
//! ```

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};

/// The root folder and what is where in it.
#[derive(Clone, Debug)]
pub(crate) struct Dirs {
    root: PathBuf,
}

impl Dirs {
    /// Makes the root folder, for its owner alone.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn open(root: &Path) -> anyhow::Result<Dirs> {
        make(root)?;
        let root = std::fs::canonicalize(root).with_context(|| format!("{}", root.display()))?;
        Ok(Dirs { root })
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The kubelet has a file of this name in its root folder, too.
    pub(crate) fn registries(&self) -> PathBuf {
        self.root.join("config.json")
    }

    /// Certificates, as the kubelet's `cert-dir`.
    pub(crate) fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    pub(crate) fn code(&self) -> PathBuf {
        self.root.join("code")
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// Which names of pods are taken.
    pub(crate) fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    /// The logs of all pods.
    pub(crate) fn all_logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Everything of one pod but its logs.
    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    /// The folder of one run of a container.
    pub(crate) fn run(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.runs_of(uid, container).join(attempt.to_string())
    }

    /// The folders of all runs of a container.
    pub(crate) fn runs_of(&self, uid: &str, container: &str) -> PathBuf {
        self.pod(uid).join("containers").join(container)
    }

    /// The folder of one of the pod's own volumes.
    pub(crate) fn volume(&self, uid: &str, name: &str) -> PathBuf {
        self.volumes(uid).join(name)
    }

    /// The folder of all of the pod's own volumes.
    pub(crate) fn volumes(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volumes")
    }

    /// The pod's log folder (`BuildPodLogsDirectory` of `pkg/kubelet/kuberuntime/helpers.go`).
    pub(crate) fn pod_logs(&self, pod: &Pod) -> PathBuf {
        let meta = &pod.metadata;
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let name = format!(
            "{}_{}_{}",
            part(&meta.namespace),
            part(&meta.name),
            part(&meta.uid)
        );
        self.root.join("logs").join(name)
    }

    /// A container's log folder.
    pub(crate) fn logs(&self, pod: &Pod, container: &str) -> PathBuf {
        self.pod_logs(pod).join(container)
    }

    /// Opens a container's log folder, to read from.
    ///
    /// # Errors
    /// When it is not there, as before the first run, or refuses.
    pub(crate) fn open_logs(&self, pod: &Pod, container: &str) -> std::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = self.logs(pod, container);
        Ok(rustix::fs::open(&folder, flags, Mode::empty())?)
    }

    /// The mark of this folder, which no other has. Made at the first asking.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub(crate) fn mark(&self) -> anyhow::Result<String> {
        let path = self.root.join("agent");
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        if !kept.trim().is_empty() {
            return Ok(kept.trim().to_owned());
        }
        let mark = crate::program::uid();
        std::fs::write(&path, &mark).with_context(|| format!("{}", path.display()))?;
        Ok(mark)
    }

    /// Takes the root folder for this process, so that no two agents work on one.
    ///
    /// # Errors
    /// When another process has it, or the lock file can't be opened.
    pub(crate) fn lock(&self) -> anyhow::Result<Lock> {
        let path = self.root.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("{}", path.display()))?;
        match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => bail!(
                "{} is in use by another coracle node; end that one, or give this one a --root-dir of its own",
                self.root.display()
            ),
            Err(error) => Err(error).with_context(|| format!("{}", path.display())),
        }
    }
}

/// Held for as long as the root folder is ours.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Makes a folder and its parents, for the owner alone; one that is there is left as it is.
///
/// # Errors
/// When it can't be made; the error names it.
pub(crate) fn make(dir: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("can't make the folder {}", dir.display()))
}
