//! What can go wrong, with the reason a pod shows and whether trying again can help.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::digest::Digest;
use crate::reference::ReferenceError;

/// A failure of the store, of a source or of an image. Each message names the thing at fault and, where there is
/// something to do, what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is no image name.
    #[error("couldn't parse image name: {0}")]
    Name(#[from] ReferenceError),
    /// The store has no such image.
    #[error("image {0} is not in the store; pull or import it first")]
    NotPresent(String),
    /// The image is absent and the pull policy forbids fetching it.
    #[error("container image {0:?} is not present with pull policy of Never")]
    NeverPull(String),
    /// A file of the store or of a source could not be read or written. A full disk ends here.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was being done, e.g. `write`.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Bytes are not those that their name promises.
    #[error("{what} does not match: expected {expected}, got {actual}")]
    Mismatch {
        /// Which bytes, e.g. `digest of layer 2`.
        what: String,
        /// The promised digest or size.
        expected: String,
        /// What the bytes have.
        actual: String,
    },
    /// A manifest, index or configuration that cannot be understood.
    #[error("{what}: {reason}")]
    Malformed {
        /// Which document.
        what: String,
        /// What is wrong in it.
        reason: String,
    },
    /// An image for another platform.
    #[error(
        "image {image} is for {platform}, and only Wasm runs here: build it with --os wasi --arch wasm32 (for buildah: \
         --annotation module.wasm.image/variant=compat) and an entrypoint that names a .wasm file"
    )]
    Platform {
        /// The image.
        image: String,
        /// Its platform, `os/architecture`.
        platform: String,
    },
    /// A multi-platform image with no Wasm in it.
    #[error("image {image} has no Wasm platform; it has {}", if available.is_empty() { "none at all".to_owned() } else { available.join(", ") })]
    NoPlatform {
        /// The image.
        image: String,
        /// The platforms it has.
        available: Vec<String>,
    },
    /// An image that is not for the platform that was asked for.
    #[error("image {image} is not for {asked}, but for {}: leave the platform out to take what there is", available.join(", "))]
    OtherPlatform {
        /// The image.
        image: String,
        /// The platform asked for, `os/architecture`.
        asked: String,
        /// The platforms it has.
        available: Vec<String>,
    },
    /// A well-formed image of a kind that is not supported.
    #[error("image {image} is not supported: {reason}")]
    Unsupported {
        /// The image.
        image: String,
        /// What about it, and what to do.
        reason: String,
    },
    /// A layer that must not be unpacked.
    #[error("layer {layer}: entry {entry:?}: {reason}")]
    Layer {
        /// The layer's diffID.
        layer: String,
        /// The entry's path in the archive.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer, blob or document beyond its limit.
    #[error("{what} exceeds the limit of {limit} {unit}")]
    TooLarge {
        /// Which thing.
        what: String,
        /// The limit.
        limit: u64,
        /// Of what: `bytes`, `entries`, `times its compressed size`.
        unit: &'static str,
    },
    /// The entrypoint names no file of the image, or one that cannot be a module.
    #[error("image {image}: {reason}")]
    Entrypoint {
        /// The image.
        image: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// What can't be put into an image, or taken out of one in the form that was asked for.
    #[error("{what}: {reason}")]
    Input {
        /// Which file or option.
        what: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The command's first word names nothing that is in the image.
    #[error("image {image}: {reason}")]
    NoFile {
        /// The image.
        image: String,
        /// What was looked for and where.
        reason: String,
    },
    /// A file that is no module.
    #[error("{}: {reason}", path.display())]
    NotWasm {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The registry said no to these credentials, or wants some.
    #[error("registry {registry} refused access to {image}: {status}{detail}; {advice}")]
    Refused {
        /// Its host.
        registry: String,
        /// The image.
        image: String,
        /// `401 Unauthorized` or `403 Forbidden`.
        status: String,
        /// What the registry added.
        detail: String,
        /// What to do.
        advice: &'static str,
    },
    /// The registry has no such tag, digest or repository.
    #[error("{image}: not found: the registry {registry} has no {what}{detail}")]
    NotFound {
        /// Its host.
        registry: String,
        /// The image.
        image: String,
        /// `repository "x"`, `tag "v1" in repository "x"`, `blob sha256:…`.
        what: String,
        /// What the registry added.
        detail: String,
    },
    /// The registry asks to slow down, and still did after the last attempt.
    #[error("registry {registry} limits requests (429){detail}")]
    Throttled {
        /// Its host.
        registry: String,
        /// What the registry added.
        detail: String,
        /// When it asked to be tried again.
        retry_after: Option<Duration>,
    },
    /// The registry could not be reached, broke off, was silent too long or answered with a server error, also after
    /// the last attempt.
    #[error("registry {registry} is unavailable: {reason}")]
    Unavailable {
        /// Its host.
        registry: String,
        /// The last failure.
        reason: String,
    },
    /// The registry's certificate, or ours, is not trusted.
    #[error(
        "registry {registry} is not trusted: {reason}; certificates for it go into ~/.config/containers/certs.d/{registry}/ \
         or /etc/docker/certs.d/{registry}/ (an authority's as ca.crt, a client's as client.cert and client.key), an \
         authority's for all into the file that $SSL_CERT_FILE names"
    )]
    Untrusted {
        /// Its host.
        registry: String,
        /// What is wrong.
        reason: String,
    },
    /// What is kept for a registry (a file of credentials or certificates, a helper) can't be used.
    #[error("{source_name}: {reason}")]
    Credentials {
        /// The file or helper.
        source_name: String,
        /// What is wrong with it. No secret is in it.
        reason: String,
    },
    /// The registry answered something else than the distribution protocol allows.
    #[error("registry {registry} broke the protocol: {reason}")]
    Protocol {
        /// Its host.
        registry: String,
        /// How.
        reason: String,
    },
    /// The work was given up because its thread ended.
    #[error("{0} was interrupted")]
    Interrupted(&'static str),
}

impl Error {
    /// The reason that the container's status shows, as the kubelet has it (`pkg/kubelet/images/types.go`).
    pub fn reason(&self) -> &'static str {
        match self {
            Error::Name(_) => "InvalidImageName",
            Error::NeverPull(_) => "ErrImageNeverPull",
            Error::Unavailable { .. } => "RegistryUnavailable",
            Error::NotPresent(_) | Error::Entrypoint { .. } | Error::NoFile { .. } => {
                "ImageInspectError"
            }
            _ => "ErrImagePull",
        }
    }

    /// Whether the same request can succeed later with nothing changed here. The kubelet tries again either way, after
    /// a backoff; this tells a person or `coracle run` whether waiting is worth it.
    pub fn retryable(&self) -> bool {
        match self {
            Error::Unavailable { .. } | Error::Throttled { .. } | Error::Interrupted(_) => true,
            Error::Io { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::NotFound
                    | io::ErrorKind::ReadOnlyFilesystem
            ),
            _ => false,
        }
    }

    /// Whether the disk, or a quota on it, is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Error::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    pub(crate) fn malformed(what: impl Into<String>, reason: impl ToString) -> Error {
        Error::Malformed {
            what: what.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn input(what: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Input {
            what: what.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn digest(what: impl Into<String>, expected: Digest, actual: Digest) -> Error {
        Error::Mismatch {
            what: what.into(),
            expected: expected.to_string(),
            actual: actual.to_string(),
        }
    }

    pub(crate) fn size(what: impl Into<String>, expected: u64, actual: u64) -> Error {
        Error::Mismatch {
            what: what.into(),
            expected: format!("{expected} bytes"),
            actual: format!("{actual} bytes"),
        }
    }
}

/// Adds what was done to which file to an I/O error.
pub(crate) trait IoContext<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|e| Error::Io {
            what,
            path: path.to_owned(),
            source: e.into(),
        })
    }
}
