//! Docker's `config.json` and podman's `auth.json`: one form.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use crate::credentials::Credentials;
use crate::error::Error;

/// Far more than any file of credentials has.
const FILE_MAX: u64 = 4 << 20;

/// A file that was read.
#[derive(Debug)]
pub(super) struct AuthFile {
    pub(super) path: PathBuf,
    content: Content,
}

/// What the file has for a registry.
pub(super) enum Said {
    Credentials(Credentials),
    /// An entry, and nothing in it.
    Nothing,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Content {
    auths: Option<BTreeMap<String, Entry>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |map: &Option<BTreeMap<String, Entry>>| -> Vec<String> {
            map.iter().flat_map(|m| m.keys().cloned()).collect()
        };
        f.debug_struct("Content")
            .field("auths", &names(&self.auths))
            .field("cred_helpers", &self.cred_helpers)
            .field("creds_store", &self.creds_store)
            .finish()
    }
}

impl AuthFile {
    /// Reads a file. `None` where there is none and it need not be there.
    pub(super) fn read(path: &Path, required: bool) -> Result<Option<AuthFile>, Error> {
        let wrong = |reason: String| Error::Credentials {
            source_name: path.display().to_string(),
            reason,
        };
        let file = match File::open(path) {
            Err(e)
                if !required
                    && matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            other => other.map_err(|e| wrong(e.to_string()))?,
        };
        let mut bytes = Vec::new();
        file.take(FILE_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| wrong(e.to_string()))?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(wrong(format!("has more than {FILE_MAX} bytes")));
        }
        AuthFile::of_text(path, &bytes, false)
    }

    /// Understands a text; `bare` if it is `auths` alone. `None` for one that says nothing.
    pub(super) fn of_text(
        path: &Path,
        bytes: &[u8],
        bare: bool,
    ) -> Result<Option<AuthFile>, Error> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let content = match bare {
            true => serde_json::from_slice(bytes).map(|auths| Content {
                auths: Some(auths),
                ..Content::default()
            }),
            false => serde_json::from_slice(bytes),
        };
        // The parser's own words quote what they stumble over, which may be a secret.
        let content = content.map_err(|e| {
            let kind = match e.classify() {
                serde_json::error::Category::Data => "something of a wrong type",
                _ => "no JSON",
            };
            let (line, column) = (e.line(), e.column());
            Error::Credentials {
                source_name: path.display().to_string(),
                reason: format!("{kind} at line {line} column {column}"),
            }
        })?;
        Ok(Some(AuthFile {
            path: path.to_owned(),
            content,
        }))
    }

    /// What the file says for the first of `keys` that it has.
    pub(super) fn said(&self, keys: &[String]) -> Result<Option<Said>, Error> {
        let entries = self.content.auths.iter().flatten();
        let mut best: Option<(usize, &str, &Entry)> = None;
        for (key, entry) in entries {
            let place = keys.iter().position(|k| *k == normal(key));
            if let Some(place) = place.filter(|p| best.is_none_or(|(b, ..)| *p < b)) {
                best = Some((place, key, entry));
            }
        }
        best.map(|(_, key, entry)| self.entry(key, entry))
            .transpose()
    }

    /// The helper that the file names for one of these hosts, else for all.
    pub(super) fn helper(&self, hosts: &[&str]) -> Option<&str> {
        let own = self.content.cred_helpers.iter().flatten();
        let own = own
            .filter(|(key, _)| hosts.contains(&normal(key).as_str()))
            .map(|(_, helper)| helper)
            .next();
        own.or(self.content.creds_store.as_ref())
            .map(String::as_str)
            .filter(|helper| !helper.is_empty())
    }

    fn entry(&self, key: &str, entry: &Entry) -> Result<Said, Error> {
        let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        if let Some(token) = given(&entry.identitytoken) {
            return Ok(Said::Credentials(Credentials::Identity(token)));
        }
        if let Some(token) = given(&entry.registrytoken) {
            return Ok(Said::Credentials(Credentials::Bearer(token)));
        }
        if let Some(auth) = given(&entry.auth) {
            let (user, password) = decode(&auth).map_err(|reason| Error::Credentials {
                source_name: self.path.display().to_string(),
                reason: format!("auths[{key:?}].auth {reason}"),
            })?;
            return Ok(Said::Credentials(Credentials::Basic(user, password)));
        }
        Ok(match given(&entry.username) {
            Some(user) => Said::Credentials(Credentials::Basic(
                user,
                entry.password.clone().unwrap_or_default(),
            )),
            None => Said::Nothing,
        })
    }
}

/// A key without what older tools wrap around it: a scheme with `/v1/` behind the host.
fn normal(key: &str) -> String {
    let (rest, legacy) = match key.split_once("://") {
        Some((_, rest)) => (rest, true),
        None => (key, false),
    };
    let host = rest.split('/').next().unwrap_or(rest);
    let path = rest.get(host.len()..).unwrap_or_default().trim_matches('/');
    match legacy || matches!(path, "" | "v1" | "v2") {
        true => host.to_owned(),
        false => format!("{host}/{path}"),
    }
}

/// `user:password` in base64, with or without padding.
fn decode(auth: &str) -> Result<(String, String), &'static str> {
    let bytes = STANDARD
        .decode(auth)
        .or_else(|_| STANDARD_NO_PAD.decode(auth))
        .map_err(|_| "is not base64")?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 within its base64")?;
    let (user, password) = text
        .split_once(':')
        .ok_or("is not user:password within its base64")?;
    Ok((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_lose_what_old_tools_wrap_around_them() {
        for (key, bare) in [
            ("https://index.docker.io/v1/", "index.docker.io"),
            ("http://localhost:5000", "localhost:5000"),
            ("gcr.io/v2/", "gcr.io"),
            ("r.example.org/", "r.example.org"),
            ("r.example.org/a/b", "r.example.org/a/b"),
        ] {
            assert_eq!(normal(key), bare);
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(user in "[^:\0]{0,9}", password in "[^\0]{0,9}") {
            let text = STANDARD.encode(format!("{user}:{password}"));
            prop_assert_eq!(decode(&text), Ok((user, password)));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            let _ = (decode(&text), normal(&text));
        }
    }
}
