//! What the node waits for, by what waits: a sentence each, in the log when it changes, and for
//! whoever asks how the node is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module. Its clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Waits {
    fn all(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `who` waits, and why. Logged unless it was said before.
    pub(crate) fn say(&self, who: &'static str, why: &str) {
        let before = self.all().insert(who, why.to_owned());
        if before.as_deref() != Some(why) {
            tracing::warn!("{who}: {why}");
        }
    }

    /// `who` waits no longer.
    pub(crate) fn done(&self, who: &'static str) {
        if self.all().remove(who).is_some() {
            tracing::info!("{who}: no longer waiting");
        }
    }

    /// What is waited for now.
    pub(crate) fn list(&self) -> BTreeMap<&'static str, String> {
        self.all().clone()
    }
}
