//! What one node wrote, counted by kind.

use std::collections::BTreeMap;
use std::fmt;

use super::scene::Side;
use crate::Write;

/// How often each verb was said of each resource, of those that were accepted; and how many were not.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    counts: BTreeMap<(String, String), usize>,
    refused: usize,
}

impl Tally {
    /// Of one side's writes.
    pub(super) fn of(writes: &[Write], side: Side) -> Tally {
        let mut tally = Tally::default();
        for write in writes.iter().filter(|write| write.user == side.user()) {
            match write.code {
                200..300 => {
                    let kind = (write.verb.clone(), write.resource.clone());
                    *tally.counts.entry(kind).or_default() += 1;
                }
                _ => tally.refused += 1,
            }
        }
        tally
    }

    /// Adds another's.
    pub(super) fn add(&mut self, other: &Tally) {
        for (kind, count) in &other.counts {
            *self.counts.entry(kind.clone()).or_default() += count;
        }
        self.refused += other.refused;
    }

    /// How often this was written.
    pub(super) fn count(&self, verb: &str, resource: &str) -> usize {
        let kind = (verb.to_owned(), resource.to_owned());
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    /// All that was written but for what is named.
    pub(super) fn but_for(&self, resources: &[&str]) -> usize {
        let others = self
            .counts
            .iter()
            .filter(|((_, resource), _)| !resources.contains(&resource.as_str()));
        others.map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.counts.iter();
        let mut words: Vec<String> = kinds
            .map(|((verb, resource), count)| format!("{count} {verb} {resource}"))
            .collect();
        if self.refused > 0 {
            words.push(format!("{} refused", self.refused));
        }
        if words.is_empty() {
            words.push("nothing".to_owned());
        }
        f.write_str(&words.join(", "))
    }
}
