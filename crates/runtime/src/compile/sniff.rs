//! What bytes are that are not Wasm, in the words of whoever put them there by mistake.

/// The magic number of Wasm, core module or component.
pub(crate) const MAGIC: &[u8] = b"\0asm";

/// Beginnings that tell what a file is, the longer ones first where one begins another.
const MAGICS: &[(&[u8], &str)] = &[
    (
        b"\x1f\x8b",
        "a gzip file (a layer or an archive that was not unpacked?)",
    ),
    (
        b"\x28\xb5\x2f\xfd",
        "a zstd file (a layer or an archive that was not unpacked?)",
    ),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\0", "an xz file"),
    (b"PK\x03\x04", "a zip file (or a Java archive)"),
    (b"MZ", "a Windows executable"),
    (b"\xcf\xfa\xed\xfe", "a macOS executable"),
    (b"\xca\xfe\xba\xbe", "a macOS executable or a Java class"),
    (b"BC\xc0\xde", "LLVM bitcode"),
    (b"!<arch>\n", "a static library"),
    (b"#!", "a script"),
    (b"%PDF", "a PDF document"),
    (
        b"version https://git-lfs",
        "a Git LFS pointer: the file itself was not fetched",
    ),
];

/// Whether the bytes may be Wasm's text format: the first thing in them is a parenthesis.
pub(crate) fn is_text_module(bytes: &[u8]) -> bool {
    let mut left = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    loop {
        left = left.trim_ascii_start();
        match left {
            [b';', b';', rest @ ..] => {
                let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
                left = rest.get(end..).unwrap_or_default();
            }
            [b'(', b';', ..] => return true,
            [b'(', rest @ ..] => {
                return rest
                    .trim_ascii_start()
                    .first()
                    .is_some_and(|b| b.is_ascii_lowercase() || *b == b';');
            }
            _ => return false,
        }
    }
}

/// What the bytes look like. They are neither empty nor Wasm.
pub(crate) fn looks_like(bytes: &[u8]) -> String {
    if bytes.len() < MAGIC.len() && MAGIC.starts_with(bytes) {
        return format!("the first {} bytes of one", bytes.len());
    }
    if bytes.starts_with(b"\x7fELF") {
        return elf(bytes).to_owned();
    }
    if let Some((_, what)) = MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return (*what).to_owned();
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return "a tar archive".to_owned();
    }
    match std::str::from_utf8(bytes.get(..bytes.len().min(512)).unwrap_or_default()) {
        Ok(text) => text_kind(text).to_owned(),
        Err(error) if error.error_len().is_none() => "text".to_owned(),
        Err(_) => binary(bytes),
    }
}

/// An ELF file: Wasmtime's precompiled code is one too, with an OS ABI of its own.
fn elf(bytes: &[u8]) -> &'static str {
    const WASMTIME_ABI: u8 = 200;
    match bytes.get(7) {
        Some(&WASMTIME_ABI) => {
            "code that Wasmtime compiled ahead of time: give the module it was made from"
        }
        _ => "a Linux executable (ELF): build the program for wasm32-wasip1 or wasm32-wasip2",
    }
}

fn text_kind(text: &str) -> &'static str {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let lower: String = start.chars().take(16).collect::<String>().to_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return "an HTML page (an error page that was downloaded in its place?)";
    }
    if lower.starts_with("<?xml") || lower.starts_with('<') {
        return "an XML document";
    }
    if lower.starts_with('{') || lower.starts_with('[') {
        return "a JSON document";
    }
    if text.contains('\0') {
        return "data that is mostly zeros";
    }
    "text"
}

fn binary(bytes: &[u8]) -> String {
    let start = bytes.get(..bytes.len().min(4)).unwrap_or_default();
    format!("binary data that begins with {}", hex::encode(start))
}
