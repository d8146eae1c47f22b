//! Where a certificate and its key lie, as the kubelet has them
//! (`k8s.io/client-go/util/certificate/certificate_store.go`).
//!
//! ```text
//! <root>/pki/<name>-2026-11-28-07-15-05.pem   a certificate, its chain and its key; each its own file
//! <root>/pki/<name>-current.pem               a link to the one that counts
//! <root>/pki/<name>.key.tmp                   the key of a request that is not signed yet
//! ```
//!
//! Each file is written whole under another name, and renamed: whoever is killed in between leaves the
//! one before. Must not know: who signs, and what a certificate is for.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;
use cluster::{Certified, csr};
use jiff::Timestamp;

use crate::dirs;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    name: &'static str,
}

impl Store {
    /// Makes the folder, for its owner alone.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn open(dir: PathBuf, name: &'static str) -> anyhow::Result<Store> {
        dirs::make(&dir)?;
        Ok(Store { dir, name })
    }

    /// The link that leads to the newest.
    pub(crate) fn link(&self) -> PathBuf {
        self.dir.join(format!("{}-current.pem", self.name))
    }

    fn key_file(&self) -> PathBuf {
        self.dir.join(format!("{}.key.tmp", self.name))
    }

    /// The newest; none if there is none, or it can't be used, which is told.
    pub(crate) fn current(&self) -> Option<Certified> {
        let link = self.link();
        let text = match fs::read_to_string(&link) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(file = %link.display(), %error, "a certificate can't be read; asking for another");
                return None;
            }
        };
        Certified::read(&text, &text)
            .inspect_err(|error| {
                tracing::warn!(file = %link.display(), %error, "a certificate is damaged; asking for another");
            })
            .ok()
    }

    /// Makes a certificate the current one, and removes those before it.
    ///
    /// # Errors
    /// When the folder can't be written; then the one before still counts.
    pub(crate) fn keep(&self, certified: &Certified) -> anyhow::Result<()> {
        let date = Timestamp::now().strftime("%Y-%m-%d-%H-%M-%S%.9f");
        let name = format!("{}-{date}.pem", self.name);
        write(&self.dir.join(&name), certified.pem().as_bytes())?;
        let new = self.dir.join(format!("{}-updated.pem", self.name));
        let link = self.link();
        let _left_by_one_that_was_killed = fs::remove_file(&new);
        symlink(&name, &new).with_context(|| format!("{}", new.display()))?;
        fs::rename(&new, &link).with_context(|| format!("{}", link.display()))?;
        sync(&self.dir)?;
        self.forget_key();
        self.remove_others(&name);
        Ok(())
    }

    /// The key to ask for a certificate of: the one that was asked with before, also by a process that was killed, so
    /// that the request is the same.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn key(&self) -> anyhow::Result<String> {
        let file = self.key_file();
        if let Ok(key) = fs::read_to_string(&file)
            && csr::Request::new("check", &key, &csr::Signer::Client).is_ok()
        {
            return Ok(key);
        }
        let key = csr::new_key()?;
        write(&file, key.as_bytes())?;
        sync(&self.dir)?;
        Ok(key)
    }

    /// The next request is of another key.
    pub(crate) fn forget_key(&self) {
        let _there_was_none = fs::remove_file(self.key_file());
    }

    fn remove_others(&self, current: &str) {
        let ours = format!("{}-2", self.name);
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(&ours) && name != current {
                // One that stays harms nobody.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Writes a file whole, for its owner alone.
///
/// # Errors
/// When it can't be written; the error names it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let _left_by_one_that_was_killed = fs::remove_file(&part);
    let written = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    written().with_context(|| format!("{}", path.display()))
}

fn sync(dir: &Path) -> anyhow::Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .with_context(|| format!("{}", dir.display()))
}
