//! Errors in preview1's numbers.

use super::types::{self, Errno};
use crate::Unfinished;
use wiggle::GuestError;

impl From<crate::fs::Errno> for Errno {
    /// By name; what preview1 has no name for is `EIO`.
    fn from(errno: crate::fs::Errno) -> Self {
        use crate::fs::Errno as Os;
        match errno {
            Os::TOOBIG => Self::TooBig,
            Os::ACCESS => Self::Acces,
            Os::ADDRINUSE => Self::Addrinuse,
            Os::ADDRNOTAVAIL => Self::Addrnotavail,
            Os::AFNOSUPPORT => Self::Afnosupport,
            Os::AGAIN => Self::Again,
            Os::ALREADY => Self::Already,
            Os::BADF => Self::Badf,
            Os::BADMSG => Self::Badmsg,
            Os::BUSY => Self::Busy,
            Os::CANCELED => Self::Canceled,
            Os::CONNABORTED => Self::Connaborted,
            Os::CONNREFUSED => Self::Connrefused,
            Os::CONNRESET => Self::Connreset,
            Os::DEADLK => Self::Deadlk,
            Os::DESTADDRREQ => Self::Destaddrreq,
            Os::DOM => Self::Dom,
            Os::DQUOT => Self::Dquot,
            Os::EXIST => Self::Exist,
            Os::FAULT => Self::Fault,
            Os::FBIG => Self::Fbig,
            Os::HOSTUNREACH => Self::Hostunreach,
            Os::ILSEQ => Self::Ilseq,
            Os::INPROGRESS => Self::Inprogress,
            Os::INTR => Self::Intr,
            Os::INVAL => Self::Inval,
            Os::IO => Self::Io,
            Os::ISCONN => Self::Isconn,
            Os::ISDIR => Self::Isdir,
            Os::LOOP => Self::Loop,
            Os::MFILE => Self::Mfile,
            Os::MLINK => Self::Mlink,
            Os::MSGSIZE => Self::Msgsize,
            Os::NAMETOOLONG => Self::Nametoolong,
            Os::NETDOWN => Self::Netdown,
            Os::NETRESET => Self::Netreset,
            Os::NETUNREACH => Self::Netunreach,
            Os::NFILE => Self::Nfile,
            Os::NOBUFS => Self::Nobufs,
            Os::NODEV => Self::Nodev,
            Os::NOENT => Self::Noent,
            Os::NOLCK => Self::Nolck,
            Os::NOMEM => Self::Nomem,
            Os::NOPROTOOPT => Self::Noprotoopt,
            Os::NOSPC => Self::Nospc,
            Os::NOSYS => Self::Nosys,
            Os::NOTCONN => Self::Notconn,
            Os::NOTDIR => Self::Notdir,
            Os::NOTEMPTY => Self::Notempty,
            Os::NOTRECOVERABLE => Self::Notrecoverable,
            Os::NOTSOCK => Self::Notsock,
            Os::OPNOTSUPP => Self::Notsup,
            Os::NOTTY => Self::Notty,
            Os::NXIO => Self::Nxio,
            Os::OVERFLOW => Self::Overflow,
            Os::PERM => Self::Perm,
            Os::PIPE => Self::Pipe,
            Os::PROTO => Self::Proto,
            Os::PROTONOSUPPORT => Self::Protonosupport,
            Os::PROTOTYPE => Self::Prototype,
            Os::RANGE => Self::Range,
            Os::ROFS => Self::Rofs,
            Os::SPIPE => Self::Spipe,
            Os::SRCH => Self::Srch,
            Os::STALE => Self::Stale,
            Os::TIMEDOUT => Self::Timedout,
            Os::TXTBSY => Self::Txtbsy,
            Os::XDEV => Self::Xdev,
            _ => Self::Io,
        }
    }
}

impl From<crate::fs::Errno> for types::Error {
    fn from(errno: crate::fs::Errno) -> Self {
        Errno::from(errno).into()
    }
}

impl From<std::io::Error> for types::Error {
    fn from(error: std::io::Error) -> Self {
        match crate::fs::Errno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => Errno::Io.into(),
        }
    }
}

impl From<Unfinished> for types::Error {
    fn from(_: Unfinished) -> Self {
        Errno::Io.into()
    }
}

impl From<GuestError> for types::Error {
    /// A pointer that leads nowhere traps, as the interface's documentation has it.
    fn from(error: GuestError) -> Self {
        match error {
            GuestError::InvalidFlagValue(_) | GuestError::InvalidEnumValue(_) => {
                Errno::Inval.into()
            }
            GuestError::PtrOverflow
            | GuestError::PtrOutOfBounds(_)
            | GuestError::PtrNotAligned(..) => Self::trap(error.into()),
            GuestError::SliceLengthsDiffer => Errno::Fault.into(),
            GuestError::InvalidUtf8(_) => Errno::Ilseq.into(),
            GuestError::TryFromIntError(_) => Errno::Overflow.into(),
            GuestError::InFunc { err, .. } => Self::from(*err),
        }
    }
}
