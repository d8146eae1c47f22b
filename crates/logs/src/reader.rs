//! Reads a log as `kubectl logs` shows it. Knows no writer.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use jiff::Timestamp;
use jiff::civil::DateTime;

use crate::files::Files;
use crate::lines::{Line, Lines};
use crate::record::{self, Stream};
use crate::snapshot::{self, Opened};
use crate::tail::{self, Begin};
use crate::watch::{Ender, Watch};

/// What of a log is wanted, by the meaning of `PodLogOptions`. The default is all of it, once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Go on as the log grows, until [`Ender::end`] or [`Ender::cancel`].
    pub follow: bool,
    /// Only the last lines of what is printed; a last one without a newline counts. Applied before `since`.
    pub tail: Option<u64>,
    /// Only records of this time and later.
    pub since: Option<Timestamp>,
    /// Put the time of its first record before each line.
    pub timestamps: bool,
    /// Most bytes to give out, the timestamps among them.
    pub limit_bytes: Option<u64>,
    /// Only one of the streams.
    pub stream: Option<Stream>,
}

/// What a [`Reader::read`] gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A record's text was appended; a line is whole when it ends in a newline.
    Record(Stream),
    /// Nothing now: more comes when the log grows.
    Wait,
    /// Nothing any more.
    End,
}

/// What could not be read. As the kubelet does, a reader passes over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Lines that are no record.
    pub lines: u64,
    /// Compressed files that are damaged.
    pub files: u64,
}

/// Why a log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no log of that name, or no longer.
    #[error("there is no log {0:?}")]
    NotFound(String),
    /// The folder or a file refused.
    #[error("can't read the log {name:?}")]
    Io {
        /// The file's stem.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Reads one run's log, across rotated files, the oldest first.
pub struct Reader {
    stem: String,
    files: Files,
    options: Options,
    watch: Watch,
    queue: VecDeque<Opened>,
    lines: Option<Lines>,
    /// Ended lines that are still to be passed over.
    skip: u64,
    /// The newest of the rotated files that were opened.
    newest: Option<DateTime>,
    /// The file that is read was rotated away; what it got just before may still be unread.
    rotated: bool,
    left: u64,
    fresh_line: bool,
    /// The last call said wait.
    waited: bool,
    notes: Notes,
}

impl Reader {
    /// Opens the log `<stem>` in a folder. What is not followed is what is there now.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open(dir: OwnedFd, stem: &str, options: Options) -> Result<Reader, ReadError> {
        let name = || stem.to_owned();
        let reader = Self::open_in(dir, stem, options).map_err(|source| ReadError::Io {
            name: name(),
            source,
        })?;
        if reader.lines.is_none() {
            Err(ReadError::NotFound(name()))
        } else {
            Ok(reader)
        }
    }

    fn open_in(dir: OwnedFd, stem: &str, options: Options) -> io::Result<Reader> {
        let files = Files::new(dir, stem)?;
        // Before the files, so that no change between goes unseen.
        let watch = Watch::new(files.dir(), options.follow)?;
        let mut queue = snapshot::take(&files)?;
        let newest = queue.iter().filter_map(|opened| opened.name).max();
        let begin = match options.tail {
            Some(lines) => tail::find(&mut queue, lines, options.stream)?,
            None => Begin::default(),
        };
        let left = options.limit_bytes.unwrap_or(u64::MAX);
        let mut reader = Reader {
            stem: stem.to_owned(),
            files,
            options,
            watch,
            queue,
            lines: None,
            skip: 0,
            newest,
            rotated: false,
            left,
            fresh_line: true,
            waited: false,
            notes: Notes::default(),
        };
        reader.turn(begin);
        Ok(reader)
    }

    /// Appends the text of the next record to `out`, its timestamp before it if asked for and
    /// its newline after it if it has one. Never waits for the log to grow.
    ///
    /// # Errors
    /// The log can't be read. Damaged records and files are no errors, see [`Reader::notes`].
    pub fn read(&mut self, out: &mut Vec<u8>) -> Result<Next, ReadError> {
        self.read_in(out).map_err(|source| ReadError::Io {
            name: self.stem.clone(),
            source,
        })
    }

    /// Returns once the log may have grown or was ended. Blocks.
    ///
    /// # Errors
    /// The system can't wait.
    pub fn wait(&self) -> Result<(), ReadError> {
        self.watch.wait().map_err(|source| ReadError::Io {
            name: self.stem.clone(),
            source,
        })
    }

    /// As [`Reader::read`], but waits where that would say so; `None` at the end. Blocks.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<Option<Stream>, ReadError> {
        loop {
            match self.read(out)? {
                Next::Record(stream) => return Ok(Some(stream)),
                Next::End => return Ok(None),
                Next::Wait => self.wait()?,
            }
        }
    }

    /// Becomes readable when the log grows, for who waits for many; then [`Reader::read`] until it
    /// says wait. `None` if nothing is followed or inotify is used up: look once a second.
    #[must_use]
    pub fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.watch.fd()
    }

    /// Ends it from elsewhere.
    #[must_use]
    pub fn ender(&self) -> Ender {
        self.watch.ender.clone()
    }

    /// What could not be read so far.
    #[must_use]
    pub fn notes(&self) -> Notes {
        self.notes
    }

    fn read_in(&mut self, out: &mut Vec<u8>) -> io::Result<Next> {
        if std::mem::take(&mut self.waited) {
            // Before reading: what changes from now on wakes again.
            self.watch.drain()?;
        }
        loop {
            if self.left == 0 || self.watch.ender.cancelled() {
                return Ok(Next::End);
            }
            // Before reading: what came before the log was ended is to be read.
            let ending = !self.options.follow || self.watch.ender.ending();
            let Some(lines) = &mut self.lines else {
                return Ok(Next::End);
            };
            let emitted = match lines.next() {
                Ok(Line::Whole(line)) => self.emit(line, false, out),
                Ok(Line::Overlong) => {
                    self.notes.lines += 1;
                    None
                }
                Ok(Line::End(line)) => match self.at_end(ending)? {
                    AtEnd::Again => None,
                    AtEnd::Wait => {
                        self.waited = true;
                        return Ok(Next::Wait);
                    }
                    AtEnd::Over => {
                        let emitted = if line.is_empty() {
                            None
                        } else {
                            self.emit(line, true, out)
                        };
                        self.turn(Begin::default());
                        emitted
                    }
                },
                Err(error) if lines.file().is_some() => return Err(error),
                Err(_) => {
                    self.notes.files += 1;
                    lines.give_up();
                    None
                }
            };
            if let Some(stream) = emitted {
                return Ok(Next::Record(stream));
            }
        }
    }

    /// What the end of the file that is read means.
    fn at_end(&mut self, ending: bool) -> io::Result<AtEnd> {
        let Some(lines) = self.lines.as_mut().filter(|_| self.queue.is_empty()) else {
            return Ok(AtEnd::Over);
        };
        if self.options.follow {
            let current = match lines.file() {
                Some(file) => self.files.current_inode()? == Some(file.metadata()?.ino()),
                None => false,
            };
            if !current && !std::mem::replace(&mut self.rotated, true) && lines.file().is_some() {
                // What it got between our reading and its rotation.
                lines.rewind()?;
                return Ok(AtEnd::Again);
            }
            if !current {
                self.rotated = false;
                self.queue = snapshot::after(&self.files, lines.file(), &mut self.newest)?;
                if !self.queue.is_empty() {
                    return Ok(AtEnd::Over);
                }
            }
        }
        if ending {
            return Ok(AtEnd::Over);
        }
        lines.rewind()?;
        Ok(AtEnd::Wait)
    }

    /// Turns to the next file of the queue.
    fn turn(&mut self, begin: Begin) {
        self.rotated = false;
        self.skip = begin.skip;
        self.lines = self
            .queue
            .pop_front()
            .map(|next| next.lines(begin.offset, self.options.follow));
    }

    /// Appends a record's text, if it is wanted.
    fn emit(&mut self, line: Range<usize>, torn: bool, out: &mut Vec<u8>) -> Option<Stream> {
        let line = self.lines.as_ref()?.get(line);
        let Some(record) = record::parse(line) else {
            self.notes.lines += u64::from(!line.is_empty());
            return None;
        };
        if self
            .options
            .stream
            .is_some_and(|stream| stream != record.stream)
        {
            return None;
        }
        if self.skip > 0 {
            self.skip -= u64::from(!record.partial);
            return None;
        }
        if self.options.since.is_some_and(|since| record.at < since) {
            return None;
        }
        let begin = out.len();
        if self.options.timestamps && self.fresh_line {
            out.extend_from_slice(format!("{:.9} ", record.at).as_bytes());
        }
        out.extend_from_slice(line.get(record.text..).unwrap_or(&[]));
        if !record.partial && !torn {
            out.push(b'\n');
        }
        let length = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(out.len() - begin);
        out.truncate(begin + length);
        self.left -= length as u64;
        if length == 0 {
            return None;
        }
        self.fresh_line = out.last() == Some(&b'\n');
        Some(record.stream)
    }
}

enum AtEnd {
    Again,
    Wait,
    Over,
}
