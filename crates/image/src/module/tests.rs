#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn what_is_no_module_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let file = dir.path().join("x.wasm");
    for (bytes, word) in [
        (&b""[..], "empty"),
        (b"\0asm\x01", "cut off"),
        (b"\x7fELF....", "ELF"),
        (b"#!/bin/sh\n", "script"),
        (b"hello", "0x68656c6c"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let error = store.import_module(&file).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("x.wasm"), "{error}");
    }
    assert!(
        store
            .import_module(dir.path())
            .unwrap_err()
            .to_string()
            .contains("regular file")
    );
    assert!(store.import_module(&dir.path().join("none")).is_err());
}

#[test]
fn a_file_is_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    for (name, bytes) in [
        ("a.wasm", b"\0asm\x01\0\0\0".to_vec()),
        ("b.wat", b"  (module)".to_vec()),
    ] {
        let file = dir.path().join(name);
        std::fs::write(&file, &bytes).unwrap();
        let module = store.import_module(&file).unwrap();
        assert_eq!(
            (module.digest, module.size),
            (Digest::of(&bytes), bytes.len() as u64)
        );
    }
}

#[test]
fn a_large_file_is_remembered_until_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let file = dir.path().join("a.wasm");
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    bytes.resize(usize::try_from(REMEMBER_FROM).unwrap(), 7);
    std::fs::write(&file, &bytes).unwrap();
    // Changed just now: not to be trusted by its times.
    assert_eq!(
        store.import_module(&file).unwrap().digest,
        Digest::of(&bytes)
    );
    assert_eq!(std::fs::read_dir(store.path("modules")).unwrap().count(), 0);
    bytes.push(1);
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(
        store.import_module(&file).unwrap().digest,
        Digest::of(&bytes)
    );
}

#[test]
fn words_are_looked_for_as_documented() {
    let shown = |file, cwd, path| -> Vec<String> {
        candidates(file, cwd, path)
            .iter()
            .map(|c| c.display().to_string())
            .collect()
    };
    assert_eq!(shown("/a.wasm", "/w", "/bin"), ["/a.wasm", "/a.wasm.wasm"]);
    assert_eq!(shown("./a", "w", "/bin"), ["/w/./a", "/w/./a.wasm"]);
    assert_eq!(
        shown("a", "", "/bin:rel:/b"),
        [
            "/bin/a",
            "/bin/a.wasm",
            "/b/a",
            "/b/a.wasm",
            "/a",
            "/a.wasm"
        ]
    );
}
