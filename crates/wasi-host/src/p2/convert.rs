//! Between preview2's types and the file-system layer's.

use wasmtime_wasi::p2::FsError;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types;

use crate::fs::{Advice, Errno, FileKind, SetTime, Stat, Time};

/// The kernel's error, in WASI's words.
pub(super) fn error(errno: Errno) -> FsError {
    FsError::from(code(errno))
}

/// wasmtime-wasi's own translation knows fewer: a read-only file system is `io` to it.
pub(super) fn code(errno: Errno) -> types::ErrorCode {
    use types::ErrorCode as Code;
    match errno {
        Errno::ACCESS => Code::Access,
        Errno::AGAIN => Code::WouldBlock,
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
        // There is no word for too many open files: it is the host's memory of them that is short.
        Errno::NOMEM | Errno::MFILE | Errno::NFILE => Code::InsufficientMemory,
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

pub(super) fn kind(kind: FileKind) -> types::DescriptorType {
    match kind {
        FileKind::Regular => types::DescriptorType::RegularFile,
        FileKind::Directory => types::DescriptorType::Directory,
        FileKind::Symlink => types::DescriptorType::SymbolicLink,
        FileKind::CharacterDevice => types::DescriptorType::CharacterDevice,
        FileKind::BlockDevice => types::DescriptorType::BlockDevice,
        FileKind::Fifo => types::DescriptorType::Fifo,
        FileKind::Socket => types::DescriptorType::Socket,
        FileKind::Unknown => types::DescriptorType::Unknown,
    }
}

/// Before 1970 there is no Datetime: none is given.
fn datetime(time: Time) -> Option<Datetime> {
    let seconds = u64::try_from(time.seconds).ok()?;
    Some(Datetime {
        seconds,
        nanoseconds: time.nanoseconds,
    })
}

pub(super) fn stat(stat: &Stat) -> types::DescriptorStat {
    types::DescriptorStat {
        type_: kind(stat.kind),
        link_count: stat.links,
        size: stat.size,
        data_access_timestamp: datetime(stat.accessed),
        data_modification_timestamp: datetime(stat.modified),
        status_change_timestamp: datetime(stat.changed),
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
        types::NewTimestamp::Timestamp(Datetime {
            seconds,
            nanoseconds,
        }) => {
            let seconds = i64::try_from(seconds).map_err(|_| Errno::OVERFLOW)?;
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
    fn a_time_that_is_none_is_refused() {
        let time = |seconds, nanoseconds| {
            set_time(types::NewTimestamp::Timestamp(Datetime {
                seconds,
                nanoseconds,
            }))
        };
        assert_eq!(
            time(1, 2).unwrap(),
            SetTime::To(Time {
                seconds: 1,
                nanoseconds: 2
            })
        );
        assert_eq!(time(1, 1_000_000_000).unwrap_err(), Errno::INVAL);
        assert_eq!(time(u64::MAX, 0).unwrap_err(), Errno::OVERFLOW);
    }

    #[test]
    fn errors_keep_their_meaning() {
        let code = |errno| error(errno).downcast().unwrap();
        assert_eq!(code(Errno::NOSPC), types::ErrorCode::InsufficientSpace);
        assert_eq!(code(Errno::ROFS), types::ErrorCode::ReadOnly);
        assert_eq!(code(Errno::XDEV), types::ErrorCode::CrossDevice);
        assert_eq!(code(Errno::LOOP), types::ErrorCode::Loop);
    }
}
