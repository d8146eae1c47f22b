//! Cuts an opened log file, plain or compressed, into lines. Knows no record.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use flate2::read::MultiGzDecoder;
use memchr::memchr;

const BLOCK: usize = 64 * 1024;
/// A longer line is nobody's record; it is passed over, so that memory stays bounded.
pub(crate) const MAX_LINE: usize = 1 << 20;

enum Source {
    Plain {
        file: File,
        offset: u64,
        end: Option<u64>,
    },
    Gz(Box<MultiGzDecoder<BufReader<File>>>),
    Over,
}

/// The lines of one file.
pub(crate) struct Lines {
    source: Source,
    buffer: Vec<u8>,
    start: usize,
    /// Within a line that is passed over.
    overlong: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, by its place in the buffer, without its newline.
    Whole(Range<usize>),
    /// A line that was too long.
    Overlong,
    /// The end, for now; what stands before it without a newline.
    End(Range<usize>),
}

impl Lines {
    /// Lines from a byte offset on; up to `end`, if there is one, else as far as the file grows.
    pub(crate) fn plain(file: File, offset: u64, end: Option<u64>) -> Lines {
        Lines::new(Source::Plain { file, offset, end })
    }

    pub(crate) fn gz(file: File) -> Lines {
        Lines::new(Source::Gz(Box::new(MultiGzDecoder::new(BufReader::new(
            file,
        )))))
    }

    fn new(source: Source) -> Lines {
        Lines {
            source,
            buffer: Vec::new(),
            start: 0,
            overlong: false,
        }
    }

    pub(crate) fn get(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or(&[])
    }

    pub(crate) fn file(&self) -> Option<&File> {
        match &self.source {
            Source::Plain { file, .. } => Some(file),
            Source::Gz(_) | Source::Over => None,
        }
    }

    pub(crate) fn next(&mut self) -> io::Result<Line> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or(&[]);
            if let Some(length) = memchr(b'\n', rest) {
                let line = self.start..self.start + length;
                self.start = line.end + 1;
                if std::mem::take(&mut self.overlong) {
                    return Ok(Line::Overlong);
                }
                return Ok(Line::Whole(line));
            }
            if rest.len() > MAX_LINE {
                self.overlong = true;
            }
            if self.overlong {
                self.start = self.buffer.len();
            }
            if self.more()? == 0 {
                return Ok(Line::End(self.start..self.buffer.len()));
            }
        }
    }

    /// Forgets a line that has no end yet, to read it afresh: its writer may take it back.
    /// A file that shrank below it begins anew.
    pub(crate) fn rewind(&mut self) -> io::Result<()> {
        if let Source::Plain { file, offset, .. } = &mut self.source {
            *offset -= self.buffer.len().saturating_sub(self.start) as u64;
            if file.metadata()?.len() < *offset {
                *offset = 0;
            }
            self.buffer.clear();
            self.start = 0;
        }
        Ok(())
    }

    /// Ends a file that can't be read any further.
    pub(crate) fn give_up(&mut self) {
        *self = Lines::new(Source::Over);
    }

    fn more(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let old = self.buffer.len();
        self.buffer.resize(old + BLOCK, 0);
        let read = self
            .source
            .read(self.buffer.get_mut(old..).unwrap_or(&mut []));
        self.buffer.truncate(old + *read.as_ref().unwrap_or(&0));
        read
    }
}

impl Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Source::Plain { file, offset, end } => {
                    let left = end.map_or(u64::MAX, |end| end.saturating_sub(*offset));
                    let room = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
                    file.read_at(into.get_mut(..room).unwrap_or(&mut []), *offset)
                        .inspect(|read| *offset += *read as u64)
                }
                Source::Gz(decoder) => decoder.read(into),
                Source::Over => Ok(0),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}
