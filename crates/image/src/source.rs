//! A reader whose own failure can be told from the failure of whoever copies from it: `io::copy` gives one error for
//! both sides.

use std::io::{self, ErrorKind, Read};

/// Reads at most so many bytes, and keeps the error if that fails.
#[derive(Debug)]
pub(crate) struct Source<R> {
    inner: io::Take<R>,
    failure: Option<io::Error>,
}

impl<R: Read> Source<R> {
    pub(crate) fn new(inner: R, size: u64) -> Source<R> {
        Source {
            inner: inner.take(size),
            failure: None,
        }
    }

    /// How reading went: how many bytes are missing from the promised size, or the error it ended with.
    pub(crate) fn finish(&mut self) -> io::Result<u64> {
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(self.inner.limit()),
        }
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                let shown = io::Error::new(error.kind(), error.to_string());
                self.failure = Some(error);
                Err(shown)
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }

    #[test]
    fn the_source_tells_its_own_failure() {
        let mut broken = Source::new(Broken, 9);
        assert!(io::copy(&mut broken, &mut io::sink()).is_err());
        assert_eq!(broken.finish().unwrap_err().to_string(), "broken");
        let mut short = Source::new(&b"1234"[..], 9);
        assert_eq!(io::copy(&mut short, &mut io::sink()).unwrap(), 4);
        assert_eq!(short.finish().unwrap(), 5);
        let mut long = Source::new(&b"1234"[..], 3);
        assert_eq!(io::copy(&mut long, &mut io::sink()).unwrap(), 3);
        assert_eq!(long.finish().unwrap(), 0);
    }
}
