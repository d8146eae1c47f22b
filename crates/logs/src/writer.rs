//! Writes records and rotates. Knows no reader.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use jiff::Timestamp;
use memchr::memrchr;
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::compress::{Compress, Shared};
use crate::files::Files;
use crate::record::{self, HEADER, Header, MAX_TEXT, Stream};

/// Most bytes that are formatted before they are written.
const CHUNK: usize = 128 * 1024;

thread_local! {
    // A thread's, not a writer's: thousands of idle writers hold no buffer.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// When a log is rotated, and how much of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Bytes that no file passes; at least one record.
    pub max_size: u64,
    /// Most files, the current one among them; at least 2. The oldest are removed.
    pub max_files: u32,
}

impl Default for Policy {
    /// The kubelet's `containerLogMaxSize` and `containerLogMaxFiles`.
    fn default() -> Policy {
        Policy {
            max_size: 10 << 20,
            max_files: 5,
        }
    }
}

/// Why a log could not be opened for writing.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// `max_files` is under 2, or `max_size` is 0.
    #[error("log policy of {max_size} bytes in {max_files} files: at least 1 byte and 2 files are needed", max_size = .0.max_size, max_files = .0.max_files)]
    Policy(Policy),
    /// The folder or the file refused.
    #[error("can't open the log {name:?} for writing")]
    Io {
        /// The file's stem.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A write that ended early. The file is well-formed: a write of what is left goes on where it ended.
#[derive(Debug, thiserror::Error)]
#[error("{written} bytes of a log write were written")]
pub struct WriteError {
    /// How many of the given bytes are in the log.
    pub written: usize,
    /// Why no more.
    #[source]
    pub source: WriteCause,
}

impl WriteError {
    /// True if waiting and then writing the rest may help: the disk or the quota is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.source, WriteCause::Full(_))
    }
}

/// Why a write ended early.
#[derive(Debug, thiserror::Error)]
pub enum WriteCause {
    /// The disk or the quota is full. The guest waits, nothing is dropped: write the rest later.
    #[error("no space for logs")]
    Full(#[source] io::Error),
    /// Anything else; with a disk that fails, waiting may not help.
    #[error("can't write the log")]
    Io(#[source] io::Error),
}

impl From<io::Error> for WriteCause {
    fn from(error: io::Error) -> WriteCause {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => WriteCause::Full(error),
            _ => WriteCause::Io(error),
        }
    }
}

/// The one writer of one run's log, for both of its streams.
pub struct Writer {
    shared: Arc<Shared>,
    policy: Policy,
    file: File,
    size: u64,
    /// The file ends within a record: the next one begins on a fresh line.
    torn: bool,
    /// Something was rotated that no [`Compress`] was taken for.
    rotated: bool,
}

impl Writer {
    /// Opens `<stem>.log` in the folder, makes it if need be, goes on after what it holds, and
    /// cleans up after a writer that was killed. There must be no other writer of that name.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(dir: OwnedFd, stem: &str, policy: Policy) -> Result<Writer, OpenError> {
        if policy.max_files < 2 || policy.max_size == 0 {
            return Err(OpenError::Policy(policy));
        }
        Self::open_in(dir, stem, policy).map_err(|source| OpenError::Io {
            name: stem.to_owned(),
            source,
        })
    }

    fn open_in(dir: OwnedFd, stem: &str, policy: Policy) -> io::Result<Writer> {
        let files = Files::new(dir, stem)?;
        files.remove_leftovers()?;
        files.prune(keep(policy))?;
        let file = files.open(
            files.current(),
            OFlags::RDWR | OFlags::APPEND | OFlags::CREATE,
        )?;
        let size = file.metadata()?.len();
        let mut last = [b'\n'];
        if let Some(at) = size.checked_sub(1) {
            file.read_exact_at(&mut last, at)?;
        }
        let torn = last != [b'\n'];
        Ok(Writer {
            shared: Arc::new(Shared::new(files)),
            policy,
            file,
            size,
            torn,
            rotated: true,
        })
    }

    /// Writes a guest's bytes, as they come: in any pieces, with or without newlines. Blocks until
    /// they are in the page cache, and buffers nothing.
    ///
    /// # Errors
    /// [`WriteError`] with the number of bytes that are in the log. On [`WriteCause::Full`] the
    /// caller waits and then writes the rest.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), WriteError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut header = Header::new(Timestamp::now(), stream);
        let mut written = 0;
        BUFFER.with_borrow_mut(|buffer| {
            while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
                let room = self.room(rest).map_err(|error| WriteError {
                    written,
                    source: error.into(),
                })?;
                buffer.clear();
                if self.torn {
                    buffer.push(b'\n');
                }
                let taken = record::fill(buffer, &mut header, rest, room);
                if let Err((held, error)) = self.append(buffer) {
                    return Err(WriteError {
                        written: written + held,
                        source: error.into(),
                    });
                }
                written += taken;
            }
            Ok(())
        })
    }

    /// Work that rotation has left, for a thread that may be slow; to be asked for after a write.
    pub fn compression(&mut self) -> Option<Compress> {
        let job = self.rotated.then(|| Compress::new(&self.shared)).flatten();
        self.rotated &= job.is_none();
        job
    }

    /// How many bytes may go into the file now, after a rotation if need be.
    fn room(&mut self, rest: &[u8]) -> io::Result<usize> {
        let need = u64::try_from(record::first(rest)).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(need) > self.policy.max_size {
            match self.rotate() {
                // As long as a log that can't be rotated is no burden, it grows.
                Err(_) if self.size < self.policy.max_size.saturating_mul(2) => {
                    return Ok(HEADER + MAX_TEXT + 1);
                }
                other => other?,
            }
        }
        let room = self.policy.max_size.saturating_sub(self.size);
        Ok(usize::try_from(room).unwrap_or(CHUNK).min(CHUNK))
    }

    /// Appends records, all of them or a prefix of whole ones; then it tells how many of the
    /// guest's bytes that is.
    fn append(&mut self, records: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut done = 0;
        let error = loop {
            let Some(rest) = records.get(done..).filter(|rest| !rest.is_empty()) else {
                self.size += done as u64;
                self.torn = false;
                return Ok(());
            };
            match self.file.write(rest) {
                Ok(0) => break io::ErrorKind::WriteZero.into(),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        Err((self.mend(records.get(..done).unwrap_or(records)), error))
    }

    /// Takes a torn record back out of the file, so that a retry repeats nothing.
    fn mend(&mut self, written: &[u8]) -> usize {
        let whole = memrchr(b'\n', written).map_or(0, |at| at + 1);
        let torn = (written.len() - whole) as u64;
        // From the file's own length: others may have truncated it.
        let cut = || {
            self.file
                .set_len(self.file.metadata()?.len().saturating_sub(torn))
        };
        if torn == 0 || cut().is_ok() {
            self.size += whole as u64;
            self.torn &= whole == 0;
        } else {
            self.size += written.len() as u64;
            self.torn = true;
        }
        record::held(written.get(..whole).unwrap_or(written))
    }

    fn rotate(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let files = &shared.files;
        let name = files.plain(Files::next_name(&files.list()?, Timestamp::now())?);
        let moved = match files.rename(files.current(), &name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false, // someone removed the file
            other => other.map(|()| true)?,
        };
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL;
        match files.open(files.current(), flags) {
            Ok(file) => self.file = file,
            Err(error) => {
                if moved {
                    files.rename(&name, files.current())?;
                }
                return Err(error);
            }
        }
        self.size = 0;
        self.torn = false;
        self.rotated = true;
        let _names = shared.lock();
        // What could not be pruned is pruned after the next rotation.
        let _ = files.prune(keep(self.policy));
        Ok(())
    }
}

fn keep(policy: Policy) -> usize {
    usize::try_from(policy.max_files)
        .unwrap_or(usize::MAX)
        .saturating_sub(1)
}
