//! Guests that run and that no checkpoint knows, as after a damaged one. They are ended; a pod of
//! their UID waits for that, so that no container runs twice.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::SignedDuration;

use crate::agent::Inner;
use crate::ports::Guest;

const FIRST: SignedDuration = SignedDuration::from_secs(1);
const MOST: SignedDuration = SignedDuration::from_mins(5);

/// Orphans by their pod's UID, until they have ended.
#[derive(Default)]
pub(crate) struct Orphans(HashMap<String, Orphan>);

struct Orphan {
    guests: Vec<Guest>,
    reaping: bool,
}

impl Orphans {
    /// Guests that no pod owns.
    pub(crate) fn found(&mut self, guests: HashMap<String, Vec<Guest>>) {
        for (uid, guests) in guests {
            self.0.entry(uid).or_insert(Orphan {
                guests,
                reaping: false,
            });
        }
    }

    /// True if guests of this pod have yet to end.
    pub(crate) fn of(&self, uid: &str) -> bool {
        self.0.contains_key(uid)
    }

    /// Those that nobody ends yet.
    pub(crate) fn waiting(&self) -> Vec<String> {
        self.0
            .iter()
            .filter(|(_, orphan)| !orphan.reaping)
            .map(|(uid, _)| uid.clone())
            .collect()
    }
}

/// Ends the orphans of a pod, and then lets its worker begin, if there is one.
pub(crate) fn reap(inner: &Arc<Inner>, orphans: &mut Orphans, uid: &str) {
    let Some(orphan) = orphans.0.get_mut(uid).filter(|orphan| !orphan.reaping) else {
        return;
    };
    orphan.reaping = true;
    let (guests, uid, weak) = (orphan.guests.clone(), uid.to_owned(), Arc::downgrade(inner));
    let ports = inner.ports.clone();
    inner.runtime.spawn(async move {
        for guest in guests {
            tracing::warn!(
                uid = guest.uid,
                container = guest.container,
                attempt = guest.attempt,
                "a guest of no known pod is ended"
            );
            let mut delay = FIRST;
            while let Err(failure) = ports.hands.reap(&guest).await {
                tracing::error!(
                    uid = guest.uid,
                    container = guest.container,
                    reason = failure.reason,
                    "{}",
                    failure.message
                );
                let until = ports
                    .clock
                    .now()
                    .saturating_add(delay)
                    .unwrap_or_else(|_| ports.clock.now());
                ports.clock.sleep_until(until).await;
                if weak.strong_count() == 0 {
                    return;
                }
                delay = (delay * 2).min(MOST);
            }
        }
        let Some(inner) = weak.upgrade() else { return };
        let mut table = inner.table();
        table.orphans.0.remove(&uid);
        if let Some(slot) = table.slots.get(&*uid) {
            slot.lock().held = false;
            slot.wake.notify_one();
        }
    });
}
