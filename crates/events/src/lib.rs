//! Makes few events of many, by client-go's rules (`tools/record/events_cache.go`): a repeated event
//! counts up, too many alike become one, and an object that floods is cut off.
//!
//! Pure: the time is an argument. Must not know: pods, where events go, how they are written.

mod bucket;
mod cache;

use std::collections::BTreeSet;

use jiff::Timestamp;

pub use bucket::Bucket;
use cache::Cache;

/// Different messages of one reason about one object, within [`ALIKE_SECONDS`], before they are told
/// as one (`defaultAggregateMaxEvents`).
const ALIKE: usize = 10;
/// `defaultAggregateIntervalInSeconds`
const ALIKE_SECONDS: i64 = 600;
/// Events of one object at once, and how many a second after that: one in five minutes
/// (`defaultSpamBurst`, `defaultSpamQPS`).
const BURST: f64 = 25.0;
const PER_SECOND: f64 = 1.0 / 300.0;
/// What client-go puts before the message that stands for many.
const COMBINED: &str = "(combined from similar events): ";

/// What the rules look at of an event.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// The object that it is about, and who says so: all that tells it from another.
    pub about: &'a str,
    /// `type`: Normal or Warning.
    pub kind: &'a str,
    /// `reason`
    pub reason: &'a str,
    /// `involvedObject.fieldPath`; empty for the object itself.
    pub part: &'a str,
    /// `message`
    pub message: &'a str,
}

/// An event that is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Tell<T> {
    /// Under what it counts: for [`Correlator::counted`].
    pub key: Key,
    /// The message: the event's own, or what stands for many.
    pub message: String,
    /// How often it happened, this time too.
    pub count: u32,
    /// When it happened first.
    pub first: Timestamp,
    /// It was told before: count, message and time change of what then was given `tag`.
    pub repeats: bool,
    /// What the first of them was given.
    pub tag: T,
}

/// Under what an event counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

/// Remembers what was told. `T` is what the caller knows a told event by, as its name.
#[derive(Debug)]
pub struct Correlator<T> {
    alike: Cache<Alike>,
    told: Cache<Told<T>>,
    flow: Cache<Bucket>,
}

#[derive(Debug)]
struct Alike {
    messages: BTreeSet<String>,
    last: Timestamp,
}

#[derive(Clone, Debug)]
struct Told<T> {
    count: u32,
    first: Timestamp,
    tag: T,
}

impl<T> Default for Correlator<T> {
    fn default() -> Self {
        Correlator {
            alike: Cache::default(),
            told: Cache::default(),
            flow: Cache::default(),
        }
    }
}

impl<T: Clone> Correlator<T> {
    /// What to tell of an event that happened `now`, if anything. One that is cut off counts all
    /// the same: the next that is told has the true count (`EventCorrelate`).
    pub fn correlate(&mut self, heard: &Heard<'_>, tag: T, now: Timestamp) -> Option<Tell<T>> {
        let (key, message) = self.combine(heard, now);
        let before = self.told.get(&key).cloned();
        let repeats = before.is_some();
        let told = match before {
            Some(told) => Told {
                count: told.count.saturating_add(1),
                ..told
            },
            None => Told {
                count: 1,
                first: now,
                tag,
            },
        };
        self.told.insert(key.clone(), told.clone());
        let full = || Bucket::full(BURST, PER_SECOND, now);
        self.flow
            .entry(heard.about.to_owned(), full)
            .take(now)
            .ok()?;
        Some(Tell {
            key: Key(key),
            message,
            count: told.count,
            first: told.first,
            repeats,
            tag: told.tag,
        })
    }

    /// Takes over the count that stands where events go.
    pub fn counted(&mut self, key: &Key, count: u32) {
        if let Some(told) = self.told.get_mut(&key.0) {
            told.count = count;
        }
    }

    /// The key under which the event counts, and its message; from the tenth alike on those of what
    /// stands for all of them (`EventAggregate`).
    fn combine(&mut self, heard: &Heard<'_>, now: Timestamp) -> (String, String) {
        let key = [heard.about, heard.kind, heard.reason].join("\0");
        let alike = self.alike.entry(key.clone(), || Alike {
            messages: BTreeSet::new(),
            last: now,
        });
        if now.as_second() - alike.last.as_second() > ALIKE_SECONDS {
            alike.messages.clear();
        }
        alike.last = now;
        let message = heard.message.to_owned();
        alike.messages.insert(message.clone());
        if alike.messages.len() < ALIKE {
            return ([&key, heard.part, &message].join("\0"), message);
        }
        // One is let go, so that a reason with endless messages doesn't grow the memory.
        alike.messages.pop_first();
        (key, format!("{COMBINED}{message}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn heard<'a>(about: &'a str, message: &'a str) -> Heard<'a> {
        Heard {
            about,
            kind: "Warning",
            reason: "BackOff",
            part: "",
            message,
        }
    }

    #[test]
    fn the_same_event_again_counts_up_under_its_first_name() {
        let mut correlator = Correlator::default();
        let first = correlator.correlate(&heard("web", "x"), "one", at(0));
        assert!(!first.unwrap().repeats);
        let again = correlator.correlate(&heard("web", "x"), "two", at(9));
        let again = again.unwrap();
        assert_eq!((again.count, again.first, again.tag), (2, at(0), "one"));
        assert!(again.repeats);
        let mut other = heard("web", "x");
        other.part = "spec.containers{a}";
        let other = correlator.correlate(&other, "three", at(9)).unwrap();
        assert_eq!((other.count, other.tag), (1, "three"));
    }

    #[test]
    fn the_tenth_alike_stands_for_all_that_follow() {
        let mut correlator = Correlator::default();
        let tell = |correlator: &mut Correlator<i64>, n: i64| {
            correlator.correlate(&heard("web", &n.to_string()), n, at(n))
        };
        for n in 0..9 {
            let told = tell(&mut correlator, n).unwrap();
            assert_eq!((told.message, told.repeats), (n.to_string(), false));
        }
        for n in 9..15 {
            let told = tell(&mut correlator, n).unwrap();
            assert_eq!(told.message, format!("{COMBINED}{n}"));
            assert_eq!((i64::from(told.count), told.tag), (n - 8, 9));
        }
        let within = tell(&mut correlator, 14 + ALIKE_SECONDS).unwrap();
        assert!(within.message.starts_with(COMBINED));
        let much_later = tell(&mut correlator, 14 + 2 * ALIKE_SECONDS + 1).unwrap();
        assert!(!much_later.message.starts_with(COMBINED));
    }

    #[test]
    fn an_object_that_floods_is_cut_off_and_no_other() {
        let mut correlator = Correlator::default();
        let told = (0..100)
            .filter_map(|_| correlator.correlate(&heard("web", "x"), (), at(0)))
            .count();
        assert_eq!(told, 25);
        let other = correlator.correlate(&heard("other", "x"), (), at(0));
        assert!(other.is_some());
        let after = correlator.correlate(&heard("web", "x"), (), at(301));
        assert_eq!(
            after.unwrap().count,
            101,
            "what was cut off has happened too"
        );
    }

    #[test]
    fn the_count_that_stands_elsewhere_is_taken_over() {
        let mut correlator = Correlator::default();
        let first = correlator.correlate(&heard("web", "x"), (), at(0)).unwrap();
        correlator.counted(&first.key, 7);
        let next = correlator.correlate(&heard("web", "x"), (), at(1)).unwrap();
        assert_eq!(next.count, 8);
    }
}
