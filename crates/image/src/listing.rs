//! Which modules an image has, and which of them a command of a person's means.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{Error, IoContext};
use crate::image::{Image, Kind};
use crate::layer::Layer;
use crate::lookup::{Found, find};
use crate::module::Module;

/// How many entries of layers are looked at: a list for a message is not worth more.
const LOOK_MAX: usize = 100_000;

impl Image {
    /// As [`Image::module_in`], for a command that somebody asks for by name: an artifact's module
    /// is meant by its own name alone, where a container of it may call it anything.
    ///
    /// # Errors
    /// See [`Image::module_in`].
    pub fn tool_in(&self, word: &str, cwd: &str, path: &str) -> Result<Module, Error> {
        if let Kind::Artifact { .. } = self.kind {
            let file = word.split_once('#').map_or(word, |(file, _)| file);
            let name = self.artifact_name();
            let base = file.rsplit('/').next().unwrap_or(file);
            if base != name && Some(base) != name.strip_suffix(".wasm") {
                return Err(self.absent(format!(
                    "there is no {file:?} in it: an artifact holds one module, {name:?}, and no other files"
                )));
            }
        }
        self.module_in(word, cwd, path)
    }

    /// What an artifact's module is called.
    pub(crate) fn artifact_name(&self) -> &str {
        let name = self.config.entrypoint.first();
        name.map_or("main.wasm", String::as_str)
    }

    /// The paths of its `.wasm` files, sorted, `most` at most. In an image of very many files some
    /// may be missing: it is for people.
    ///
    /// # Errors
    /// A layer can't be read.
    pub fn modules(&self, most: usize) -> Result<Vec<PathBuf>, Error> {
        if let Kind::Artifact { .. } = self.kind {
            return Ok(vec![PathBuf::from(self.artifact_name())]);
        }
        let mut found = BTreeSet::new();
        let mut looked = 0;
        for layer in self.layers.iter().rev() {
            look(&self.layers, layer, most, &mut looked, &mut found)?;
        }
        Ok(found.into_iter().take(most).collect())
    }
}

/// Adds those that are seen of one layer's.
fn look(
    layers: &[Layer],
    layer: &Layer,
    most: usize,
    looked: &mut usize,
    found: &mut BTreeSet<PathBuf>,
) -> Result<(), Error> {
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let host = layer.path.join(&folder);
        for entry in std::fs::read_dir(&host).at("read", &host)? {
            let entry = entry.at("read", &host)?;
            *looked += 1;
            if *looked > LOOK_MAX || found.len() >= most {
                return Ok(());
            }
            let path = folder.join(entry.file_name());
            let kind = entry.file_type().at("read", &entry.path())?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && is_module(&path) && is_seen(layers, &path)? {
                found.insert(Path::new("/").join(path));
            }
        }
    }
    Ok(())
}

fn is_module(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("wasm"))
}

/// Whether no layer above hides it.
fn is_seen(layers: &[Layer], path: &Path) -> Result<bool, Error> {
    Ok(matches!(
        find(layers, path)?,
        Found::File { path: seen, .. } if seen == path
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::digest::Digest;
    use crate::layer::Whiteouts;

    fn layer(folder: PathBuf, files: &[&str], removed: &[&str]) -> Layer {
        for file in files {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        Layer {
            diff_id: Digest::of(b""),
            path: folder,
            whiteouts: Whiteouts {
                removed: removed.iter().map(PathBuf::from).collect(),
                ..Whiteouts::default()
            },
            size: 0,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn what_is_seen_of_all_layers_is_listed_and_no_more_than_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let lower = ["app.wasm", "bin/tool.wasm", "gone.wasm", "notes.txt"];
        let layers = [
            layer(dir.path().join("0"), &lower, &[]),
            layer(
                dir.path().join("1"),
                &["app.wasm", "lib/x.wasm"],
                &["gone.wasm"],
            ),
        ];
        std::os::unix::fs::symlink("app.wasm", dir.path().join("1/link.wasm")).unwrap();
        let listed = |most| {
            let (mut found, mut looked) = (BTreeSet::new(), 0);
            for layer in layers.iter().rev() {
                look(&layers, layer, most, &mut looked, &mut found).unwrap();
            }
            found
        };
        let all: Vec<PathBuf> = listed(10).into_iter().collect();
        assert_eq!(
            all,
            ["/app.wasm", "/bin/tool.wasm", "/lib/x.wasm"].map(PathBuf::from)
        );
        assert_eq!(listed(2).len(), 2);
    }
}
