//! The guest's memory: what it asks to be moved, in pieces that the host can hold.
//!
//! However large the buffers, and however many of them, the host holds at most
//! [`IO_BYTES`] of a call at a time.

use super::types::{Ciovec, CiovecArray, Errno, Iovec, IovecArray};
use super::{Result, types};
use crate::fs::{IO_BYTES, PATH_BYTES};
use std::path::PathBuf;
use wiggle::{GuestMemory, GuestPtr};

/// The most buffers that one call may have, as in Linux (`IOV_MAX`).
const IOVECS: u32 = 1024;

/// Buffers of a guest that are gone through in pieces.
pub(super) struct Buffers {
    buffers: Vec<(GuestPtr<u8>, u32)>,
    index: usize,
    offset: u32,
}

impl Buffers {
    /// Buffers to read into.
    pub(super) fn to_fill(memory: &GuestMemory<'_>, iovecs: IovecArray) -> Result<Self> {
        Self::of(
            iovecs.len(),
            iovecs.iter().map(|iovec| {
                let Iovec { buf, buf_len } = memory.read(iovec?)?;
                check(memory, buf, buf_len)?;
                Ok((buf, buf_len))
            }),
        )
    }

    /// Buffers to write from.
    pub(super) fn to_drain(memory: &GuestMemory<'_>, ciovecs: CiovecArray) -> Result<Self> {
        Self::of(
            ciovecs.len(),
            ciovecs.iter().map(|ciovec| {
                let Ciovec { buf, buf_len } = memory.read(ciovec?)?;
                check(memory, buf, buf_len)?;
                Ok((buf, buf_len))
            }),
        )
    }

    fn of(count: u32, buffers: impl Iterator<Item = Result<(GuestPtr<u8>, u32)>>) -> Result<Self> {
        if count > IOVECS {
            return Err(Errno::Inval.into());
        }
        let buffers = buffers.collect::<Result<Vec<_>>>()?;
        // The result couldn't tell more than a u32, as in Linux no more than an ssize_t.
        let sum = buffers
            .iter()
            .try_fold(0_u32, |sum, (_, length)| sum.checked_add(*length));
        sum.ok_or(Errno::Inval)?;
        Ok(Self {
            buffers,
            index: 0,
            offset: 0,
        })
    }

    /// How many bytes are left, at most what the host moves at once.
    pub(super) fn piece(&self) -> usize {
        let mut sum = 0_usize;
        for (at, (_, length)) in self.buffers.iter().enumerate().skip(self.index) {
            let gone = if at == self.index { self.offset } else { 0 };
            sum = sum.saturating_add(usize::try_from(length - gone).unwrap_or(usize::MAX));
            if sum >= IO_BYTES {
                return IO_BYTES;
            }
        }
        sum
    }

    /// Puts `bytes` where the guest wants them. They are no more than [`Buffers::piece`].
    pub(super) fn fill(&mut self, memory: &mut GuestMemory<'_>, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (target, length) = self.next(rest.len())?;
            let (piece, after) = rest
                .split_at_checked(as_usize(length))
                .ok_or(Errno::Fault)?;
            memory.copy_from_slice(piece, target.as_array(length))?;
            rest = after;
        }
        Ok(())
    }

    /// The next piece; [`Buffers::skip`] tells how much of it was taken.
    pub(super) fn peek(&self, memory: &GuestMemory<'_>) -> Result<Vec<u8>> {
        let mut piece = Vec::with_capacity(self.piece());
        let mut ahead = Self {
            buffers: Vec::new(),
            ..*self
        };
        let mut left = self.piece();
        while left > 0 {
            let (source, length) = next(&self.buffers, &mut ahead.index, &mut ahead.offset, left)?;
            piece.extend_from_slice(&memory.as_cow(source.as_array(length))?);
            left -= as_usize(length);
        }
        Ok(piece)
    }

    /// Moves on by `count` bytes.
    pub(super) fn skip(&mut self, count: usize) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let (_, length) = self.next(left)?;
            left -= as_usize(length);
        }
        Ok(())
    }

    fn next(&mut self, at_most: usize) -> Result<(GuestPtr<u8>, u32)> {
        next(&self.buffers, &mut self.index, &mut self.offset, at_most)
    }
}

/// The next run of bytes in one buffer, at least one and at most `at_most`.
fn next(
    buffers: &[(GuestPtr<u8>, u32)],
    index: &mut usize,
    offset: &mut u32,
    at_most: usize,
) -> Result<(GuestPtr<u8>, u32)> {
    loop {
        let (start, length) = buffers.get(*index).copied().ok_or(Errno::Fault)?;
        let left = length - *offset;
        if left == 0 {
            *index += 1;
            *offset = 0;
            continue;
        }
        let run = left.min(u32::try_from(at_most).unwrap_or(u32::MAX));
        let at = start.add(*offset)?;
        *offset += run;
        return Ok((at, run));
    }
}

/// Traps if not all of the `length` bytes at `at` are the guest's, before anything is done.
pub(super) fn check(memory: &GuestMemory<'_>, at: GuestPtr<u8>, length: u32) -> Result<()> {
    memory.as_slice(at.as_array(length))?;
    Ok(())
}

/// A path of the guest's: `ENAMETOOLONG` before it is looked at, `EILSEQ` if it isn't UTF-8.
pub(super) fn path(memory: &GuestMemory<'_>, path: GuestPtr<str>) -> Result<PathBuf> {
    if as_usize(path.len()) > PATH_BYTES {
        return Err(Errno::Nametoolong.into());
    }
    Ok(PathBuf::from(memory.as_cow_str(path)?.into_owned()))
}

/// Puts C strings at `buffer` and their addresses at `table`.
pub(super) fn strings(
    memory: &mut GuestMemory<'_>,
    strings: &[std::ffi::CString],
    mut table: GuestPtr<GuestPtr<u8>>,
    mut buffer: GuestPtr<u8>,
) -> Result<()> {
    for string in strings {
        let bytes = string.as_bytes_with_nul();
        let length = types::Size::try_from(bytes.len()).map_err(|_| Errno::Overflow)?;
        memory.write(table, buffer)?;
        memory.copy_from_slice(bytes, buffer.as_array(length))?;
        table = table.add(1)?;
        buffer = buffer.add(length)?;
    }
    Ok(())
}

/// How many C strings there are, and how many bytes with their NULs.
pub(super) fn string_sizes(strings: &[std::ffi::CString]) -> Result<(u32, u32)> {
    let bytes: usize = strings
        .iter()
        .map(|string| string.as_bytes_with_nul().len())
        .sum();
    let size = |count: usize| u32::try_from(count).map_err(|_| Errno::Overflow);
    Ok((size(strings.len())?, size(bytes)?))
}

/// Never truncates: the host has at least 32 bits.
pub(super) fn as_usize(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
