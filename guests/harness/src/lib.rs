//! The Wasm programs that tests and examples run: which there are, and where they are built.
//!
//! They stand in `guests/`, each from source; `cargo xtask guests` builds them. The list is made
//! from the folders, and a test suite holds itself to it:
//!
//! ```text
//! macro_rules! has_a_test {
//!     ($test:ident $guest:ident) => { const _: fn() = $test; };
//! }
//! guests::for_each_guest!(has_a_test); // a guest `foo` in C wants `#[test] fn c_foo()`
//! ```
//!
//! This crate must not know how guests are built (that is xtask's) nor how they are run.

use std::path::{Path, PathBuf};
use std::{env, fs};

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// What a guest is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Language {
    /// Rust, for `wasm32-wasip1` and `wasm32-wasip2`
    Rust,
    /// Go, for `GOOS=wasip1`
    Go,
    /// C, by the zig of PyPI's `ziglang`
    C,
    /// The text form of Wasm
    Wat,
    /// Python, run by CPython's own Wasm build or made a component with it
    Python,
}

impl Language {
    /// Every language.
    pub const ALL: &'static [Self] = &[Self::Rust, Self::Go, Self::C, Self::Wat, Self::Python];

    /// Its folder in `guests/`.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Go => "go",
            Self::C => "c",
            Self::Wat => "wat",
            Self::Python => "python",
        }
    }

    /// Where its guests' sources are, in the repository that this was built from.
    pub fn sources(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(self.folder())
    }

    /// Where its guests are built. The folder is named after a hash of the sources, so that what is
    /// found there was made of exactly these.
    pub fn built(self) -> Result<PathBuf, Missing> {
        let hash = HASHES
            .iter()
            .find(|(folder, _)| *folder == self.folder())
            .map_or("", |(_, hash)| *hash);
        Ok(root()?.join(format!("{}-{hash}", self.folder())))
    }
}

/// What a guest needs of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum World {
    /// A command of WASI preview 1
    P1,
    /// A command component of WASI preview 2
    P2,
    /// A component of `wasi:http`, which answers requests
    Http,
    /// A command component of WASI preview 3
    P3,
    /// A component of preview 3's `wasi:http`
    Http3,
    /// An interpreter: the guest is its script
    Script,
}

/// Why a guest isn't there.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// It was never built of these sources.
    #[error("{} is not built: run `cargo xtask guests`", path.display())]
    NotBuilt {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Its language was left out on this machine.
    #[error("guests in {language:?} were left out on this machine: {reason}")]
    LeftOut {
        /// The language.
        language: Language,
        /// What is missing on this machine, as `cargo xtask guests` found it.
        reason: String,
    },
    /// Neither `CORACLE_GUESTS`, `CORACLE_CACHE` nor `HOME` says where built guests are.
    #[error("set CORACLE_GUESTS to the folder that guests are built in: HOME is not set")]
    NoFolder,
}

impl Guest {
    /// What it is written in.
    pub const fn language(self) -> Language {
        self.row().0
    }

    /// What it needs of its host.
    pub const fn world(self) -> World {
        self.row().1
    }

    /// Its name among those of its language, as `hello`.
    pub const fn name(self) -> &'static str {
        self.row().2
    }

    /// The name of its built file.
    pub fn file(self) -> String {
        match (self.language(), self.world()) {
            (Language::Wat, _) => format!("{}.wat", self.name()),
            (_, World::Script) => format!("{}.py", self.name()),
            (_, World::Http) => format!("{}.http.wasm", self.name()),
            (_, World::P3) => format!("{}.p3.wasm", self.name()),
            (_, World::Http3) => format!("{}.http3.wasm", self.name()),
            (_, World::P2) => format!("{}.p2.wasm", self.name()),
            (_, World::P1) => format!("{}.wasm", self.name()),
        }
    }
}

/// The file that a language's folder holds in place of guests when they were left out, with the reason.
pub const LEFT_OUT: &str = "left-out.txt";

/// The image of CPython and `main.py` in its language's folder, an OCI archive made by buildah.
pub const PYTHON_IMAGE: &str = "image.tar";

/// The interpreter in Python's folder.
pub const CPYTHON: &str = "python3.wasm";

/// Where guests are built: `CORACLE_GUESTS`, else `guests` in `CORACLE_CACHE`, else in
/// `~/.cache/coracle`.
///
/// # Errors
/// [`Missing::NoFolder`] when the environment names none.
pub fn root() -> Result<PathBuf, Missing> {
    let named = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    named("CORACLE_GUESTS")
        .or_else(|| named("CORACLE_CACHE").map(|cache| cache.join("guests")))
        .or_else(|| named("HOME").map(|home| home.join(".cache/coracle/guests")))
        .ok_or(Missing::NoFolder)
}

/// A built guest.
///
/// # Errors
/// See [`Missing`]; its message says what to do.
pub fn path(guest: Guest) -> Result<PathBuf, Missing> {
    in_folder(guest.language(), &guest.file())
}

/// CPython 3.12 for preview 1, which a script is run by.
///
/// # Errors
/// See [`Missing`].
pub fn cpython() -> Result<PathBuf, Missing> {
    in_folder(Language::Python, CPYTHON)
}

/// An OCI archive that buildah made: CPython and `main.py`, variant compat.
///
/// # Errors
/// See [`Missing`].
pub fn python_image() -> Result<PathBuf, Missing> {
    in_folder(Language::Python, PYTHON_IMAGE)
}

fn in_folder(language: Language, file: &str) -> Result<PathBuf, Missing> {
    let folder = language.built()?;
    let path = folder.join(file);
    if path.is_file() {
        return Ok(path);
    }
    match fs::read_to_string(folder.join(LEFT_OUT)) {
        Ok(reason) => Err(Missing::LeftOut {
            language,
            reason: reason.trim().to_owned(),
        }),
        Err(_) => Err(Missing::NotBuilt { path }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_language_differ() {
        let mut files: Vec<_> = Guest::ALL
            .iter()
            .map(|g| (g.language(), g.file()))
            .collect();
        let all = files.len();
        files.sort();
        files.dedup();
        assert_eq!(files.len(), all);
    }

    #[test]
    fn the_sources_are_where_they_are_said_to_be() {
        for language in Language::ALL {
            assert!(language.sources().is_dir(), "{language:?}");
        }
    }
}
