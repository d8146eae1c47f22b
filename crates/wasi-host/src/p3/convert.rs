//! Between preview3's types of `wasi:filesystem` and the file-system layer's.

use std::io;

use wasmtime_wasi::p3::bindings::clocks::system_clock::Instant;
use wasmtime_wasi::p3::bindings::filesystem::types::{self, ErrorCode};
use wasmtime_wasi::p3::filesystem::FilesystemError;

use super::pipe::Code;
use crate::fs::{Advice, Errno, FileKind, SetTime, Stat, Time};

/// The kernel's error, in WASI's words.
pub(super) fn error(errno: Errno) -> FilesystemError {
    FilesystemError::from(code(errno))
}

/// wasmtime-wasi's own translation knows fewer.
pub(super) fn code(errno: Errno) -> ErrorCode {
    use ErrorCode as Code;
    match errno {
        Errno::ACCESS => Code::Access,
        Errno::ALREADY => Code::Already,
        Errno::BADF => Code::BadDescriptor,
        Errno::BUSY => Code::Busy,
        Errno::DEADLK => Code::Deadlock,
        Errno::DQUOT => Code::Quota,
        Errno::EXIST => Code::Exist,
        Errno::FBIG => Code::FileTooLarge,
        Errno::ILSEQ => Code::IllegalByteSequence,
        Errno::INPROGRESS => Code::InProgress,
        Errno::INTR => Code::Interrupted,
        Errno::INVAL => Code::Invalid,
        Errno::ISDIR => Code::IsDirectory,
        Errno::LOOP => Code::Loop,
        Errno::MLINK => Code::TooManyLinks,
        Errno::MSGSIZE => Code::MessageSize,
        Errno::NAMETOOLONG => Code::NameTooLong,
        Errno::NODEV => Code::NoDevice,
        Errno::NOENT => Code::NoEntry,
        Errno::NOLCK => Code::NoLock,
        Errno::NOMEM => Code::InsufficientMemory,
        Errno::MFILE | Errno::NFILE => Code::Other(Some("too many open files".to_owned())),
        Errno::NOSPC => Code::InsufficientSpace,
        Errno::NOTDIR => Code::NotDirectory,
        Errno::NOTEMPTY => Code::NotEmpty,
        Errno::NOTRECOVERABLE => Code::NotRecoverable,
        Errno::NOTSUP | Errno::NOSYS => Code::Unsupported,
        Errno::NOTTY => Code::NoTty,
        Errno::NXIO => Code::NoSuchDevice,
        Errno::OVERFLOW => Code::Overflow,
        Errno::PERM => Code::NotPermitted,
        Errno::PIPE => Code::Pipe,
        Errno::ROFS => Code::ReadOnly,
        Errno::SPIPE => Code::InvalidSeek,
        Errno::TXTBSY => Code::TextFileBusy,
        Errno::XDEV => Code::CrossDevice,
        _ => Code::Io,
    }
}

impl Code for ErrorCode {
    fn of(error: &io::Error) -> ErrorCode {
        Errno::from_io_error(error).map_or(ErrorCode::Io, code)
    }
}

pub(super) fn kind(kind: FileKind) -> types::DescriptorType {
    match kind {
        FileKind::Regular => types::DescriptorType::RegularFile,
        FileKind::Directory => types::DescriptorType::Directory,
        FileKind::Symlink => types::DescriptorType::SymbolicLink,
        FileKind::CharacterDevice => types::DescriptorType::CharacterDevice,
        FileKind::BlockDevice => types::DescriptorType::BlockDevice,
        FileKind::Fifo => types::DescriptorType::Fifo,
        FileKind::Socket => types::DescriptorType::Socket,
        FileKind::Unknown => types::DescriptorType::Other(None),
    }
}

fn instant(time: Time) -> Option<Instant> {
    Some(Instant {
        seconds: time.seconds,
        nanoseconds: time.nanoseconds,
    })
}

pub(super) fn stat(stat: &Stat) -> types::DescriptorStat {
    types::DescriptorStat {
        type_: kind(stat.kind),
        link_count: stat.links,
        size: stat.size,
        data_access_timestamp: instant(stat.accessed),
        data_modification_timestamp: instant(stat.modified),
        status_change_timestamp: instant(stat.changed),
    }
}

/// One number a file, as long as it exists: file systems number theirs, and devices differ.
pub(super) fn hash(stat: &Stat) -> types::MetadataHashValue {
    types::MetadataHashValue {
        lower: stat.ino,
        upper: stat.dev,
    }
}

pub(super) fn set_time(time: types::NewTimestamp) -> Result<SetTime, Errno> {
    Ok(match time {
        types::NewTimestamp::NoChange => SetTime::Keep,
        types::NewTimestamp::Now => SetTime::Now,
        types::NewTimestamp::Timestamp(Instant {
            seconds,
            nanoseconds,
        }) => {
            if nanoseconds >= 1_000_000_000 {
                return Err(Errno::INVAL);
            }
            SetTime::To(Time {
                seconds,
                nanoseconds,
            })
        }
    })
}

pub(super) fn advice(advice: types::Advice) -> Advice {
    match advice {
        types::Advice::Normal => Advice::Normal,
        types::Advice::Sequential => Advice::Sequential,
        types::Advice::Random => Advice::Random,
        types::Advice::WillNeed => Advice::WillNeed,
        types::Advice::DontNeed => Advice::DontNeed,
        types::Advice::NoReuse => Advice::NoReuse,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_is_one_and_a_billion_nanoseconds_are_none() {
        let time = |seconds, nanoseconds| {
            set_time(types::NewTimestamp::Timestamp(Instant {
                seconds,
                nanoseconds,
            }))
        };
        let before = Time {
            seconds: -1,
            nanoseconds: 2,
        };
        assert_eq!(time(-1, 2).unwrap(), SetTime::To(before));
        assert_eq!(time(1, 1_000_000_000).unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn errors_keep_their_meaning() {
        assert!(matches!(code(Errno::ROFS), ErrorCode::ReadOnly));
        assert!(matches!(code(Errno::XDEV), ErrorCode::CrossDevice));
        assert!(matches!(
            ErrorCode::of(&Errno::NOSPC.into()),
            ErrorCode::InsufficientSpace
        ));
        assert!(matches!(ErrorCode::broken(), ErrorCode::Pipe));
    }
}
