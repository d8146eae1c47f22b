#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
//! The walk by components against the kernel's own resolution, on trees without mounts.

use super::resolve_tests::folder;
use super::walk::Last;
use super::{Errno, Root, Stat};
use proptest::prelude::*;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;

#[derive(Clone, Debug)]
enum Entry {
    Folder(String),
    File(String),
    Link(String, String),
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(str::to_owned)
}

fn real_path() -> impl Strategy<Value = String> {
    prop::collection::vec(name(), 1..4).prop_map(|names| names.join("/"))
}

/// Any path: with dots, doubled slashes, a slash before and after.
fn wild_path() -> impl Strategy<Value = String> {
    let part = prop_oneof![6 => name(), 1 => Just(".".to_owned()), 3 => Just("..".to_owned()), 1 => Just(String::new())];
    (
        any::<bool>(),
        prop::collection::vec(part, 1..6),
        any::<bool>(),
    )
        .prop_map(|(absolute, parts, slash)| {
            let path = format!("{}{}", if absolute { "/" } else { "" }, parts.join("/"));
            let path = if slash { path + "/" } else { path };
            if path.is_empty() {
                ".".to_owned()
            } else {
                path
            }
        })
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        3 => real_path().prop_map(Entry::Folder),
        2 => real_path().prop_map(Entry::File),
        3 => (real_path(), wild_path()).prop_map(|(at, to)| Entry::Link(at, to)),
    ]
}

/// Makes what can be made: what collides with what stands there already doesn't matter.
fn plant(root: &Path, entries: &[Entry]) {
    for entry in entries {
        let (Entry::Folder(at) | Entry::File(at) | Entry::Link(at, _)) = entry;
        let inside = |at: &Path| at.canonicalize().is_ok_and(|at| at.starts_with(root));
        let path = root.join(at);
        if !path.parent().is_some_and(inside) {
            continue;
        }
        let _ = match entry {
            Entry::Folder(_) => fs::create_dir(&path),
            Entry::File(_) if path.symlink_metadata().is_err() => fs::write(&path, at),
            Entry::File(_) => Ok(()),
            Entry::Link(_, to) => symlink(to, &path),
        };
    }
}

fn kernel(root: &Path, path: &str, last: Last) -> Result<(u64, u64), Errno> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, last == Last::Keep);
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(folder(root), path, flags, Mode::empty(), resolve) {
            // Someone renames something on this machine.
            Err(Errno::AGAIN) => {}
            result => return result.and_then(identity),
        }
    }
}

fn identity(fd: impl AsFd) -> Result<(u64, u64), Errno> {
    Stat::of(fd.as_fd()).map(|stat| (stat.dev, stat.ino))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_walk_finds_what_the_kernel_finds(
        entries in prop::collection::vec(entry(), 1..14),
        paths in prop::collection::vec((wild_path(), any::<bool>()), 1..12),
    ) {
        let temp = TempDir::new().unwrap();
        let path = temp.path().canonicalize().unwrap().join("root");
        fs::create_dir(&path).unwrap();
        plant(&path, &entries);
        let root = Root::new(folder(&path), Vec::new()).unwrap();
        let start = root.tree.root().unwrap();
        for (asked, follow) in &paths {
            let last = if *follow { Last::Follow } else { Last::Keep };
            let expected = kernel(&path, asked, last);
            let walked = root.tree.walk(&start, Path::new(asked), last).unwrap().run();
            let walked = walked.and_then(|found| match found {
                super::walk::Found::Dir(place) => identity(&*place.fd),
                super::walk::Found::Other { fd, .. } => identity(&*fd),
                super::walk::Found::Missing { .. } => Err(Errno::NOENT),
            });
            prop_assert_eq!(walked, expected, "{} walked in {:?}", asked, entries);
            let picked = root.tree.pick(&start, Path::new(asked), last);
            let picked = picked.and_then(|picked| identity(&*picked.fd));
            prop_assert_eq!(picked, expected, "{} picked in {:?}", asked, entries);
        }
    }

    #[test]
    fn a_path_from_a_folder_is_the_same_path_from_the_root(
        entries in prop::collection::vec(entry(), 1..14),
        from in real_path(),
        paths in prop::collection::vec((wild_path(), any::<bool>()), 1..12),
    ) {
        let temp = TempDir::new().unwrap();
        let path = temp.path().canonicalize().unwrap().join("root");
        fs::create_dir(&path).unwrap();
        fs::create_dir_all(path.join(&from)).unwrap();
        plant(&path, &entries);
        let root = Root::new(folder(&path), Vec::new()).unwrap();
        let top = root.tree.root().unwrap();
        let start = root.tree.pick(&top, Path::new(&from), Last::Keep).unwrap().into_place();
        for (asked, follow) in &paths {
            let last = if *follow { Last::Follow } else { Last::Keep };
            let whole = if asked.starts_with('/') { asked.clone() } else { format!("{from}/{asked}") };
            let expected = kernel(&path, &whole, last);
            let picked = root.tree.pick(&start, Path::new(asked), last);
            let picked = picked.and_then(|picked| identity(&*picked.fd));
            prop_assert_eq!(picked, expected, "{} from {} in {:?}", asked, from, entries);
        }
    }
}
