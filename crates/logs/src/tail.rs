//! Finds where the last lines begin: reads plain files from their ends, in constant memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use memchr::memrchr;

use crate::lines::{Line, Lines, MAX_LINE};
use crate::record::{self, MAX_HEADER, Record, Stream};
use crate::snapshot::Opened;

const BLOCK: usize = 64 * 1024;

/// Where in the first file of a queue reading begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Begin {
    /// Bytes to pass over in a plain file.
    pub(crate) offset: u64,
    /// Ended lines to pass over in a compressed one.
    pub(crate) skip: u64,
}

/// Counts line ends from the last one back, until the one before the wanted lines.
struct Count {
    stream: Option<Stream>,
    lines: u64,
    /// How many ends stand at or after the wanted lines' begin; known once a record was seen.
    ends: Option<u64>,
    seen: u64,
}

impl Count {
    fn selects(&self, record: &Record) -> bool {
        self.stream.is_none_or(|stream| stream == record.stream)
    }

    /// A record, from the end back; true if what follows it is what is wanted.
    fn back(&mut self, line: &[u8], torn: bool) -> bool {
        let Some(record) = record::parse(line).filter(|record| self.selects(record)) else {
            return false;
        };
        let ended = !record.partial && !torn;
        // A last line without its end is one of the wanted.
        let ends = *self
            .ends
            .get_or_insert(self.lines.saturating_add(ended.into()));
        self.seen += u64::from(ended);
        ended && self.seen == ends
    }
}

/// Drops from the queue what stands before the last `lines` lines (of one stream, or of both as
/// they are printed) and tells where in its first file they begin.
pub(crate) fn find(
    queue: &mut VecDeque<Opened>,
    lines: u64,
    stream: Option<Stream>,
) -> io::Result<Begin> {
    let mut count = Count {
        stream,
        lines,
        ends: None,
        seen: 0,
    };
    for index in (0..queue.len()).rev() {
        let Some(opened) = queue.get(index) else {
            break;
        };
        let begin = match (lines, opened.gz) {
            (0, true) => Some(Begin {
                offset: 0,
                skip: u64::MAX,
            }),
            (_, false) => {
                scan(&opened.file, opened.size, &mut count)?.map(|offset| Begin { offset, skip: 0 })
            }
            (_, true) => skip(opened, &mut count)?.map(|skip| Begin { offset: 0, skip }),
        };
        if let Some(begin) = begin {
            queue.drain(..index);
            return Ok(begin);
        }
    }
    Ok(Begin::default())
}

/// The offset at which the wanted lines begin, if that is in this file.
fn scan(file: &File, size: u64, count: &mut Count) -> io::Result<Option<u64>> {
    let mut block = vec![0; BLOCK + MAX_HEADER];
    let torn = !ends_in_newline(file, size)?;
    let mut right = size; // ends of lines before this are yet to be found
    let mut end = size; // of the line whose begin is searched
    while right > 0 {
        let left = right.saturating_sub(BLOCK as u64);
        let length = usize::try_from(size - left)
            .unwrap_or(usize::MAX)
            .min(block.len());
        let window = block.get_mut(..length).unwrap_or(&mut []);
        file.read_exact_at(window, left)?;
        let mut upto = usize::try_from(right - left).unwrap_or(0).min(window.len());
        while let Some(at) = memrchr(b'\n', window.get(..upto).unwrap_or(&[])) {
            let begin = left + at as u64 + 1;
            if count.lines == 0 {
                return Ok(Some(begin));
            }
            if line(
                window.get(at + 1..).unwrap_or(&[]),
                begin..end,
                torn && end == size,
                count,
            ) {
                return Ok(Some(end));
            }
            end = begin;
            upto = at;
        }
        if left == 0 && count.lines == 0 {
            return Ok(Some(0));
        }
        if left == 0 && line(window, 0..end, torn && end == size, count) {
            return Ok(Some(end));
        }
        right = left;
    }
    Ok(None)
}

fn ends_in_newline(file: &File, size: u64) -> io::Result<bool> {
    let mut last = [b'\n'];
    if let Some(at) = size.checked_sub(1) {
        file.read_exact_at(&mut last, at)?;
    }
    Ok(last == [b'\n'])
}

/// Counts the line at `place` (its newline included), of which `seen` shows the first bytes.
fn line(seen: &[u8], place: Range<u64>, torn: bool, count: &mut Count) -> bool {
    let length = usize::try_from(place.end - place.start).unwrap_or(usize::MAX);
    length > 0 && length <= MAX_LINE && count.back(seen.get(..length).unwrap_or(seen), torn)
}

/// How many ended lines of a compressed file stand before the wanted ones, if those begin in it.
fn skip(opened: &Opened, count: &mut Count) -> io::Result<Option<u64>> {
    let mut lines = Lines::gz(opened.duplicate()?);
    let (mut ended, mut last_ended) = (0, None);
    // A damaged file counts as far as it can be read, as it will be read.
    while let Ok(Line::Whole(range)) = lines.next() {
        if let Some(record) = record::parse(lines.get(range)).filter(|record| count.selects(record))
        {
            ended += u64::from(!record.partial);
            last_ended = Some(!record.partial);
        }
    }
    rustix::fs::seek(&opened.file, rustix::fs::SeekFrom::Start(0))?;
    let Some(last_ended) = last_ended else {
        return Ok(None);
    };
    let ends = *count
        .ends
        .get_or_insert(count.lines.saturating_add(last_ended.into()));
    let missing = ends - count.seen;
    count.seen += ended.min(missing);
    Ok((ended >= missing).then(|| ended - missing + 1))
}
