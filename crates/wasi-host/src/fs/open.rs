//! Opening: what may be opened at all, and how.
//!
//! A file is first looked at by `O_PATH`, which has no side effect, and only what is a regular file
//! or a folder is opened: opening a device can act on the host (a watchdog, a tape), and opening a
//! FIFO can hold a thread for ever. A device is `EACCES`, as under a mount with `nodev`; a FIFO is
//! `EOPNOTSUPP`; a socket `ENXIO`, as always.

use super::resolve::{NoName, Picked, Spot};
use super::tree::{Place, Root, Tree};
use super::walk::Last;
use super::{Dir, Errno, File, FileKind, Result, Stat};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

/// How to open, in the terms of `open(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// For reading. Neither this nor `write` is reading too.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// `O_APPEND`
    pub append: bool,
    /// `O_CREAT`, with mode 0666 less the host's umask.
    pub create: bool,
    /// `O_EXCL`, with `create`.
    pub exclusive: bool,
    /// `O_TRUNC`
    pub truncate: bool,
    /// `O_DIRECTORY`
    pub directory: bool,
    /// `O_DSYNC`
    pub data_sync: bool,
    /// `O_SYNC`
    pub sync: bool,
    /// Without `O_NOFOLLOW`.
    pub follow: bool,
}

/// What was opened.
#[derive(Debug)]
pub enum Opened {
    /// A folder.
    Dir(Dir),
    /// A regular file.
    File(File),
}

/// How often a name may come and go under an open before that is `EAGAIN`.
const TRIES: u32 = 16;

impl Root {
    /// Opens `path`, from `dir` on if it is relative.
    ///
    /// # Errors
    /// `ENFILE` if the process has no descriptor to spare, what `open(2)` gives, and what the module says of devices, FIFOs and sockets.
    pub fn open(&self, dir: &Dir, path: &Path, options: OpenOptions) -> Result<Opened> {
        // Before, since an open can make or cut a file.
        let one = self.share().take()?;
        Ok(match self.open_uncounted(dir, path, options)? {
            Opened::Dir(dir) => Opened::Dir(dir.counted(one)),
            Opened::File(file) => Opened::File(file.counted(one)),
        })
    }

    fn open_uncounted(&self, dir: &Dir, path: &Path, options: OpenOptions) -> Result<Opened> {
        if options.create && options.directory {
            return Err(Errno::INVAL);
        }
        let start = dir.place();
        if options.create && options.exclusive {
            return self.tree.create_new(start, path, options).map(Opened::File);
        }
        let last = if options.follow {
            Last::Follow
        } else {
            Last::Keep
        };
        for _ in 0..TRIES {
            match self.tree.pick(start, path, last) {
                Err(Errno::NOENT) if options.create => {}
                picked => return self.tree.reopen(picked?, options),
            }
            match self.tree.create(start, path, options) {
                Err(Errno::EXIST) => {}
                created => return created.map(Opened::File),
            }
        }
        Err(Errno::AGAIN)
    }
}

impl Tree {
    /// Makes a file where there is nothing. `EEXIST` if there is something by now.
    fn create(&self, start: &Place, path: &Path, options: OpenOptions) -> Result<File> {
        match self.create_new(start, path, options) {
            Err(Errno::EXIST) if options.follow => {
                let spot = self.spot_behind_links(start, path)?.ok_or(Errno::EXIST)?;
                self.create_at(&spot, options)
            }
            result => result,
        }
    }

    fn create_new(&self, start: &Place, path: &Path, options: OpenOptions) -> Result<File> {
        match self.spot(start, path)? {
            Ok(spot) => self.create_at(&spot, options),
            Err(NoName::Root | NoName::Dot | NoName::DotDot) if options.exclusive => {
                Err(Errno::EXIST)
            }
            Err(_) => Err(Errno::ISDIR),
        }
    }

    fn create_at(&self, spot: &Spot, options: OpenOptions) -> Result<File> {
        if spot.must_be_dir {
            return Err(Errno::ISDIR);
        }
        if spot.node.is_some() {
            return Err(Errno::EXIST);
        }
        if self.is_read_only(spot.parent.mount) {
            // What exists is EEXIST, even here.
            return Err(spot.kind().map_or_else(
                |e| if e == Errno::NOENT { Errno::ROFS } else { e },
                |_| Errno::EXIST,
            ));
        }
        let flags = flags(options) | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o666);
        let fd = rustix::fs::openat(spot.parent.as_fd(), &spot.name, flags, mode)?;
        Ok(File::new(fd, options, false))
    }

    /// Opens what was found, if it is what may be opened.
    fn reopen(&self, picked: Picked, options: OpenOptions) -> Result<Opened> {
        match Stat::of(picked.as_fd())?.kind {
            FileKind::Directory if options.write || options.truncate => Err(Errno::ISDIR),
            FileKind::Directory => self.open_dir(&picked.into_place()).map(Opened::Dir),
            _ if options.directory => Err(Errno::NOTDIR),
            FileKind::Regular => self.reopen_file(&picked, options).map(Opened::File),
            FileKind::Symlink => Err(Errno::LOOP),
            FileKind::CharacterDevice | FileKind::BlockDevice => Err(Errno::ACCESS),
            FileKind::Socket => Err(Errno::NXIO),
            FileKind::Fifo | FileKind::Unknown => Err(Errno::OPNOTSUPP),
        }
    }

    fn reopen_file(&self, picked: &Picked, options: OpenOptions) -> Result<File> {
        let read_only = self.is_read_only(picked.mount);
        if read_only && (options.write || options.truncate) {
            return Err(Errno::ROFS);
        }
        let (folder, mut buffer) = (proc_fds()?, [0_u8; 12]);
        let name = fd_name(picked.as_fd(), &mut buffer)?;
        // The link in /proc is the host's own and leads to the file that was looked at.
        let fd = rustix::fs::openat(folder, name, flags(options), Mode::empty())?;
        Ok(File::new(fd, options, read_only))
    }
}

fn flags(options: OpenOptions) -> OFlags {
    let mut flags = OFlags::CLOEXEC | OFlags::NOCTTY;
    flags |= match (options.read, options.write) {
        (_, false) => OFlags::RDONLY,
        (false, true) => OFlags::WRONLY,
        (true, true) => OFlags::RDWR,
    };
    flags.set(OFlags::APPEND, options.append);
    flags.set(OFlags::TRUNC, options.truncate);
    flags.set(OFlags::DSYNC, options.data_sync);
    flags.set(OFlags::SYNC, options.sync);
    flags
}

/// This process' own `/proc/self/fd`.
fn proc_fds() -> Result<&'static OwnedFd> {
    static FDS: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(fd) = FDS.get() {
        return Ok(fd);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
    if rustix::fs::fstatfs(&fd)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
        return Err(Errno::NOSYS);
    }
    Ok(FDS.get_or_init(|| fd))
}

/// `fd` in digits, which is its name in `/proc/self/fd`.
fn fd_name(fd: impl AsFd, buffer: &mut [u8; 12]) -> Result<&str> {
    let length = {
        let mut rest = &mut buffer[..];
        let before = rest.len();
        write!(rest, "{}", fd.as_fd().as_raw_fd()).map_err(|_| Errno::BADF)?;
        before - rest.len()
    };
    let digits = buffer.get(..length).ok_or(Errno::BADF)?;
    std::str::from_utf8(digits).map_err(|_| Errno::BADF)
}

/// The kernel's present name for what `fd` is open on.
pub(super) fn proc_path(fd: impl AsFd) -> Result<Vec<u8>> {
    let mut buffer = [0_u8; 12];
    let name = fd_name(fd, &mut buffer)?;
    Ok(rustix::fs::readlinkat(proc_fds()?, name, Vec::new())?.into_bytes())
}

/// Gives what `fd` is open on (`O_PATH` will do) another name.
pub(super) fn link_fd(fd: impl AsFd, folder: impl AsFd, name: &OsStr) -> Result<()> {
    let mut buffer = [0_u8; 12];
    let source = fd_name(fd, &mut buffer)?;
    rustix::fs::linkat(proc_fds()?, source, folder, name, AtFlags::SYMLINK_FOLLOW)
}
