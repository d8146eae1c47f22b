//! The query of `/containerLogs`: read as apimachinery reads PodLogOptions, and held to the same rules
//! (`ValidatePodLogOptions` of `pkg/apis/core/v1/validation`).

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use logs::{Options, Stream};

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub(crate) previous: bool,
    pub(crate) reader: Options,
}

/// Why a query is no good: the code and the text of the kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadQuery {
    /// A value can't be read: 400.
    Undecodable,
    /// Values that can't be had, or not together: 422.
    Invalid,
}

impl LogOptions {
    /// Reads a query; what `sinceSeconds` counts back from is `now`.
    ///
    /// # Errors
    /// [`BadQuery`].
    pub(crate) fn of(query: &str, now: Timestamp) -> Result<LogOptions, BadQuery> {
        let mut values: HashMap<String, String> = HashMap::new();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            // Of several the first one counts.
            values.entry(key.into_owned()).or_insert(value.into_owned());
        }
        // An old name of it, which older clients still send.
        match values.remove("tail").filter(|tail| !tail.is_empty()) {
            Some(all) if all == "all" => values.remove("tailLines"),
            Some(tail) => values.insert("tailLines".to_owned(), tail),
            None => None,
        };
        let seconds = number(&values, "sinceSeconds")?;
        let tail = number(&values, "tailLines")?;
        let limit = number(&values, "limitBytes")?;
        let time = time(&values)?;
        let stream = stream(&values)?;
        if seconds.is_some() && time.is_some() || tail.is_some() && stream.is_some() {
            return Err(BadQuery::Invalid);
        }
        let since = match seconds {
            Some(seconds) => {
                let ago = SignedDuration::from_secs(at_least(1, seconds)?);
                let since = now.saturating_sub(ago);
                Some(since.unwrap_or(Timestamp::MIN))
            }
            None => time,
        };
        let size = |least: i64, value: Option<i64>| {
            let value = value.map(|value| at_least(least, value)).transpose()?;
            Ok(value.map(i64::unsigned_abs))
        };
        Ok(LogOptions {
            previous: flag(&values, "previous"),
            reader: Options {
                follow: flag(&values, "follow"),
                tail: size(0, tail)?,
                since,
                timestamps: flag(&values, "timestamps"),
                limit_bytes: size(1, limit)?,
                stream,
            },
        })
    }
}

fn at_least(least: i64, value: i64) -> Result<i64, BadQuery> {
    match value >= least {
        true => Ok(value),
        false => Err(BadQuery::Invalid),
    }
}

/// Anything but `false` and `0` is true, nothing too.
fn flag(values: &HashMap<String, String>, name: &str) -> bool {
    let value = values.get(name);
    value.is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
}

fn number(values: &HashMap<String, String>, name: &str) -> Result<Option<i64>, BadQuery> {
    let value = values.get(name);
    value
        .map(|value| value.parse().map_err(|_| BadQuery::Undecodable))
        .transpose()
}

/// RFC 3339; empty and `null` are the beginning of time.
fn time(values: &HashMap<String, String>) -> Result<Option<Timestamp>, BadQuery> {
    match values.get("sinceTime").map(String::as_str) {
        None => Ok(None),
        Some("" | "null") => Ok(Some(Timestamp::MIN)),
        Some(time) => match time.parse() {
            Ok(time) => Ok(Some(time)),
            Err(_) => Err(BadQuery::Undecodable),
        },
    }
}

fn stream(values: &HashMap<String, String>) -> Result<Option<Stream>, BadQuery> {
    match values.get("stream").map(String::as_str) {
        None | Some("All") => Ok(None),
        Some("Stdout") => Ok(Some(Stream::Stdout)),
        Some("Stderr") => Ok(Some(Stream::Stderr)),
        Some(_) => Err(BadQuery::Invalid),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn read(query: &str) -> Result<LogOptions, BadQuery> {
        LogOptions::of(query, at("2026-01-01T01:00:00Z"))
    }

    #[test]
    fn nothing_asked_is_all_of_it_once() {
        assert_eq!(read(""), Ok(LogOptions::default()));
        let off = "follow=false&previous=0&timestamps=FALSE&stream=All&tail=all&tailLines=3";
        assert_eq!(read(off), Ok(LogOptions::default()));
    }

    #[test]
    fn every_option_is_read() {
        let options =
            read("follow=true&previous&timestamps=1&limitBytes=7&sinceSeconds=60&tailLines=0");
        let reader = Options {
            follow: true,
            tail: Some(0),
            since: Some(at("2026-01-01T00:59:00Z")),
            timestamps: true,
            limit_bytes: Some(7),
            stream: None,
        };
        let previous = true;
        assert_eq!(options, Ok(LogOptions { previous, reader }));
        let stderr = read("stream=Stderr").unwrap().reader.stream;
        assert_eq!(stderr, Some(Stream::Stderr));
        let since = |query| read(query).unwrap().reader.since;
        let encoded = "sinceTime=2026-01-01T02%3A00%3A00%2B02%3A00";
        assert_eq!(since(encoded), Some(at("2026-01-01T00:00:00Z")));
        assert_eq!(since("sinceTime="), Some(Timestamp::MIN));
        assert_eq!(
            since("sinceSeconds=9223372036854775807"),
            Some(Timestamp::MIN)
        );
        assert_eq!(read("tail=5").unwrap().reader.tail, Some(5));
    }

    #[test]
    fn what_can_not_be_read_or_had_is_told_apart() {
        for query in [
            "tailLines=ten",
            "tailLines=",
            "limitBytes=1.5",
            "sinceSeconds=99999999999999999999",
            "sinceTime=yesterday",
            "tail=many",
        ] {
            assert_eq!(read(query), Err(BadQuery::Undecodable), "{query}");
        }
        for query in [
            "tailLines=-1",
            "limitBytes=0",
            "sinceSeconds=0",
            "sinceSeconds=-5",
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
            "stream=stdout",
            "stream=",
            "stream=Stdout&tailLines=1",
        ] {
            assert_eq!(read(query), Err(BadQuery::Invalid), "{query}");
        }
    }
}
