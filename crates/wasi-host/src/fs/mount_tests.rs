#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
//! Paths through mounts, and what may not be done to and across them.

use super::resolve_tests::{folder, open_dir, read, write};
use super::{Dir, Errno, Mount, MountError, Root, SetTime};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;

fn mount(temp: &TempDir, guest_path: &str, from: &str, read_only: bool) -> Mount {
    let fd = folder(&temp.path().join(from));
    Mount {
        guest_path: guest_path.to_owned(),
        fd,
        read_only,
    }
}

/// A root with /run, /var/run -> /run, /data; volumes `v`, `ro`, `in` and a file `f`.
fn host() -> TempDir {
    let temp = TempDir::new().unwrap();
    let at = |path: &str| temp.path().join(path);
    for path in [
        "root/run",
        "root/var",
        "root/data",
        "root/etc",
        "v/sub",
        "ro/sub",
        "in",
    ] {
        fs::create_dir_all(at(path)).unwrap();
    }
    symlink("/run", at("root/var/run")).unwrap();
    for (path, text) in [
        ("root/data/covered", "x"),
        ("root/plain", "plain"),
        ("v/file", "v"),
        ("ro/file", "ro"),
        ("in/file", "in"),
        ("f", "single"),
        ("root/etc/hosts", "covered"),
        ("secret", "secret"),
    ] {
        fs::write(at(path), text).unwrap();
    }
    temp
}

fn mounted() -> (TempDir, Root, Dir) {
    let temp = host();
    let mounts = vec![
        // The order given isn't the order needed.
        mount(&temp, "/data/sub/in", "in", false),
        mount(&temp, "/data", "v", false),
        mount(&temp, "/var/run/secrets/token", "ro", true),
        mount(&temp, "/etc/hosts", "f", false),
    ];
    let root = Root::new(folder(&temp.path().join("root")), mounts).unwrap();
    let dir = root.dir().unwrap();
    (temp, root, dir)
}

#[test]
fn mounts_cover_what_is_below_them() {
    let (_temp, root, dir) = mounted();
    assert_eq!(read(&root, &dir, "data/file").unwrap(), "v");
    assert_eq!(read(&root, &dir, "/data/covered"), Err(Errno::NOENT));
    assert_eq!(read(&root, &dir, "data/sub/in/file").unwrap(), "in");
    assert_eq!(read(&root, &dir, "./data//sub/./in/file").unwrap(), "in");
    assert_eq!(read(&root, &dir, "etc/hosts").unwrap(), "single");
    assert_eq!(read(&root, &dir, "etc/hosts/"), Err(Errno::NOTDIR));
    assert_eq!(read(&root, &dir, "etc/hosts/x"), Err(Errno::NOTDIR));
    assert_eq!(read(&root, &dir, "plain").unwrap(), "plain");
}

#[test]
fn a_mount_below_a_link_is_found_both_ways() {
    let (_temp, root, dir) = mounted();
    assert_eq!(read(&root, &dir, "/run/secrets/token/file").unwrap(), "ro");
    assert_eq!(
        read(&root, &dir, "/var/run/secrets/token/file").unwrap(),
        "ro"
    );
    let run = open_dir(&root, &dir, "/var/run");
    assert_eq!(read(&root, &run, "secrets/token/file").unwrap(), "ro");
}

#[test]
fn parents_lead_out_of_mounts_and_not_out_of_the_root() {
    let (_temp, root, dir) = mounted();
    assert_eq!(read(&root, &dir, "data/../plain").unwrap(), "plain");
    assert_eq!(
        read(&root, &dir, "data/sub/in/../../../plain").unwrap(),
        "plain"
    );
    assert_eq!(read(&root, &dir, "data/sub/in/../../file").unwrap(), "v");
    let inner = open_dir(&root, &dir, "data/sub/in");
    assert_eq!(read(&root, &inner, "../../file").unwrap(), "v");
    assert_eq!(read(&root, &inner, "../../../plain").unwrap(), "plain");
    assert_eq!(
        read(&root, &inner, "../../../../../secret"),
        Err(Errno::NOENT)
    );
    assert_eq!(read(&root, &inner, "../in/file").unwrap(), "in");
    let sub = open_dir(&root, &dir, "data/sub");
    assert_eq!(
        read(&root, &sub, "../../run/secrets/token/../token/file").unwrap(),
        "ro"
    );
}

#[test]
fn links_lead_through_mounts() {
    let (temp, root, dir) = mounted();
    symlink("/data/sub/in/file", temp.path().join("ro/absolute")).unwrap();
    symlink("../data/file", temp.path().join("root/var/relative")).unwrap();
    symlink("../../plain", temp.path().join("v/sub/up")).unwrap();
    symlink("etc", temp.path().join("root/conf")).unwrap();
    assert_eq!(
        read(&root, &dir, "run/secrets/token/absolute").unwrap(),
        "in"
    );
    assert_eq!(read(&root, &dir, "var/relative").unwrap(), "v");
    assert_eq!(read(&root, &dir, "data/sub/up").unwrap(), "plain");
    assert_eq!(read(&root, &dir, "conf/hosts").unwrap(), "single");
}

#[test]
fn names_do_not_cross_mounts() {
    let (_temp, root, dir) = mounted();
    let path = Path::new;
    let rename = |from, to| root.rename(&dir, path(from), &dir, path(to));
    assert_eq!(rename("plain", "data/plain"), Err(Errno::XDEV));
    assert_eq!(rename("data/file", "data/sub/in/other"), Err(Errno::XDEV));
    assert_eq!(rename("data/file", "data/sub/other"), Ok(()));
    let link = |from, to| root.link(&dir, path(from), false, &dir, path(to));
    assert_eq!(link("plain", "data/plain"), Err(Errno::XDEV));
    assert_eq!(link("etc/hosts", "etc/copy"), Err(Errno::XDEV));
    assert_eq!(link("plain", "plain2"), Ok(()));
    assert_eq!(link("data", "data2"), Err(Errno::XDEV));
    assert_eq!(link("run", "run2"), Err(Errno::PERM));
}

#[test]
fn mount_points_stay() {
    let (_temp, root, dir) = mounted();
    let path = Path::new;
    assert_eq!(root.remove_dir(&dir, path("data")), Err(Errno::BUSY));
    assert_eq!(
        root.remove_dir(&dir, path("/run/secrets")),
        Err(Errno::NOTEMPTY)
    );
    assert_eq!(root.unlink(&dir, path("etc/hosts")), Err(Errno::BUSY));
    assert_eq!(root.unlink(&dir, path("data")), Err(Errno::ISDIR));
    for (from, to) in [
        ("data", "x"),
        ("etc/hosts", "x"),
        ("plain", "etc/hosts"),
        ("etc", "x"),
        ("var/run/secrets", "x"),
    ] {
        assert_eq!(
            root.rename(&dir, path(from), &dir, path(to)),
            Err(Errno::BUSY),
            "{from}"
        );
    }
    assert_eq!(root.create_dir(&dir, path("data")), Err(Errno::EXIST));
    assert_eq!(
        root.symlink(&dir, path("etc/hosts"), path("x")),
        Err(Errno::EXIST)
    );
    assert_eq!(root.remove_dir(&dir, path("/")), Err(Errno::BUSY));
    assert_eq!(read(&root, &dir, "data/file").unwrap(), "v");
}

#[test]
fn a_read_only_mount_does_not_change() {
    let (temp, root, dir) = mounted();
    fn path(path: &str) -> &Path {
        Path::new(path)
    }
    let at = |name: &str| format!("/run/secrets/token/{name}");
    let rofs = Err(Errno::ROFS);
    assert_eq!(write(&root, &dir, &at("file"), "x"), rofs);
    assert_eq!(write(&root, &dir, &at("new"), "x"), rofs);
    assert_eq!(root.create_dir(&dir, path(&at("new"))), rofs);
    assert_eq!(root.create_dir(&dir, path(&at("file"))), Err(Errno::EXIST));
    assert_eq!(root.symlink(&dir, path(&at("new")), path("x")), rofs);
    assert_eq!(root.unlink(&dir, path(&at("file"))), rofs);
    assert_eq!(root.unlink(&dir, path(&at("missing"))), Err(Errno::NOENT));
    assert_eq!(root.remove_dir(&dir, path(&at("sub"))), rofs);
    assert_eq!(
        root.rename(&dir, path(&at("file")), &dir, path(&at("new"))),
        rofs
    );
    assert_eq!(
        root.link(&dir, path(&at("file")), false, &dir, path(&at("new"))),
        rofs
    );
    let now = SetTime::Now;
    assert_eq!(
        root.set_times(&dir, path(&at("file")), true, now, now),
        rofs
    );
    let token = open_dir(&root, &dir, "/run/secrets/token");
    assert_eq!(token.set_times(now, now), rofs);
    assert_eq!(write(&root, &token, "new", "x"), rofs);
    let sub = open_dir(&root, &token, "sub");
    assert_eq!(write(&root, &sub, "new", "x"), rofs);
    let options = super::OpenOptions {
        read: true,
        truncate: true,
        ..Default::default()
    };
    assert_eq!(root.open(&token, path("file"), options).map(drop), rofs);
    let options = super::OpenOptions {
        read: true,
        ..Default::default()
    };
    let Ok(super::Opened::File(file)) = root.open(&token, path("file"), options) else {
        panic!()
    };
    assert_eq!(file.set_times(now, now), rofs);
    assert_eq!(
        fs::read_to_string(temp.path().join("ro/file")).unwrap(),
        "ro"
    );
    assert_eq!(write(&root, &dir, "data/new", "x"), Ok(()));
}

#[test]
fn a_read_only_root_has_writable_mounts() {
    let temp = host();
    let mounts = vec![mount(&temp, "/data", "v", false)];
    let root = Root::new_read_only(folder(&temp.path().join("root")), mounts).unwrap();
    let dir = root.dir().unwrap();
    assert_eq!(write(&root, &dir, "plain", "x"), Err(Errno::ROFS));
    assert_eq!(write(&root, &dir, "data/file", "x"), Ok(()));
}

#[test]
fn a_listing_shows_mount_points() {
    let temp = host();
    let mounts = vec![
        mount(&temp, "/new/point", "v", false),
        mount(&temp, "/single", "f", true),
    ];
    let root = Root::new(folder(&temp.path().join("root")), mounts).unwrap();
    let names: Vec<_> = root.dir().unwrap().entries(0).unwrap();
    let has = |name: &str| names.iter().any(|entry| entry.name == name.as_bytes());
    assert!(has("new") && has("single") && has("data"));
    assert_eq!(
        read(&root, &root.dir().unwrap(), "new/point/file").unwrap(),
        "v"
    );
}

#[test]
fn bad_mounts_are_named() {
    let temp = host();
    let attach = |mounts| Root::new(folder(&temp.path().join("root")), mounts).map(drop);
    let one = |guest, from| attach(vec![mount(&temp, guest, from, false)]);
    assert!(matches!(one("data", "v"), Err(MountError::Path(path)) if path == "data"));
    assert!(matches!(one("/", "v"), Err(MountError::Path(_))));
    assert!(matches!(one("/data/../etc", "v"), Err(MountError::Path(_))));
    assert!(matches!(one("/data", "f"), Err(MountError::Kind { .. })));
    assert!(matches!(one("/plain", "v"), Err(MountError::Kind { .. })));
    assert!(matches!(
        one("/plain/x", "v"),
        Err(MountError::Point {
            source: Errno::NOTDIR,
            ..
        })
    ));
    let twice = ["/run/x", "/var/run/x"].map(|path| mount(&temp, path, "v", false));
    assert!(matches!(attach(twice.into()), Err(MountError::Taken(path)) if path == "/var/run/x"));
    let mounts = vec![
        mount(&temp, "/data", "ro", true),
        mount(&temp, "/data/no", "v", false),
    ];
    assert!(matches!(
        attach(mounts),
        Err(MountError::Point {
            source: Errno::ROFS,
            ..
        })
    ));
    let file = folder(&temp.path().join("f"));
    assert!(matches!(
        Root::new(file, Vec::new()),
        Err(MountError::Root(Errno::NOTDIR))
    ));
}
