//! Real children compile here: this test binary, run again as [`entry`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod bytes;
mod children;
mod folder;

use std::ffi::OsString;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::*;

/// What a child of these tests runs, and nothing that the suite runs by itself.
#[test]
#[ignore = "the children of the other tests run it"]
fn entry() {
    if std::env::args().any(|arg| arg == "--exact") {
        compile_child();
    }
}

/// The arguments that make this binary a compiling child.
pub(crate) fn child_args() -> Vec<OsString> {
    let args = [
        "compile::tests::entry",
        "--exact",
        "--ignored",
        "--nocapture",
    ];
    args.into_iter().map(OsString::from).collect()
}

fn compiler_with(cache: &Path, limits: CompileLimits) -> Compiler {
    let exe = std::env::current_exe().unwrap();
    Compiler::new(cache, &exe, &child_args(), limits).unwrap()
}

fn compiler(cache: &Path) -> Compiler {
    compiler_with(cache, CompileLimits::default())
}

fn source(bytes: impl Into<Bytes>) -> ModuleSource {
    let bytes = bytes.into();
    ModuleSource {
        digest: Sha256::digest(&bytes).into(),
        content: ModuleContent::Bytes(bytes),
        preview3: false,
    }
}

async fn compile(cache: &Path, bytes: impl Into<Bytes>) -> Result<Code, CompileError> {
    compiler(cache).code(&source(bytes), |_| ()).await
}

fn scratch() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

const HELLO: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") i32.const 7 call $exit))"#;

/// A module of `functions` functions with `length` additions each: as slow as it is told to be.
fn heavy(functions: usize, length: usize) -> Vec<u8> {
    fn leb(mut value: usize, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }
    fn section(id: u8, body: &[u8], out: &mut Vec<u8>) {
        out.push(id);
        leb(body.len(), out);
        out.extend_from_slice(body);
    }
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    // One type, (i32, i32) -> i32.
    section(1, &[1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f], &mut wasm);
    let mut declared = Vec::new();
    leb(functions, &mut declared);
    declared.resize(declared.len() + functions, 0);
    section(3, &declared, &mut wasm);
    // local.get 0, local.get 1, i32.mul, local.tee 0, br_if 0 out of a block: a join each.
    let step = [0x20, 0, 0x20, 1, 0x6c, 0x22, 0, 0x20, 0, 0x0d, 0, 0x1a];
    let mut body = vec![0];
    for _ in 0..length {
        body.extend_from_slice(&[0x02, 0x7f]);
        body.extend_from_slice(&step);
        body.extend_from_slice(&[0x20, 1, 0x0b, 0x21, 0]);
    }
    body.extend_from_slice(&[0x20, 0, 0x0b]);
    let mut code = Vec::new();
    leb(functions, &mut code);
    for _ in 0..functions {
        leb(body.len(), &mut code);
        code.extend_from_slice(&body);
    }
    section(10, &code, &mut wasm);
    wasm
}
