#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;
use proptest::prelude::*;

fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

#[test]
fn long_names_and_contents() {
    let long = "d/".repeat(120) + "file";
    let bytes = archive(|b| {
        b.append_data(&mut header(EntryType::Regular, 5), &long, &b"hello"[..])
            .unwrap();
        b.append_pax_extensions([
            ("path", &b"renamed"[..]),
            ("mtime", b"12.75"),
            ("size", b"3"),
        ])
        .unwrap();
        b.append_data(&mut header(EntryType::Regular, 3), "x", &b"abc"[..])
            .unwrap();
    });
    let mut entries = Entries::new(&bytes[..]);
    let first = entries.next().unwrap().unwrap();
    assert_eq!(first.path, long.as_bytes());
    let at = usize::try_from(first.offset).unwrap();
    assert_eq!(&bytes[at..at + 5], b"hello");
    let second = entries.next().unwrap().unwrap();
    assert_eq!(
        (&second.path[..], second.mtime, second.size),
        (&b"renamed"[..], 12, 3)
    );
    let mut data = String::new();
    entries.data().read_to_string(&mut data).unwrap();
    assert_eq!(data, "abc");
    assert!(entries.next().unwrap().is_none());
}

#[test]
fn hostile_lengths_are_refused_before_memory_is_taken() {
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
    ] {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(header(kind, 1 << 40).as_bytes());
        let error = Entries::new(&bytes[..]).next().unwrap_err().to_string();
        assert!(error.contains("at most"), "{error}");
    }
    let mut huge = header(EntryType::Regular, 0);
    huge.set_size(u64::MAX);
    huge.set_cksum();
    assert!(Entries::new(&huge.as_bytes()[..]).next().is_err());
}

#[test]
fn truncation_and_damage_are_named() {
    let bytes = archive(|b| {
        b.append_data(&mut header(EntryType::Regular, 2000), "f", &[7; 2000][..])
            .unwrap()
    });
    let mut short = Entries::new(&bytes[..1000]);
    short.next().unwrap().unwrap();
    assert!(short.next().unwrap_err().to_string().contains("too early"));
    assert!(
        Entries::new(&bytes[..100])
            .next()
            .unwrap_err()
            .to_string()
            .contains("within a header")
    );
    let mut damaged = bytes.clone();
    damaged[3] ^= 1;
    assert!(
        Entries::new(&damaged[..])
            .next()
            .unwrap_err()
            .to_string()
            .contains("checksum")
    );
    assert!(Entries::new(&b"<html>".repeat(200)[..]).next().is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_hang(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let mut entries = Entries::new(&bytes[..]);
        while let Ok(Some(_)) = entries.next() {}
        let _ = pax_records(&bytes);
    }
}
