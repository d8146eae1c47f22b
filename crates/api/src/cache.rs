//! Answers that hold for a while, at most so many of them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// See the module.
pub(crate) struct Cache<K, V> {
    most: usize,
    kept: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    pub(crate) fn new(most: usize) -> Cache<K, V> {
        Cache {
            most,
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<K, (Instant, V)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer that still holds.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let kept = self.kept();
        let (until, value) = kept.get(key)?;
        (Instant::now() < *until).then(|| value.clone())
    }

    /// Keeps an answer for so long. Where there are too many, those that would end soonest go.
    pub(crate) fn put(&self, key: K, value: V, ttl: Duration) {
        let now = Instant::now();
        let mut kept = self.kept();
        if kept.len() >= self.most && !kept.contains_key(&key) {
            kept.retain(|_, (until, _)| now < *until);
        }
        while kept.len() >= self.most && !kept.contains_key(&key) {
            let soonest = kept.iter().min_by_key(|(_, (until, _))| *until);
            let Some(soonest) = soonest.map(|(key, _)| key.clone()) else {
                break;
            };
            kept.remove(&soonest);
        }
        kept.insert(key, (now + ttl, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(30);
    const LONG: Duration = Duration::from_secs(300);

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_until_its_time_is_over() {
        let cache = Cache::new(10);
        cache.put("a", 1, SHORT);
        assert_eq!(cache.get(&"a"), Some(1));
        assert_eq!(cache.get(&"b"), None);
        tokio::time::advance(SHORT).await;
        assert_eq!(cache.get(&"a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_more_than_so_many() {
        let cache = Cache::new(3);
        cache.put(0, 0, LONG);
        for key in 1..100 {
            cache.put(key, key, SHORT);
            assert!(cache.kept().len() <= 3);
        }
        assert_eq!(cache.get(&0), Some(0), "what holds longest stays");
        assert_eq!(cache.get(&99), Some(99));
        tokio::time::advance(SHORT).await;
        cache.put(100, 100, SHORT);
        assert_eq!(cache.kept().len(), 2, "what is over goes first");
    }
}
