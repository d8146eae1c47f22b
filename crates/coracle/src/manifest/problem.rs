//! What is wrong with a manifest, and where.

use std::fmt;

/// A place in a file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Line.
    pub(crate) line: u64,
    /// Column, in characters.
    pub(crate) column: u64,
}

/// One thing that is wrong, in words that say what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The file as it was named; `-` for standard input.
    pub(crate) file: String,
    /// Where in it; `None` if it could not be read at all.
    pub(crate) at: Option<Position>,
    /// `Pod web`; empty where it is not known.
    pub(crate) object: String,
    /// `spec.containers[0].image`; empty for the object itself.
    pub(crate) field: String,
    /// What is wrong and what helps.
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(at) = self.at {
            write!(f, ":{}:{}", at.line, at.column)?;
        }
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        write!(f, ": {}", self.message)
    }
}

/// So many are told; what follows is most often the same mistake.
const TOLD: usize = 20;

/// Everything that is wrong with what was to be played, at least one.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().take(TOLD).map(ToString::to_string).chain(more(.0.len())).collect::<Vec<_>>().join("\n"))]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

fn more(count: usize) -> Option<String> {
    (count > TOLD).then(|| format!("and {} more problems", count - TOLD))
}
