//! The files of a layer that is to be made: what goes where, gathered before a byte is written.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, IoContext};

/// What layers mark removed files by: such a file would vanish, and take another with it.
const WHITEOUT: &[u8] = b".wh.";
/// As deep as Linux lets a path be told (`PATH_MAX`), in components of two bytes.
const DEPTH_MAX: usize = 2048;

/// One entry. Owner, times and most of the mode are the same for all, so that they say nothing of this machine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Folder,
    /// A file of this machine.
    File {
        source: PathBuf,
        executable: bool,
    },
    /// A symbolic link, to where it says.
    Link(PathBuf),
    /// Bytes that are at hand.
    Bytes(Vec<u8>),
}

/// Entries by their path in the image, which has no leading slash. Sorted by component: a folder comes before what it
/// holds, whatever order the disk lists them in.
#[derive(Debug, Default)]
pub(crate) struct Tree(BTreeMap<PathBuf, Node>);

impl Tree {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_path(), node))
    }

    /// Puts `node` at `guest`, with the folders above it.
    ///
    /// # Errors
    /// `Input` where something else is there already, or above it.
    pub(crate) fn put(&mut self, guest: &Path, node: Node) -> Result<(), Error> {
        let at = || format!("/{}", guest.display());
        for folder in guest.ancestors().skip(1) {
            if folder.as_os_str().is_empty() {
                break;
            }
            match self.0.get(folder) {
                None => {
                    self.0.insert(folder.to_owned(), Node::Folder);
                }
                Some(Node::Folder) => {}
                Some(_) => {
                    let reason =
                        format!("/{} is a file of the image, not a folder", folder.display());
                    return Err(Error::input(at(), reason));
                }
            }
        }
        match self.0.insert(guest.to_owned(), node) {
            None => Ok(()),
            Some(Node::Folder) if self.0.get(guest) == Some(&Node::Folder) => Ok(()),
            Some(_) => Err(Error::input(
                at(),
                "two files are to be there; give one of them another place",
            )),
        }
    }

    /// Adds a file, or what is in a folder, as docker's COPY does: a folder's contents go into `guest`, a file goes to
    /// `guest`, or into it where that ends with a slash. At most `limit` entries are taken in all.
    ///
    /// # Errors
    /// `Input` for what can't be in a layer, `Io` for what can't be read, `TooLarge`.
    pub(crate) fn copy(&mut self, source: &Path, guest: &str, limit: u64) -> Result<(), Error> {
        let place = place(guest)?;
        let meta = std::fs::metadata(source).at("read", source)?;
        if meta.is_dir() {
            if !place.as_os_str().is_empty() {
                self.put(&place, Node::Folder)?;
            }
            return self.folder(source, &place, limit, 0);
        }
        let into = guest.ends_with('/') || place.as_os_str().is_empty();
        let place = match source.file_name().filter(|_| into) {
            Some(name) => place.join(name),
            None => place,
        };
        let node = node(source, &meta)?;
        self.put(&place, node)
    }

    fn folder(
        &mut self,
        source: &Path,
        guest: &Path,
        limit: u64,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(Error::input(
                source.display().to_string(),
                "its folders are nested too deep",
            ));
        }
        for entry in std::fs::read_dir(source).at("read", source)? {
            let path = entry.at("read", source)?.path();
            let Some(name) = path.file_name() else {
                continue;
            };
            let guest = guest.join(name);
            let meta = std::fs::symlink_metadata(&path).at("read", &path)?;
            if name.as_bytes().starts_with(WHITEOUT) {
                let reason =
                    "its name begins with .wh., which marks a removed file in a layer; rename it";
                return Err(Error::input(path.display().to_string(), reason));
            }
            let node = node(&path, &meta)?;
            let is_folder = node == Node::Folder;
            self.put(&guest, node)?;
            if self.0.len() as u64 > limit {
                return Err(Error::TooLarge {
                    what: "what is to be copied".to_owned(),
                    limit,
                    unit: "entries",
                });
            }
            if is_folder {
                self.folder(&path, &guest, limit, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn node(path: &Path, meta: &std::fs::Metadata) -> Result<Node, Error> {
    let kind = meta.file_type();
    if kind.is_dir() {
        Ok(Node::Folder)
    } else if kind.is_symlink() {
        Ok(Node::Link(std::fs::read_link(path).at("read", path)?))
    } else if kind.is_file() {
        Ok(Node::File {
            source: path.to_owned(),
            executable: meta.permissions().mode() & 0o111 != 0,
        })
    } else {
        let reason =
            "is a device, a pipe or a socket; a layer holds files, folders and symbolic links";
        Err(Error::input(path.display().to_string(), reason))
    }
}

/// An absolute path in the image, without its leading slash.
///
/// # Errors
/// `Input` where it is not absolute or has `..` in it.
pub(crate) fn place(guest: &str) -> Result<PathBuf, Error> {
    let path = Path::new(guest);
    if !path.is_absolute() {
        return Err(Error::input(
            format!("{guest:?}"),
            "the path in the image must be absolute, such as /data",
        ));
    }
    let mut place = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if name.as_bytes().starts_with(WHITEOUT) => {
                return Err(Error::input(
                    format!("{guest:?}"),
                    "a name that begins with .wh. marks a removed file in a layer",
                ));
            }
            Component::Normal(name) => place.push(name),
            Component::ParentDir => {
                return Err(Error::input(
                    format!("{guest:?}"),
                    "the path in the image must not have .. in it",
                ));
            }
            _ => {}
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn paths(tree: &Tree) -> Vec<String> {
        tree.iter()
            .map(|(path, _)| path.display().to_string())
            .collect()
    }

    #[test]
    fn copies_go_where_dockers_do() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir_all(data.join("b/c")).unwrap();
        std::fs::write(data.join("b-file"), "1").unwrap();
        std::fs::write(data.join("b/c/deep"), "2").unwrap();
        let mut tree = Tree::default();
        tree.copy(&data, "/x", 100).unwrap();
        tree.copy(&data.join("b-file"), "/into/", 100).unwrap();
        tree.copy(&data.join("b-file"), "/as", 100).unwrap();
        tree.copy(&data, "/", 100).unwrap();
        let expected = [
            "as",
            "b",
            "b/c",
            "b/c/deep",
            "b-file",
            "into",
            "into/b-file",
            "x",
            "x/b",
            "x/b/c",
            "x/b/c/deep",
            "x/b-file",
        ];
        assert_eq!(paths(&tree), expected);
    }

    #[test]
    fn what_can_not_be_in_a_layer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("f"), "").unwrap();
        let mut tree = Tree::default();
        for guest in ["x", "/a/../b", "/.wh.x/y"] {
            assert!(tree.copy(&data, guest, 9).is_err(), "{guest}");
        }
        assert!(tree.copy(&data.join("none"), "/x", 9).is_err());
        tree.copy(&data, "/x", 9).unwrap();
        let twice = tree.copy(&data, "/x", 9).unwrap_err().to_string();
        assert!(
            twice.contains("/x/f") && twice.contains("two files"),
            "{twice}"
        );
        let below = tree.copy(&data, "/x/f/g", 9).unwrap_err().to_string();
        assert!(below.contains("/x/f is a file"), "{below}");
        assert!(matches!(
            Tree::default().copy(&data, "/y", 1),
            Err(Error::TooLarge { .. })
        ));
        let _socket = std::os::unix::net::UnixListener::bind(data.join("socket")).unwrap();
        let socket = Tree::default()
            .copy(&data, "/y", 9)
            .unwrap_err()
            .to_string();
        assert!(socket.contains("socket"), "{socket}");
        std::fs::write(data.join(".wh.f"), "").unwrap();
        assert!(Tree::default().copy(&data, "/y", 9).is_err());
    }

    #[test]
    fn links_stay_links() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let mut tree = Tree::default();
        tree.copy(dir.path(), "/", 9).unwrap();
        let found: Vec<_> = tree.iter().map(|(_, node)| node.clone()).collect();
        assert_eq!(found, [Node::Link("/etc/passwd".into())]);
    }
}
