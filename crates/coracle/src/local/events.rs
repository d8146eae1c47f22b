//! What was told of a pod, repeats counted as `kubectl get events` shows them, and no more than so many.

use events::{Correlator, Heard};
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
    /// The container that it is about, as `involvedObject.fieldPath` has it; none for the pod's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) container: Option<String>,
    /// When it was told first.
    pub(crate) first_timestamp: Timestamp,
    /// When it was told last.
    pub(crate) last_timestamp: Timestamp,
    /// How often.
    pub(crate) count: u64,
    /// Tells it from others of this session, where it was told.
    #[serde(skip)]
    pub(crate) number: u64,
}

/// By the kubelet's own rules what is told is few, whatever happens.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    correlator: Correlator<u64>,
    last: u64,
}

impl Teller {
    /// What to add to the events of the pod `uid`, if anything.
    pub(crate) fn tell(&mut self, uid: &str, event: Event) -> Option<Told> {
        self.last += 1;
        let heard = Heard {
            about: uid,
            kind: event.kind.as_str(),
            reason: &event.reason,
            part: event.container.as_deref().unwrap_or_default(),
            message: &event.message,
        };
        let tell = self.correlator.correlate(&heard, self.last, event.at)?;
        Some(Told {
            kind: event.kind.as_str().to_owned(),
            reason: event.reason,
            message: tell.message,
            container: event.container,
            first_timestamp: tell.first,
            last_timestamp: event.at,
            count: tell.count.into(),
            number: tell.tag,
        })
    }
}

/// The events of one pod, in the order in which they were told last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Events(Vec<Told>);

impl Events {
    /// Adds one, or puts it in the place of what it repeats.
    pub(crate) fn add(&mut self, told: Told) {
        self.0.retain(|other| other.number != told.number);
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

    fn events(told: impl IntoIterator<Item = (&'static str, i64)>) -> Events {
        let (mut teller, mut events) = (Teller::default(), Events::default());
        for (message, second) in told {
            let told = teller.tell("uid", event(message, second));
            told.into_iter().for_each(|told| events.add(told));
        }
        events
    }

    #[test]
    fn repeats_are_counted_and_come_last() {
        let events = events([("a", 1), ("b", 2), ("a", 3)]);
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
    fn a_flood_is_told_as_one_and_then_cut_off() {
        let (mut teller, mut events) = (Teller::default(), Events::default());
        for number in 0..1000 {
            let told = teller.tell("uid", event(&number.to_string(), 1));
            told.into_iter().for_each(|told| events.add(told));
        }
        let last = events.all().last().unwrap();
        assert_eq!(
            events.all().len(),
            10,
            "nine, and what stands for the others"
        );
        assert_eq!(last.message, "(combined from similar events): 24");
        assert_eq!(last.count, 16);
        assert!(teller.tell("other", event("1", 1)).is_some());
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_latest_stay() {
        let mut events = Events::default();
        for number in 0..1000 {
            let told = Teller::default().tell("uid", event("x", number)).unwrap();
            let number = number.unsigned_abs();
            events.add(Told { number, ..told });
        }
        assert_eq!(events.all().len(), MOST);
        assert_eq!(events.all().last().unwrap().number, 999);
    }
}
