#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
//! Paths in a tree without mounts.

use super::{Dir, Errno, FileKind, OpenOptions, Opened, Root};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;

pub(super) fn folder(path: &Path) -> OwnedFd {
    fs::File::open(path).unwrap().into()
}

pub(super) fn open_dir(root: &Root, from: &Dir, path: &str) -> Dir {
    let options = OpenOptions {
        directory: true,
        follow: true,
        ..OpenOptions::default()
    };
    match root.open(from, Path::new(path), options).unwrap() {
        Opened::Dir(dir) => dir,
        Opened::File(_) => panic!("{path} is a file"),
    }
}

pub(super) fn read(root: &Root, from: &Dir, path: &str) -> Result<String, Errno> {
    let options = OpenOptions {
        read: true,
        follow: true,
        ..OpenOptions::default()
    };
    match root.open(from, Path::new(path), options)? {
        Opened::File(file) => Ok(String::from_utf8(file.read(1000)?).unwrap()),
        Opened::Dir(_) => Err(Errno::ISDIR),
    }
}

pub(super) fn write(root: &Root, from: &Dir, path: &str, text: &str) -> Result<(), Errno> {
    let options = OpenOptions {
        write: true,
        create: true,
        follow: true,
        ..OpenOptions::default()
    };
    match root.open(from, Path::new(path), options)? {
        Opened::File(file) => file.write(text.as_bytes()).map(drop),
        Opened::Dir(_) => Err(Errno::ISDIR),
    }
}

/// `root/` with files, and beside it, out of bounds, `secret`.
fn tree() -> (TempDir, Root, Dir) {
    let temp = TempDir::new().unwrap();
    let root = temp.path().join("root");
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    fs::write(root.join("top"), "top").unwrap();
    fs::write(root.join("a/b/c/deep"), "deep").unwrap();
    fs::write(temp.path().join("secret"), "secret").unwrap();
    let tree = Root::new(folder(&root), Vec::new()).unwrap();
    let dir = tree.dir().unwrap();
    (temp, tree, dir)
}

#[test]
fn absolute_paths_and_links_start_at_the_root() {
    let (temp, root, dir) = tree();
    symlink("/top", temp.path().join("root/a/b/link")).unwrap();
    let deep = open_dir(&root, &dir, "a/b");
    assert_eq!(read(&root, &deep, "link").unwrap(), "top");
    assert_eq!(read(&root, &deep, "/a/b/c/deep").unwrap(), "deep");
}

#[test]
fn parents_stop_at_the_root() {
    let (_temp, root, dir) = tree();
    assert_eq!(read(&root, &dir, "../top").unwrap(), "top");
    assert_eq!(read(&root, &dir, "../secret"), Err(Errno::NOENT));
    assert_eq!(
        read(&root, &dir, "../../../../../../etc/passwd"),
        Err(Errno::NOENT)
    );
    let deep = open_dir(&root, &dir, "a/b/c");
    assert_eq!(read(&root, &deep, "../../../top").unwrap(), "top");
    assert_eq!(read(&root, &deep, "../../../../../../top").unwrap(), "top");
    assert_eq!(read(&root, &deep, "../../../../secret"), Err(Errno::NOENT));
    assert_eq!(
        root.stat(&deep, Path::new("../../.."), true).unwrap(),
        dir.stat().unwrap()
    );
}

#[test]
fn a_folder_that_is_renamed_while_open_has_its_new_parent() {
    let (_temp, root, dir) = tree();
    let deep = open_dir(&root, &dir, "a/b/c");
    root.create_dir(&dir, Path::new("x")).unwrap();
    root.rename(&dir, Path::new("a/b/c"), &dir, Path::new("x/y"))
        .unwrap();
    write(&root, &dir, "x/new", "new").unwrap();
    assert_eq!(read(&root, &deep, "../new").unwrap(), "new");
    assert_eq!(read(&root, &deep, "deep").unwrap(), "deep");
}

#[test]
fn a_folder_that_left_the_root_leads_nowhere_up() {
    let (temp, root, dir) = tree();
    let deep = open_dir(&root, &dir, "a/b/c");
    // Only someone outside can do this: a volume's other user, say.
    fs::rename(temp.path().join("root/a/b/c"), temp.path().join("out")).unwrap();
    assert_eq!(read(&root, &deep, "../secret"), Err(Errno::NOENT));
    assert_eq!(root.stat(&deep, Path::new(".."), true), Err(Errno::NOENT));
}

#[test]
fn a_removed_folder_has_no_parent() {
    let (_temp, root, dir) = tree();
    root.create_dir(&dir, Path::new("gone")).unwrap();
    let gone = open_dir(&root, &dir, "gone");
    root.remove_dir(&dir, Path::new("gone")).unwrap();
    assert_eq!(root.stat(&gone, Path::new(".."), true), Err(Errno::NOENT));
    assert_eq!(write(&root, &gone, "file", ""), Err(Errno::NOENT));
}

#[test]
fn links_that_never_end_are_eloop() {
    let (temp, root, dir) = tree();
    symlink("two", temp.path().join("root/one")).unwrap();
    symlink("/one", temp.path().join("root/two")).unwrap();
    assert_eq!(read(&root, &dir, "one"), Err(Errno::LOOP));
    assert_eq!(read(&root, &dir, "one/x"), Err(Errno::LOOP));
}

#[test]
fn magic_links_are_only_text() {
    let (_temp, _, _) = tree();
    let root = Root::new(folder(Path::new("/proc")), Vec::new()).unwrap();
    let dir = root.dir().unwrap();
    let options = OpenOptions {
        directory: true,
        follow: true,
        ..OpenOptions::default()
    };
    // The kernel's text for the magic link is "/", which is this root and not the host's.
    let found = root.open(&dir, Path::new("self/root"), options).unwrap();
    let Opened::Dir(found) = found else {
        panic!("no folder")
    };
    assert_eq!(found.stat().unwrap().ino, dir.stat().unwrap().ino);
    assert_eq!(read(&root, &dir, "self/root/etc/passwd"), Err(Errno::NOENT));
    assert_eq!(read(&root, &dir, "self/cwd/Cargo.toml"), Err(Errno::NOENT));
}

#[test]
fn devices_fifos_and_sockets_are_not_opened() {
    let (temp, root, dir) = tree();
    let at = temp.path().join("root");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, at.join("fifo"), mode).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at.join("socket")).unwrap();
    assert_eq!(read(&root, &dir, "fifo"), Err(Errno::OPNOTSUPP));
    assert_eq!(write(&root, &dir, "fifo", "x"), Err(Errno::OPNOTSUPP));
    assert_eq!(read(&root, &dir, "socket"), Err(Errno::NXIO));
    let devices = Root::new(folder(Path::new("/dev")), Vec::new()).unwrap();
    let dev = devices.dir().unwrap();
    assert_eq!(read(&devices, &dev, "zero"), Err(Errno::ACCESS));
    assert_eq!(
        devices.stat(&dev, Path::new("zero"), true).unwrap().kind,
        FileKind::CharacterDevice
    );
}

#[test]
fn bad_paths_have_their_errors() {
    let (_temp, root, dir) = tree();
    assert_eq!(read(&root, &dir, ""), Err(Errno::NOENT));
    assert_eq!(read(&root, &dir, "a\0b"), Err(Errno::INVAL));
    assert_eq!(read(&root, &dir, &"x".repeat(256)), Err(Errno::NAMETOOLONG));
    assert_eq!(
        read(&root, &dir, &"a/".repeat(4096)),
        Err(Errno::NAMETOOLONG)
    );
    assert_eq!(read(&root, &dir, "top/"), Err(Errno::NOTDIR));
    assert_eq!(read(&root, &dir, "top/.."), Err(Errno::NOTDIR));
    assert_eq!(read(&root, &dir, "missing/.."), Err(Errno::NOENT));
}

#[test]
fn what_is_deeper_than_the_walk_may_hold_is_refused_and_holds_nothing() {
    let (temp, root, dir) = tree();
    let mut path = temp.path().join("root");
    for _ in 0..super::DEPTH {
        path.push("d");
    }
    fs::create_dir_all(&path).unwrap();
    let down = "d/".repeat(super::DEPTH);
    // The kernel's own resolution has no such bound ...
    assert!(root.stat(&dir, Path::new(&down), true).is_ok());
    // ... and the walk, which a way out of the folder needs, does.
    let start = open_dir(&root, &dir, "a");
    assert_eq!(
        root.stat(&start, Path::new(&format!("../{down}")), true),
        Err(Errno::NAMETOOLONG)
    );
}

#[test]
fn an_open_through_a_dangling_link_makes_its_target() {
    let (temp, root, dir) = tree();
    symlink("/a/made", temp.path().join("root/dangling")).unwrap();
    write(&root, &dir, "dangling", "made").unwrap();
    assert_eq!(read(&root, &dir, "a/made").unwrap(), "made");
    let exclusive = OpenOptions {
        write: true,
        create: true,
        exclusive: true,
        ..OpenOptions::default()
    };
    symlink("/a/other", temp.path().join("root/dangling2")).unwrap();
    let result = root.open(&dir, Path::new("dangling2"), exclusive);
    assert_eq!(result.map(drop), Err(Errno::EXIST));
    assert!(!temp.path().join("root/a/other").exists());
}
