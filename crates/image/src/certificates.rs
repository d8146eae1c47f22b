//! Whom to believe, and what to show: the folders of certificates that docker and podman keep for each registry.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, IoContext};
use crate::reference::Reference;

/// More than a folder of certificates has; each is a file to read.
const FILES_MAX: usize = 256;
const FILE_MAX: u64 = 4 << 20;

/// Certificates for one registry, in PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Authorities to trust beside the system's (those of `$SSL_CERT_FILE` and `$SSL_CERT_DIR`, where set).
    pub authorities: Vec<Vec<u8>>,
    /// A client's certificate, with its chain and its key.
    pub client: Option<Vec<u8>>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates")
            .field("authorities", &self.authorities.len())
            .field("client", &self.client.is_some())
            .finish()
    }
}

impl Certificates {
    /// What this machine keeps for the registry of `name`: the first folder `HOST[:PORT]` of
    /// `~/.config/containers/certs.d`, `/etc/containers/certs.d` and `/etc/docker/certs.d`, in which `*.crt` are
    /// authorities, and `X.cert` with `X.key` a client's (containers-certs.d(5)). Empty where there is none.
    ///
    /// # Errors
    /// `Credentials` for a client certificate with no key, or a key with none; `Io` for what can't be read.
    pub fn of_machine(name: &Reference) -> Result<Certificates, Error> {
        let config = |name: &str| std::env::var_os(name).filter(|v: &OsString| !v.is_empty());
        let own = config("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&config("HOME")?).join(".config")))
            .map(|folder| folder.join("containers/certs.d"));
        let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
        Certificates::of_folders(own.into_iter().chain(system), name)
    }

    /// As [`Certificates::of_machine`], from folders of one's own.
    ///
    /// # Errors
    /// As there.
    pub fn of_folders(
        folders: impl IntoIterator<Item = PathBuf>,
        name: &Reference,
    ) -> Result<Certificates, Error> {
        for folder in folders {
            let folder = folder.join(name.registry());
            if let Some(files) = files(&folder)? {
                return of_files(&files);
            }
        }
        Ok(Certificates::default())
    }
}

fn of_files(files: &[PathBuf]) -> Result<Certificates, Error> {
    let wrong = |path: &Path, reason: String| Error::Credentials {
        source_name: path.display().to_string(),
        reason,
    };
    let mut found = Certificates::default();
    for file in files {
        let lacks = |other: &str| Some(file.with_extension(other)).filter(|o| !files.contains(o));
        match file.extension().and_then(|e| e.to_str()) {
            Some("crt") => found.authorities.push(read(file)?),
            Some("cert") => match lacks("key") {
                Some(key) => {
                    let reason = format!(
                        "is a client's certificate, and its key {} is missing; an authority's is called *.crt",
                        key.display()
                    );
                    return Err(wrong(file, reason));
                }
                None if found.client.is_none() => {
                    let mut pem = read(file)?;
                    pem.push(b'\n');
                    pem.extend(read(&file.with_extension("key"))?);
                    found.client = Some(pem);
                }
                None => {
                    return Err(wrong(
                        file,
                        "is a second client's certificate for one registry; leave one".to_owned(),
                    ));
                }
            },
            Some("key") => {
                if let Some(cert) = lacks("cert") {
                    let reason = format!(
                        "is a client's key, and its certificate {} is missing",
                        cert.display()
                    );
                    return Err(wrong(file, reason));
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The files of a folder, sorted. `None` where there is no such folder.
fn files(folder: &Path) -> Result<Option<Vec<PathBuf>>, Error> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        // A folder of another user's machine-wide configuration may be closed to us; podman goes on too.
        Err(e) if e.kind() == ErrorKind::PermissionDenied => return Ok(None),
        other => other.at("read", folder)?,
    };
    let mut files = Vec::new();
    for entry in entries.take(FILES_MAX) {
        files.push(entry.at("read", folder)?.path());
    }
    files.sort();
    Ok(Some(files))
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    let size = std::fs::metadata(file).at("read", file)?.len();
    if size > FILE_MAX {
        return Err(Error::TooLarge {
            what: file.display().to_string(),
            limit: FILE_MAX,
            unit: "bytes",
        });
    }
    std::fs::read(file).at("read", file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_folder_of_the_registry_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("b/r.example.org:5/ca.crt", "ca");
        write("b/r.example.org:5/more.crt", "more");
        write("b/r.example.org:5/me.cert", "cert");
        write("b/r.example.org:5/me.key", "key");
        write("c/r.example.org:5/other.crt", "other");
        let folders = || ["a", "b", "c"].map(|f| dir.path().join(f));
        let of = |name: &str| Certificates::of_folders(folders(), &name.parse().unwrap());
        let found = of("r.example.org:5/x").unwrap();
        assert_eq!(found.authorities, [b"ca".to_vec(), b"more".to_vec()]);
        assert_eq!(found.client.unwrap(), b"cert\nkey");
        assert_eq!(of("r.example.org/x").unwrap(), Certificates::default());
        std::fs::remove_file(dir.path().join("b/r.example.org:5/me.key")).unwrap();
        let error = of("r.example.org:5/x").unwrap_err().to_string();
        assert!(
            error.contains("me.key") && error.contains("missing"),
            "{error}"
        );
    }
}
