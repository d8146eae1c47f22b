//! A map of bounded size. When it is full the entries that were used longest ago go.

use std::collections::HashMap;

/// Entries at most (`maxLruCacheEntries`).
pub(crate) const MOST: usize = 4096;

#[derive(Debug)]
pub(crate) struct Cache<T> {
    entries: HashMap<String, (u64, T)>,
    clock: u64,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Cache {
            entries: HashMap::new(),
            clock: 0,
        }
    }
}

impl<T> Cache<T> {
    pub(crate) fn get(&self, key: &str) -> Option<&T> {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut T> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    pub(crate) fn insert(&mut self, key: String, value: T) {
        self.make_room(&key);
        self.clock += 1;
        self.entries.insert(key, (self.clock, value));
    }

    pub(crate) fn entry(&mut self, key: String, new: impl FnOnce() -> T) -> &mut T {
        self.make_room(&key);
        self.clock += 1;
        let clock = self.clock;
        let entry = self.entries.entry(key).or_insert_with(|| (clock, new()));
        entry.0 = clock;
        &mut entry.1
    }

    fn make_room(&mut self, key: &str) {
        if self.entries.len() < MOST || self.entries.contains_key(key) {
            return;
        }
        // Half at once, so that a full memory isn't searched for each event.
        let limit = self.clock.saturating_sub((MOST / 2) as u64);
        self.entries.retain(|_, (used, _)| *used > limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_keeps_what_was_used_last() {
        let mut cache = Cache::default();
        for n in 0..3 * MOST {
            cache.insert(n.to_string(), n);
            cache.entry("kept".to_owned(), || 7);
            assert!(cache.entries.len() <= MOST);
        }
        assert_eq!(cache.get("kept"), Some(&7));
        assert_eq!(cache.get("0"), None);
        let last = 3 * MOST - 1;
        assert_eq!(cache.get(&last.to_string()), Some(&last));
    }
}
