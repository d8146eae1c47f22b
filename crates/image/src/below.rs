//! Operations below a folder that hostile names can't lead out of: each takes the descriptor of a parent and one name,
//! or resolves in the kernel with `RESOLVE_IN_ROOT`.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

/// `PATH_MAX` allows two thousand levels; each level costs whoever walks the tree a descriptor.
const DEPTH_MAX: usize = 200;

/// Why an entry can't be unpacked.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The entry is at fault.
    Entry(String),
    /// The machine is, or the archive ended: the error tells.
    Io(io::Error),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal::Io(errno.into())
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::Io(error)
    }
}

pub(crate) fn refuse<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Entry(reason.into()))
}

/// The path of an entry, relative and with no `.` in it.
pub(crate) fn clean(path: &[u8]) -> Result<PathBuf, Refusal> {
    if path.contains(&0) {
        return refuse("its path has a NUL byte");
    }
    let mut cleaned = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(path)).components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return refuse("its path has '..' in it");
            }
        }
    }
    match cleaned.components().count() {
        depth if depth > DEPTH_MAX => refuse(format!(
            "nested {depth} folders deep; at most {DEPTH_MAX} are taken"
        )),
        _ => Ok(cleaned),
    }
}

/// Opens below `root` as inside a container. An empty path is the root itself.
pub(crate) fn open_in(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something was renamed meanwhile and the kernel can't vouch for the result.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

pub(crate) fn kind_of(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Option<FileType>, Refusal> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NAMETOOLONG) => refuse("a name of more than 255 bytes"),
        Err(e) => Err(e.into()),
    }
}

pub(crate) fn same_file(
    a: BorrowedFd<'_>,
    a_name: &OsStr,
    b: BorrowedFd<'_>,
    b_name: &OsStr,
) -> Result<bool, Refusal> {
    let stat = |dir, name: &OsStr| rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    match (stat(a, a_name), stat(b, b_name)) {
        (Ok(a), Ok(b)) => Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)),
        _ => Ok(false),
    }
}

pub(crate) fn make_whiteout(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    rustix::fs::mknodat(
        parent,
        name,
        FileType::CharacterDevice,
        Mode::empty(),
        rustix::fs::makedev(0, 0),
    )
}

/// Removes a folder of this layer. No deeper than `DEPTH_MAX`, so a descriptor a level is affordable.
pub(crate) fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if matches!(name.as_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => remove_tree(folder.as_fd(), name)?,
            other => other?,
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

pub(crate) fn times(mtime: i64) -> Timestamps {
    let at = Timespec {
        tv_sec: mtime,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: at,
        last_modification: at,
    }
}
