//! What was told of a pod, repeats counted as `kubectl get events` shows them, and no more than so many.

use jiff::Timestamp;
use lifecycle::Event;
use serde::{Deserialize, Serialize};

/// The most that is kept of one pod; the oldest goes.
const MOST: usize = 200;

/// An event that was told once or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Told {
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// One word.
    pub(crate) reason: String,
    /// A sentence.
    pub(crate) message: String,
    /// The container that it is about; none for the pod's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) container: Option<String>,
    /// When it was told first.
    pub(crate) first_timestamp: Timestamp,
    /// When it was told last.
    pub(crate) last_timestamp: Timestamp,
    /// How often.
    pub(crate) count: u64,
}

/// The events of one pod, in the order in which they were told last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Events(Vec<Told>);

impl Events {
    /// Adds one; one that is like an earlier one counts there.
    pub(crate) fn add(&mut self, event: Event) {
        let same = |told: &Told| {
            (
                told.kind.as_str(),
                &told.reason,
                &told.message,
                &told.container,
            ) == (
                event.kind.as_str(),
                &event.reason,
                &event.message,
                &event.container,
            )
        };
        let told = match self.0.iter().position(same) {
            Some(at) => {
                let mut told = self.0.remove(at);
                told.last_timestamp = event.at;
                told.count = told.count.saturating_add(1);
                told
            }
            None => Told {
                kind: event.kind.as_str().to_owned(),
                reason: event.reason,
                message: event.message,
                container: event.container,
                first_timestamp: event.at,
                last_timestamp: event.at,
                count: 1,
            },
        };
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(told);
    }

    /// All of them, the latest last.
    pub(crate) fn all(&self) -> &[Told] {
        &self.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn event(message: &str, second: i64) -> Event {
        Event {
            kind: lifecycle::EventKind::Warning,
            reason: "BackOff".to_owned(),
            message: message.to_owned(),
            container: Some("main".to_owned()),
            at: Timestamp::from_second(second).unwrap(),
        }
    }

    #[test]
    fn repeats_are_counted_and_come_last() {
        let mut events = Events::default();
        for (message, second) in [("a", 1), ("b", 2), ("a", 3)] {
            events.add(event(message, second));
        }
        let told: Vec<_> = events
            .all()
            .iter()
            .map(|t| {
                let (first, last) = (t.first_timestamp, t.last_timestamp);
                (
                    t.message.as_str(),
                    t.count,
                    first.as_second(),
                    last.as_second(),
                )
            })
            .collect();
        assert_eq!(told, [("b", 1, 2, 2), ("a", 2, 1, 3)]);
    }

    #[test]
    fn a_flood_is_bounded_and_the_latest_stay() {
        let mut events = Events::default();
        for number in 0..1000 {
            events.add(event(&number.to_string(), number));
        }
        assert_eq!(events.all().len(), MOST);
        assert_eq!(events.all().last().unwrap().message, "999");
    }
}
