//! One record: written in bulk, parsed one by one. Knows no file.

use jiff::Timestamp;
use jiff::tz::Offset;
use memchr::memchr;
use serde::{Deserialize, Serialize};

/// A longer line is split into `P` records of this many bytes, as containerd does.
pub(crate) const MAX_TEXT: usize = 16 * 1024;
/// Bytes before the text of a record that we wrote.
pub(crate) const HEADER: usize = 40;
/// Bytes within which the text of anyone's record has to begin.
pub(crate) const MAX_HEADER: usize = 128;

const TAG: usize = 38;

/// Which of a guest's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static [u8; 6] {
        match self {
            Stream::Stdout => b"stdout",
            Stream::Stderr => b"stderr",
        }
    }
}

/// What stands before the text, formatted once for all records of a write.
pub(crate) struct Header([u8; HEADER]);

impl Header {
    pub(crate) fn new(now: Timestamp, stream: Stream) -> Header {
        let time = Offset::UTC.to_datetime(now);
        let mut header = *b"0000-00-00T00:00:00.000000000Z stdout F ";
        let mut put = |range: std::ops::Range<usize>, mut value: u32| {
            for digit in header.get_mut(range).into_iter().flatten().rev() {
                *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
                value /= 10;
            }
        };
        put(0..4, u32::try_from(time.year()).unwrap_or(0));
        put(5..7, time.month().unsigned_abs().into());
        put(8..10, time.day().unsigned_abs().into());
        put(11..13, time.hour().unsigned_abs().into());
        put(14..16, time.minute().unsigned_abs().into());
        put(17..19, time.second().unsigned_abs().into());
        put(20..29, time.subsec_nanosecond().unsigned_abs());
        for (to, from) in header.iter_mut().skip(31).zip(stream.name()) {
            *to = *from;
        }
        Header(header)
    }

    fn tag(&mut self, tag: u8) -> &[u8] {
        if let Some(at) = self.0.get_mut(TAG) {
            *at = tag;
        }
        &self.0
    }
}

/// The first record that `bytes` makes: its text, whether its newline is there, and what follows.
fn split(bytes: &[u8]) -> (&[u8], bool, &[u8]) {
    let window = bytes.get(..=MAX_TEXT).unwrap_or(bytes);
    match memchr(b'\n', window) {
        Some(end) => {
            let (text, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
            (text, true, rest.get(1..).unwrap_or(&[]))
        }
        None => {
            let (text, rest) = bytes.split_at_checked(MAX_TEXT).unwrap_or((bytes, &[]));
            (text, false, rest)
        }
    }
}

/// Length of the first record that `bytes` makes.
pub(crate) fn first(bytes: &[u8]) -> usize {
    HEADER + split(bytes).0.len() + 1
}

/// Appends records of `bytes` to `out` while they fit in `room` (the first one in any case); returns
/// how many bytes of `bytes` they hold.
pub(crate) fn fill(out: &mut Vec<u8>, header: &mut Header, bytes: &[u8], room: usize) -> usize {
    let mut rest = bytes;
    let begin = out.len();
    while !rest.is_empty() {
        let (text, full, after) = split(rest);
        if out.len() > begin && out.len() - begin + HEADER + text.len() + 1 > room {
            break;
        }
        out.extend_from_slice(header.tag(if full { b'F' } else { b'P' }));
        out.extend_from_slice(text);
        out.push(b'\n');
        rest = after;
    }
    bytes.len() - rest.len()
}

/// How many of a guest's bytes the whole records in `written` hold, all of them made by [`fill`].
pub(crate) fn held(written: &[u8]) -> usize {
    let ours = |line: &[u8]| match line.len().checked_sub(HEADER) {
        Some(text) if line.get(TAG) == Some(&b'F') => text + 1,
        Some(text) => text,
        None => 0, // the newline that ended a torn record
    };
    written
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(ours)
        .sum()
}

/// A record that was read, without its newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) at: Timestamp,
    pub(crate) stream: Stream,
    /// `P`: a line that goes on in a later record of this stream.
    pub(crate) partial: bool,
    /// Where the text begins.
    pub(crate) text: usize,
}

/// Parses a record from its first bytes ([`MAX_HEADER`] suffice). As leniently as the kubelet does:
/// any width of the fraction, any offset, any tags after the first one.
pub(crate) fn parse(line: &[u8]) -> Option<Record> {
    let head = line.get(..MAX_HEADER).unwrap_or(line);
    let mut parts = head.splitn(4, |byte| *byte == b' ');
    let (at, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next()?;
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let text = at.len() + 1 + stream.name().len() + 1 + tags.len() + 1;
    let at = std::str::from_utf8(at).ok()?.parse().ok()?;
    let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    Some(Record {
        at,
        stream,
        partial,
        text,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn filled(bytes: &[u8]) -> String {
        let at = "2016-10-06T00:17:09.000794202Z".parse().unwrap();
        let mut out = Vec::new();
        assert_eq!(
            fill(
                &mut out,
                &mut Header::new(at, Stream::Stderr),
                bytes,
                usize::MAX
            ),
            bytes.len()
        );
        assert_eq!(held(&out), bytes.len());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_full_and_the_rest_is_partial() {
        let t = "2016-10-06T00:17:09.000794202Z stderr";
        assert_eq!(filled(b"a\n\nbc"), format!("{t} F a\n{t} F \n{t} P bc\n"));
        assert_eq!(filled(b""), "");
    }

    #[test]
    fn a_line_is_split_after_16_kib() {
        let tags = |n: usize| {
            let mut line = vec![b'x'; n];
            line.push(b'\n');
            filled(&line)
                .lines()
                .map(|l| (l.as_bytes()[TAG] as char, l.len() - HEADER))
                .collect::<Vec<_>>()
        };
        assert_eq!(tags(MAX_TEXT), [('F', MAX_TEXT)]);
        assert_eq!(tags(MAX_TEXT + 1), [('P', MAX_TEXT), ('F', 1)]);
        assert_eq!(tags(2 * MAX_TEXT), [('P', MAX_TEXT), ('F', MAX_TEXT)]);
    }

    #[test]
    fn what_is_no_record_is_none() {
        for line in [
            "",
            " ",
            "2016-10-06T00:17:09Z",
            "2016-10-06T00:17:09Z stdout",
            "2016-10-06T00:17:09Z stdout F",
            "yesterday stdout F x",
            "2016-10-06T00:17:09Z stdin F x",
            "{\"log\":\"x\"}",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line:?}");
        }
        let record = parse(b"2016-10-06T00:17:09.5+02:00 stdout P:other a b").unwrap();
        assert!(record.partial && record.text == 43 && record.stream == Stream::Stdout);
    }
}
