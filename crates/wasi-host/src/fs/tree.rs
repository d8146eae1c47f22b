//! What a container sees as its file tree: the root, its mounts, and where they are.
//!
//! Mounts are keyed by their canonical path (no link, no `..`) in a trie whose nodes keep their
//! folder open. That makes "is there a mount here" a comparison of names, which holds because
//! nothing in the container can rename or remove a node of the trie (`EBUSY`).

use super::{Dir, Errno, Mount, MountError, Result};
use crate::opened::Share;
use rustix::fs::{Mode, OFlags};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A container's file tree. Cheap to clone; all clones are one tree.
#[derive(Clone, Debug)]
pub struct Root {
    pub(super) tree: Arc<Tree>,
    /// Where the descriptors of what is opened are taken from.
    share: Share,
}

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) mounts: Vec<MountState>,
}

/// A folder or file on the way to a mount, or a mount's own root. Node 0 is `/`.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: OsString,
    pub(super) parent: usize,
    pub(super) children: HashMap<OsString, usize>,
    pub(super) fd: Arc<OwnedFd>,
    pub(super) mount: usize,
    pub(super) is_file: bool,
    pub(super) is_mount_point: bool,
}

/// Mount 0 is the container's root itself.
#[derive(Debug)]
pub(super) struct MountState {
    pub(super) read_only: bool,
    /// The node that is this mount's root.
    pub(super) node: usize,
}

/// A folder in the tree, by an open descriptor.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) mount: usize,
    /// Set when mounts may lie below: then names have to be compared on the way down.
    pub(super) node: Option<usize>,
}

impl Place {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Root {
    /// A tree with `root` (a folder, `O_PATH` will do) at `/` and each of `mounts` at its path,
    /// parents first. A mount point that is missing is created where its surroundings are
    /// writable, since a listing of its parent has to show it.
    ///
    /// # Errors
    /// [`MountError`], which names the mount that can't be.
    pub fn new(root: OwnedFd, mounts: Vec<Mount>) -> std::result::Result<Self, MountError> {
        Self::build(root, false, mounts)
    }

    /// As [`Root::new`], with the root itself read-only: what lies in no writable mount is `EROFS`.
    ///
    /// # Errors
    /// [`MountError`], as [`Root::new`].
    pub fn new_read_only(
        root: OwnedFd,
        mounts: Vec<Mount>,
    ) -> std::result::Result<Self, MountError> {
        Self::build(root, true, mounts)
    }

    fn build(
        root: OwnedFd,
        read_only: bool,
        mounts: Vec<Mount>,
    ) -> std::result::Result<Self, MountError> {
        let mut tree = Tree::of_root(root)?;
        tree.attach_all(mounts)?;
        if let Some(state) = tree.mounts.first_mut() {
            state.read_only = read_only;
        }
        Ok(Self {
            tree: Arc::new(tree),
            share: Share::default(),
        })
    }

    /// The same tree, with what is opened in it counted: `ENFILE` where there is none to spare.
    #[must_use]
    pub fn sharing(self, share: Share) -> Self {
        Self { share, ..self }
    }

    /// Where descriptors are taken from.
    pub(crate) fn share(&self) -> &Share {
        &self.share
    }

    /// `/`. No descriptor is opened before it is first listed.
    ///
    /// # Errors
    /// None that a tree which was built has.
    pub fn dir(&self) -> Result<Dir> {
        let place = self.tree.root()?;
        let read_only = self.tree.is_read_only(place.mount);
        Ok(Dir::unopened(place, read_only))
    }
}

/// A descriptor to list a folder by.
pub(super) fn open_to_list(folder: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(folder, c".", flags, Mode::empty())
}

impl Tree {
    /// The node `/`, where every absolute path begins.
    pub(super) fn root(&self) -> Result<Place> {
        self.place(0)
    }

    pub(super) fn node(&self, id: usize) -> Result<&Node> {
        // Nodes are never removed, so an id that was handed out is in range.
        self.nodes.get(id).ok_or(Errno::STALE)
    }

    /// The folder at node `id`.
    pub(super) fn place(&self, id: usize) -> Result<Place> {
        let node = self.node(id)?;
        if node.is_file {
            return Err(Errno::NOTDIR);
        }
        Ok(Place {
            fd: Arc::clone(&node.fd),
            mount: node.mount,
            node: Some(id),
        })
    }

    /// The node below `place` by `name`, if a mount is there or further down.
    pub(super) fn child(&self, place: &Place, name: &OsStr) -> Option<usize> {
        self.nodes.get(place.node?)?.children.get(name).copied()
    }

    pub(super) fn has_children(&self, place: &Place) -> bool {
        place
            .node
            .and_then(|id| self.nodes.get(id))
            .is_some_and(|node| !node.children.is_empty())
    }

    pub(super) fn is_read_only(&self, mount: usize) -> bool {
        self.mounts.get(mount).is_none_or(|state| state.read_only)
    }

    /// `EROFS` where nothing may be changed.
    pub(super) fn check_writable(&self, mount: usize) -> Result<()> {
        if self.is_read_only(mount) {
            Err(Errno::ROFS)
        } else {
            Ok(())
        }
    }

    /// Opens the folder at `place` for listing.
    pub(super) fn open_dir(&self, place: &Place) -> Result<Dir> {
        let fd = open_to_list(place.as_fd())?;
        Ok(Dir::new(
            Place {
                fd: Arc::new(fd),
                ..place.clone()
            },
            self.is_read_only(place.mount),
        ))
    }
}
