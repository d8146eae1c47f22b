//! The diagrams of `docs/lifecycle.md`, as that page has them: each step that is simulated is held
//! to them, and enough histories reach all that they show.
//!
//! Must not know: how a step is decided.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

const PAGE: &str = include_str!("../../../docs/lifecycle.md");

/// From so many histories on, each transition of the diagrams has to be reached.
pub const ENOUGH: u64 = 20_000;

/// From one state to another.
pub type Transition = (&'static str, &'static str);

/// One of the diagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chart {
    /// A container's, while its pod is to live.
    Living,
    /// A container's, while all of its pod begin anew.
    Anew,
    /// A container's, while its pod is to end.
    Ending,
    /// The phase's.
    Phase,
    /// Of what the pod itself holds: its addresses and its folders.
    Holding,
}

impl Chart {
    /// All of them.
    pub const ALL: [Chart; 5] = [
        Chart::Living,
        Chart::Anew,
        Chart::Ending,
        Chart::Phase,
        Chart::Holding,
    ];

    /// The title of its section.
    fn title(self) -> &'static str {
        match self {
            Chart::Living => "A container while its pod lives",
            Chart::Anew => "A container while all begin anew",
            Chart::Ending => "A container while its pod ends",
            Chart::Phase => "The phase",
            Chart::Holding => "Addresses and folders",
        }
    }

    /// The text of its section.
    fn section(self) -> &'static str {
        let mut sections = PAGE.split("\n## ");
        let own = |section: &&str| section.lines().next() == Some(self.title());
        sections.find(own).unwrap_or_default()
    }

    /// What the page says that there is.
    pub fn transitions(self) -> &'static BTreeSet<Transition> {
        static CHARTS: LazyLock<[BTreeSet<Transition>; 5]> =
            LazyLock::new(|| Chart::ALL.map(|chart| table(chart.section())));
        let [living, anew, ending, phase, holding] = &*CHARTS;
        match self {
            Chart::Living => living,
            Chart::Anew => anew,
            Chart::Ending => ending,
            Chart::Phase => phase,
            Chart::Holding => holding,
        }
    }
}

impl fmt::Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

/// The rows of a table that begin with two states.
fn table(section: &'static str) -> BTreeSet<Transition> {
    let row = |line: &'static str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let from = cells.next()?.strip_suffix('`')?;
        let to = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((from, to))
    };
    section.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The arrows of a Mermaid state diagram.
    fn drawn(section: &'static str) -> BTreeSet<Transition> {
        let lines = || section.lines().map(str::trim);
        let long: Vec<(&str, &str)> = lines()
            .filter_map(|line| line.strip_prefix("state \"")?.split_once("\" as "))
            .map(|(name, id)| (id, name))
            .collect();
        let name = |id: &'static str| {
            let known = long.iter().find(|(other, _)| *other == id);
            match id {
                "[*]" => "-",
                _ => known.map_or(id, |(_, name)| name),
            }
        };
        let arrow = |line: &'static str| {
            let (from, rest) = line.split_once(" --> ")?;
            let to = rest.split(':').next()?.trim();
            Some((name(from), name(to)))
        };
        lines().filter_map(arrow).collect()
    }

    #[test]
    fn each_diagram_shows_what_its_table_says() {
        for chart in Chart::ALL {
            assert!(!chart.transitions().is_empty(), "{chart}");
            assert_eq!(&drawn(chart.section()), chart.transitions(), "{chart}");
        }
    }
}
