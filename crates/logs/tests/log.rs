//! What was written, however and whatever happened meanwhile, is what is read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods // tests make and look at folders by path
)]

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use logs::{Next, Options, Policy, ReadError, Reader, Stream, Writer};
use proptest::prelude::*;

const ALL: Policy = Policy {
    max_size: 10 << 20,
    max_files: 1000,
};

fn dir(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn writer(path: &Path, policy: Policy) -> Writer {
    Writer::open(dir(path), "0", policy).unwrap()
}

fn read(path: &Path, options: Options) -> Vec<u8> {
    let mut reader = Reader::open(dir(path), "0", options).unwrap();
    let mut out = Vec::new();
    while let Some(_stream) = reader.next(&mut out).unwrap() {}
    out
}

fn stream(path: &Path, stream: Stream) -> Vec<u8> {
    read(
        path,
        Options {
            stream: Some(stream),
            ..Options::default()
        },
    )
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = path
        .read_dir()
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The last `n` lines, a last one without a newline among them.
fn last(bytes: &[u8], n: usize) -> Vec<u8> {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    lines[lines.len().saturating_sub(n)..].concat()
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(b' '), any::<u8>()], 0..200),
        1 => (0usize..40_000, any::<bool>()).prop_map(|(n, end)| {
            let mut line = vec![b'x'; n];
            line.extend(end.then_some(b'\n'));
            line
        }),
    ]
}

fn writes() -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
    proptest::collection::vec((any::<bool>(), bytes()), 0..30)
}

fn which(err: bool) -> Stream {
    if err { Stream::Stderr } else { Stream::Stdout }
}

fn expected(writes: &[(bool, Vec<u8>)], err: bool) -> Vec<u8> {
    writes
        .iter()
        .filter(|(e, _)| *e == err)
        .flat_map(|(_, bytes)| bytes.clone())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn reads_what_was_written(writes in writes(), max_size in prop_oneof![1 => 20u64..60, 9 => 500u64..5000], compress in 1usize..5, tail in 0usize..40) {
        let tmp = tempfile::tempdir().unwrap();
        let mut log = writer(tmp.path(), Policy { max_size, ..ALL });
        for (index, (err, bytes)) in writes.iter().enumerate() {
            log.write(which(*err), bytes).unwrap();
            if index % compress == 0 && let Some(job) = log.compression() {
                job.run().unwrap();
            }
            if index % 7 == 6 {
                log = writer(tmp.path(), Policy { max_size, ..ALL });
            }
        }
        for err in [false, true] {
            prop_assert_eq!(&stream(tmp.path(), which(err)), &expected(&writes, err));
        }
        let all = read(tmp.path(), Options::default());
        prop_assert_eq!(all.len(), writes.iter().map(|w| w.1.len()).sum::<usize>());
        for n in [tail, 0, 1] {
            let options = Options { tail: Some(n as u64), ..Options::default() };
            prop_assert_eq!(&read(tmp.path(), options), &last(&all, n));
            let options = Options { tail: Some(n as u64), stream: Some(Stream::Stderr), ..Options::default() };
            prop_assert_eq!(&read(tmp.path(), options), &last(&expected(&writes, true), n));
        }
        let options = Options { limit_bytes: Some(tail as u64 * 9), ..Options::default() };
        prop_assert_eq!(&read(tmp.path(), options), &all[..all.len().min(tail * 9)]);
    }

    #[test]
    fn a_crash_loses_only_the_torn_record(writes in writes(), cut in any::<prop::sample::Index>()) {
        let tmp = tempfile::tempdir().unwrap();
        let mut log = writer(tmp.path(), ALL);
        for (err, bytes) in &writes {
            log.write(which(*err), bytes).unwrap();
        }
        drop(log);
        let path = tmp.path().join("0.log");
        let whole = std::fs::read(&path).unwrap();
        let cut = cut.index(whole.len() + 1);
        let end = whole[..cut].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        // What the whole records hold is read, and of the torn one at most its own beginning.
        std::fs::write(&path, &whole[..end]).unwrap();
        let kept = [stream(tmp.path(), Stream::Stdout), stream(tmp.path(), Stream::Stderr)];
        std::fs::write(&path, &whole[..cut]).unwrap();
        for (err, kept) in [(false, &kept[0]), (true, &kept[1])] {
            let now = stream(tmp.path(), which(err));
            prop_assert!(now.starts_with(kept) && expected(&writes, err).starts_with(&now));
        }
        let torn = stream(tmp.path(), Stream::Stdout);
        writer(tmp.path(), ALL).write(Stream::Stdout, b"next\n").unwrap();
        let now = stream(tmp.path(), Stream::Stdout);
        prop_assert!(now.starts_with(&torn) && now.ends_with(b"next\n") && now.len() <= torn.len() + 6);
    }

    #[test]
    fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..4000), tail in 0u64..9) {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::write(tmp.path().join("0.log"), &bytes).unwrap();
        std::fs::write(tmp.path().join("0.log.20200101-000000.gz"), &bytes).unwrap();
        read(tmp.path(), Options { tail: Some(tail), ..Options::default() });
        read(tmp.path(), Options { timestamps: true, ..Options::default() });
    }
}

#[test]
fn rotates_under_the_kubelets_names_and_keeps_so_many() {
    let tmp = tempfile::tempdir().unwrap();
    let mut log = writer(
        tmp.path(),
        Policy {
            max_size: 100,
            max_files: 3,
        },
    );
    for n in 0..10 {
        log.write(Stream::Stdout, format!("{n:050}\n").as_bytes())
            .unwrap();
    }
    let job = log.compression().unwrap();
    assert!(log.compression().is_none());
    job.run().unwrap();
    let names = names(tmp.path());
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(names[0], "0.log");
    assert!(
        names[1].ends_with(".gz") && !names[2].ends_with(".gz"),
        "{names:?}"
    );
    assert_eq!(names[2].len(), "0.log.20060102-150405".len());
    assert_eq!(
        read(tmp.path(), Options::default()),
        format!("{:050}\n{:050}\n{:050}\n", 7, 8, 9).as_bytes()
    );
}

#[test]
fn a_crash_while_rotating_loses_and_breaks_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let line = |n| format!("2020-01-01T00:00:0{n}.000000000Z stdout F {n}\n");
    let gz = |n| {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(line(n).as_bytes()).unwrap();
        gz.finish().unwrap()
    };
    let put = |name: &str, bytes: &[u8]| std::fs::write(tmp.path().join(name), bytes).unwrap();
    // Killed between making the compressed file and removing the plain one, and while compressing,
    put("0.log.20200101-000001", line(1).as_bytes());
    put("0.log.20200101-000001.gz", &gz(1));
    put("0.log.20200101-000002", line(2).as_bytes());
    put("0.log.20200101-000002.tmp", &gz(2)[..9]);
    // and between the renaming of the current file and the making of its successor.
    put("0.log.20200101-000003", line(3).as_bytes());
    put("0.log.of-someone", b"else");
    put("00.log", b"another");
    assert_eq!(read(tmp.path(), Options::default()), b"1\n2\n3\n");
    let mut log = writer(tmp.path(), Policy::default());
    log.write(Stream::Stdout, b"4\n").unwrap();
    log.compression().unwrap().run().unwrap();
    assert_eq!(read(tmp.path(), Options::default()), b"1\n2\n3\n4\n");
    let now = names(tmp.path());
    assert_eq!(
        now,
        [
            "0.log",
            "0.log.20200101-000001.gz",
            "0.log.20200101-000002.gz",
            "0.log.20200101-000003",
            "0.log.of-someone",
            "00.log"
        ]
    );
    logs::remove(dir(tmp.path()), "0").unwrap();
    assert_eq!(names(tmp.path()), ["0.log.of-someone", "00.log"]);
}

#[test]
fn shows_records_as_the_kubelet_does() {
    let tmp = tempfile::tempdir().unwrap();
    let log = "2016-10-06T00:17:09.1Z stdout P one \nnonsense\n2016-10-06T00:17:10.2Z stdout F line\n\
               2016-10-06T02:17:11+02:00 stderr F:tag two\n";
    std::fs::write(tmp.path().join("0.log"), log).unwrap();
    assert_eq!(read(tmp.path(), Options::default()), b"one line\ntwo\n");
    let times = read(
        tmp.path(),
        Options {
            timestamps: true,
            ..Options::default()
        },
    );
    assert_eq!(
        times,
        b"2016-10-06T00:17:09.100000000Z one line\n2016-10-06T00:17:11.000000000Z two\n"
    );
    let since = Some("2016-10-06T00:17:11Z".parse().unwrap());
    assert_eq!(
        read(
            tmp.path(),
            Options {
                since,
                ..Options::default()
            }
        ),
        b"two\n"
    );
    let mut reader = Reader::open(dir(tmp.path()), "0", Options::default()).unwrap();
    while reader.next(&mut Vec::new()).unwrap().is_some() {}
    assert_eq!(reader.notes().lines, 1);
}

#[test]
fn refuses_what_is_no_log() {
    let tmp = tempfile::tempdir().unwrap();
    let open = |stem| Reader::open(dir(tmp.path()), stem, Options::default());
    assert!(matches!(open("0"), Err(ReadError::NotFound(_))));
    for stem in ["", ".", "..", "a/b", ".hidden"] {
        assert!(matches!(open(stem), Err(ReadError::Io { .. })), "{stem}");
        assert!(Writer::open(dir(tmp.path()), stem, ALL).is_err(), "{stem}");
    }
    assert!(Writer::open(dir(tmp.path()), "0", Policy { max_size: 0, ..ALL }).is_err());
    assert!(
        Writer::open(
            dir(tmp.path()),
            "0",
            Policy {
                max_files: 1,
                ..ALL
            }
        )
        .is_err()
    );
    std::os::unix::fs::symlink("/etc/passwd", tmp.path().join("0.log")).unwrap();
    assert!(open("0").is_err() && Writer::open(dir(tmp.path()), "0", ALL).is_err());
}

#[test]
fn a_damaged_compressed_file_hides_only_itself() {
    let tmp = tempfile::tempdir().unwrap();
    writer(tmp.path(), ALL)
        .write(Stream::Stdout, b"here\n")
        .unwrap();
    std::fs::write(
        tmp.path().join("0.log.20200101-000000.gz"),
        b"\x1f\x8b\x08nonsense",
    )
    .unwrap();
    let mut reader = Reader::open(dir(tmp.path()), "0", Options::default()).unwrap();
    let mut out = Vec::new();
    while reader.next(&mut out).unwrap().is_some() {}
    assert_eq!(
        (out.as_slice(), reader.notes().files),
        (b"here\n".as_slice(), 1)
    );
}

#[test]
fn follows_a_flood_across_rotations() {
    let tmp = tempfile::tempdir().unwrap();
    let mut log = writer(
        tmp.path(),
        Policy {
            max_size: 2000,
            max_files: 1000,
        },
    );
    log.write(Stream::Stdout, b"0\n").unwrap();
    let options = Options {
        follow: true,
        ..Options::default()
    };
    let mut reader = Reader::open(dir(tmp.path()), "0", options).unwrap();
    let ender = reader.ender();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..5000 {
                log.write(Stream::Stdout, format!("{n}").as_bytes())
                    .unwrap();
                log.write(Stream::Stdout, b"\n").unwrap();
                if let Some(job) = log.compression() {
                    scope.spawn(|| job.run().unwrap());
                }
            }
            ender.end();
        });
        let mut out = Vec::new();
        while reader.next(&mut out).unwrap().is_some() {}
        let all: String = (0..5000).map(|n| format!("{n}\n")).collect();
        assert!(String::from_utf8(out).unwrap() == all);
    });
}

#[test]
fn a_follower_that_lags_repeats_nothing_and_goes_on() {
    let tmp = tempfile::tempdir().unwrap();
    let mut log = writer(
        tmp.path(),
        Policy {
            max_size: 500,
            max_files: 3,
        },
    );
    let options = Options {
        follow: true,
        ..Options::default()
    };
    let mut reader = Reader::open(dir(tmp.path()), "0", options).unwrap();
    let mut out = Vec::new();
    for n in 0..200 {
        log.write(Stream::Stdout, format!("{n}\n").as_bytes())
            .unwrap();
        if let Some(job) = log.compression() {
            job.run().unwrap();
        }
        if n % 37 == 0 {
            while let Next::Record(_) = reader.read(&mut out).unwrap() {}
        }
    }
    reader.ender().end();
    while reader.next(&mut out).unwrap().is_some() {}
    let seen: Vec<u32> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|l| l.parse().unwrap())
        .collect();
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert_eq!((seen[0], *seen.last().unwrap()), (0, 199));
    // Of what was still there when it looked, nothing is missing.
    assert!((180..200).all(|n| seen.contains(&n)));
}

#[test]
fn a_cancelled_follower_returns() {
    let tmp = tempfile::tempdir().unwrap();
    writer(tmp.path(), ALL)
        .write(Stream::Stdout, b"x\n")
        .unwrap();
    let options = Options {
        follow: true,
        tail: Some(0),
        ..Options::default()
    };
    let mut reader = Reader::open(dir(tmp.path()), "0", options).unwrap();
    assert_eq!(reader.read(&mut Vec::new()).unwrap(), Next::Wait);
    let ender = reader.ender();
    let thread = std::thread::spawn(move || reader.next(&mut Vec::new()).unwrap());
    ender.cancel();
    assert_eq!(thread.join().unwrap(), None);
}

/// A file system of so many bytes, reachable by its descriptor alone.
fn small_disk(bytes: &str) -> rustix::io::Result<OwnedFd> {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
        fsopen,
    };
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "size", bytes)?;
    fsconfig_create(&fs)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

#[test]
fn a_full_disk_makes_the_guest_wait_and_drops_nothing() {
    let disk = match small_disk("65536") {
        Err(rustix::io::Errno::PERM) => {
            return eprintln!("not run: mounting a small disk needs CAP_SYS_ADMIN");
        }
        other => other.unwrap(),
    };
    let mut log = Writer::open(disk.try_clone().unwrap(), "0", ALL).unwrap();
    let ballast = rustix::fs::openat(
        &disk,
        "ballast",
        rustix::fs::OFlags::CREATE | rustix::fs::OFlags::RDWR,
        rustix::fs::Mode::RUSR,
    );
    let mut ballast = File::from(ballast.unwrap());
    ballast.write_all(&vec![0; 30_000]).unwrap();
    let text: Vec<u8> = (0..9000)
        .flat_map(|n| format!("{n}{}", if n % 3 == 0 { "\n" } else { " " }).into_bytes())
        .collect();
    let text = &text[..20_000];
    let error = log.write(Stream::Stdout, text).unwrap_err();
    assert!(error.is_full() && error.written > 0, "{error:?}");
    let again = log
        .write(Stream::Stdout, &text[error.written..])
        .unwrap_err();
    assert!(again.is_full());
    let written = error.written + again.written;
    let read = || {
        let mut reader = Reader::open(disk.try_clone().unwrap(), "0", Options::default()).unwrap();
        let mut out = Vec::new();
        while reader.next(&mut out).unwrap().is_some() {}
        assert_eq!(reader.notes().lines, 0);
        out
    };
    assert_eq!(read(), &text[..written]);
    ballast.set_len(0).unwrap();
    let left = log
        .write(Stream::Stdout, &text[written..])
        .map_or_else(|error| error.written, |()| text.len() - written);
    assert!(left > 0);
    assert_eq!(read(), &text[..written + left]);
}
