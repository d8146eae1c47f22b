//! One root a container: its image's files, writable for it alone, with the files and mount points that a pod has.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::copy::copy_layers;
use crate::error::{Error, IoContext};
use crate::inside::Inside;
use crate::memory;
use crate::overlay;
use crate::remove::remove;

/// A layer of an image, unpacked. It is only ever read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerSpec {
    /// The folder with its files.
    pub path: PathBuf,
    /// Whether the folder has overlayfs' marks for what the lists say.
    pub marked: bool,
    /// Names that lower layers lose: relative to the layer's root, with no links in them.
    pub removed: Vec<PathBuf>,
    /// Folders that hide what lower layers have in them.
    pub opaque: Vec<PathBuf>,
}

/// How a root is made of layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// By overlayfs where this process may and the file system can, else by copying.
    #[default]
    Auto,
    /// A detached overlay mount.
    Overlay,
    /// A tree of its own: blocks are shared where the file system can, else copied.
    Copy,
    /// Without layers, a folder that is in memory alone where this process may mount one, and leaves
    /// nothing to remove; as [`Method::Auto`] else.
    Memory {
        /// The most that it holds, at least 1; `None` is half of the machine's memory.
        bytes: Option<u64>,
    },
}

/// What a mount needs at its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A folder.
    Folder,
    /// A file.
    File,
}

/// Where something is going to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// The path in the container.
    pub path: String,
    /// What has to be there.
    pub kind: MountKind,
}

/// The contents of a container's own files in `/etc`; absent ones are left as the image has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Etc {
    /// `/etc/hosts`
    pub hosts: Option<String>,
    /// `/etc/hostname`
    pub hostname: Option<String>,
    /// `/etc/resolv.conf`
    pub resolv_conf: Option<String>,
}

/// What a root is made of.
#[derive(Clone, Debug, Default)]
pub struct RootSpec {
    /// The image's layers, lowest first; none for an artifact.
    pub layers: Vec<LayerSpec>,
    /// The container's own folder. What an earlier, unfinished assembly left there is removed.
    pub dir: PathBuf,
    /// Files for `/etc`.
    pub etc: Etc,
    /// Folders and files to be there for mounts.
    pub mount_points: Vec<MountPoint>,
    /// How to put it together.
    pub method: Method,
}

/// What a copied root cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Files, folders and links made.
    pub files: u64,
    /// Bytes written a second time.
    pub copied: u64,
    /// Bytes that share their blocks with the layer (reflinks).
    pub shared: u64,
}

/// A root, ready for a guest.
#[derive(Debug)]
pub struct Root {
    /// The root folder (`O_PATH`). Of an overlay it is the mount itself: closing the last copy unmounts it.
    pub fd: OwnedFd,
    /// Overlay, Copy or Memory, never Auto.
    pub method: Method,
    /// What making it cost; nothing for an overlay.
    pub cost: Cost,
    /// Why it is a folder on the disk, where `Auto` would have liked an overlay or `Memory` none.
    pub fallback: Option<String>,
}

/// Makes a container's root. Blocks the thread, in microseconds for an overlay, for as long as copying takes else.
///
/// # Errors
/// `Overlay` where [`Method::Overlay`] was asked for and can't be had; `InTheWay` where the image has something else
/// at a mount point or in `/etc`; `MountPath`; `Io`. The folder is left for [`remove`].
pub fn assemble(spec: &RootSpec) -> Result<Root, Error> {
    let mount_points = spec
        .mount_points
        .iter()
        .map(checked)
        .collect::<Result<Vec<_>, _>>()?;
    let root = match in_memory(spec) {
        Ok(root) => root,
        Err(fallback) => on_disk(spec, fallback)?,
    };
    let inside = Inside::new(root.fd.as_fd());
    let etc = [
        ("hosts", &spec.etc.hosts),
        ("hostname", &spec.etc.hostname),
        ("resolv.conf", &spec.etc.resolv_conf),
    ];
    for (name, content) in etc {
        if let Some(content) = content {
            inside.write(&Path::new("/etc").join(name), content.as_bytes())?;
        }
    }
    if inside.folder(Path::new("/tmp"))? {
        inside.set_mode(Path::new("/tmp"), 0o1777)?;
    }
    for (path, kind) in mount_points {
        match kind {
            MountKind::Folder => inside.folder(&path).map(|_| ())?,
            MountKind::File => inside.file(&path)?,
        }
    }
    Ok(root)
}

/// A root that is in memory, or why it is not, if it was asked for.
fn in_memory(spec: &RootSpec) -> Result<Root, Option<String>> {
    match spec.method {
        Method::Memory { bytes } if spec.layers.is_empty() => {
            let fd = memory::mount(bytes, "0755").map_err(Some)?;
            Ok(Root {
                fd,
                method: spec.method,
                cost: Cost::default(),
                fallback: None,
            })
        }
        _ => Err(None),
    }
}

fn on_disk(spec: &RootSpec, fallback: Option<String>) -> Result<Root, Error> {
    for leftover in ["upper", "work", "root"] {
        remove(&spec.dir.join(leftover))?;
    }
    std::fs::create_dir_all(&spec.dir).at("create", &spec.dir)?;
    let root = put_together(spec)?;
    Ok(Root {
        fallback: root.fallback.or(fallback),
        ..root
    })
}

fn put_together(spec: &RootSpec) -> Result<Root, Error> {
    // With no layers a folder of its own is all there is: nothing to lay over anything.
    let overlay = (spec.method != Method::Copy && !spec.layers.is_empty())
        .then(|| overlay::mount(&spec.layers, &spec.dir));
    let fallback = match overlay {
        Some(Ok(fd)) => {
            return Ok(Root {
                fd,
                method: Method::Overlay,
                cost: Cost::default(),
                fallback: None,
            });
        }
        Some(Err(overlay::Failure::Error(error))) => return Err(error),
        Some(Err(overlay::Failure::Impossible(reason))) if spec.method == Method::Overlay => {
            return Err(Error::Overlay(reason));
        }
        Some(Err(overlay::Failure::Impossible(reason))) => Some(reason),
        None => None,
    };
    for unused in ["upper", "work"] {
        remove(&spec.dir.join(unused))?;
    }
    let path = spec.dir.join("root");
    std::fs::create_dir(&path).at("create", &path)?;
    set_open_mode(&path)?;
    let cost = copy_layers(&spec.layers, &path)?;
    Ok(Root {
        fd: open_folder(&path)?,
        method: Method::Copy,
        cost,
        fallback,
    })
}

/// A root is traversable whatever the umask is.
pub(crate) fn set_open_mode(path: &Path) -> Result<(), Error> {
    rustix::fs::chmod(path, Mode::from_raw_mode(0o755)).at("chmod", path)
}

pub(crate) fn open_folder(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).at("open", path)
}

/// A mount path, absolute: the kubelet puts a `/` before one that isn't.
fn checked(mount: &MountPoint) -> Result<(PathBuf, MountKind), Error> {
    let wrong = |reason| {
        Err(Error::MountPath {
            path: mount.path.clone(),
            reason,
        })
    };
    if mount.path.contains('\0') {
        return wrong("has a NUL byte");
    }
    let path = Path::new("/").join(&mount.path);
    let mut components = path.components().skip(1).peekable();
    if components.peek().is_none() {
        return wrong("is the root itself, which the image has");
    }
    if components.any(|c| c == Component::ParentDir) {
        return wrong("has '..' in it; write the path it leads to");
    }
    Ok((path, mount.kind))
}
