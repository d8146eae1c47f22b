//! Makes folders and files inside a root, following the image's links as a container would: never out of the root.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, IoContext};

/// As many links as Linux follows (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// A root being furnished.
#[derive(Debug)]
pub(crate) struct Inside<'a> {
    root: BorrowedFd<'a>,
}

impl<'a> Inside<'a> {
    pub(crate) fn new(root: BorrowedFd<'a>) -> Inside<'a> {
        Inside { root }
    }

    /// Makes sure that there is a folder at `path`; says whether it was made now.
    pub(crate) fn folder(&self, path: &Path) -> Result<bool, Error> {
        let real = self.real(path)?;
        let found = self.kind(&real)?;
        match found {
            Some(FileType::Directory) => Ok(false),
            Some(other) => Err(in_the_way(path, "folder", other)),
            None => self.mkdir(&real).map(|()| true),
        }
    }

    /// Makes sure that there is a file at `path`, empty if it was not there.
    pub(crate) fn file(&self, path: &Path) -> Result<(), Error> {
        let real = self.real(path)?;
        match self.kind(&real)? {
            Some(FileType::RegularFile) => Ok(()),
            Some(other) => Err(in_the_way(path, "file", other)),
            None => self.create(&real, 0o644).map(|_| ()),
        }
    }

    /// Puts a file with that content at `path`, in place of one that the image may have there. The new one is no hard
    /// link to anything else of the image.
    pub(crate) fn write(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let real = self.real(path)?;
        match self.kind(&real)? {
            Some(FileType::RegularFile) => {
                let (parent, name) = self.parent(&real)?;
                rustix::fs::unlinkat(&parent, name, AtFlags::empty()).at("replace", &real)?;
            }
            Some(other) => return Err(in_the_way(path, "file", other)),
            None => {}
        }
        self.create(&real, 0o644)?
            .write_all(content)
            .at("write", path)
    }

    /// Sets a folder's mode.
    pub(crate) fn set_mode(&self, path: &Path, mode: u32) -> Result<(), Error> {
        let folder = self
            .open(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .at("open", path)?;
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode)).at("chmod", path)
    }

    fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        open_in_root(self.root, path, flags)
    }

    /// `path` with every link followed within the root and every folder above its last name made.
    fn real(&self, path: &Path) -> Result<PathBuf, Error> {
        let mut todo: VecDeque<OsString> = path
            .components()
            .map(|c| c.as_os_str().to_owned())
            .collect();
        let mut at = PathBuf::new();
        let mut links = 0;
        while let Some(next) = todo.pop_front() {
            match Path::new(&next).components().next() {
                Some(Component::RootDir) => at = PathBuf::new(),
                Some(Component::ParentDir) => {
                    at.pop();
                }
                Some(Component::Normal(name)) => {
                    let here = at.join(name);
                    match self.kind(&here)? {
                        Some(FileType::Symlink) => {
                            links += 1;
                            if links > LINKS_MAX {
                                return Err(Error::Io {
                                    what: "resolve",
                                    path: path.to_owned(),
                                    source: Errno::LOOP.into(),
                                });
                            }
                            let (parent, name) = self.parent(&here)?;
                            let target = rustix::fs::readlinkat(&parent, name, Vec::new())
                                .at("read", &here)?;
                            for component in Path::new(OsStr::from_bytes(target.as_bytes()))
                                .components()
                                .rev()
                            {
                                todo.push_front(component.as_os_str().to_owned());
                            }
                            continue;
                        }
                        None if !todo.is_empty() => self.mkdir(&here)?,
                        Some(FileType::Directory) | None => {}
                        Some(other) if !todo.is_empty() => {
                            return Err(in_the_way(&Path::new("/").join(&here), "folder", other));
                        }
                        Some(_) => {}
                    }
                    at = here;
                }
                _ => {}
            }
        }
        Ok(at)
    }

    /// What is at a path whose parent is real; links are not followed.
    fn kind(&self, real: &Path) -> Result<Option<FileType>, Error> {
        let (parent, name) = self.parent(real)?;
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e).at("read", real),
        }
    }

    fn parent<'p>(&self, real: &'p Path) -> Result<(OwnedFd, &'p OsStr), Error> {
        let parent = real.parent().unwrap_or(Path::new(""));
        let folder = self
            .open(parent, OFlags::PATH | OFlags::DIRECTORY)
            .at("open", parent)?;
        Ok((folder, real.file_name().unwrap_or(OsStr::new("."))))
    }

    fn mkdir(&self, real: &Path) -> Result<(), Error> {
        let (parent, name) = self.parent(real)?;
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)).at("create", real)?;
        // Whatever the umask is, as a runtime's own folders are.
        rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(0o755), AtFlags::empty())
            .at("chmod", real)
    }

    fn create(&self, real: &Path, mode: u32) -> Result<File, Error> {
        let (parent, name) = self.parent(real)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(mode))
            .at("create", real)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).at("chmod", real)?;
        Ok(File::from(file))
    }
}

/// Opens below `root` as inside a container. An empty path is the root itself.
pub(crate) fn open_in_root(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(
            root.as_fd(),
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        ) {
            // Something was renamed meanwhile and the kernel can't vouch for the result.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

fn in_the_way(path: &Path, wanted: &'static str, found: FileType) -> Error {
    let found = match found {
        FileType::Directory => "a folder",
        FileType::RegularFile => "a file",
        FileType::Symlink => "a symbolic link",
        _ => "a special file",
    };
    Error::InTheWay {
        path: path.to_owned(),
        wanted,
        found: found.to_owned(),
    }
}
