//! Writes one layer's entries below a folder, whatever the entries say.
//!
//! Every operation goes through a descriptor of the entry's parent, which the kernel resolves with `RESOLVE_IN_ROOT`:
//! links are followed as in a container, and no path leaves the folder. Ownership and extended attributes are not
//! taken over (a Wasm guest has no uid, and `trusted.overlay.*` from an image would forge marks), nor are setuid bits.
//! Devices, FIFOs and sockets are left out with a warning: a guest can't open them, and base images carry `/dev`.

mod whiteout;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;
use tar::EntryType;

use crate::below::{Refusal, clean, kind_of, open_in, refuse, remove_tree, same_file, times};
use crate::tarball::{Data, Entry};

pub(crate) use whiteout::marking;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const WARNINGS_MAX: usize = 20;
const COPY_CHUNK: usize = 128 << 10;
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// Where removals are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Marking {
    /// In lists, and in the tree as overlayfs has them.
    Overlay,
    /// In lists beside the tree alone.
    Lists,
}

/// One layer being written.
#[derive(Debug)]
pub(crate) struct Unpacker {
    root: OwnedFd,
    marking: Marking,
    /// Names below which nothing of lower layers shows, and names that lower layers lose.
    opaque: BTreeSet<PathBuf>,
    removed: BTreeSet<PathBuf>,
    /// Set at the end, since making a file in a folder changes its time.
    folder_times: BTreeMap<PathBuf, i64>,
    warnings: Vec<String>,
    buffer: Vec<u8>,
}

/// What the layer removes from lower ones, and what was left out.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) opaque: BTreeSet<PathBuf>,
    pub(crate) removed: BTreeSet<PathBuf>,
    pub(crate) warnings: Vec<String>,
}

impl Unpacker {
    /// Writes below `folder`, which exists and is empty.
    pub(crate) fn new(folder: &Path, marking: Marking) -> io::Result<Unpacker> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Unpacker {
            root: rustix::fs::open(folder, flags, Mode::empty())?,
            marking,
            opaque: BTreeSet::new(),
            removed: BTreeSet::new(),
            folder_times: BTreeMap::new(),
            warnings: Vec::new(),
            buffer: vec![0; COPY_CHUNK],
        })
    }

    /// Writes one entry.
    pub(crate) fn entry<R: Read>(
        &mut self,
        entry: &Entry,
        data: &mut Data<'_, R>,
    ) -> Result<(), Refusal> {
        let path = clean(&entry.path)?;
        let Some(name) = path.file_name() else {
            // The root itself: its mode is the store's own affair.
            return Ok(());
        };
        let parent_path = path.parent().unwrap_or(Path::new(""));
        let parent = self.parent(&path)?;
        if name.as_bytes().starts_with(WHITEOUT) {
            return self.whiteout(parent_path, parent.as_fd(), name);
        }
        match entry.kind {
            // Archives older than POSIX tell a folder by its trailing slash alone.
            EntryType::Regular if entry.path.ends_with(b"/") => {
                self.folder(&path, parent.as_fd(), name, entry)
            }
            EntryType::Directory => self.folder(&path, parent.as_fd(), name, entry),
            EntryType::Regular | EntryType::Continuous => {
                self.clear(&path, parent.as_fd(), name)?;
                self.file(parent.as_fd(), name, entry, data)
            }
            EntryType::Symlink => {
                self.clear(&path, parent.as_fd(), name)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), &parent, name)?;
                let times = times(entry.mtime);
                Ok(rustix::fs::utimensat(
                    &parent,
                    name,
                    &times,
                    AtFlags::SYMLINK_NOFOLLOW,
                )?)
            }
            EntryType::Link => self.hard_link(&path, parent.as_fd(), name, &entry.link),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                self.warn(format!(
                    "{}: left out: a {} is of no use to a Wasm guest",
                    path.display(),
                    special(entry.kind)
                ));
                Ok(())
            }
            EntryType::GNUSparse => refuse("a sparse file; make the layer without tar's --sparse"),
            other => refuse(format!(
                "unknown entry type {:?}",
                char::from(other.as_byte())
            )),
        }
    }

    /// Sets what can only be set last.
    pub(crate) fn finish(mut self) -> Result<Unpacked, Refusal> {
        for (path, mtime) in std::mem::take(&mut self.folder_times) {
            // A folder that a later entry replaced has no time to set.
            if let Ok(folder) =
                self.open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
            {
                rustix::fs::futimens(&folder, &times(mtime))?;
            }
        }
        Ok(Unpacked {
            opaque: self.opaque,
            removed: self.removed,
            warnings: self.warnings,
        })
    }

    fn warn(&mut self, warning: String) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning);
        }
    }

    fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        open_in(self.root.as_fd(), path, flags)
    }

    /// The folder an entry lies in, made where it is missing.
    fn parent(&mut self, path: &Path) -> Result<OwnedFd, Refusal> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let found = match self.open(parent, flags) {
            // Missing, or a whiteout of this layer in its place.
            Err(Errno::NOENT | Errno::NOTDIR) => match self.make_folders(parent) {
                Err(Refusal::Io(e)) if Errno::from_io_error(&e) == Some(Errno::NOTDIR) => {
                    Err(Errno::NOTDIR)
                }
                other => {
                    other?;
                    self.open(parent, flags)
                }
            },
            other => other,
        };
        match found {
            Err(Errno::NOTDIR) => refuse("lies below something that is no folder"),
            Err(Errno::LOOP) => refuse("lies behind a loop of symbolic links"),
            Err(Errno::NOENT) => {
                refuse("lies behind a symbolic link that leads to no folder of this layer")
            }
            other => Ok(other?),
        }
    }

    /// A folder's `path` with every link in it followed within the root.
    fn real(&self, path: &Path) -> Result<PathBuf, Refusal> {
        let proc = |fd: BorrowedFd<'_>| {
            use std::os::fd::AsRawFd;
            std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        };
        let root = proc(self.root.as_fd())?;
        let real = proc(self.open(path, OFlags::PATH | OFlags::DIRECTORY)?.as_fd())?;
        match real.strip_prefix(&root) {
            Ok(below) => Ok(below.to_owned()),
            Err(_) => refuse("lies outside of the layer"),
        }
    }

    fn make_folders(&mut self, path: &Path) -> Result<(), Refusal> {
        let mut below = PathBuf::new();
        for component in path.components() {
            let parent = self.open(&below, OFlags::PATH | OFlags::DIRECTORY)?;
            below.push(component);
            match rustix::fs::mkdirat(&parent, component.as_os_str(), Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) if self.is_whiteout(parent.as_fd(), component.as_os_str()) => {
                    // Removed and then made anew within one layer.
                    self.clear(&below, parent.as_fd(), component.as_os_str())?;
                    rustix::fs::mkdirat(
                        &parent,
                        component.as_os_str(),
                        Mode::from_raw_mode(0o755),
                    )?;
                    self.set_opaque(&below)?;
                }
                Ok(()) if self.unlist(&below)? => self.set_opaque(&below)?,
                Err(Errno::EXIST) | Ok(()) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn folder(
        &mut self,
        path: &Path,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        entry: &Entry,
    ) -> Result<(), Refusal> {
        if kind_of(parent, name)? != Some(FileType::Directory) {
            let was_removed = self.clear(path, parent, name)?;
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
            if was_removed {
                self.set_opaque(path)?;
            }
        }
        // The sticky bit of a /tmp means something; setgid needs groups.
        let mode = (entry.mode & 0o1777) | 0o700;
        let folder = open_in(
            parent,
            Path::new(name),
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
        )?;
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode as RawMode))?;
        self.folder_times.insert(path.to_owned(), entry.mtime);
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        entry: &Entry,
        data: &mut Data<'_, R>,
    ) -> Result<(), Refusal> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(
            parent,
            name,
            flags,
            Mode::from_raw_mode(0o600),
        )?);
        loop {
            let n = match data.read(&mut self.buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            match self.buffer.get(..n) {
                Some(read) if n > 0 => file.write_all(read)?,
                _ => break,
            }
        }
        rustix::fs::fchmod(
            &file,
            Mode::from_raw_mode(((entry.mode & 0o777) | 0o600) as RawMode),
        )?;
        Ok(rustix::fs::futimens(&file, &times(entry.mtime))?)
    }

    fn hard_link(
        &mut self,
        path: &Path,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        link: &[u8],
    ) -> Result<(), Refusal> {
        let shown = String::from_utf8_lossy(link).into_owned();
        let target = match clean(link) {
            Ok(target) => target,
            Err(_) => return refuse(format!("a hard link out of the layer, to {shown:?}")),
        };
        let Some(target_name) = target.file_name() else {
            return refuse(format!("a hard link to {shown:?}, which is no file"));
        };
        let folder = self.open(
            target.parent().unwrap_or(Path::new("")),
            OFlags::PATH | OFlags::DIRECTORY,
        );
        let kind = match &folder {
            Ok(folder) => kind_of(folder.as_fd(), target_name)?,
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(e) => return Err((*e).into()),
        };
        match (kind, folder) {
            (Some(FileType::RegularFile | FileType::Symlink), Ok(folder)) => {
                // Replacing a file by a link to itself would lose it.
                if same_file(folder.as_fd(), target_name, parent, name)? {
                    return Ok(());
                }
                self.clear(path, parent, name)?;
                Ok(rustix::fs::linkat(
                    &folder,
                    target_name,
                    parent,
                    name,
                    AtFlags::empty(),
                )?)
            }
            (None, _) => refuse(format!(
                "a hard link to {shown:?}, which is not in this layer"
            )),
            _ => refuse(format!("a hard link to {shown:?}, which is no file")),
        }
    }

    /// Makes room for a new entry. Says whether a whiteout stood there.
    fn clear(
        &mut self,
        path: &Path,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<bool, Refusal> {
        let was_removed = self.unlist(path)?;
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => {
                let real = self.real_name(path)?;
                remove_tree(parent, name)?;
                self.opaque.retain(|p| !p.starts_with(&real));
                self.removed.retain(|p| !p.starts_with(&real));
                self.folder_times.retain(|p, _| !p.starts_with(path));
            }
            Err(e) => return Err(e.into()),
        }
        Ok(was_removed)
    }

    /// Takes a name off the list of removed ones, and says whether it was there.
    fn unlist(&mut self, path: &Path) -> Result<bool, Refusal> {
        // Most layers remove nothing.
        if self.removed.is_empty() {
            return Ok(false);
        }
        let real = self.real_name(path)?;
        Ok(self.removed.remove(&real))
    }

    fn real_name(&self, path: &Path) -> Result<PathBuf, Refusal> {
        let parent = self.real(path.parent().unwrap_or(Path::new("")))?;
        Ok(parent.join(path.file_name().unwrap_or_default()))
    }
}

fn special(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Char => "character device",
        EntryType::Block => "block device",
        _ => "FIFO",
    }
}
