//! Image names, normalised as docker and containerd do.
//!
//! The grammar is that of the `reference` package of distribution: `[domain/]path[:tag][@digest]`. A first component
//! is a domain when it holds a `.` or `:`, has an upper-case letter, or is `localhost`; else the domain is `docker.io`,
//! and a single path component there lives under `library/`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const DEFAULT_TAG: &str = "latest";
/// The longest repository name (domain and path), from distribution's `RepositoryNameTotalLengthMax`.
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// The full name of an image: registry, repository, and a tag, a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text names no image. The text stands in the message as `couldn't parse image name`'s cause.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("the image name is empty")]
    Empty,
    /// Upper-case letters in the repository.
    #[error("image name {name:?}: the repository {repository:?} must be lower case")]
    UpperCase {
        /// The whole name.
        name: String,
        /// The part at fault.
        repository: String,
    },
    /// A path component that breaks the grammar.
    #[error(
        "image name {name:?}: {component:?} is not a path component: lower-case letters and digits, separated by one '.', one or two '_', or any number of '-'"
    )]
    Component {
        /// The whole name.
        name: String,
        /// The part at fault.
        component: String,
    },
    /// A domain that breaks the grammar.
    #[error(
        "image name {name:?}: {domain:?} is not a registry: a host name or address with an optional port"
    )]
    Domain {
        /// The whole name.
        name: String,
        /// The part at fault.
        domain: String,
    },
    /// A tag that breaks the grammar.
    #[error(
        "image name {name:?}: {tag:?} is not a tag: at most 128 letters, digits, '_', '.' or '-', not beginning with '.' or '-'"
    )]
    Tag {
        /// The whole name.
        name: String,
        /// The part at fault.
        tag: String,
    },
    /// A digest that is none.
    #[error("image name {name:?}: {source}")]
    Digest {
        /// The whole name.
        name: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// 64 hex digits, which docker takes for an image's id.
    #[error(
        "image name {0:?} is 64 hex digits, which is an image id and no name; write NAME@sha256:{0}"
    )]
    Identifier(String),
    /// Too long a name.
    #[error(
        "image name {name:?} has {length} characters in its repository; at most 255 are allowed"
    )]
    TooLong {
        /// The whole name.
        name: String,
        /// Its length.
        length: usize,
    },
}

impl Reference {
    /// The registry's host, as in the name: `docker.io` for the hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path in the registry, e.g. `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. Absent only where a digest is given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index, where the name pins it.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// `registry/repository`, with neither tag nor digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository, pinned to `digest`: what an image id in a pod's status looks like.
    pub fn pinned(&self, digest: Digest) -> Reference {
        Reference {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Whether the registry is this machine (`localhost`, `*.localhost` is not taken, 127.0.0.0/8, `[::1]`), the only kind
    /// that plain HTTP is spoken to.
    pub fn is_loopback(&self) -> bool {
        let host = match self.registry.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.registry.split(':').next().unwrap_or_default(),
        };
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|a| a.is_loopback())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if Digest::from_hex(text).is_ok() {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let name = || text.to_owned();
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, d)) => (
                rest,
                Some(d.parse().map_err(|source| ReferenceError::Digest {
                    name: name(),
                    source,
                })?),
            ),
        };
        let (path, tag) = split_tag(rest);
        if let Some(tag) = tag.filter(|t| !is_tag(t)) {
            return Err(ReferenceError::Tag {
                name: name(),
                tag: tag.to_owned(),
            });
        }
        let (registry, repository) = split_domain(path);
        if !is_domain(&registry) {
            return Err(ReferenceError::Domain {
                name: name(),
                domain: registry,
            });
        }
        check_repository(text, &repository)?;
        let length = registry.len() + 1 + repository.len();
        if length > NAME_MAX {
            return Err(ReferenceError::TooLong {
                name: name(),
                length,
            });
        }
        let tag = match (tag, digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Reference {
            registry,
            repository,
            tag,
            digest,
        })
    }
}

/// The tag is what follows the last `:`, unless a `/` follows that (then it is a port).
fn split_tag(rest: &str) -> (&str, Option<&str>) {
    match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    }
}

fn split_domain(path: &str) -> (String, String) {
    let (domain, repository) = match path.split_once('/') {
        Some((first, rest)) if looks_like_domain(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, path),
    };
    let domain = if domain == LEGACY_DOMAIN {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    if domain == DEFAULT_DOMAIN && !repository.contains('/') && !repository.is_empty() {
        return (domain.to_owned(), format!("library/{repository}"));
    }
    (domain.to_owned(), repository.to_owned())
}

fn looks_like_domain(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':', '['])
        || first.chars().any(|c| c.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((address, "")) => return address.parse::<std::net::Ipv6Addr>().is_ok(),
        Some((address, rest)) => match rest.strip_prefix(':') {
            Some(port) => return address.parse::<std::net::Ipv6Addr>().is_ok() && is_port(port),
            None => return false,
        },
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let label = |l: &str| {
        !l.is_empty()
            && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.chars().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= TAG_MAX
        && tag.chars().next().is_some_and(word)
        && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

fn check_repository(name: &str, repository: &str) -> Result<(), ReferenceError> {
    for component in repository.split('/') {
        if is_component(component) {
            continue;
        }
        if is_component(&component.to_ascii_lowercase()) {
            return Err(ReferenceError::UpperCase {
                name: name.to_owned(),
                repository: repository.to_owned(),
            });
        }
        return Err(ReferenceError::Component {
            name: name.to_owned(),
            component: component.to_owned(),
        });
    }
    Ok(())
}

/// `alphanumeric [separator alphanumeric]*`, separator being `.`, `_`, `__` or `-+`.
fn is_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut separator = String::new();
    let mut last_was_word = false;
    for c in component.chars() {
        if alphanumeric(c) {
            if !separator.is_empty() && (!last_was_word || !is_separator(&separator)) {
                return false;
            }
            separator.clear();
            last_was_word = true;
        } else {
            separator.push(c);
        }
    }
    last_was_word && separator.is_empty()
}

fn is_separator(text: &str) -> bool {
    matches!(text, "." | "_" | "__") || text.chars().all(|c| c == '-')
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Reference, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests;
