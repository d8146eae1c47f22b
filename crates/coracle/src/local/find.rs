//! Finds pods by what people call them, over all sessions of a root folder, living and ended.

use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::bail;
use rustix::fs::{FlockOperation, flock};

use super::alive::{self, Site};
use super::control::{Answer, Call, Client, ClientError};
use super::record::Record;
use super::session::name_of;
use crate::dirs::Dirs;
use crate::program::sentence;

/// How long a session that ends may take to let go of what it holds.
const ENDING: Duration = Duration::from_secs(30);

/// A pod and where it is held.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// What is known of it.
    pub(crate) record: Record,
    /// Its session.
    pub(crate) site: Site,
    /// Whether its session lives.
    pub(crate) alive: bool,
}

impl Found {
    /// `name`, or `namespace/name` outside of the namespace `default`.
    pub(crate) fn name(&self) -> String {
        match name_of(&self.record.pod) {
            ("default", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        }
    }

    /// Asks its session.
    ///
    /// # Errors
    /// [`ClientError`]
    pub(crate) fn call(&self, call: Call) -> Result<Client, ClientError> {
        match self.alive {
            true => Client::call(&self.site, call, &[]),
            false => Err(ClientError::Ended),
        }
    }
}

/// All pods, the oldest first.
pub(crate) fn all(dirs: &Dirs) -> Vec<Found> {
    let mut found = Vec::new();
    // All are asked before the first is listened to: one that is slow holds up no other.
    let asked: Vec<_> = alive::sites(dirs)
        .into_iter()
        .map(|site| {
            let client = site.lives().then(|| Client::call(&site, Call::Pods, &[]));
            (site, client)
        })
        .collect();
    for (site, client) in asked {
        match client {
            None => found.extend(on_disk(&site, false)),
            Some(client) => found.extend(live(&site, client)),
        }
    }
    let created = |found: &Found| {
        let at = found.record.pod.metadata.creation_timestamp.as_ref();
        at.map(|at| at.0)
    };
    found.sort_by(|one, other| {
        (created(one), one.record.uid()).cmp(&(created(other), other.record.uid()))
    });
    found
}

fn live(site: &Site, client: Result<Client, ClientError>) -> Vec<Found> {
    match client.and_then(|mut client| client.next()) {
        Ok(Some(Answer::Pods { pods })) => pods
            .into_iter()
            .map(|record| Found {
                record,
                site: site.clone(),
                alive: true,
            })
            .collect(),
        // It begins and has no pods yet, or it ends.
        Err(ClientError::Ended) if !site.holds_records() => Vec::new(),
        Ok(_) | Err(ClientError::Ended) => on_disk(site, !ended(site)),
        Err(error) => {
            eprintln!("coracle: session {}: {}", site.id(), sentence(&error));
            on_disk(site, true)
        }
    }
}

/// Waits until a session that ends has let go of what it holds.
pub(crate) fn ended(site: &Site) -> bool {
    let Some(lock) = site.open_lock() else {
        return true;
    };
    let (send, freed) = mpsc::channel();
    std::thread::spawn(move || {
        let free = flock(lock.as_fd(), FlockOperation::LockShared).is_ok();
        // Nobody waits any more if that took too long.
        let _ = send.send(free);
    });
    freed.recv_timeout(ENDING).unwrap_or(false)
}

fn on_disk(site: &Site, alive: bool) -> Vec<Found> {
    let mut found = Vec::new();
    for path in site.records() {
        match Record::read(&path) {
            Ok(record) => found.push(Found {
                record: if alive { record } else { record.lose() },
                site: site.clone(),
                alive,
            }),
            // Removed just now, by another command.
            Err(_) if !path.exists() => {}
            Err(error) => eprintln!("coracle: {}", sentence(error.as_ref())),
        }
    }
    found
}

/// The one pod that `word` names: NAME, NAMESPACE/NAME, or the beginning of its UID.
///
/// # Errors
/// When there is none, or more than one.
pub(crate) fn one(dirs: &Dirs, word: &str) -> anyhow::Result<Found> {
    pick(all(dirs), word)
}

/// The pods that `words` name, each once; see [`one`].
///
/// # Errors
/// When a word names none, or more than one.
pub(crate) fn each(dirs: &Dirs, words: &[String]) -> anyhow::Result<Vec<Found>> {
    let all = all(dirs);
    let mut found: Vec<Found> = Vec::new();
    for word in words {
        let one = pick(all.clone(), word)?;
        if !found.iter().any(|it| it.record.uid() == one.record.uid()) {
            found.push(one);
        }
    }
    Ok(found)
}

fn pick(all: Vec<Found>, word: &str) -> anyhow::Result<Found> {
    let named = |word: &str| -> Vec<Found> {
        let is = |found: &&Found| {
            let (namespace, name) = name_of(&found.record.pod);
            name == word || word.split_once('/') == Some((namespace, name))
        };
        all.iter().filter(is).cloned().collect()
    };
    let by_uid = || -> Vec<Found> {
        let is = |found: &&Found| !word.is_empty() && found.record.uid().starts_with(word);
        all.iter().filter(is).cloned().collect()
    };
    // As kubectl takes it, and as -o name prints it.
    let bare = word.strip_prefix("pod/").map(named);
    let mut found = named(word);
    if found.is_empty() {
        found = bare.filter(|it| !it.is_empty()).unwrap_or_else(by_uid);
    }
    match (found.pop(), found.len()) {
        (Some(one), 0) => Ok(one),
        (None, _) => bail!("there is no pod {word:?}; `coracle ps -a` lists what there is"),
        (Some(one), _) => {
            found.push(one);
            let list: Vec<String> = found
                .iter()
                .map(|it| {
                    let (namespace, name) = name_of(&it.record.pod);
                    format!("{namespace}/{name} ({})", it.record.uid())
                })
                .collect();
            bail!(
                "{word:?} may be any of {}: write NAMESPACE/NAME, or more of the UID",
                list.join(", ")
            )
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(namespace: &str, name: &str, uid: &str) -> Found {
        let record = serde_json::json!({"version": 1,
            "pod": {"metadata": {"namespace": namespace, "name": name, "uid": uid}}});
        Found {
            record: serde_json::from_value(record).unwrap(),
            site: Site::of(&Dirs::open(&std::env::temp_dir()).unwrap(), uid),
            alive: false,
        }
    }

    #[test]
    fn a_pod_is_found_by_its_names_and_what_is_ambiguous_is_listed() {
        let all = vec![
            found("default", "web", "aaaa-1"),
            found("other", "web", "aabb-2"),
            found("default", "db", "cccc-3"),
            found("pod", "db", "dddd-4"),
            found("default", "cccc", "eeee-5"),
        ];
        let uid = |word: &str| pick(all.clone(), word).map(|it| it.record.uid().to_owned());
        for (word, expected) in [
            ("other/web", "aabb-2"),
            ("default/web", "aaaa-1"),
            ("aaa", "aaaa-1"),
            ("cccc-3", "cccc-3"),
            ("cccc", "eeee-5"),
            ("pod/cccc", "eeee-5"),
            ("pod/db", "dddd-4"),
        ] {
            assert_eq!(uid(word).unwrap(), expected, "{word}");
        }
        for (word, words) in [
            ("web", vec!["default/web", "other/web", "aaaa-1"]),
            ("aa", vec!["aaaa-1", "aabb-2"]),
            ("none", vec!["\"none\"", "coracle ps -a"]),
            ("", vec!["no pod"]),
        ] {
            let said = uid(word).unwrap_err().to_string();
            assert!(words.iter().all(|w| said.contains(w)), "{word:?}: {said}");
        }
    }
}
