//! Archives of images on disk and in pipes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use image::{Format, Image, Reference};

use super::Images;

/// How much is written at once.
const BUFFER: usize = 256 << 10;

/// Writes images into the file at `path`, which appears whole or not at all; a pipe or device is written to.
///
/// # Errors
/// When an image is not in the store, or the archive can't be written.
pub(crate) fn save(
    images: &Images,
    words: &[String],
    format: Format,
    path: &Path,
) -> anyhow::Result<()> {
    let names = names(images, words)?;
    let special = std::fs::metadata(path).is_ok_and(|meta| {
        let kind = meta.file_type();
        kind.is_fifo() || kind.is_char_device()
    });
    if special {
        let file = File::options()
            .write(true)
            .open(path)
            .with_context(|| path.display().to_string())?;
        return write(images, &names, format, file, path);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let temp = tempfile::Builder::new()
        .prefix(".coracle-save-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(|| format!("can't write into {}", folder.display()))?;
    write(images, &names, format, temp.as_file(), path)?;
    temp.persist(path)
        .with_context(|| path.display().to_string())?;
    Ok(())
}

/// Writes images to standard output.
///
/// # Errors
/// As [`save`].
pub(crate) fn save_to_stdout(
    images: &Images,
    words: &[String],
    format: Format,
) -> anyhow::Result<()> {
    let names = names(images, words)?;
    let stdout = std::io::stdout().lock();
    write(images, &names, format, stdout, Path::new("standard output"))
}

fn write(
    images: &Images,
    names: &[Reference],
    format: Format,
    to: impl Write,
    path: &Path,
) -> anyhow::Result<()> {
    let mut to = BufWriter::with_capacity(BUFFER, to);
    Ok(images.store.save(names, format, &mut to, path)?)
}

fn names(images: &Images, words: &[String]) -> anyhow::Result<Vec<Reference>> {
    let mut names = Vec::new();
    for word in words {
        let name = images.find(word)?.reference;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Takes the images of an archive, or of standard input, into the store.
///
/// # Errors
/// When it is no archive of images, or one of its images is not for Wasm.
pub(crate) fn load(images: &Images, path: Option<&Path>) -> anyhow::Result<Vec<Image>> {
    Ok(match path {
        Some(path) => images.store.load(path)?,
        None => {
            let stdin = std::io::stdin().lock();
            let from = PathBuf::from("standard input");
            images.store.load_stream(&from, stdin, "loaded")?
        }
    })
}
