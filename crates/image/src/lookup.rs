//! Finds a file in an image without putting its layers together: a path is followed component by component, each in
//! the topmost layer that has it, as overlayfs would show it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::below::open_in;
use crate::error::{Error, IoContext};
use crate::layer::Layer;

/// As many links as Linux follows (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// Where a path ends up.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    /// A regular file: its real path in the image, and on this machine (no links in either).
    File {
        path: PathBuf,
        host: PathBuf,
        size: u64,
    },
    /// Something else, in words.
    Other(&'static str),
    /// Nothing.
    Absent,
}

enum Step {
    File { host: PathBuf, size: u64 },
    Folder,
    Link(PathBuf),
    Other,
    Absent,
}

/// Follows `path` (relative to the root, or absolute) through `layers`, lowest first.
pub(crate) fn find(layers: &[Layer], path: &Path) -> Result<Found, Error> {
    let mut todo: VecDeque<OsString> = path
        .components()
        .map(|c| c.as_os_str().to_owned())
        .collect();
    let mut at = PathBuf::new();
    let mut links = 0;
    let mut file = None;
    while let Some(next) = todo.pop_front() {
        match Path::new(&next).components().next() {
            Some(Component::RootDir) => at = PathBuf::new(),
            Some(Component::ParentDir) => {
                at.pop();
            }
            Some(Component::Normal(name)) => {
                let path = at.join(name);
                match step(layers, &path)? {
                    Step::Absent => return Ok(Found::Absent),
                    Step::Other => return Ok(Found::Other("neither a file nor a folder")),
                    Step::Folder => at = path,
                    Step::File { .. } if !todo.is_empty() => return Ok(Found::Absent),
                    Step::File { host, size } => file = Some(Found::File { path, host, size }),
                    Step::Link(target) => {
                        links += 1;
                        if links > LINKS_MAX {
                            return Ok(Found::Other("behind a loop of symbolic links"));
                        }
                        for component in target.components().rev() {
                            todo.push_front(component.as_os_str().to_owned());
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(file.unwrap_or(Found::Other("a folder")))
}

/// What the image has at `path`, whose parent is known to be a real folder.
fn step(layers: &[Layer], path: &Path) -> Result<Step, Error> {
    for layer in layers.iter().rev() {
        match in_layer(layer, path)? {
            Sight::Below => {}
            Sight::Hidden => return Ok(Step::Absent),
            Sight::Here(step) => return Ok(step),
        }
    }
    Ok(Step::Absent)
}

enum Sight {
    /// This layer says nothing of it: ask the next lower one.
    Below,
    /// This layer removes it.
    Hidden,
    Here(Step),
}

fn in_layer(layer: &Layer, path: &Path) -> Result<Sight, Error> {
    let host = layer.path.join(path);
    if layer.whiteouts.removed.iter().any(|r| path.starts_with(r)) {
        return Ok(Sight::Hidden);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&layer.path, flags, Mode::empty()).at("open", &layer.path)?;
    let mut folder = root;
    let mut hidden_if_absent = is_opaque(layer, Path::new(""));
    let mut walked = PathBuf::new();
    for component in path.parent().unwrap_or(Path::new("")).components() {
        walked.push(component);
        let next = open_in(
            folder.as_fd(),
            Path::new(component.as_os_str()),
            flags | OFlags::NOFOLLOW,
        );
        folder = match next {
            Ok(next) => next,
            Err(Errno::NOENT) if hidden_if_absent => return Ok(Sight::Hidden),
            Err(Errno::NOENT) => return Ok(Sight::Below),
            // A whiteout, a file or a link: here the parent is no folder, and lower ones don't show.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Sight::Hidden),
            Err(e) => return Err(e).at("open", &layer.path.join(&walked)),
        };
        hidden_if_absent |= is_opaque(layer, &walked);
    }
    let name = path.file_name().unwrap_or(OsStr::new("."));
    match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) if hidden_if_absent => Ok(Sight::Hidden),
        Err(Errno::NOENT) => Ok(Sight::Below),
        Err(Errno::NAMETOOLONG) => Ok(Sight::Hidden),
        Err(e) => Err(e).at("read", &host),
        Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Sight::Here(Step::File {
                host,
                size: u64::try_from(stat.st_size).unwrap_or(0),
            }),
            FileType::Directory => Sight::Here(Step::Folder),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&folder, name, Vec::new()).at("read", &host)?;
                Sight::Here(Step::Link(PathBuf::from(OsStr::from_bytes(
                    target.as_bytes(),
                ))))
            }
            _ => Sight::Here(Step::Other),
        }),
    }
}

fn is_opaque(layer: &Layer, folder: &Path) -> bool {
    layer.whiteouts.opaque.iter().any(|o| o == folder)
}
