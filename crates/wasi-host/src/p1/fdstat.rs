//! What a descriptor is and may do.

use super::table::{Descriptor, OpenFile, Stream};
use super::types::{Device, Errno, Fdflags, Fdstat, Filestat, Filetype, Rights};
use super::{Ctx, Result, types};
use crate::fs::{FileKind, Stat};

impl From<FileKind> for Filetype {
    fn from(kind: FileKind) -> Self {
        match kind {
            FileKind::Regular => Self::RegularFile,
            FileKind::Directory => Self::Directory,
            FileKind::Symlink => Self::SymbolicLink,
            FileKind::CharacterDevice => Self::CharacterDevice,
            FileKind::BlockDevice => Self::BlockDevice,
            FileKind::Socket => Self::SocketStream,
            // Preview1 has no word for a FIFO.
            FileKind::Fifo | FileKind::Unknown => Self::Unknown,
        }
    }
}

impl From<Stat> for Filestat {
    fn from(stat: Stat) -> Self {
        Self {
            dev: stat.dev,
            ino: stat.ino,
            filetype: stat.kind.into(),
            nlink: stat.links,
            size: stat.size,
            atim: stat.accessed.nanos(),
            mtim: stat.modified.nanos(),
            ctim: stat.changed.nanos(),
        }
    }
}

fn dir_rights() -> Rights {
    Rights::FD_FDSTAT_SET_FLAGS
        | Rights::FD_SYNC
        | Rights::FD_DATASYNC
        | Rights::FD_ADVISE
        | Rights::PATH_CREATE_DIRECTORY
        | Rights::PATH_CREATE_FILE
        | Rights::PATH_LINK_SOURCE
        | Rights::PATH_LINK_TARGET
        | Rights::PATH_OPEN
        | Rights::FD_READDIR
        | Rights::PATH_READLINK
        | Rights::PATH_RENAME_SOURCE
        | Rights::PATH_RENAME_TARGET
        | Rights::PATH_FILESTAT_GET
        | Rights::PATH_FILESTAT_SET_SIZE
        | Rights::PATH_FILESTAT_SET_TIMES
        | Rights::FD_FILESTAT_GET
        | Rights::FD_FILESTAT_SET_TIMES
        | Rights::PATH_SYMLINK
        | Rights::PATH_REMOVE_DIRECTORY
        | Rights::PATH_UNLINK_FILE
        | Rights::POLL_FD_READWRITE
}

fn file_rights(readable: bool, writable: bool) -> Rights {
    let mut rights = Rights::FD_SEEK
        | Rights::FD_TELL
        | Rights::FD_FDSTAT_SET_FLAGS
        | Rights::FD_SYNC
        | Rights::FD_DATASYNC
        | Rights::FD_ADVISE
        | Rights::FD_FILESTAT_GET
        | Rights::FD_FILESTAT_SET_TIMES
        | Rights::POLL_FD_READWRITE;
    if readable {
        rights |= Rights::FD_READ;
    }
    if writable {
        rights |= Rights::FD_WRITE | Rights::FD_ALLOCATE | Rights::FD_FILESTAT_SET_SIZE;
    }
    rights
}

fn stream_rights(direction: Rights) -> Rights {
    // Neither seek nor tell: with them a C guest takes a terminal for a disk.
    direction | Rights::FD_FDSTAT_SET_FLAGS | Rights::FD_FILESTAT_GET | Rights::POLL_FD_READWRITE
}

fn stream_stat(stream: Stream, direction: Rights) -> Fdstat {
    Fdstat {
        fs_filetype: stream_type(stream),
        fs_flags: nonblock(stream.nonblocking),
        fs_rights_base: stream_rights(direction),
        fs_rights_inheriting: Rights::empty(),
    }
}

fn stream_type(stream: Stream) -> Filetype {
    if stream.is_terminal {
        Filetype::CharacterDevice
    } else {
        Filetype::Unknown
    }
}

fn nonblock(nonblocking: bool) -> Fdflags {
    if nonblocking {
        Fdflags::NONBLOCK
    } else {
        Fdflags::empty()
    }
}

impl Ctx {
    pub(super) fn fdstat(&self, fd: types::Fd) -> Result<Fdstat> {
        Ok(match self.table.get(fd)? {
            Descriptor::Stdin { stream, .. } => stream_stat(*stream, Rights::FD_READ),
            Descriptor::Out { stream, .. } => stream_stat(*stream, Rights::FD_WRITE),
            Descriptor::Dir { .. } => Fdstat {
                fs_filetype: Filetype::Directory,
                fs_flags: Fdflags::empty(),
                fs_rights_base: dir_rights(),
                fs_rights_inheriting: dir_rights() | file_rights(true, true),
            },
            Descriptor::File(OpenFile { file, flags }) => Fdstat {
                fs_filetype: Filetype::RegularFile,
                fs_flags: *flags,
                fs_rights_base: file_rights(file.is_readable(), file.is_writable()),
                fs_rights_inheriting: Rights::empty(),
            },
            Descriptor::Listener { nonblocking, .. } => Fdstat {
                fs_filetype: Filetype::SocketStream,
                fs_flags: nonblock(*nonblocking),
                fs_rights_base: stream_rights(Rights::SOCK_ACCEPT),
                fs_rights_inheriting: stream_rights(socket_rights()),
            },
            Descriptor::Socket { nonblocking, .. } => Fdstat {
                fs_filetype: Filetype::SocketStream,
                fs_flags: nonblock(*nonblocking),
                fs_rights_base: stream_rights(socket_rights()),
                fs_rights_inheriting: Rights::empty(),
            },
        })
    }

    /// `APPEND` and `NONBLOCK` may change, as by `fcntl(2)`; the rest is settled by the open.
    pub(super) fn set_fdflags(&mut self, fd: types::Fd, flags: Fdflags) -> Result<()> {
        let wants_nonblock = flags.contains(Fdflags::NONBLOCK);
        match self.table.get_mut(fd)? {
            Descriptor::Stdin { stream, .. } | Descriptor::Out { stream, .. } => {
                stream.nonblocking = wants_nonblock;
            }
            Descriptor::Listener { nonblocking, .. } | Descriptor::Socket { nonblocking, .. } => {
                *nonblocking = wants_nonblock;
            }
            Descriptor::Dir { .. } => {}
            Descriptor::File(open) => {
                let settled = Fdflags::DSYNC | Fdflags::RSYNC | Fdflags::SYNC;
                if flags & settled != open.flags & settled {
                    return Err(Errno::Inval.into());
                }
                open.file.set_appending(flags.contains(Fdflags::APPEND))?;
                open.flags = flags;
            }
        }
        Ok(())
    }

    pub(super) async fn filestat(&self, fd: types::Fd) -> Result<Filestat> {
        let of_type = |filetype| Filestat {
            dev: Device::default(),
            ino: 0,
            filetype,
            nlink: 1,
            size: 0,
            atim: 0,
            mtim: 0,
            ctim: 0,
        };
        Ok(match self.table.get(fd)? {
            Descriptor::Stdin { stream, .. } | Descriptor::Out { stream, .. } => {
                of_type(stream_type(*stream))
            }
            Descriptor::Listener { .. } | Descriptor::Socket { .. } => {
                of_type(Filetype::SocketStream)
            }
            Descriptor::Dir { dir, .. } => {
                let dir = dir.clone();
                self.blocking.run(move || dir.stat()).await??.into()
            }
            Descriptor::File(OpenFile { file, .. }) => {
                let file = file.clone();
                self.blocking.run(move || file.stat()).await??.into()
            }
        })
    }
}

fn socket_rights() -> Rights {
    Rights::FD_READ | Rights::FD_WRITE | Rights::SOCK_SHUTDOWN
}
