//! The names in a container's folder. Knows no record.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

const NAME: &str = "%Y%m%d-%H%M%S";
const STEM_MAX: usize = 128;

/// One run's log files in one folder.
pub(crate) struct Files {
    dir: OwnedFd,
    current: String,
}

/// What a folder holds of one run: rotated files by their time, and leftovers of a crash.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) rotated: BTreeMap<DateTime, Forms>,
    pub(crate) leftovers: Vec<String>,
}

/// In which forms a rotated file is there; both, if a crash came between making and removing.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Forms {
    pub(crate) plain: bool,
    pub(crate) gz: bool,
}

impl Files {
    pub(crate) fn new(dir: OwnedFd, stem: &str) -> io::Result<Files> {
        let bad = stem.is_empty()
            || stem.len() > STEM_MAX
            || stem.starts_with('.')
            || stem.contains(['/', '\0']);
        if bad {
            let why = format!(
                "log name {stem:?}: must be 1 to {STEM_MAX} bytes, not begin with '.', hold no '/'"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(Files {
            dir,
            current: format!("{stem}.log"),
        })
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub(crate) fn current(&self) -> &str {
        &self.current
    }

    pub(crate) fn plain(&self, name: DateTime) -> String {
        format!("{}.{}", self.current, name.strftime(NAME))
    }

    pub(crate) fn gz(&self, name: DateTime) -> String {
        self.plain(name) + ".gz"
    }

    pub(crate) fn temporary(&self, name: DateTime) -> String {
        self.plain(name) + ".tmp"
    }

    pub(crate) fn list(&self) -> io::Result<Listing> {
        let mut listing = Listing::default();
        // By hand: of a descriptor that is only a path, `Dir::read_from` makes another such.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for entry in Dir::new(rustix::fs::openat(&self.dir, ".", flags, Mode::empty())?)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let Some(suffix) = name
                .strip_prefix(&self.current)
                .and_then(|rest| rest.strip_prefix('.'))
            else {
                continue;
            };
            if let Some(time) = parse(suffix) {
                listing.rotated.entry(time).or_default().plain = true;
            } else if let Some(time) = suffix.strip_suffix(".gz").and_then(parse) {
                listing.rotated.entry(time).or_default().gz = true;
            } else if suffix.strip_suffix(".tmp").and_then(parse).is_some() {
                listing.leftovers.push(name.to_owned());
            }
        }
        Ok(listing)
    }

    /// A name for the next rotated file: later than every other, so that names order files even
    /// when many are rotated within a second or the clock goes back.
    pub(crate) fn next_name(listing: &Listing, now: Timestamp) -> io::Result<DateTime> {
        let now = jiff::tz::Offset::UTC
            .to_datetime(now)
            .with()
            .subsec_nanosecond(0)
            .build();
        let now = now.map_err(io::Error::other)?;
        match listing.rotated.last_key_value() {
            Some((newest, _)) if *newest >= now => newest
                .checked_add(SignedDuration::from_secs(1))
                .map_err(io::Error::other),
            _ => Ok(now),
        }
    }

    pub(crate) fn open(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(File::from(rustix::fs::openat(
            &self.dir,
            name,
            flags,
            Mode::from_raw_mode(0o640),
        )?))
    }

    /// Removes a file that may be gone already.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Renames within the folder; never onto an existing file where the file system can tell.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        match rustix::fs::renameat_with(&self.dir, from, &self.dir, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => {
                Ok(rustix::fs::renameat(&self.dir, from, &self.dir, to)?)
            }
            other => Ok(other?),
        }
    }

    /// The inode that the current file's name leads to.
    pub(crate) fn current_inode(&self) -> io::Result<Option<u64>> {
        match rustix::fs::statat(&self.dir, &self.current, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.st_ino)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what a crash left, and the oldest rotated files beyond `keep`.
    pub(crate) fn prune(&self, keep: usize) -> io::Result<()> {
        let listing = self.list()?;
        let excess = listing.rotated.len().saturating_sub(keep);
        for (index, (name, forms)) in listing.rotated.iter().enumerate() {
            if forms.plain && (forms.gz || index < excess) {
                self.remove(&self.plain(*name))?;
            }
            if forms.gz && index < excess {
                self.remove(&self.gz(*name))?;
            }
        }
        Ok(())
    }

    pub(crate) fn remove_leftovers(&self) -> io::Result<()> {
        self.list()?
            .leftovers
            .iter()
            .try_for_each(|name| self.remove(name))
    }

    pub(crate) fn remove_all(&self) -> io::Result<()> {
        self.remove(&self.current)?;
        self.prune(0)?;
        self.remove_leftovers()
    }
}

fn parse(suffix: &str) -> Option<DateTime> {
    // Fixed width, so that the names' order is the files' also for others.
    (suffix.len() == 15)
        .then(|| DateTime::strptime(NAME, suffix).ok())
        .flatten()
}
