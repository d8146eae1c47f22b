//! What is known of a file, in the units of both worlds.

use super::Result;
use rustix::fs::{FileType, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use std::os::fd::BorrowedFd;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// The file system doesn't say.
    Unknown,
}

impl From<FileType> for FileKind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::Regular,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::CharacterDevice => Self::CharacterDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::Unknown => Self::Unknown,
        }
    }
}

/// A point in time since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// The rest, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Time {
    /// Nanoseconds since the epoch; what a `u64` can't hold is its nearest value.
    pub fn nanos(self) -> u64 {
        let nanos = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds);
        u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)
    }

    /// The time `nanos` nanoseconds after the epoch.
    pub fn from_nanos(nanos: u64) -> Self {
        // Both fit: a u64 of nanoseconds is at most 18,446,744,073 seconds.
        let seconds = i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX);
        let nanoseconds = u32::try_from(nanos % 1_000_000_000).unwrap_or(0);
        Self {
            seconds,
            nanoseconds,
        }
    }
}

/// What to do with one of a file's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// Leave it.
    Keep,
    /// The present time, by the file system's clock.
    Now,
    /// This time.
    To(Time),
}

impl SetTime {
    fn spec(self) -> Timespec {
        match self {
            Self::Keep => Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            Self::Now => Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_NOW,
            },
            Self::To(time) => Timespec {
                tv_sec: time.seconds,
                tv_nsec: i64::from(time.nanoseconds),
            },
        }
    }
}

pub(super) fn timestamps(accessed: SetTime, modified: SetTime) -> Timestamps {
    Timestamps {
        last_access: accessed.spec(),
        last_modification: modified.spec(),
    }
}

/// What `stat(2)` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The file system's number.
    pub dev: u64,
    /// The file's number in it.
    pub ino: u64,
    /// What it is.
    pub kind: FileKind,
    /// How many names it has.
    pub links: u64,
    /// Its length in bytes; a link's is its target's.
    pub size: u64,
    /// Last read.
    pub accessed: Time,
    /// Contents last changed.
    pub modified: Time,
    /// Anything of it last changed.
    pub changed: Time,
}

impl Stat {
    /// Of an open file; `O_PATH` will do.
    pub(super) fn of(fd: BorrowedFd<'_>) -> Result<Self> {
        rustix::fs::fstat(fd).map(Self::from)
    }
}

impl From<rustix::fs::Stat> for Stat {
    fn from(stat: rustix::fs::Stat) -> Self {
        let time = |seconds: i64, nanos: u64| Time {
            seconds,
            nanoseconds: u32::try_from(nanos).unwrap_or(0),
        };
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            kind: FileType::from_raw_mode(stat.st_mode).into(),
            links: stat.st_nlink,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            accessed: time(stat.st_atime, stat.st_atime_nsec),
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}
