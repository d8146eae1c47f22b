//! Folders whose files are written by the agent and change all at once, in the layout of the
//! kubelet's atomic writer (`pkg/volume/util/atomic_writer.go`):
//!
//! ```text
//! key               -> ..data/key
//! ..data            -> ..2026_01_31_12_00_00.123456789
//! ..2026_01_31_12_00_00.123456789/key
//! ```
//!
//! A new version is a new folder, and becomes the current one by the renaming of one link. Nobody
//! but the agent writes here: guests see it read-only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, IoContext};
use crate::remove::remove;

const CURRENT: &str = "..data";
const NEXT: &str = "..data_tmp";
/// Limits of a name and of a path (`maxFileNameLength`, `maxPathLength`).
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4096;

/// A file of such a folder.
#[derive(Clone, PartialEq, Eq)]
pub struct FileContent {
    /// What it holds.
    pub data: Vec<u8>,
    /// Its permissions, 0 to 0o777.
    pub mode: u32,
}

/// It may be a secret's.
impl std::fmt::Debug for FileContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, mode {:o}", self.data.len(), self.mode)
    }
}

/// Makes the folder at `dir` hold exactly these files, by their paths in it. Says whether anything changed. Whoever
/// reads through `..data` sees the old files or the new ones, never both; one who died in between is tidied up after.
///
/// # Errors
/// `Projection` for a path that is none or that another one is above; `Io`, e.g. where the disk is full: then the old
/// files stand.
pub fn project(dir: &Path, files: &BTreeMap<String, FileContent>) -> Result<bool, Error> {
    for path in files.keys() {
        check(path)?;
    }
    let current = match fs::read_link(dir.join(CURRENT)) {
        Ok(target) => Some(target),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).at("read", &dir.join(CURRENT)),
    };
    let changed = match &current {
        Some(version) => found(&dir.join(version))?.as_ref() != Some(files),
        None => true,
    };
    if changed {
        let version = new_version(dir)?;
        if let Err(error) = write(&version, files).and_then(|()| switch(dir, &version)) {
            // What stays is tidied up by the next one.
            let _ = remove(&version);
            return Err(error);
        }
    }
    links(dir, files)?;
    tidy(dir)?;
    Ok(changed)
}

/// A relative path that stays below, whose first name can't be one of the writer's own.
fn check(path: &str) -> Result<(), Error> {
    let wrong = |reason| {
        Err(Error::Projection {
            path: path.to_owned(),
            reason,
        })
    };
    if path.is_empty() || path.contains('\0') {
        return wrong("it is no name");
    }
    if path.len() > PATH_MAX || path.split('/').any(|name| name.len() > NAME_MAX) {
        return wrong("it is too long");
    }
    let normal = |component| matches!(component, Component::Normal(_));
    if !Path::new(path).components().all(normal) || path.ends_with('/') {
        return wrong("it must be relative, without '..'");
    }
    match path.starts_with("..") {
        true => wrong("it must not begin with '..'"),
        false => Ok(()),
    }
}

/// The files of a version; `None` if there is something else in it.
fn found(version: &Path) -> Result<Option<BTreeMap<String, FileContent>>, Error> {
    let mut files = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(below) = todo.pop() {
        let folder = version.join(&below);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).at("read", &folder),
        };
        for entry in entries {
            let entry = entry.at("read", &folder)?;
            let path = below.join(entry.file_name());
            let kind = entry.metadata().at("read", &entry.path())?;
            if kind.is_dir() {
                todo.push(path);
                continue;
            }
            let Some(name) = path.to_str().filter(|_| kind.is_file()) else {
                return Ok(None);
            };
            // One that its mode hides from its own writer is written anew.
            let Ok(data) = fs::read(entry.path()) else {
                return Ok(None);
            };
            let mode = kind.permissions().mode() & 0o777;
            files.insert(name.to_owned(), FileContent { data, mode });
        }
    }
    Ok(Some(files))
}

fn new_version(dir: &Path) -> Result<PathBuf, Error> {
    loop {
        let now = jiff::Timestamp::now();
        let name = format!(
            "..{}.{:09}",
            now.strftime("%Y_%m_%d_%H_%M_%S"),
            now.subsec_nanosecond()
        );
        let version = dir.join(name);
        match fs::create_dir(&version) {
            Ok(()) => {
                open_to_all(&version)?;
                return Ok(version);
            }
            // The clock has not moved.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).at("create", &version),
        }
    }
}

fn open_to_all(folder: &Path) -> Result<(), Error> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).at("chmod", folder)
}

fn write(version: &Path, files: &BTreeMap<String, FileContent>) -> Result<(), Error> {
    for (name, content) in files {
        let path = version.join(name);
        let mut folder = version.to_owned();
        let above = Path::new(name)
            .parent()
            .into_iter()
            .flat_map(Path::components);
        for component in above {
            folder.push(component);
            match fs::create_dir(&folder) {
                Ok(()) => open_to_all(&folder)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    return Err(Error::Projection {
                        path: name.clone(),
                        reason: "another file is at the place of its folder",
                    });
                }
                Err(error) => return Err(error).at("create", &folder),
            }
        }
        let mut file = match File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
        {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::Projection {
                    path: name.clone(),
                    reason: "it is a folder of another file",
                });
            }
            other => other.at("create", &path)?,
        };
        file.write_all(&content.data).at("write", &path)?;
        // Whatever the umask is.
        file.set_permissions(fs::Permissions::from_mode(content.mode & 0o777))
            .at("chmod", &path)?;
    }
    Ok(())
}

/// Makes a version the current one.
fn switch(dir: &Path, version: &Path) -> Result<(), Error> {
    let next = dir.join(NEXT);
    match fs::remove_file(&next) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).at("remove", &next),
        _ => {}
    }
    let name = version.file_name().unwrap_or_default();
    std::os::unix::fs::symlink(name, &next).at("create", &next)?;
    fs::rename(&next, dir.join(CURRENT)).at("rename", &next)
}

fn first(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// Makes the links that users see, and removes those of files that are no more.
fn links(dir: &Path, files: &BTreeMap<String, FileContent>) -> Result<(), Error> {
    let wanted: BTreeSet<&str> = files.keys().map(|path| first(path)).collect();
    for name in &wanted {
        let link = dir.join(name);
        match std::os::unix::fs::symlink(Path::new(CURRENT).join(name), &link) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other.at("create", &link)?,
        }
    }
    each(dir, |name, path| {
        match wanted.contains(name) || name.starts_with("..") {
            true => Ok(()),
            false => remove(path),
        }
    })
}

/// Removes versions that are not the current one.
fn tidy(dir: &Path) -> Result<(), Error> {
    let current = fs::read_link(dir.join(CURRENT)).at("read", &dir.join(CURRENT))?;
    each(dir, |name, path| {
        let is_version = name.starts_with("..") && name != CURRENT;
        match is_version && Path::new(name) != current {
            true => remove(path),
            false => Ok(()),
        }
    })
}

fn each(dir: &Path, mut of: impl FnMut(&str, &Path) -> Result<(), Error>) -> Result<(), Error> {
    for entry in fs::read_dir(dir).at("read", dir)? {
        let entry = entry.at("read", dir)?;
        if let Some(name) = entry.file_name().to_str() {
            of(name, &entry.path())?;
        }
    }
    Ok(())
}
