//! Mounts: what they are, and how they are attached to a tree.

use super::tree::{MountState, Node, Tree};
use super::walk::{Found, Frame, Last};
use super::{Errno, FileKind, Result, Stat};
use rustix::fs::{Mode, OFlags};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::Arc;

/// A folder or a single file that covers a path of the container.
#[derive(Debug)]
pub struct Mount {
    /// Where it is in the container: absolute, without `..`.
    pub guest_path: String,
    /// What is there: a folder or a regular file. `O_PATH` will do.
    pub fd: OwnedFd,
    /// Whether every change below it is `EROFS`.
    pub read_only: bool,
}

/// Why a mount can't be attached. Nothing that the node does later mends it.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The root is no folder, or can't be looked at.
    #[error("the container's root is not a usable folder")]
    Root(#[source] Errno),
    /// The path is no path of a mount.
    #[error("mount path {0:?} must be absolute, not \"/\", and without \"..\"")]
    Path(String),
    /// Two mounts have the same place, if only through a link.
    #[error("mount path {0:?} is taken by another mount")]
    Taken(String),
    /// A folder on a file, or a file on a folder.
    #[error("mount path {path:?} is a {found} and what is mounted there is a {given}")]
    Kind {
        /// The mount's path.
        path: String,
        /// What the container has there.
        found: &'static str,
        /// What was to be mounted.
        given: &'static str,
    },
    /// Only folders and regular files can be mounted.
    #[error("what is mounted at {0:?} is neither a folder nor a regular file")]
    Special(String),
    /// The mount point is missing and can't be made, or the way there is broken.
    #[error("mount path {path:?} can't be reached or made in the container's root")]
    Point {
        /// The mount's path.
        path: String,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

impl Tree {
    pub(super) fn of_root(root: OwnedFd) -> std::result::Result<Self, MountError> {
        match Stat::of(root.as_fd()).map_err(MountError::Root)?.kind {
            FileKind::Directory => {}
            _ => return Err(MountError::Root(Errno::NOTDIR)),
        }
        let node = Node {
            name: OsString::new(),
            parent: 0,
            children: HashMap::new(),
            fd: Arc::new(root),
            mount: 0,
            is_file: false,
            is_mount_point: true,
        };
        let mount = MountState {
            read_only: false,
            node: 0,
        };
        Ok(Self {
            nodes: vec![node],
            mounts: vec![mount],
        })
    }

    /// Attaches `mounts`, the less deep first, so that one below another ends up in it.
    pub(super) fn attach_all(
        &mut self,
        mut mounts: Vec<Mount>,
    ) -> std::result::Result<(), MountError> {
        mounts.sort_by_key(|mount| Path::new(&mount.guest_path).components().count());
        mounts.into_iter().try_for_each(|mount| self.attach(mount))
    }

    fn attach(&mut self, mount: Mount) -> std::result::Result<(), MountError> {
        let Mount {
            guest_path,
            fd,
            read_only,
        } = mount;
        let path = Path::new(&guest_path);
        let plain = path.is_absolute() && !path.components().any(|c| c == Component::ParentDir);
        if !plain || path.components().count() < 2 {
            return Err(MountError::Path(guest_path));
        }
        let point = |source| MountError::Point {
            path: guest_path.clone(),
            source,
        };
        let is_file = match Stat::of(fd.as_fd()).map_err(point)?.kind {
            FileKind::Directory => false,
            FileKind::Regular => true,
            _ => return Err(MountError::Special(guest_path)),
        };
        let (frames, found) = self.mount_point(path, is_file).map_err(point)?;
        if found != is_file {
            let name = |is_file| if is_file { "file" } else { "folder" };
            let (found, given) = (name(found), name(is_file));
            return Err(MountError::Kind {
                path: guest_path,
                found,
                given,
            });
        }
        self.insert(&frames, fd, is_file, read_only)
            .ok_or(MountError::Taken(guest_path))
    }

    /// The frames from `/` to the mount point at `path`, which is made where it is missing,
    /// and whether it is a file.
    fn mount_point(&self, path: &Path, is_file: bool) -> Result<(Vec<Frame>, bool)> {
        // One missing component is made a turn; a turn that makes none is the last.
        for _ in 0..=path.components().count() {
            let root = self.root()?;
            let mut walk = self.walk(&root, path, Last::Follow)?;
            match walk.run()? {
                Found::Dir(_) => return Ok((walk.into_frames(), false)),
                Found::Other { parent: None, .. } => return Err(Errno::BUSY),
                Found::Other {
                    parent: Some((place, name)),
                    fd,
                    ..
                } => {
                    let mut frames = walk.into_frames();
                    if Stat::of(fd.as_fd())?.kind != FileKind::Regular {
                        return Err(Errno::NOTDIR);
                    }
                    frames.push(Frame { place, name });
                    return Ok((frames, true));
                }
                Found::Missing {
                    parent, name, rest, ..
                } => {
                    self.check_writable(parent.mount)?;
                    let made = if is_file && rest == 0 {
                        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                        let mode = Mode::from_raw_mode(0o644);
                        rustix::fs::openat(parent.as_fd(), &name, flags | OFlags::CLOEXEC, mode)
                            .map(drop)
                    } else {
                        rustix::fs::mkdirat(parent.as_fd(), &name, Mode::from_raw_mode(0o755))
                    };
                    // Another container that shares the volume may have been faster.
                    made.or_else(|e| if e == Errno::EXIST { Ok(()) } else { Err(e) })?;
                }
            }
        }
        Err(Errno::BUSY)
    }

    /// Makes the last of `frames` the place of a new mount. None if there is one already.
    fn insert(
        &mut self,
        frames: &[Frame],
        fd: OwnedFd,
        is_file: bool,
        read_only: bool,
    ) -> Option<()> {
        let mount = self.mounts.len();
        let (last, way) = frames.split_last()?;
        let mut at = 0;
        for frame in way.iter().skip(1) {
            at = match self.nodes.get(at)?.children.get(&frame.name) {
                Some(&id) => id,
                None => self.add(
                    at,
                    frame.name.clone(),
                    Arc::clone(&frame.place.fd),
                    frame.place.mount,
                ),
            };
        }
        let id = match self.nodes.get(at)?.children.get(&last.name) {
            Some(&id) => id,
            None => self.add(at, last.name.clone(), Arc::clone(&last.place.fd), mount),
        };
        let node = self.nodes.get_mut(id)?;
        if node.is_mount_point || !node.children.is_empty() {
            return None;
        }
        node.fd = Arc::new(fd);
        node.mount = mount;
        node.is_file = is_file;
        node.is_mount_point = true;
        self.mounts.push(MountState {
            read_only,
            node: id,
        });
        Some(())
    }

    fn add(&mut self, parent: usize, name: OsString, fd: Arc<OwnedFd>, mount: usize) -> usize {
        let id = self.nodes.len();
        let node = Node {
            name: name.clone(),
            parent,
            children: HashMap::new(),
            fd,
            mount,
            is_file: false,
            is_mount_point: false,
        };
        self.nodes.push(node);
        if let Some(above) = self.nodes.get_mut(parent) {
            above.children.insert(name, id);
        }
        id
    }
}
