//! Resolution by components: the way that knows mounts, `..` and links, one `openat` a step.
//!
//! It never asks the kernel for a `..`: the way up is the way it came down. So a folder that is
//! renamed meanwhile can't lead out of the tree.

use super::tree::{Place, Tree};
use super::{DEPTH, Errno, LINKS, Result, Stat};
use rustix::fs::{Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

/// What to do with a link in the last place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    Follow,
    Keep,
}

/// A folder on the way down, with its name in the one before.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) place: Place,
    pub(super) name: OsString,
}

/// Where a path leads.
#[derive(Debug)]
pub(super) enum Found {
    /// A folder.
    Dir(Place),
    /// Anything else, opened with `O_PATH`, and where its name stands (none: it is a mount's root).
    Other {
        fd: Arc<OwnedFd>,
        mount: usize,
        parent: Option<(Place, OsString)>,
    },
    /// Nothing: `name` isn't in `parent`, and `rest` components would follow.
    Missing {
        parent: Place,
        name: OsString,
        rest: usize,
        must_be_dir: bool,
    },
}

#[derive(Debug)]
pub(super) struct Walk<'t> {
    tree: &'t Tree,
    /// The folders from `/` (or from the folder that the path is relative to) to here.
    frames: Vec<Frame>,
    /// What is left of the path, last component first.
    left: Vec<OsString>,
    links: u32,
    last: Last,
    must_be_dir: bool,
}

/// `EINVAL` for a NUL, `ENOENT` for nothing, `ENAMETOOLONG` past `PATH_MAX`.
pub(super) fn check_path(path: &Path) -> Result<&[u8]> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err(Errno::NOENT);
    }
    if bytes.len() > super::PATH_BYTES {
        return Err(Errno::NAMETOOLONG);
    }
    if bytes.contains(&0) {
        return Err(Errno::INVAL);
    }
    Ok(bytes)
}

/// Whether `path` can only mean a folder, by how it ends.
pub(super) fn ends_as_dir(path: &[u8]) -> bool {
    path.ends_with(b"/") || matches!(path.rsplit(|&b| b == b'/').next(), Some(b"." | b".."))
}

impl Tree {
    pub(super) fn walk<'t>(&'t self, start: &Place, path: &Path, last: Last) -> Result<Walk<'t>> {
        let bytes = check_path(path)?;
        let base = if bytes.starts_with(b"/") {
            self.root()?
        } else {
            start.clone()
        };
        let mut walk = Walk {
            tree: self,
            frames: vec![Frame {
                place: base,
                name: OsString::new(),
            }],
            left: Vec::new(),
            links: 0,
            last,
            must_be_dir: false,
        };
        walk.queue(bytes);
        Ok(walk)
    }

    /// The frames from `/` down to `place`, as it stands now. `ENOENT` if it is no longer there.
    pub(super) fn locate(&self, place: &Place) -> Result<Vec<Frame>> {
        let state = self.mounts.get(place.mount).ok_or(Errno::STALE)?;
        let mount_root = self.node(state.node)?;
        let mut frames = self.frames_to(state.node)?;
        let below = path_below(mount_root.fd.as_fd(), place.as_fd())?;
        let mut walk = Walk {
            tree: self,
            frames: Vec::new(),
            left: Vec::new(),
            links: LINKS,
            last: Last::Keep,
            must_be_dir: true,
        };
        walk.frames.append(&mut frames);
        for name in below.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            walk.enter(OsStr::from_bytes(name))?;
        }
        // The name that the kernel gave may be stale or another's by now: only the identity counts.
        let there = Stat::of(walk.top()?.as_fd())?;
        let here = Stat::of(place.as_fd())?;
        if (there.dev, there.ino) != (here.dev, here.ino) {
            return Err(Errno::NOENT);
        }
        Ok(walk.frames)
    }

    /// The frames from `/` to the mount's root at node `id`.
    fn frames_to(&self, id: usize) -> Result<Vec<Frame>> {
        let mut ids = vec![id];
        while let Some(&top) = ids.last().filter(|&&top| top != 0) {
            ids.push(self.node(top)?.parent);
        }
        ids.into_iter()
            .rev()
            .map(|id| {
                Ok(Frame {
                    place: self.place(id)?,
                    name: self.node(id)?.name.clone(),
                })
            })
            .collect()
    }
}

impl Walk<'_> {
    /// Goes the whole way.
    pub(super) fn run(&mut self) -> Result<Found> {
        while let Some(name) = self.left.pop() {
            match name.as_bytes() {
                b"." => {}
                b".." => self.up()?,
                _ => {
                    if let Some(found) = self.step(name)? {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(Found::Dir(self.top()?.clone()))
    }

    /// The folders that were gone through; the last is where the walk ended.
    pub(super) fn into_frames(self) -> Vec<Frame> {
        self.frames
    }

    fn top(&self) -> Result<&Place> {
        self.frames
            .last()
            .map(|frame| &frame.place)
            .ok_or(Errno::STALE)
    }

    fn queue(&mut self, path: &[u8]) {
        if self.left.is_empty() {
            self.must_be_dir |= ends_as_dir(path);
        }
        let names = path.split(|&b| b == b'/').filter(|name| !name.is_empty());
        self.left
            .extend(names.rev().map(|name| OsString::from_vec(name.to_vec())));
    }

    fn up(&mut self) -> Result<()> {
        if self.frames.len() > 1 {
            self.frames.pop();
            return Ok(());
        }
        // The folder that the path is relative to: find out where it is.
        let mut frames = self.tree.locate(self.top()?)?;
        if frames.len() > 1 {
            frames.pop();
        }
        self.frames = frames;
        Ok(())
    }

    fn push(&mut self, place: Place, name: OsString) -> Result<()> {
        if self.frames.len() >= DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        self.frames.push(Frame { place, name });
        Ok(())
    }

    /// One name down. Something is found if that ends the walk.
    fn step(&mut self, name: OsString) -> Result<Option<Found>> {
        let is_last = self.left.is_empty();
        if let Some(id) = self.tree.child(self.top()?, &name) {
            return self.step_node(id, name, is_last);
        }
        match self.enter(&name) {
            Ok(()) => return Ok(None),
            Err(Errno::NOENT) => {
                let parent = self.top()?.clone();
                let rest = self.left.len();
                if !is_last && self.left.iter().any(|name| name == "..") {
                    return Err(Errno::NOENT);
                }
                let must_be_dir = self.must_be_dir;
                return Ok(Some(Found::Missing {
                    parent,
                    name,
                    rest,
                    must_be_dir,
                }));
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(e),
        }
        match rustix::fs::readlinkat(self.top()?.as_fd(), &name, Vec::new()) {
            Ok(target) if is_last && self.last == Last::Keep && !self.must_be_dir => {
                drop(target);
                self.other(name).map(Some)
            }
            Ok(target) => self.follow(target.as_bytes()).map(|()| None),
            Err(Errno::INVAL) if is_last && !self.must_be_dir => self.other(name).map(Some),
            Err(Errno::INVAL) => Err(Errno::NOTDIR),
            Err(e) => Err(e),
        }
    }

    /// Down into node `id`, which is on the way to a mount or is one.
    fn step_node(&mut self, id: usize, name: OsString, is_last: bool) -> Result<Option<Found>> {
        let node = self.tree.node(id)?;
        if !node.is_file {
            let place = self.tree.place(id)?;
            self.push(place, name)?;
            return Ok(None);
        }
        if !is_last || self.must_be_dir {
            return Err(Errno::NOTDIR);
        }
        Ok(Some(Found::Other {
            fd: Arc::clone(&node.fd),
            mount: node.mount,
            parent: None,
        }))
    }

    /// Down into the folder `name`; `ENOTDIR` if it is none (a link neither).
    fn enter(&mut self, name: &OsStr) -> Result<()> {
        let top = self.top()?;
        if let Some(id) = self.tree.child(top, name) {
            let place = self.tree.place(id)?;
            return self.push(place, name.to_owned());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(top.as_fd(), name, flags, Mode::empty())?;
        let place = Place {
            fd: Arc::new(fd),
            mount: top.mount,
            node: None,
        };
        self.push(place, name.to_owned())
    }

    fn follow(&mut self, target: &[u8]) -> Result<()> {
        self.links += 1;
        if self.links > LINKS {
            return Err(Errno::LOOP);
        }
        if target.is_empty() {
            return Err(Errno::NOENT);
        }
        if target.starts_with(b"/") {
            let place = self.tree.root()?;
            self.frames = vec![Frame {
                place,
                name: OsString::new(),
            }];
        }
        self.queue(target);
        Ok(())
    }

    /// What stands at `name` and is no folder to go into.
    fn other(&self, name: OsString) -> Result<Found> {
        let parent = self.top()?.clone();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = Arc::new(rustix::fs::openat(
            parent.as_fd(),
            &name,
            flags,
            Mode::empty(),
        )?);
        Ok(Found::Other {
            fd,
            mount: parent.mount,
            parent: Some((parent, name)),
        })
    }
}

/// The path from the folder `above` down to `fd`, by the kernel's names for both. A guess that the
/// caller verifies: neither name is safe from renames.
fn path_below(above: impl AsFd, fd: impl AsFd) -> Result<Vec<u8>> {
    let above = super::open::proc_path(above)?;
    let path = super::open::proc_path(fd)?;
    let above = above.strip_suffix(b"/").unwrap_or(&above);
    match path.strip_prefix(above) {
        Some(below) if below.is_empty() || below.starts_with(b"/") => Ok(below.to_vec()),
        _ => Err(Errno::NOENT),
    }
}
