//! Forgets code that nobody asked for in a long time.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, statat, unlinkat};

use super::cache::{KEYS, TEMPORARY, is_hex};

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many files.
    pub files: u64,
    /// Their size, bytes.
    pub bytes: u64,
}

/// Removes, of all keys but `current`, what was not verified or written for `unused`, and what was
/// being written then.
///
/// The code of the current key goes with its module, which knows whether it is wanted. A start that
/// finds its entry gone compiles again; one that has it open keeps it.
pub(super) fn collect(
    root: &OwnedFd,
    current: Option<&str>,
    unused: Duration,
) -> io::Result<Collected> {
    let before = SystemTime::now()
        .checked_sub(unused)
        .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map_or(0, |at| at.as_secs() as i64);
    let mut collected = Collected::default();
    for name in names(root)? {
        let is_key = is_hex(&name) && Some(name.as_str()) != current;
        if name == KEYS || is_key {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = openat(root, &name, flags, Mode::empty())?;
            for file in names(&folder)? {
                remove_old(&folder, &file, before, &mut collected)?;
            }
            // It stays as long as something is in it.
            let _ = unlinkat(root, &name, AtFlags::REMOVEDIR);
        } else if name.starts_with(TEMPORARY) {
            remove_old(root, &name, before, &mut collected)?;
        }
    }
    Ok(collected)
}

fn names(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        // No name of ours is anything but ASCII.
        if let Ok(name) = entry?.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn remove_old(
    folder: &OwnedFd,
    name: &str,
    before: i64,
    collected: &mut Collected,
) -> io::Result<()> {
    use rustix::io::Errno;
    let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        // Another collector was faster.
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if stat.st_mtime >= before {
        return Ok(());
    }
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) => {
            collected.files += 1;
            collected.bytes += stat.st_size as u64;
            Ok(())
        }
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
