//! Reads what a module is, imports and exports, before it costs a compilation; and afterwards says
//! what is wrong with one that the compiler refused.
//!
//! It trusts nothing it reads and keeps only a bounded part of it.

use serde::{Deserialize, Serialize};
use wasmparser::{
    ComponentTypeRef, Encoding, MemoryType, Parser, Payload, TypeRef, Validator, WasmFeatures,
};

use super::error::CompileError;
use super::worlds::{self, Preview};

/// The most names of one list that are kept, and the longest, bytes.
const MAX_NAMES: usize = 256;

/// Which kind of Wasm it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum World {
    /// A core module: preview1.
    Core,
    /// A component: preview2 or preview3.
    Component,
    /// A component that exports `wasi:http/incoming-handler` 0.2 or `wasi:http/handler` 0.3: it is
    /// served.
    Proxy,
}

/// What a module is, in brief.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// Its kind.
    pub world: World,
    /// What it imports: a core module's modules, a component's interfaces. The first 256, in
    /// order, each once.
    pub imports: Vec<String>,
    /// What it exports, by name: the first 256.
    pub exports: Vec<String>,
    /// Whether it takes connections on sockets that it is given: a core module that imports
    /// preview1's `sock_accept`.
    pub accepts: bool,
    /// Whether it imports or exports what is preview3's: it is compiled and run where that is
    /// allowed.
    #[serde(default)]
    pub preview3: bool,
}

impl ModuleInfo {
    fn import(&mut self, name: &str) {
        if !self.imports.iter().any(|seen| seen == name) {
            keep(&mut self.imports, name);
        }
    }
}

fn keep(names: &mut Vec<String>, name: &str) {
    if names.len() < MAX_NAMES && name.len() <= MAX_NAMES {
        names.push(name.to_owned());
    }
}

/// Reads a binary module's outermost sections and checks its imports. What it does not read it does
/// not validate.
pub(crate) fn inspect(wasm: &[u8]) -> Result<ModuleInfo, CompileError> {
    if let Some(offset) = truncated_at(wasm) {
        return Err(CompileError::Truncated {
            offset,
            size: wasm.len() as u64,
        });
    }
    let mut info = ModuleInfo {
        world: World::Core,
        imports: Vec::new(),
        exports: Vec::new(),
        accepts: false,
        preview3: false,
    };
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(invalid)?;
        match &payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            // The end of a nested one; the outermost end is the last payload.
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ if depth == 0 => outermost(&payload, &mut info)?,
            // A component's own modules may not share memory either.
            Payload::MemorySection(_) => outermost(&payload, &mut info)?,
            _ => {}
        }
    }
    Ok(info)
}

fn outermost(payload: &Payload<'_>, info: &mut ModuleInfo) -> Result<(), CompileError> {
    match payload {
        Payload::Version { encoding, .. } => {
            info.world = match encoding {
                Encoding::Module => World::Core,
                Encoding::Component => World::Component,
            };
        }
        Payload::ImportSection(section) => {
            for import in section.clone().into_imports() {
                let import = import.map_err(invalid)?;
                check_import(import.module, import.name, import.ty)?;
                info.import(import.module);
                info.accepts |= (import.module, import.name) == (worlds::PREVIEW1, "sock_accept");
            }
        }
        Payload::MemorySection(section) => {
            for memory in section.clone() {
                refuse_shared(memory.map_err(invalid)?, "its own")?;
            }
        }
        Payload::ExportSection(section) => {
            for export in section.clone() {
                keep(&mut info.exports, export.map_err(invalid)?.name);
            }
        }
        Payload::ComponentImportSection(section) => {
            for import in section.clone() {
                let import = import.map_err(invalid)?;
                // A type is the component's own word for something and nothing to provide.
                if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                    info.preview3 |= worlds::check_interface(import.name.name)? == Preview::Three;
                }
                info.import(import.name.name);
            }
        }
        Payload::ComponentExportSection(section) => {
            for export in section.clone() {
                let name = export.map_err(invalid)?.name.name;
                info.preview3 |= worlds::is_of_preview3(name);
                if worlds::is_handler(name)? {
                    info.world = World::Proxy;
                }
                keep(&mut info.exports, name);
            }
        }
        _ => {}
    }
    Ok(())
}

fn check_import(module: &str, name: &str, ty: TypeRef) -> Result<(), CompileError> {
    let kind = match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => return worlds::check_function(module, name),
        TypeRef::Memory(memory) => {
            refuse_shared(memory, &format!("{module}.{name}"))?;
            "memory"
        }
        TypeRef::Table(_) => "table",
        TypeRef::Global(_) => "global",
        TypeRef::Tag(_) => "tag",
    };
    Err(worlds::refuse_other(module, name, kind))
}

fn refuse_shared(memory: MemoryType, whose: &str) -> Result<(), CompileError> {
    match memory.shared {
        true => Err(CompileError::SharedMemory {
            memory: whose.to_owned(),
        }),
        false => Ok(()),
    }
}

/// Where the section begins that is not whole, if the file was cut. Modules and components are both
/// a header of eight bytes and sections of (id, size as LEB128, that many bytes).
fn truncated_at(wasm: &[u8]) -> Option<u64> {
    const HEADER: usize = 8;
    if wasm.len() < HEADER {
        return Some(0);
    }
    let mut at = HEADER;
    while at < wasm.len() {
        let (size, start) = match section_size(wasm, at.checked_add(1)?) {
            Size::Is(size, start) => (size, start),
            Size::Cut => return Some(at as u64),
            // What isn't a number is invalid, and the parser says so better.
            Size::Wrong => return None,
        };
        let end = start.checked_add(size)?;
        if end > wasm.len() {
            return Some(at as u64);
        }
        at = end;
    }
    None
}

enum Size {
    /// The size, and where the contents start.
    Is(usize, usize),
    Cut,
    Wrong,
}

fn section_size(wasm: &[u8], at: usize) -> Size {
    let mut size = 0_usize;
    for index in 0..5 {
        let Some(byte) = wasm.get(at + index) else {
            return Size::Cut;
        };
        size |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Size::Is(size, at + index + 1);
        }
    }
    Size::Wrong
}

fn invalid(error: wasmparser::Error) -> CompileError {
    CompileError::Invalid {
        message: error.to_string(),
    }
}

/// Says why the compiler refused a module: it breaks the rules, it needs a newer engine, or the
/// compiler has a limit of its own.
pub(crate) fn diagnose(wasm: &[u8], refusal: &wasmtime::Error) -> CompileError {
    if let Err(error) = Validator::new_with_features(WasmFeatures::all()).validate_all(wasm) {
        return invalid(error);
    }
    match refusal.downcast_ref::<wasmparser::Error>() {
        Some(error) => CompileError::Proposal {
            message: error.to_string(),
        },
        None => CompileError::Refused {
            message: format!("{refusal:#}"),
        },
    }
}
