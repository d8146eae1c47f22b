#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
//! What is done to names and files, with the kernel's errors.

use super::resolve_tests::{folder, open_dir, read, write};
use super::{
    Dir, Errno, File, FileKind, IO_BYTES, OpenOptions, Opened, Root, SeekFrom, SetTime, Time,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn tree() -> (TempDir, Root, Dir) {
    let temp = TempDir::new().unwrap();
    let root = Root::new(folder(temp.path()), Vec::new()).unwrap();
    let dir = root.dir().unwrap();
    (temp, root, dir)
}

fn open(root: &Root, dir: &Dir, path: &str, options: OpenOptions) -> Result<File, Errno> {
    match root.open(dir, Path::new(path), options)? {
        Opened::File(file) => Ok(file),
        Opened::Dir(_) => Err(Errno::ISDIR),
    }
}

const READ_WRITE: OpenOptions = OpenOptions {
    read: true,
    write: true,
    append: false,
    create: true,
    exclusive: false,
    truncate: false,
    directory: false,
    data_sync: false,
    sync: false,
    follow: true,
};

#[test]
fn names_are_made_and_removed() {
    let (temp, root, dir) = tree();
    let path = Path::new;
    root.create_dir(&dir, path("d/")).unwrap();
    assert_eq!(root.create_dir(&dir, path("d")), Err(Errno::EXIST));
    for (at, error) in [
        (".", Errno::EXIST),
        ("..", Errno::EXIST),
        ("/", Errno::EXIST),
    ] {
        assert_eq!(root.create_dir(&dir, path(at)), Err(error));
    }
    write(&root, &dir, "d/f", "text").unwrap();
    assert_eq!(root.remove_dir(&dir, path("d")), Err(Errno::NOTEMPTY));
    assert_eq!(root.remove_dir(&dir, path("d/f")), Err(Errno::NOTDIR));
    assert_eq!(root.unlink(&dir, path("d/f/")), Err(Errno::NOTDIR));
    assert_eq!(root.unlink(&dir, path("d")), Err(Errno::ISDIR));
    assert_eq!(root.remove_dir(&dir, path("d/.")), Err(Errno::INVAL));
    assert_eq!(root.remove_dir(&dir, path("d/..")), Err(Errno::NOTEMPTY));
    root.rename(&dir, path("d/f"), &dir, path("g")).unwrap();
    root.remove_dir(&dir, path("d/")).unwrap();
    assert_eq!(
        root.rename(&dir, path("g/"), &dir, path("h")),
        Err(Errno::NOTDIR)
    );
    root.symlink(&dir, path("l"), path("/g")).unwrap();
    assert_eq!(root.read_link(&dir, path("l")).unwrap(), b"/g");
    assert_eq!(root.read_link(&dir, path("g")), Err(Errno::INVAL));
    assert_eq!(read(&root, &dir, "l").unwrap(), "text");
    root.link(&dir, path("l"), true, &dir, path("hard"))
        .unwrap();
    root.link(&dir, path("l"), false, &dir, path("soft"))
        .unwrap();
    assert_eq!(root.stat(&dir, path("hard"), false).unwrap().links, 2);
    assert_eq!(
        root.stat(&dir, path("soft"), false).unwrap().kind,
        FileKind::Symlink
    );
    root.unlink(&dir, path("l")).unwrap();
    assert_eq!(fs::read_to_string(temp.path().join("g")).unwrap(), "text");
}

#[test]
fn opens_do_what_they_say() {
    let (_temp, root, dir) = tree();
    let exclusive = OpenOptions {
        exclusive: true,
        ..READ_WRITE
    };
    open(&root, &dir, "f", exclusive)
        .unwrap()
        .write(b"hello")
        .unwrap();
    assert_eq!(
        open(&root, &dir, "f", exclusive).map(drop),
        Err(Errno::EXIST)
    );
    assert_eq!(
        open(&root, &dir, "g/", READ_WRITE).map(drop),
        Err(Errno::ISDIR)
    );
    assert_eq!(
        open(&root, &dir, ".", READ_WRITE).map(drop),
        Err(Errno::ISDIR)
    );
    let directory = OpenOptions {
        directory: true,
        ..OpenOptions::default()
    };
    assert_eq!(
        open(&root, &dir, "f", directory).map(drop),
        Err(Errno::NOTDIR)
    );
    let both = OpenOptions {
        directory: true,
        ..READ_WRITE
    };
    assert_eq!(open(&root, &dir, "f", both).map(drop), Err(Errno::INVAL));
    let append = open(
        &root,
        &dir,
        "f",
        OpenOptions {
            append: true,
            ..READ_WRITE
        },
    )
    .unwrap();
    append.write(b" world").unwrap();
    assert_eq!(read(&root, &dir, "f").unwrap(), "hello world");
    let cut = open(
        &root,
        &dir,
        "f",
        OpenOptions {
            truncate: true,
            ..READ_WRITE
        },
    )
    .unwrap();
    assert_eq!(cut.stat().unwrap().size, 0);
    root.symlink(&dir, Path::new("l"), Path::new("f")).unwrap();
    let kept = OpenOptions {
        follow: false,
        ..READ_WRITE
    };
    assert_eq!(open(&root, &dir, "l", kept).map(drop), Err(Errno::LOOP));
}

#[test]
fn files_are_read_and_written_in_bounded_pieces() {
    let (_temp, root, dir) = tree();
    let file = open(&root, &dir, "f", READ_WRITE).unwrap();
    file.write(&vec![7; 2 * IO_BYTES]).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    assert_eq!(file.read(usize::MAX).unwrap().len(), IO_BYTES);
    assert_eq!(file.seek(SeekFrom::Current(0)).unwrap(), IO_BYTES as u64);
    assert_eq!(file.read_at(4, 2 * IO_BYTES as u64 - 2).unwrap(), [7, 7]);
    file.write_at(b"xy", 1).unwrap();
    assert_eq!(file.read_at(3, 0).unwrap(), b"\x07xy");
    file.set_size(3).unwrap();
    file.append(b"end").unwrap();
    assert_eq!(file.read_at(10, 0).unwrap(), b"\x07xyend");
    file.allocate(0, 100).unwrap();
    assert_eq!(file.stat().unwrap().size, 100);
    file.sync().unwrap();
    file.sync_data().unwrap();
    let reader = open(&root, &dir, "f", OpenOptions::default()).unwrap();
    assert_eq!(reader.write(b"x"), Err(Errno::BADF));
}

#[test]
fn times_are_set_and_told() {
    let (_temp, root, dir) = tree();
    let file = open(&root, &dir, "f", READ_WRITE).unwrap();
    let time = Time {
        seconds: 1_000_000_000,
        nanoseconds: 5,
    };
    file.set_times(SetTime::To(time), SetTime::Keep).unwrap();
    assert_eq!(file.stat().unwrap().accessed, time);
    root.symlink(&dir, Path::new("l"), Path::new("f")).unwrap();
    root.set_times(
        &dir,
        Path::new("l"),
        false,
        SetTime::Keep,
        SetTime::To(time),
    )
    .unwrap();
    assert_eq!(
        root.stat(&dir, Path::new("l"), false).unwrap().modified,
        time
    );
    assert_ne!(file.stat().unwrap().modified, time);
    assert_eq!(Time::from_nanos(time.nanos()), time);
    assert_eq!(
        Time {
            seconds: -1,
            nanoseconds: 0
        }
        .nanos(),
        0
    );
    assert_eq!(
        Time {
            seconds: i64::MAX,
            nanoseconds: 0
        }
        .nanos(),
        u64::MAX
    );
}

#[test]
fn a_listing_is_whole_whatever_the_pieces_and_while_entries_go() {
    let (temp, root, dir) = tree();
    root.create_dir(&dir, Path::new("many")).unwrap();
    let names: BTreeSet<String> = (0..3000)
        .map(|n| format!("a-file-with-number-{n}"))
        .collect();
    for name in &names {
        fs::write(temp.path().join("many").join(name), "").unwrap();
    }
    let many = open_dir(&root, &dir, "many");
    let (mut seen, mut cookie) = (BTreeSet::new(), 0);
    loop {
        let entries = many.entries(cookie).unwrap();
        // Three at a time, as by a guest with a small buffer; and each that was seen is removed.
        for entry in entries.iter().take(3) {
            cookie = entry.next;
            let name = String::from_utf8(entry.name.clone()).unwrap();
            if name != "." && name != ".." {
                assert_eq!(entry.kind, FileKind::Regular);
                root.unlink(&many, Path::new(&name)).unwrap();
                assert!(seen.insert(name));
            }
        }
        if entries.is_empty() {
            break;
        }
    }
    assert_eq!(seen, names);
    assert_eq!(many.entries(0).unwrap().len(), 2);
}
