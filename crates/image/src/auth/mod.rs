//! Who a person is to registries: what docker's and podman's files say, and the helpers that they name.
//!
//! Must not know what is pulled or pushed. Nothing here prints or logs a secret, errors included.

mod file;
mod helper;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::credentials::Credentials;
use crate::error::Error;
use crate::reference::Reference;
use file::{AuthFile, Said};

/// What docker calls its hub wherever credentials are kept.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const HUB: &str = "docker.io";

/// Where credentials are looked for. Cheap to clone; files are read anew with each question, since `docker login` and
/// the like may change them at any time.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    places: Vec<Place>,
}

/// Where something is said of registries.
#[derive(Clone, Debug)]
enum Place {
    /// A file, and whether it must be there.
    File { path: PathBuf, required: bool },
    /// What was read elsewhere.
    Text(Arc<AuthFile>),
}

impl Auth {
    /// Knows nobody: every registry is asked anonymously.
    pub fn none() -> Auth {
        Auth::default()
    }

    /// What this file says, which has the form of docker's `config.json`. It need not be there now.
    pub fn of_file(path: &Path) -> Auth {
        let path = path.to_owned();
        let required = false;
        Auth {
            places: vec![Place::File { path, required }],
        }
    }

    /// What a text of docker's `config.json` says; `bare` for the older `.dockercfg`, which is its `auths` alone. A
    /// helper that it names is not run: it comes from whoever wrote the text. `source` names it in errors.
    ///
    /// # Errors
    /// `Credentials` for a text that can't be understood; no word of it is repeated.
    pub fn of_text(source: &str, text: &[u8], bare: bool) -> Result<Auth, Error> {
        let file = AuthFile::of_text(Path::new(source), text, bare)?;
        Ok(Auth {
            places: file
                .map(|file| Place::Text(Arc::new(file)))
                .into_iter()
                .collect(),
        })
    }

    /// What this says, and after it what `other` says.
    pub fn then(mut self, other: Auth) -> Auth {
        self.places.extend(other.places);
        self
    }

    /// What this process's environment says, as docker and podman read it: `$REGISTRY_AUTH_FILE` alone where it is
    /// set; else, the first that knows the registry, `$DOCKER_CONFIG/config.json`,
    /// `$XDG_RUNTIME_DIR/containers/auth.json`, `$XDG_CONFIG_HOME/containers/auth.json` (`~/.config`) and
    /// `~/.docker/config.json` (containers-auth.json(5); docker's `cli/config`).
    pub fn of_environment() -> Auth {
        Auth::of_variables(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn of_variables(get: impl Fn(&str) -> Option<OsString>) -> Auth {
        let folder = |name: &str| get(name).map(PathBuf::from);
        if let Some(path) = folder("REGISTRY_AUTH_FILE") {
            let required = true;
            return Auth {
                places: vec![Place::File { path, required }],
            };
        }
        let home = folder("HOME");
        let config = folder("XDG_CONFIG_HOME").or(home.as_ref().map(|h| h.join(".config")));
        let candidates = [
            folder("DOCKER_CONFIG").map(|d| d.join("config.json")),
            folder("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json")),
            config.map(|d| d.join("containers/auth.json")),
            // Docker has one folder: the variable stands in place of the one at home.
            home.filter(|_| get("DOCKER_CONFIG").is_none())
                .map(|h| h.join(".docker/config.json")),
        ];
        let place = |path| Place::File {
            path,
            required: false,
        };
        Auth {
            places: candidates.into_iter().flatten().map(place).collect(),
        }
    }

    /// The credentials for the registry of `name`: of the first file that has some for the name or for a path above
    /// it. May run a helper (`docker-credential-…`), for at most 30 seconds. Anonymous where nothing is known.
    ///
    /// # Errors
    /// `Credentials` for a file that can't be read or understood, and for a helper that fails; names it.
    pub async fn credentials(&self, name: &Reference) -> Result<Credentials, Error> {
        for place in &self.places {
            if let Some(found) = place.credentials(name).await? {
                return Ok(found);
            }
        }
        Ok(Credentials::Anonymous)
    }

    /// All that may be shown, in the order to try them: what each place has for `name`; at the last, and only where
    /// there is none, nobody's (`pkg/credentialprovider/keyring.go` of the kubelet).
    ///
    /// # Errors
    /// As [`Auth::credentials`].
    pub async fn all(&self, name: &Reference) -> Result<Vec<Credentials>, Error> {
        let mut all = Vec::new();
        for place in &self.places {
            let found = place.credentials(name).await?;
            all.extend(found.filter(|found| !all.contains(found)));
        }
        if all.is_empty() {
            all.push(Credentials::Anonymous);
        }
        Ok(all)
    }
}

impl Place {
    async fn credentials(&self, name: &Reference) -> Result<Option<Credentials>, Error> {
        match self {
            Place::File { path, required } => match AuthFile::read(path, *required)? {
                Some(file) => in_file(&file, name).await,
                None => Ok(None),
            },
            Place::Text(file) => Ok(match file.said(&keys(name))? {
                Some(Said::Credentials(found)) => Some(found),
                Some(Said::Nothing) | None => None,
            }),
        }
    }
}

async fn in_file(file: &AuthFile, name: &Reference) -> Result<Option<Credentials>, Error> {
    let keys = keys(name);
    let written = match file.said(&keys)? {
        Some(Said::Credentials(found)) => Some(found),
        // An entry with nothing in it marks what the store of the file keeps.
        Some(Said::Nothing) | None => None,
    };
    let Some(helper) = file.helper(&hosts(name)) else {
        return Ok(written);
    };
    let found = helper::get(&file.path, helper, &server(name)).await?;
    Ok(found.or(written))
}

/// What an entry for `name` may be called, the most precise first: `host/path`, each folder above it, `host`.
fn keys(name: &Reference) -> Vec<String> {
    let mut keys = Vec::new();
    for host in hosts(name) {
        let mut path = format!("{host}/{}", name.repository());
        while let Some((above, _)) = path.rsplit_once('/') {
            let above = above.to_owned();
            keys.push(std::mem::replace(&mut path, above));
        }
        keys.push(path);
    }
    keys
}

/// The names of one registry: the hub has several.
fn hosts(name: &Reference) -> Vec<&str> {
    match name.registry() {
        HUB => vec![HUB, "index.docker.io", "registry-1.docker.io"],
        host => vec![host],
    }
}

/// What a helper knows the registry by.
fn server(name: &Reference) -> String {
    match name.registry() {
        HUB => HUB_KEY.to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests;
