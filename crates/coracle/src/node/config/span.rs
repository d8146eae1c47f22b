//! Durations as the kubelet's configuration writes them: Go's, `1h30m`, `10s`, `1.5s`, `0`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration that is written as Go's `time.ParseDuration` reads it. Never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

/// The units, and how many seconds each has. Longer names first.
const UNITS: [(&str, f64); 7] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

impl Span {
    pub(crate) const fn seconds(seconds: u64) -> Span {
        Span(Duration::from_secs(seconds))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let wrong = || format!("{text:?} is no duration; write it like 10s, 2m or 1h30m");
        if text == "0" {
            return Ok(Span::default());
        }
        let mut rest = text;
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(wrong)?;
            let (number, after) = rest.split_at(end);
            let number: f64 = number.parse().map_err(|_| wrong())?;
            let unit = UNITS.iter().find(|(unit, _)| {
                after.strip_prefix(unit).is_some_and(|next| {
                    next.is_empty() || next.starts_with(|c: char| c.is_ascii_digit() || c == '.')
                })
            });
            let (unit, each) = unit.ok_or_else(wrong)?;
            seconds += number * each;
            rest = after.strip_prefix(unit).unwrap_or_default();
        }
        if text.is_empty() {
            return Err(wrong());
        }
        Duration::try_from_secs_f64(seconds)
            .map(Span)
            .map_err(|_| wrong())
    }
}

impl fmt::Display for Span {
    /// Go's own: `5m0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        let rest = Duration::new(seconds % 60, self.0.subsec_nanos());
        write!(f, "{}s", rest.as_secs_f64())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 10s, 2m or 1h30m")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                // A field that was told as wrong already is read as an empty text.
                match text {
                    "" => Ok(Span::default()),
                    text => text.parse().map_err(E::custom),
                }
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn go_s_durations_are_read_and_written() {
        for (text, millis, written) in [
            ("10s", 10_000, "10s"),
            ("5m", 300_000, "5m0s"),
            ("1h30m", 5_400_000, "1h30m0s"),
            ("1.5s", 1500, "1.5s"),
            ("250ms", 250, "0.25s"),
            ("2m3s", 123_000, "2m3s"),
            ("0", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(span, Span(Duration::from_millis(millis)), "{text}");
            assert_eq!(span.to_string(), written);
            assert_eq!(written.parse(), Ok(span), "{written}");
        }
        for text in ["", "10", "s", "-1s", "1d", "1 s", "1s2", "1..2s", "9e9h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
