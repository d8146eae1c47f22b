//! A layer of a size, as a compiler's output compresses: to about a half.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

const FILE: usize = 4 << 20;

/// A gzipped tar, and what documents say of it.
pub(crate) struct Layer {
    pub(crate) path: PathBuf,
    /// `sha256:…` of the file.
    pub(crate) digest: String,
    /// Bytes of the file.
    pub(crate) size: u64,
    /// `sha256:…` of the tar in it.
    pub(crate) diff_id: String,
    /// Bytes of the tar.
    pub(crate) tar_size: u64,
}

/// Makes a layer of about `size` bytes in `folder`.
pub(crate) fn make(folder: &Path, size: u64) -> anyhow::Result<Layer> {
    let files = folder.join("files");
    std::fs::create_dir(&files)?;
    // Four random bits a byte are about half a byte when compressed.
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for number in 0..(size * 2).div_ceil(FILE as u64 * 105 / 100) {
        let mut file = File::create(files.join(format!("file-{number}")))?;
        file.write_all(&noise.file())?;
    }
    let (plain, path) = (folder.join("layer.tar"), folder.join("layer.tar.gz"));
    let mut pack = Command::new("tar");
    pack.arg("-cf").arg(&plain).arg("-C").arg(&files).arg(".");
    succeed(&mut pack)?;
    let mut compress = Command::new("gzip");
    compress.args(["-1", "--no-name", "--keep"]).arg(&plain);
    succeed(&mut compress)?;
    let (diff_id, tar_size) = digest(&plain)?;
    let (digest, size) = digest(&path)?;
    std::fs::remove_file(&plain)?;
    std::fs::remove_dir_all(&files)?;
    Ok(Layer {
        path,
        digest,
        size,
        diff_id,
        tar_size,
    })
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// Digest and size of a file.
fn digest(path: &Path) -> anyhow::Result<(String, u64)> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((shown(hasher), size));
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
        size += n as u64;
    }
}

/// The digest of bytes, as documents write it.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    shown(Sha256::new_with_prefix(bytes))
}

fn shown(hasher: Sha256) -> String {
    let hex: Vec<String> = hasher
        .finalize()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("sha256:{}", hex.concat())
}

/// The same bytes in every run (xorshift64).
struct Noise(u64);

impl Noise {
    fn file(&mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FILE);
        while bytes.len() < FILE {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend((self.0 & 0x0f0f_0f0f_0f0f_0f0f).to_le_bytes());
        }
        bytes
    }
}
