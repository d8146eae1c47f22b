//! Reads a module or component that goes into an image: whether it is one, whole, and what it asks for and offers.
//!
//! Whether it can run is the compiler's to say; here only its outline is read.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use wasmparser::{Encoding, Parser, Payload};

use crate::error::{Error, IoContext};
use crate::module::sniff;

/// The largest module that is read: beyond it nothing compiles either, and it is held in memory.
const MODULE_MAX: u64 = 1 << 30;

/// A module's or component's bytes, and its outline.
#[derive(Debug)]
pub(crate) struct Binary {
    pub(crate) bytes: Vec<u8>,
    /// What a component imports and exports; `None` for a core module.
    pub(crate) component: Option<Interfaces>,
}

/// The names of a component's imports and exports, in its order, such as `wasi:cli/run@0.2.0`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Interfaces {
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

/// Reads the module at `path`; a text module is assembled.
///
/// # Errors
/// `NotWasm` with what is wrong and where; `TooLarge`; `Io` where it can't be read.
pub(crate) fn read(path: &Path) -> Result<Binary, Error> {
    let not_wasm = |reason: String| Error::NotWasm {
        path: path.to_owned(),
        reason,
    };
    let file = File::open(path).at("open", path)?;
    if !file.metadata().at("read", path)?.is_file() {
        return Err(not_wasm("is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MODULE_MAX + 1)
        .read_to_end(&mut bytes)
        .at("read", path)?;
    if bytes.len() as u64 > MODULE_MAX {
        return Err(Error::TooLarge {
            what: path.display().to_string(),
            limit: MODULE_MAX,
            unit: "bytes",
        });
    }
    sniff(&bytes).map_err(not_wasm)?;
    if !bytes.starts_with(b"\0asm") {
        bytes = wat::parse_bytes(&bytes)
            .map_err(|e| not_wasm(format!("is no text module: {e}")))?
            .into_owned();
    }
    let component = outline(&bytes).map_err(|e| not_wasm(format!("is damaged or cut off: {e}")))?;
    Ok(Binary { bytes, component })
}

/// Walks over all sections; those of nested modules and components are passed with their owner's.
fn outline(bytes: &[u8]) -> wasmparser::Result<Option<Interfaces>> {
    let mut found = None;
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version {
                encoding: Encoding::Component,
                ..
            } if depth == 0 => found = Some(Interfaces::default()),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let name = import?.name.name.to_owned();
                    found.get_or_insert_default().imports.push(name);
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let name = export?.name.name.to_owned();
                    found.get_or_insert_default().exports.push(name);
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reads(text: &str) -> Option<Interfaces> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.wat");
        std::fs::write(&file, text).unwrap();
        let binary = read(&file).unwrap();
        assert!(binary.bytes.starts_with(b"\0asm"));
        binary.component
    }

    #[test]
    fn a_component_says_what_it_asks_for_and_offers() {
        let component = r#"(component
            (import "wasi:io/error@0.2.0" (instance))
            (component $inner (import "hidden" (func)) (export "hidden-too" (func 0)))
            (core module (import "a" "b" (func)) (export "c" (func 0)))
            (component $run)
            (instance $i (instantiate $run))
            (export "wasi:cli/run@0.2.0" (instance $i)))"#;
        assert_eq!(
            reads(component),
            Some(Interfaces {
                imports: vec!["wasi:io/error@0.2.0".to_owned()],
                exports: vec!["wasi:cli/run@0.2.0".to_owned()],
            })
        );
        assert_eq!(reads("(module (func (export \"_start\")))"), None);
        assert_eq!(reads("(component)"), Some(Interfaces::default()));
    }

    #[test]
    fn what_is_no_whole_module_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.wasm");
        let whole =
            wat::parse_str("(module (memory 1) (data (i32.const 0) \"0123456789\"))").unwrap();
        for (bytes, word) in [
            (whole.get(..whole.len() - 3).unwrap(), "cut off"),
            (&b"\x7fELF1234"[..], "ELF"),
            (b"", "empty"),
            (b"(module (func", "text module"),
            (b"\0asm\x09\x09\x09\x09", "damaged"),
        ] {
            std::fs::write(&file, bytes).unwrap();
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("x.wasm"), "{error}");
        }
        assert!(
            read(dir.path())
                .unwrap_err()
                .to_string()
                .contains("regular")
        );
        assert!(read(&dir.path().join("none")).is_err());
    }
}
