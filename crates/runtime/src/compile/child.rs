//! The compiling process: it limits itself, reads one module, and writes its code.
//!
//! It is the only place that has a compiler. It is given two descriptors and opens nothing.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use super::error::CompileError;
use super::inspect::{self, World};
use super::limits::CompileLimits;
use super::sniff;
use super::wire::{Answer, Compiled, Reply, Request, Task};
use crate::engine::Calls;
use crate::protocol::blocking;

/// The format of the cache: it is part of every key.
const FORMAT: &str = concat!("coracle code 1, ", env!("CARGO_PKG_VERSION"));

/// The whole of the hidden subcommand that compiles. It is started by [`super::Compiler`] alone,
/// with a socket as its standard input, and ends the process.
///
/// It exits with 0 once an answer was sent, be that code or an error, and with 2 if there is nobody
/// to answer to.
#[allow(clippy::disallowed_methods, reason = "the entry point of a process")]
pub fn compile_child() -> ! {
    std::process::exit(match converse() {
        Ok(()) => 0,
        Err(message) => {
            // The parent keeps the last of this for its error.
            eprintln!("{message}");
            2
        }
    })
}

fn converse() -> Result<(), String> {
    // A terminal or a file fails in the first receive.
    let socket = rustix::stdio::stdin();
    let (request, fds): (Request, Vec<OwnedFd>) = blocking::receive(socket)
        .map_err(|error| format!("this subcommand is for the compiler's own use: {error}"))?
        .ok_or("the parent is gone")?;
    die_with(request.parent)?;
    let reply = answer(&request, fds);
    blocking::send(socket, &reply, &[]).map_err(|error| error.to_string())
}

/// Ends this process with its parent, be that one gone already.
fn die_with(parent: i32) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
    match getppid().map(Pid::as_raw_pid) == Some(parent) {
        true => Ok(()),
        false => Err("the parent is gone".to_owned()),
    }
}

fn answer(request: &Request, fds: Vec<OwnedFd>) -> Reply {
    let limits = &request.limits;
    limits
        .impose()
        .map_err(|error| CompileError::system("limit the compiling process", error))?;
    let engine = compiler(Calls::Sequential)?;
    let compiled = match &request.task {
        Task::Identify => None,
        Task::Compile { digest, preview3 } => {
            let [module, code] =
                <[OwnedFd; 2]>::try_from(fds).map_err(|fds| CompileError::System {
                    what: "compile".to_owned(),
                    message: format!("{} descriptors arrived and 2 are needed", fds.len()),
                })?;
            let bytes = read(module, limits.module_bytes)?;
            Some(compile(&engine, limits, digest, *preview3, bytes, code)?)
        }
    };
    Ok(Answer {
        key: key(&engine),
        compiled,
    })
}

fn compiler(calls: Calls) -> Result<Engine, CompileError> {
    crate::engine::compiler(calls).map_err(|error| CompileError::System {
        what: "make the compiler".to_owned(),
        message: format!("{error:#}"),
    })
}

fn compile(
    engine: &Engine,
    limits: &CompileLimits,
    digest: &str,
    preview3: bool,
    bytes: Vec<u8>,
    code: OwnedFd,
) -> Result<Compiled, CompileError> {
    let actual = hex::encode(Sha256::digest(&bytes));
    if actual != digest {
        return Err(CompileError::Digest {
            expected: digest.to_owned(),
            actual,
        });
    }
    let wasm = binary(bytes)?;
    let info = inspect::inspect(&wasm)?;
    let concurrent = match info.preview3 {
        true if !preview3 => return Err(CompileError::Preview3),
        true => Some(compiler(Calls::Concurrent)?),
        false => None,
    };
    let engine = concurrent.as_ref().unwrap_or(engine);
    let artefact = match info.world {
        World::Core => engine.precompile_module(&wasm),
        World::Component | World::Proxy => engine.precompile_component(&wasm),
    }
    .map_err(|refusal| refused(&wasm, &refusal, limits))?;
    File::from(code)
        .write_all(&artefact)
        .map_err(|error| CompileError::system("write the code", error))?;
    Ok(Compiled {
        size: artefact.len() as u64,
        sha256: hex::encode(Sha256::digest(&artefact)),
        info,
    })
}

/// The module's bytes, from the file's start.
fn read(module: OwnedFd, max: u64) -> Result<Vec<u8>, CompileError> {
    let file = File::from(module);
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::OutOfMemory => CompileError::system("hold the module", error),
        _ => CompileError::Source {
            message: error.to_string(),
        },
    };
    let size = file.metadata().map_err(unreadable)?.len();
    if size > max {
        return Err(CompileError::TooLarge { size, max });
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // One byte more than it may have tells a file that grows.
    file.take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    match bytes.len() as u64 {
        size if size > max => Err(CompileError::TooLarge { size, max }),
        _ => Ok(bytes),
    }
}

/// The binary form of a module in whichever form.
fn binary(bytes: Vec<u8>) -> Result<Vec<u8>, CompileError> {
    if bytes.is_empty() {
        return Err(CompileError::Empty);
    }
    if bytes.starts_with(sniff::MAGIC) {
        return Ok(bytes);
    }
    if !sniff::is_text_module(&bytes) {
        return Err(CompileError::NotWasm {
            looks_like: sniff::looks_like(&bytes),
        });
    }
    wat::parse_bytes(&bytes)
        .map(|wasm| wasm.into_owned())
        .map_err(|error| CompileError::Text {
            message: one_line(&error.to_string()),
        })
}

/// A message that shows its place in the source, told in one line: `expected ')' (line 2, column 1)`.
fn one_line(shown: &str) -> String {
    let message = shown.lines().next().unwrap_or_default().trim();
    let place = shown
        .lines()
        .find_map(|line| line.trim().strip_prefix("--> "));
    let mut place = place.unwrap_or_default().rsplitn(3, ':');
    match (place.next(), place.next()) {
        (Some(column), Some(line)) => format!("{message} (line {line}, column {column})"),
        _ => message.to_owned(),
    }
}

/// The compiler's refusal, or its want of memory in disguise.
fn refused(wasm: &[u8], refusal: &wasmtime::Error, limits: &CompileLimits) -> CompileError {
    let no_memory = refusal.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::OutOfMemory)
            || cause.downcast_ref::<rustix::io::Errno>() == Some(&rustix::io::Errno::NOMEM)
    });
    match no_memory {
        true => CompileError::MemoryLimit {
            bytes: limits.memory_bytes,
        },
        false => inspect::diagnose(wasm, refusal),
    }
}

/// The compatibility key: what the engine says decides whether code fits it, and this format.
fn key(engine: &Engine) -> String {
    let mut hasher = Sha256Hasher(Sha256::new_with_prefix(FORMAT));
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hex::encode(hasher.0.finalize())
}

/// Feeds what a value hashes into SHA-256: the standard hasher's 64 bits are too few to name code
/// by, and differ from one release of Rust to the next.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}
