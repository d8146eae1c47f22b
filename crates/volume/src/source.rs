//! Where volumes come from: folders made for a pod, and paths of this machine.

use std::os::fd::OwnedFd;
use std::path::{Component, Path};
use std::str::FromStr;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, IoContext};
use crate::root::MountKind;

/// Something to mount.
#[derive(Debug)]
pub struct Mounted {
    /// `O_PATH`.
    pub fd: OwnedFd,
    /// What it is.
    pub kind: MountKind,
}

/// A `hostPath`'s type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPathType {
    /// Unset: no check. What is absent becomes a folder, as containerd makes it.
    Unset,
    /// Not of the API: whatever is there, and an error if nothing is. For a command line.
    Existing,
    /// A folder that is there.
    Directory,
    /// A folder, made (0755) if absent.
    DirectoryOrCreate,
    /// A file that is there.
    File,
    /// A file, made (0644) if absent; its folder has to be there.
    FileOrCreate,
}

impl FromStr for HostPathType {
    type Err = String;

    /// From the API's word.
    fn from_str(word: &str) -> Result<HostPathType, String> {
        match word {
            "" => Ok(HostPathType::Unset),
            "Directory" => Ok(HostPathType::Directory),
            "DirectoryOrCreate" => Ok(HostPathType::DirectoryOrCreate),
            "File" => Ok(HostPathType::File),
            "FileOrCreate" => Ok(HostPathType::FileOrCreate),
            "Socket" | "CharDevice" | "BlockDevice" => Err(format!(
                "hostPath type {word} is not supported: a Wasm guest can open files and folders only; use File, \
                 FileOrCreate, Directory or DirectoryOrCreate"
            )),
            other => Err(format!("{other} is an invalid volume type")),
        }
    }
}

/// Makes (0777, as the kubelet does) and opens the folder of an `emptyDir`. Again, it is the same folder.
///
/// # Errors
/// `Io` where it can't be made, or where something else is at its place.
pub fn empty_dir(path: &Path) -> Result<OwnedFd, Error> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).at("create", parent)?;
    }
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o777)) {
        // Whatever the umask is.
        Ok(()) => rustix::fs::chmod(path, Mode::from_raw_mode(0o777)).at("chmod", path)?,
        Err(Errno::EXIST) => {}
        Err(e) => return Err(e).at("create", path),
    }
    crate::root::open_folder(path)
}

/// Opens a path of this machine, with the kubelet's checks (`pkg/volume/hostpath`).
///
/// # Errors
/// `HostPath` for a path with `..`, a relative one, or one that leads to no file or folder; `HostPathType` where the
/// type's check fails, in the kubelet's words.
pub fn host_path(path: &Path, kind: HostPathType) -> Result<Mounted, Error> {
    let wrong = |reason: &str| Error::HostPath {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(wrong("must not contain '..'"));
    }
    if !path.is_absolute() {
        return Err(wrong("must be an absolute path"));
    }
    let found = std::fs::metadata(path);
    let absent = matches!(&found, Err(e) if e.kind() == std::io::ErrorKind::NotFound);
    match kind {
        HostPathType::Unset | HostPathType::DirectoryOrCreate if absent => make_folder(path)?,
        HostPathType::FileOrCreate if absent => make_file(path)?,
        HostPathType::Existing if absent => {
            return Err(wrong("there is no such file or directory"));
        }
        _ => {}
    }
    let is =
        |wanted: fn(&std::fs::Metadata) -> bool| std::fs::metadata(path).is_ok_and(|m| wanted(&m));
    let wanted = match kind {
        HostPathType::Directory | HostPathType::DirectoryOrCreate if !is(|m| m.is_dir()) => {
            Some("directory")
        }
        HostPathType::File | HostPathType::FileOrCreate if !is(|m| m.is_file()) => Some("file"),
        _ => None,
    };
    if let Some(wanted) = wanted {
        return Err(Error::HostPathType {
            path: path.to_owned(),
            wanted,
        });
    }
    // `O_PATH` opens without side effects, even a FIFO; what it is, is asked of the descriptor.
    let fd =
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("open", path)?;
    let stat = rustix::fs::fstat(&fd).at("read", path)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(Mounted {
            fd,
            kind: MountKind::Folder,
        }),
        FileType::RegularFile => Ok(Mounted {
            fd,
            kind: MountKind::File,
        }),
        _ => Err(wrong(
            "is neither a file nor a directory, which is all that a Wasm guest can open",
        )),
    }
}

fn make_folder(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .at("create", path)
}

fn make_file(path: &Path) -> Result<(), Error> {
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))
        .at("create", path)
        .map(|_| ())
}
