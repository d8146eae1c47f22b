//! Written volumes, parts of volumes and volumes in memory, in real folders.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use volume::{Error, FileContent, MountKind, project, sub_path};

fn file(data: &str, mode: u32) -> FileContent {
    FileContent {
        data: data.as_bytes().to_vec(),
        mode,
    }
}

fn files(list: &[(&str, &str)]) -> BTreeMap<String, FileContent> {
    list.iter()
        .map(|(path, data)| ((*path).to_owned(), file(data, 0o644)))
        .collect()
}

/// What a user sees: every file by its path through the links, without what begins with `..`.
fn seen(dir: &Path) -> BTreeMap<String, FileContent> {
    fn walk(dir: &Path, below: &str, into: &mut BTreeMap<String, FileContent>) {
        for entry in fs::read_dir(dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.starts_with("..") {
                continue;
            }
            let path = dir.join(&name);
            let below = format!("{below}{name}");
            let kind = fs::metadata(&path).unwrap();
            if kind.is_dir() {
                walk(&path, &format!("{below}/"), into);
            } else {
                let mode = kind.permissions().mode() & 0o777;
                let data = fs::read(&path).unwrap();
                into.insert(below, FileContent { data, mode });
            }
        }
    }
    let mut into = BTreeMap::new();
    walk(dir, "", &mut into);
    into
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_layout_is_the_kubelets() {
    let dir = tempfile::tempdir().unwrap();
    let mut wanted = files(&[("key", "value"), ("sub/deep/file", "x")]);
    wanted.insert("secret".to_owned(), file("s", 0o400));
    assert!(project(dir.path(), &wanted).unwrap());
    assert_eq!(seen(dir.path()), wanted);
    let link = |name: &str| fs::read_link(dir.path().join(name)).unwrap();
    assert_eq!(link("key"), Path::new("..data/key"));
    assert_eq!(link("sub"), Path::new("..data/sub"));
    let version = link("..data");
    assert!(version.to_str().unwrap().starts_with("..20"), "{version:?}");
    assert_eq!(
        names(dir.path()),
        [version.to_str().unwrap(), "..data", "key", "secret", "sub"]
    );
}

#[test]
fn a_change_is_a_new_version_and_the_same_again_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let version = || fs::read_link(dir.path().join("..data")).unwrap();
    project(dir.path(), &files(&[("a", "1"), ("b", "2")])).unwrap();
    let first = version();
    assert!(!project(dir.path(), &files(&[("a", "1"), ("b", "2")])).unwrap());
    assert_eq!(version(), first);
    // Who has a file open keeps what it was.
    let open = fs::File::open(dir.path().join("a")).unwrap();
    assert!(project(dir.path(), &files(&[("a", "3"), ("c/d", "4")])).unwrap());
    assert_eq!(std::io::read_to_string(open).unwrap(), "1");
    assert_eq!(seen(dir.path()), files(&[("a", "3"), ("c/d", "4")]));
    assert!(!dir.path().join(first).exists());
    // A mode is part of it; nothing at all is a version too.
    assert!(project(dir.path(), &[("a".to_owned(), file("3", 0o600))].into()).unwrap());
    assert!(project(dir.path(), &BTreeMap::new()).unwrap());
    assert_eq!(seen(dir.path()), BTreeMap::new());
}

#[test]
fn what_one_that_died_left_is_tidied_up() {
    let dir = tempfile::tempdir().unwrap();
    project(dir.path(), &files(&[("a", "1")])).unwrap();
    // Killed after the version was written, and after the link to it was made.
    fs::create_dir(dir.path().join("..2020_01_01_00_00_00.000000001")).unwrap();
    symlink(
        "..2020_01_01_00_00_00.000000001",
        dir.path().join("..data_tmp"),
    )
    .unwrap();
    symlink("..data/gone", dir.path().join("gone")).unwrap();
    // Killed before the user's link was made.
    fs::remove_file(dir.path().join("a")).unwrap();
    assert!(!project(dir.path(), &files(&[("a", "1")])).unwrap());
    assert_eq!(names(dir.path()).len(), 3, "{:?}", names(dir.path()));
    assert_eq!(seen(dir.path()), files(&[("a", "1")]));
}

#[test]
fn paths_that_are_none_are_refused_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    project(dir.path(), &files(&[("a", "1")])).unwrap();
    let long = "x".repeat(256);
    for path in [
        "", "/a", "../a", "a/../b", "..data", "a/", "a\0b", &long, "./a",
    ] {
        let error = project(dir.path(), &files(&[(path, "2")])).unwrap_err();
        assert!(
            matches!(error, Error::Projection { .. }),
            "{path:?}: {error}"
        );
        assert!(!error.retryable());
    }
    let error = project(dir.path(), &files(&[("a", "2"), ("a/b", "3")])).unwrap_err();
    assert!(matches!(error, Error::Projection { .. }), "{error}");
    assert_eq!(seen(dir.path()), files(&[("a", "1")]));
    assert_eq!(names(dir.path()).len(), 3);
}

#[test]
fn a_folder_that_is_gone_is_an_error_and_is_not_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone");
    let error = project(&gone, &files(&[("a", "1")])).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.retryable());
    assert!(!gone.exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever the versions are, the last one is what is seen.
    #[test]
    fn the_last_version_is_what_is_seen(
        versions in prop::collection::vec(
            prop::collection::btree_map("[a-c]{1,2}(/[x-y]{3}){0,1}", ("[a-z]{0,9}", 0o400_u32..0o777), 0..4),
            1..5,
        )
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut last = BTreeMap::new();
        for version in versions {
            let version: BTreeMap<String, FileContent> = version
                .into_iter()
                // Its owner may read it, or the test could not.
                .map(|(path, (data, mode))| (path, file(&data, mode | 0o400)))
                .collect();
            if project(dir.path(), &version).is_ok() {
                last = version;
            }
            if dir.path().join("..data").exists() {
                prop_assert_eq!(&seen(dir.path()), &last);
            }
        }
    }
}

fn volume(dir: &Path) -> std::os::fd::OwnedFd {
    volume::empty_dir(dir).unwrap()
}

#[test]
fn a_sub_path_stays_in_its_volume() {
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("volume");
    let open = volume(&dir);
    fs::write(top.path().join("outside"), "secret").unwrap();
    fs::write(dir.join("file"), "inside").unwrap();
    symlink("file", dir.join("link")).unwrap();
    symlink("../outside", dir.join("up")).unwrap();
    symlink("/etc", dir.join("absolute")).unwrap();
    symlink("nowhere", dir.join("dangling")).unwrap();
    assert_eq!(sub_path(&open, "file", true).unwrap().kind, MountKind::File);
    assert_eq!(sub_path(&open, "link", true).unwrap().kind, MountKind::File);
    for path in [
        "up",
        "absolute",
        "absolute/hosts",
        "absolute/new",
        "dangling",
        "..",
        "/etc",
        "a/../..",
        "file/x",
    ] {
        let error = sub_path(&open, path, true).unwrap_err();
        assert!(
            matches!(error, Error::SubPath { .. } | Error::Io { .. }),
            "{path}: {error}"
        );
    }
    assert!(!Path::new("/etc/new").exists());
    assert_eq!(
        sub_path(&open, "new/deep", true).unwrap().kind,
        MountKind::Folder
    );
    let mode = fs::metadata(dir.join("new/deep")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o777, "as the volume's own");
    let error = sub_path(&open, "absent", false).unwrap_err();
    assert!(error.to_string().contains("does not have it"), "{error}");
    assert!(!dir.join("absent").exists());
}

#[test]
fn a_key_of_a_written_volume_is_a_sub_path() {
    let dir = tempfile::tempdir().unwrap();
    project(dir.path(), &files(&[("key", "value")])).unwrap();
    let open = volume(dir.path());
    assert_eq!(sub_path(&open, "key", false).unwrap().kind, MountKind::File);
}

#[test]
fn a_folder_in_memory_is_bounded_and_goes_or_says_why_there_is_none() {
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("memory");
    match volume::memory_dir(&dir, Some(64 << 10)) {
        Ok(_) => {
            fs::write(dir.join("a"), vec![1; 16 << 10]).unwrap();
            // Again, it is the same.
            drop(volume::memory_dir(&dir, Some(64 << 10)).unwrap());
            assert_eq!(fs::read(dir.join("a")).unwrap().len(), 16 << 10);
            let full = fs::write(dir.join("b"), vec![1; 128 << 10]).unwrap_err();
            assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
            assert!(volume::remove(&dir).is_err(), "it is another file system");
            volume::unmount_below(top.path()).unwrap();
            assert!(!dir.join("a").exists());
            volume::remove(&dir).unwrap();
        }
        Err(error) => {
            assert!(matches!(error, Error::Memory { .. }), "{error}");
            assert!(error.to_string().contains("emptyDir.medium"), "{error}");
        }
    }
    volume::unmount_below(&top.path().join("absent")).unwrap();
}
