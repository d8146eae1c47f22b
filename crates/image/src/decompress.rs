//! From a blob's bytes to a tar: what it is compressed with is read from its first bytes, as containerd does.

use std::io::{self, BufRead, Read};

use crate::error::Error;

/// The largest zstd window taken, in bits: 128 MiB, what `zstd --ultra` without `--long` stays within.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Opens `blob` as a plain tar.
///
/// # Errors
/// `Malformed` for a compression that is not one of OCI's; `Io`-like failures come from the reader itself.
pub(crate) fn open<'a>(
    what: &str,
    mut blob: impl BufRead + 'a,
) -> Result<Box<dyn Read + 'a>, Error> {
    let start = blob.fill_buf().map_err(|e| Error::malformed(what, e))?;
    let other = |name: &str| {
        Err(Error::malformed(
            what,
            format!("compressed with {name}; OCI layers are plain, gzip or zstd"),
        ))
    };
    match start {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(blob))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(blob)
                .map_err(|e| Error::malformed(what, e))?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG)
                .map_err(|e| Error::malformed(what, e))?;
            Ok(Box::new(decoder))
        }
        [b'B', b'Z', b'h', ..] => other("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => other("xz"),
        _ => Ok(Box::new(blob)),
    }
}

/// Which limit was passed; travels inside an `io::Error`.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("more than {limit} {unit}")]
pub(crate) struct LimitPassed {
    pub(crate) limit: u64,
    pub(crate) unit: &'static str,
}

/// A reader that fails beyond its limit, so that a bomb costs no more than that.
#[derive(Debug)]
pub(crate) struct Bounded<R> {
    inner: R,
    left: u64,
    passed: LimitPassed,
}

impl<R> Bounded<R> {
    pub(crate) fn new(inner: R, bytes: u64, passed: LimitPassed) -> Bounded<R> {
        Bounded {
            inner,
            left: bytes,
            passed,
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => {
                self.left = left;
                Ok(n)
            }
            None => Err(io::Error::other(self.passed)),
        }
    }
}

/// The limit inside an error, where it was one.
pub(crate) fn limit_passed(error: &io::Error) -> Option<LimitPassed> {
    error.get_ref()?.downcast_ref().copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn plain(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        open("the layer", bytes)
            .unwrap()
            .read_to_end(&mut out)
            .unwrap();
        out
    }

    #[test]
    fn each_compression_is_recognised() {
        let text = b"hello".repeat(100);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&text).unwrap();
        assert_eq!(plain(&text), text);
        assert_eq!(plain(&gz.finish().unwrap()), text);
        assert_eq!(plain(&zstd::encode_all(&text[..], 1).unwrap()), text);
        assert_eq!(plain(b""), b"");
        assert!(
            open("the layer", &b"BZh91AY"[..])
                .err()
                .unwrap()
                .to_string()
                .contains("bzip2")
        );
        assert!(
            open("the layer", &b"\xfd7zXZ\0"[..])
                .err()
                .unwrap()
                .to_string()
                .contains("xz")
        );
    }

    #[test]
    fn a_limit_is_told_from_other_failures() {
        let passed = LimitPassed {
            limit: 3,
            unit: "bytes",
        };
        let error =
            io::copy(&mut Bounded::new(&b"abcd"[..], 3, passed), &mut io::sink()).unwrap_err();
        assert_eq!(limit_passed(&error), Some(passed));
        assert_eq!(
            io::copy(&mut Bounded::new(&b"abc"[..], 3, passed), &mut io::sink()).unwrap(),
            3
        );
        assert_eq!(limit_passed(&io::Error::other("x")), None);
    }
}
