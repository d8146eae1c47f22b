//! Makes few events of many, by client-go's rules: a repeated event counts up, too many alike become one, and an object
//! that floods is cut off. Pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Different messages of one reason about one object, within [`ALIKE_SECONDS`], before they are told as one.
const ALIKE: usize = 10;
const ALIKE_SECONDS: i64 = 600;
/// Events of one object at once, and how many a second after that: one in five minutes.
const BURST: f64 = 25.0;
const PER_SECOND: f64 = 1.0 / 300.0;
/// Entries in each memory; the oldest goes for a new one.
const MEMORY: usize = 4096;
/// What client-go puts before the message that stands for many.
const COMBINED: &str = "(combined from similar events): ";

/// An event to be written.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) event: Event,
    /// It stands in the API already: its count and its time are patched.
    pub(super) repeats: bool,
}

#[derive(Default)]
pub(super) struct Correlator {
    alike: Memory<Alike>,
    written: Memory<Written>,
    flow: Memory<Bucket>,
}

struct Alike {
    messages: HashSet<String>,
    last: Timestamp,
}

#[derive(Clone)]
struct Written {
    name: String,
    count: i32,
    first: Option<Time>,
}

impl Correlator {
    /// What to write for `event`, if anything.
    pub(super) fn correlate(&mut self, event: Event, now: Timestamp) -> Option<Write> {
        let bucket = self
            .flow
            .entry(source_key(&event), || Bucket::full(BURST, PER_SECOND, now));
        bucket.take(now).ok()?;
        let (key, mut event) = self.combine(event, now);
        let before = self.written.get(&key).cloned();
        let repeats = before.is_some();
        if let Some(before) = before {
            event.count = Some(before.count.saturating_add(1));
            event.first_timestamp = before.first;
            event.metadata.name = Some(before.name);
        }
        let written = Written {
            name: event.metadata.name.clone().unwrap_or_default(),
            count: event.count.unwrap_or(1),
            first: event.first_timestamp.clone(),
        };
        self.written.insert(key, written);
        Some(Write { event, repeats })
    }

    /// Notes what stands in the API now.
    pub(super) fn written(&mut self, event: &Event) {
        if let Some(written) = self.written.get_mut(&event_key(event)) {
            written.count = event.count.unwrap_or(written.count);
        }
    }

    /// The key under which the event counts; beyond ten alike it is the one that stands for all of them.
    fn combine(&mut self, mut event: Event, now: Timestamp) -> (String, Event) {
        let key = alike_key(&event);
        let alike = self.alike.entry(key.clone(), || Alike {
            messages: HashSet::new(),
            last: now,
        });
        if now.as_second() - alike.last.as_second() > ALIKE_SECONDS {
            alike.messages.clear();
        }
        alike.last = now;
        let message = event.message.clone().unwrap_or_default();
        alike.messages.insert(message.clone());
        if alike.messages.len() < ALIKE {
            return (event_key(&event), event);
        }
        // One is let go, so that a reason with endless messages doesn't grow the memory.
        if let Some(one) = alike.messages.iter().next().cloned() {
            alike.messages.remove(&one);
        }
        event.message = Some(format!("{COMBINED}{message}"));
        (key, event)
    }
}

fn source_key(event: &Event) -> String {
    let about = &event.involved_object;
    let parts = [
        &about.kind,
        &about.namespace,
        &about.name,
        &about.uid,
        &about.api_version,
    ];
    joined(&parts)
}

fn alike_key(event: &Event) -> String {
    joined(&[&Some(source_key(event)), &event.type_, &event.reason])
}

fn event_key(event: &Event) -> String {
    joined(&[
        &Some(alike_key(event)),
        &event.involved_object.field_path,
        &event.message,
    ])
}

fn joined(parts: &[&Option<String>]) -> String {
    parts
        .iter()
        .map(|part| part.as_deref().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\0")
}

/// A bucket that refills with time.
pub(super) struct Bucket {
    size: f64,
    per_second: f64,
    level: f64,
    at: Timestamp,
}

impl Bucket {
    pub(super) fn full(size: f64, per_second: f64, now: Timestamp) -> Bucket {
        Bucket {
            size,
            per_second,
            level: size,
            at: now,
        }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long until there is one.
    pub(super) fn take(&mut self, now: Timestamp) -> Result<(), Duration> {
        // A clock that was set back gives nothing and takes nothing.
        let passed = now.duration_since(self.at).as_secs_f64().max(0.0);
        self.at = now;
        self.level = (self.level + passed * self.per_second).min(self.size);
        if self.level >= 1.0 {
            self.level -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64(
            (1.0 - self.level) / self.per_second,
        ))
    }
}

/// A map of bounded size. When it is full the entry that was written longest ago goes.
struct Memory<T> {
    entries: HashMap<String, (u64, T)>,
    clock: u64,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Memory {
            entries: HashMap::new(),
            clock: 0,
        }
    }
}

impl<T> Memory<T> {
    fn get(&self, key: &str) -> Option<&T> {
        self.entries.get(key).map(|(_, value)| value)
    }

    fn get_mut(&mut self, key: &str) -> Option<&mut T> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    fn insert(&mut self, key: String, value: T) {
        self.make_room(&key);
        self.clock += 1;
        self.entries.insert(key, (self.clock, value));
    }

    fn entry(&mut self, key: String, new: impl FnOnce() -> T) -> &mut T {
        self.make_room(&key);
        self.clock += 1;
        let clock = self.clock;
        let entry = self.entries.entry(key).or_insert_with(|| (clock, new()));
        entry.0 = clock;
        &mut entry.1
    }

    fn make_room(&mut self, key: &str) {
        if self.entries.len() < MEMORY || self.entries.contains_key(key) {
            return;
        }
        // Half at once, so that a full memory isn't searched for each event.
        let limit = self.clock.saturating_sub((MEMORY / 2) as u64);
        self.entries.retain(|_, (written, _)| *written > limit);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn event(name: &str, message: &str) -> Event {
        let mut event = Event {
            reason: Some("BackOff".into()),
            message: Some(message.into()),
            count: Some(1),
            ..Default::default()
        };
        event.metadata.name = Some(format!("{name}.{message}"));
        event.involved_object.uid = Some(name.into());
        event
    }

    #[test]
    fn the_same_event_again_counts_up_under_its_first_name() {
        let mut correlator = Correlator::default();
        let first = correlator.correlate(event("web", "x"), at(0)).unwrap();
        assert!(!first.repeats);
        let mut again = event("web", "x");
        again.metadata.name = Some("web.later".into());
        let again = correlator.correlate(again, at(9)).unwrap();
        assert_eq!(
            (again.repeats, again.event.count, again.event.metadata.name),
            (true, Some(2), Some("web.x".into()))
        );
    }

    #[test]
    fn the_tenth_alike_stands_for_all_that_follow() {
        let mut correlator = Correlator::default();
        let mut written: Vec<Write> = (0..15)
            .filter_map(|n| correlator.correlate(event("web", &n.to_string()), at(n)))
            .collect();
        assert!(written.iter().take(9).all(|write| !write.repeats));
        let last = written.pop().unwrap();
        assert_eq!(
            last.event.message.as_deref(),
            Some("(combined from similar events): 14")
        );
        assert_eq!((last.repeats, last.event.count), (true, Some(6)));
        let much_later = correlator
            .correlate(event("web", "new"), at(14 + ALIKE_SECONDS + 1))
            .unwrap();
        assert_eq!(much_later.event.message.as_deref(), Some("new"));
    }

    #[test]
    fn an_object_that_floods_is_cut_off_and_no_other() {
        let mut correlator = Correlator::default();
        let passed = (0..100)
            .filter(|_| correlator.correlate(event("web", "x"), at(0)).is_some())
            .count();
        assert_eq!(passed, 25);
        assert!(correlator.correlate(event("other", "x"), at(0)).is_some());
        assert!(correlator.correlate(event("web", "x"), at(301)).is_some());
    }

    #[test]
    fn memory_is_bounded() {
        let mut correlator = Correlator::default();
        for n in 0..3 * MEMORY {
            correlator.correlate(event(&n.to_string(), "x"), at(0));
        }
        assert!(
            correlator.flow.entries.len() <= MEMORY && correlator.written.entries.len() <= MEMORY
        );
    }

    #[test]
    fn a_bucket_says_how_long_to_wait() {
        let mut bucket = Bucket::full(1.0, 50.0, at(0));
        assert_eq!(bucket.take(at(0)), Ok(()));
        assert_eq!(bucket.take(at(0)), Err(Duration::from_millis(20)));
        assert_eq!(bucket.take(at(1)), Ok(()));
    }
}
