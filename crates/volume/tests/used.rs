//! How much disk trees take.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use jiff::Timestamp;
use volume::{Used, used};

fn blocks(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().blocks() * 512
}

#[test]
fn files_count_once_and_links_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("large"), vec![1; 1 << 20]).unwrap();
    std::fs::write(tree.join("a/b/file"), vec![1; 100_000]).unwrap();
    std::fs::hard_link(tree.join("a/b/file"), tree.join("twice")).unwrap();
    symlink(&other, tree.join("link")).unwrap();
    let each = ["", "a", "a/b", "a/b/file", "link"];
    let bytes = each.iter().map(|name| blocks(&tree.join(name))).sum();
    assert!(bytes >= 100_000);
    let expected = Used { bytes, inodes: 5 };
    assert_eq!(used(&tree, None).unwrap(), expected);
    assert_eq!(
        used(&dir.path().join("none"), None).unwrap(),
        Used::default()
    );
}

#[test]
fn only_what_was_changed_since_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    std::fs::write(&old, vec![1; 50_000]).unwrap();
    std::fs::write(&new, vec![1; 50_000]).unwrap();
    let made = |path: &Path| {
        let meta = std::fs::metadata(path).unwrap();
        Timestamp::new(meta.ctime(), i32::try_from(meta.ctime_nsec()).unwrap()).unwrap()
    };
    let since = made(&new);
    assert_eq!(used(dir.path(), Some(since)).unwrap().inodes, 0);
    while made(&old) <= since {
        std::fs::write(&old, vec![2; 50_000]).unwrap();
    }
    assert_eq!(
        used(dir.path(), Some(since)).unwrap(),
        Used {
            bytes: blocks(&old),
            inodes: 1
        }
    );
}

#[test]
fn no_depth_hides_anything() {
    let dir = tempfile::tempdir().unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let open = |at: &std::os::fd::OwnedFd| {
        rustix::fs::openat(at, "d", flags, rustix::fs::Mode::empty()).unwrap()
    };
    let top = rustix::fs::open(dir.path(), flags, rustix::fs::Mode::empty()).unwrap();
    let mut at = top;
    for _ in 0..3000 {
        rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
        at = open(&at);
    }
    assert_eq!(used(dir.path(), None).unwrap().inodes, 3001);
    volume::remove(&dir.path().join("d")).unwrap();
}
