//! Which names of pods are taken: a link a name, `<root>/names/<namespace>/<pod>`, to `<id>/<uid>`.
//!
//! Making a link is atomic, so of two that want one name one gets it. A link to a session that neither
//! lives nor is kept says nothing, and is taken over.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

use super::alive::Site;
use crate::dirs::{self, Dirs};

/// Who has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The session.
    pub(crate) id: String,
    /// The pod.
    pub(crate) uid: String,
}

/// What a pod may be called (RFC 1123, as the API server has it): nothing that leaves a folder.
pub(crate) fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(fits)
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// What to say of a text that is no name.
pub(crate) fn help(text: &str) -> String {
    format!(
        "{text:?} is no name: write lower-case letters, digits, '-' and '.', at most 253 of them, that begin and end with a letter or digit"
    )
}

/// Takes a name for a pod, unless another one has it.
///
/// # Errors
/// When it is no name, when it is taken, or when that can't be noted.
pub(crate) fn claim(
    dirs: &Dirs,
    (namespace, name): (&str, &str),
    owner: &Owner,
) -> anyhow::Result<()> {
    for text in [namespace, name] {
        if !is_name(text) {
            bail!(help(text));
        }
    }
    let folder = dirs.names().join(namespace);
    dirs::make(&folder)?;
    // One at a time: else two could both find a stale link, and the second remove the first's new one.
    let lock = File::open(&folder).with_context(|| format!("{}", folder.display()))?;
    flock(lock.as_fd(), FlockOperation::LockExclusive)
        .with_context(|| format!("can't lock {}", folder.display()))?;
    let path = folder.join(name);
    if let Some(other) = read(&path).filter(|other| other != owner) {
        let site = Site::of(dirs, &other.id);
        let who = match (site.lives(), site.holds_records()) {
            (true, _) => Some("which runs"),
            (false, true) => Some("which has ended and is kept"),
            (false, false) => None,
        };
        if let Some(who) = who {
            bail!(
                "the name {name:?} is taken by pod {namespace}/{name} ({uid}), {who}: `coracle rm -f {namespace}/{name}` frees it, or choose another name",
                uid = other.uid
            );
        }
        std::fs::remove_file(&path).with_context(|| format!("{}", path.display()))?;
    }
    match std::os::unix::fs::symlink(format!("{}/{}", owner.id, owner.uid), &path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("can't make {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Lets go of the names of a session: of one of its pods, or of all.
pub(crate) fn free(dirs: &Dirs, id: &str, uid: Option<&str>) {
    let folders = std::fs::read_dir(dirs.names());
    for folder in folders.into_iter().flatten().flatten() {
        let Ok(lock) = File::open(folder.path()) else {
            continue;
        };
        // Without the lock it may be another's by now.
        if flock(lock.as_fd(), FlockOperation::LockExclusive).is_err() {
            continue;
        }
        let names = std::fs::read_dir(folder.path());
        for name in names.into_iter().flatten().flatten() {
            let ours = read(&name.path())
                .is_some_and(|owner| owner.id == id && uid.is_none_or(|uid| uid == owner.uid));
            if ours && let Err(error) = std::fs::remove_file(name.path()) {
                tracing::warn!(name = %name.path().display(), %error, "a name stays taken");
            }
        }
    }
}

fn read(path: &Path) -> Option<Owner> {
    let target: PathBuf = std::fs::read_link(path).ok()?;
    let (id, uid) = target.to_str()?.split_once('/')?;
    Some(Owner {
        id: id.to_owned(),
        uid: uid.to_owned(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::alive::Alive;
    use super::*;

    fn owner(id: &str) -> Owner {
        Owner {
            id: id.to_owned(),
            uid: id.to_owned(),
        }
    }

    #[test]
    fn a_name_is_ones_until_it_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = Dirs::open(folder.path()).unwrap();
        let web = ("default", "web");
        let take = |id: &str| Alive::take(&dirs, id).unwrap();
        let (one, two) = (take("one"), take("two"));
        claim(&dirs, web, &owner("one")).unwrap();
        claim(&dirs, web, &owner("one")).unwrap();
        claim(&dirs, ("other", "web"), &owner("two")).unwrap();
        let refused = claim(&dirs, web, &owner("two")).unwrap_err().to_string();
        for word in ["default/web", "(one)", "coracle rm"] {
            assert!(refused.contains(word), "{refused}");
        }
        free(&dirs, "one", Some("another"));
        claim(&dirs, web, &owner("two")).unwrap_err();
        free(&dirs, "one", None);
        claim(&dirs, web, &owner("two")).unwrap();
        drop(two);
        claim(&dirs, web, &owner("one")).unwrap();
        drop(one);
    }

    #[test]
    fn of_many_that_want_a_name_one_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = Dirs::open(folder.path()).unwrap();
        let ids: Vec<String> = (0..16).map(|n| format!("s{n}")).collect();
        let _alive: Vec<Alive> = ids
            .iter()
            .map(|id| Alive::take(&dirs, id).unwrap())
            .collect();
        // A stale link makes them all try to take it over.
        claim(&dirs, ("default", "web"), &owner("gone")).unwrap();
        let got = std::thread::scope(|scope| {
            let tries: Vec<_> = ids
                .iter()
                .map(|id| scope.spawn(|| claim(&dirs, ("default", "web"), &owner(id)).is_ok()))
                .collect();
            tries
                .into_iter()
                .filter_map(|t| t.join().ok())
                .filter(|got| *got)
                .count()
        });
        assert_eq!(got, 1);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = Dirs::open(folder.path()).unwrap();
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "A",
            "-a",
            "a-",
            "a..b",
            "a\0",
            &"a".repeat(254),
        ] {
            assert!(!is_name(bad), "{bad:?}");
            claim(&dirs, ("default", bad), &owner("one")).unwrap_err();
            claim(&dirs, (bad, "web"), &owner("one")).unwrap_err();
        }
        assert!(is_name("web-1.example"));
        assert!(!dirs.names().join("default").join("..").join("x").exists());
    }
}
