//! All files of a log, opened at one instant: rotation and pruning can't disturb who reads them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use flate2::read::MultiGzDecoder;
use jiff::civil::DateTime;
use rustix::fs::OFlags;

use crate::files::{Files, Forms};
use crate::lines::Lines;

/// As often as this a rotation may come between before reading gives up.
const TRIES: usize = 100;
/// Bytes at a file's begin that tell it from others: the first record's nanoseconds are in it.
const HEAD: usize = 64;

/// An opened file.
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) gz: bool,
    /// Its length when it was opened (compressed, if it is).
    pub(crate) size: u64,
    /// None for the current one.
    pub(crate) name: Option<DateTime>,
}

impl Opened {
    pub(crate) fn duplicate(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Its lines. The current file's, if it is not followed, end where they ended at the opening.
    pub(crate) fn lines(self, offset: u64, follow: bool) -> Lines {
        match self.gz {
            true => Lines::gz(self.file),
            false => Lines::plain(
                self.file,
                offset,
                (!follow && self.name.is_none()).then_some(self.size),
            ),
        }
    }

    /// True if it is what `other`, a plain file, became.
    fn was(&self, other: &File) -> io::Result<bool> {
        if !self.gz {
            return Ok(self.file.metadata()?.ino() == other.metadata()?.ino());
        }
        let (mut ours, mut theirs) = (Vec::new(), [0; HEAD]);
        let theirs = other
            .read_at(&mut theirs, 0)
            .map(|read| theirs.get(..read).unwrap_or(&[]).to_vec())?;
        // One that is damaged is told from ours by what can be read of it.
        let _ = MultiGzDecoder::new(self.duplicate()?)
            .take(HEAD as u64)
            .read_to_end(&mut ours);
        rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Start(0))?;
        Ok(ours == theirs)
    }
}

/// All files, the oldest first.
pub(crate) fn take(files: &Files) -> io::Result<VecDeque<Opened>> {
    for _ in 0..TRIES {
        let before = files.list()?.rotated;
        let current = open(files, None, files.current(), false)?;
        let opened = before
            .iter()
            .map(|(name, forms)| rotated(files, *name, *forms))
            .collect::<io::Result<Option<_>>>()?;
        let after = files.list()?.rotated;
        let Some(opened) = opened.filter(|_| before.keys().eq(after.keys())) else {
            continue;
        };
        let mut opened: VecDeque<Opened> = opened;
        opened.extend(current);
        return Ok(opened);
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "the log is rotated faster than it can be opened",
    ))
}

/// Those of all files that came after `newest` and after `last`, which is read; sets the newest anew.
pub(crate) fn after(
    files: &Files,
    last: Option<&File>,
    newest: &mut Option<DateTime>,
) -> io::Result<VecDeque<Opened>> {
    let mut all = take(files)?;
    all.retain(|opened| opened.name.is_none() || opened.name > *newest);
    *newest = all
        .iter()
        .filter_map(|opened| opened.name)
        .max()
        .max(*newest);
    // What is read is the first of them, unless it has been pruned.
    if let (Some(first), Some(last)) = (all.front(), last)
        && first.was(last)?
    {
        all.pop_front();
    }
    Ok(all)
}

fn rotated(files: &Files, name: DateTime, forms: Forms) -> io::Result<Option<Opened>> {
    if !forms.gz
        && let Some(opened) = open(files, Some(name), &files.plain(name), false)?
    {
        return Ok(Some(opened));
    }
    open(files, Some(name), &files.gz(name), true)
}

fn open(files: &Files, name: Option<DateTime>, path: &str, gz: bool) -> io::Result<Option<Opened>> {
    let file = match files.open(path, OFlags::RDONLY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path} is not a file"),
        ));
    }
    Ok(Some(Opened {
        file,
        gz,
        size: meta.len(),
        name,
    }))
}
