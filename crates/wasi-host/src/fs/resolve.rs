//! From a path to what it names: one `openat2` where that is enough, else the walk by components.
//!
//! The kernel's resolution knows nothing of our mounts, so it is asked only where none can be met:
//! below a folder that has no mount beneath it, or by a path without links and `..`.

use super::tree::{Place, Tree};
use super::walk::{Found, Last, check_path, ends_as_dir};
use super::{Errno, FileKind, Result, Stat};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// What a path names, opened with `O_PATH`: a link itself where it was kept.
#[derive(Debug)]
pub(super) struct Picked {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) mount: usize,
    pub(super) node: Option<usize>,
}

/// The folder in which a name is to be made or removed.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) parent: Place,
    pub(super) name: OsString,
    /// The path ended with a slash.
    pub(super) must_be_dir: bool,
    /// The node at the name, if a mount is there or below.
    pub(super) node: Option<usize>,
}

/// Why a path has no last name that could be made or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoName {
    /// `/`
    Root,
    /// `.`
    Dot,
    /// `..`
    DotDot,
}

impl Picked {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn into_place(self) -> Place {
        Place {
            fd: self.fd,
            mount: self.mount,
            node: self.node,
        }
    }

    fn of(place: Place) -> Self {
        Self {
            fd: place.fd,
            mount: place.mount,
            node: place.node,
        }
    }
}

impl Tree {
    /// What `path` names, from `start` on if it is relative.
    pub(super) fn pick(&self, start: &Place, path: &Path, last: Last) -> Result<Picked> {
        let bytes = check_path(path)?;
        if let Some(result) = self.pick_fast(start, bytes, last)? {
            return result;
        }
        match self.walk(start, path, last)?.run()? {
            Found::Dir(place) => Ok(Picked::of(place)),
            Found::Other { fd, mount, .. } => Ok(Picked {
                fd,
                mount,
                node: None,
            }),
            Found::Missing { .. } => Err(Errno::NOENT),
        }
    }

    /// As [`Tree::pick`], by one `openat2`. None if that can't tell.
    fn pick_fast(&self, start: &Place, path: &[u8], last: Last) -> Result<Option<Result<Picked>>> {
        let Some((place, rest)) = self.descend(start, path)? else {
            return Ok(None);
        };
        if rest.is_empty() {
            return Ok(Some(Ok(Picked::of(place))));
        }
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        if last == Last::Keep {
            flags |= OFlags::NOFOLLOW;
        }
        if ends_as_dir(rest) {
            flags |= OFlags::DIRECTORY;
        }
        let mut resolve = ResolveFlags::NO_MAGICLINKS;
        if self.has_children(&place) {
            if rest.split(|&b| b == b'/').any(|name| name == b"..") {
                return Ok(None);
            }
            resolve |= ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        } else if place.node == Some(0) {
            resolve |= ResolveFlags::IN_ROOT;
        } else {
            resolve |= ResolveFlags::BENEATH;
        }
        let rest = OsStr::from_bytes(rest);
        match rustix::fs::openat2(place.as_fd(), rest, flags, Mode::empty(), resolve) {
            Ok(fd) => {
                let (fd, mount) = (Arc::new(fd), place.mount);
                Ok(Some(Ok(Picked {
                    fd,
                    mount,
                    node: None,
                })))
            }
            // A link or a `..` that leads out of what the kernel may see (XDEV, LOOP), a rename
            // somewhere on the machine while it went up (AGAIN), a kernel or a filter that has no
            // openat2 (NOSYS, PERM): the walk knows.
            Err(Errno::XDEV | Errno::LOOP | Errno::AGAIN | Errno::NOSYS | Errno::PERM) => Ok(None),
            Err(e) => Ok(Some(Err(e))),
        }
    }

    /// Down the trie as far as the names of `path` go there: nothing of it is a link. Gives the
    /// folder reached and the rest of the path. None where only the walk can tell.
    fn descend<'p>(&self, start: &Place, path: &'p [u8]) -> Result<Option<(Place, &'p [u8])>> {
        let mut place = if path.starts_with(b"/") {
            self.root()?
        } else {
            start.clone()
        };
        let mut rest = without_start_slashes(path);
        while self.has_children(&place) && !rest.is_empty() {
            let end = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
            let (name, after) = rest.split_at_checked(end).unwrap_or((rest, b""));
            if name != b"." {
                let Some(id) = self.child(&place, OsStr::from_bytes(name)) else {
                    break;
                };
                if self.node(id)?.is_file {
                    return Ok(None);
                }
                place = self.place(id)?;
            }
            rest = without_start_slashes(after);
        }
        Ok(Some((place, rest)))
    }

    /// The folder and the name that `path` ends with; nothing at the name is looked at.
    pub(super) fn spot(
        &self,
        start: &Place,
        path: &Path,
    ) -> Result<std::result::Result<Spot, NoName>> {
        let bytes = check_path(path)?;
        let trimmed = without_end_slashes(bytes);
        let cut = trimmed
            .iter()
            .rposition(|&b| b == b'/')
            .map_or(0, |at| at + 1);
        let (folder, name) = trimmed.split_at_checked(cut).unwrap_or((b"", trimmed));
        match name {
            b"" => return Ok(Err(NoName::Root)),
            b"." => return Ok(Err(NoName::Dot)),
            b".." => return Ok(Err(NoName::DotDot)),
            _ => {}
        }
        let parent = if folder.is_empty() {
            start.clone()
        } else {
            // A slash ends `folder`, so what it names is a folder or an error.
            self.pick(start, Path::new(OsStr::from_bytes(folder)), Last::Follow)?
                .into_place()
        };
        let name = OsStr::from_bytes(name).to_owned();
        let node = self.child(&parent, &name);
        let must_be_dir = bytes.len() > trimmed.len();
        Ok(Ok(Spot {
            parent,
            name,
            must_be_dir,
            node,
        }))
    }

    /// As [`Tree::spot`] with the final link followed, for making a file through a link that leads
    /// nowhere yet. None if there is something.
    pub(super) fn spot_behind_links(&self, start: &Place, path: &Path) -> Result<Option<Spot>> {
        match self.walk(start, path, Last::Follow)?.run()? {
            Found::Missing {
                rest: 0,
                must_be_dir: true,
                ..
            } => Err(Errno::ISDIR),
            Found::Missing {
                parent,
                name,
                rest: 0,
                ..
            } => Ok(Some(Spot {
                parent,
                name,
                must_be_dir: false,
                node: None,
            })),
            Found::Missing { .. } => Err(Errno::NOENT),
            Found::Dir(_) | Found::Other { .. } => Ok(None),
        }
    }
}

impl Spot {
    /// What stands at the name, if anything, without following it.
    pub(super) fn kind(&self) -> Result<FileKind> {
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        let stat = rustix::fs::statat(self.parent.as_fd(), &self.name, flags)?;
        Ok(Stat::from(stat).kind)
    }
}

fn without_end_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&b| b != b'/').map_or(0, |at| at + 1);
    path.get(..end).unwrap_or_default()
}

fn without_start_slashes(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|&b| b != b'/').unwrap_or(path.len());
    path.get(start..).unwrap_or_default()
}
