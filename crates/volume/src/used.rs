//! How much disk a tree takes that a guest may have made: of any depth, with any links, on one file system.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, IoContext};

/// A folder so deep below an open one is opened and stays so while what is below it is walked: neither paths nor
/// descriptors grow with a guest's folders.
const LEVELS: usize = 64;

/// What a tree takes of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Allocated bytes; of a file with several names once.
    pub bytes: u64,
    /// Files and folders, the top one too.
    pub inodes: u64,
}

/// A folder to be walked: from an open one on.
type Folder = (Rc<OwnedFd>, Vec<OsString>);

/// Counts what is at `path` and below it; nothing for what is not there. With `since` only what was changed after that
/// counts. What vanishes meanwhile, or lies on another file system, does not. Blocks the thread.
///
/// # Errors
/// `Io`: the folder can't be read at all.
pub fn used(path: &Path, since: Option<Timestamp>) -> Result<Used, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(Used::default()),
        Err(e) => return Err(e).at("open", path),
    };
    let stat = rustix::fs::fstat(&top).at("read", path)?;
    let mut count = Count {
        used: Used::default(),
        device: stat.st_dev,
        since: since.map(|at| (at.as_second(), i64::from(at.subsec_nanosecond()))),
        linked: HashSet::new(),
    };
    count.add(&stat);
    let mut folders: Vec<Folder> = vec![(Rc::new(top), Vec::new())];
    while let Some(folder) = folders.pop() {
        count.folder(&folder, &mut folders);
    }
    Ok(count.used)
}

struct Count {
    used: Used,
    device: u64,
    since: Option<(i64, i64)>,
    /// Files with several names that were counted.
    linked: HashSet<u64>,
}

impl Count {
    /// Counts what is in a folder, and puts the folders in it to those that are to be walked.
    fn folder(&mut self, (top, way): &Folder, folders: &mut Vec<Folder>) {
        let Some(opened) = open(top, way) else { return };
        let deep = way.len() >= LEVELS;
        let opened = Rc::new(opened);
        let Ok(entries) = rustix::fs::Dir::read_from(opened.as_fd()) else {
            return;
        };
        for entry in entries.flatten() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let stat = rustix::fs::statat(opened.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW);
            let Ok(stat) = stat else { continue };
            if stat.st_dev != self.device {
                continue;
            }
            self.add(&stat);
            if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
                let next = if deep {
                    (Rc::clone(&opened), vec![name.to_owned()])
                } else {
                    let mut way = way.clone();
                    way.push(name.to_owned());
                    (Rc::clone(top), way)
                };
                folders.push(next);
            }
        }
    }

    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    fn add(&mut self, stat: &Stat) {
        let changed = (stat.st_ctime as i64, stat.st_ctime_nsec as i64);
        let is_folder = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
        if self.since.is_some_and(|since| changed <= since)
            || (!is_folder && stat.st_nlink > 1 && !self.linked.insert(stat.st_ino))
        {
            return;
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or_default();
        self.used.bytes = self.used.bytes.saturating_add(blocks.saturating_mul(512));
        self.used.inodes = self.used.inodes.saturating_add(1);
    }
}

/// Opens a folder by its way from an open one, never by a link.
fn open(top: &OwnedFd, way: &[OsString]) -> Option<OwnedFd> {
    let path: std::path::PathBuf = if way.is_empty() {
        ".".into()
    } else {
        way.iter().collect()
    };
    let resolve = rustix::fs::ResolveFlags::BENEATH
        | rustix::fs::ResolveFlags::NO_SYMLINKS
        | rustix::fs::ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(top, path, flags, Mode::empty(), resolve).ok()
}
