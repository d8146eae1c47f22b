//! What comes out of good bytes, and the error of each kind of bad ones.

use super::*;

async fn refusal(bytes: impl Into<Bytes>) -> CompileError {
    let cache = scratch();
    let error = compile(cache.path(), bytes).await.unwrap_err();
    // Nothing is left of a module that was refused.
    let left = std::fs::read_dir(cache.path()).unwrap();
    let names: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["keys"], "{error}");
    error
}

async fn wat_refusal(wat: &str) -> CompileError {
    refusal(wat.to_owned()).await
}

#[tokio::test]
async fn text_and_binary_are_compiled_to_code_the_engine_takes() {
    let cache = scratch();
    for bytes in [HELLO.as_bytes().to_vec(), wat::parse_str(HELLO).unwrap()] {
        let code = compile(cache.path(), bytes).await.unwrap();
        assert!(!code.cached);
        assert_eq!(code.info.world, World::Core);
        assert_eq!(code.info.imports, ["wasi_snapshot_preview1"]);
        assert_eq!(code.info.exports, ["memory", "_start"]);
        let engine = crate::engine::guests(crate::engine::Calls::Sequential).unwrap();
        // SAFETY: the compiler wrote this file a moment ago.
        let module = unsafe { wasmtime::Module::deserialize_open_file(&engine, code.file.into()) };
        assert_eq!(module.unwrap().exports().count(), 2);
    }
}

#[tokio::test]
async fn a_component_is_told_from_a_module() {
    let cache = scratch();
    let wat = r#"(component
        (import "wasi:cli/exit@0.2.6" (instance (export "exit" (func (param "status" (result))))))
        (core module $m (func (export "run"))))"#;
    let code = compile(cache.path(), wat).await.unwrap();
    assert_eq!(code.info.world, World::Component);
    assert_eq!(code.info.imports, ["wasi:cli/exit@0.2.6"]);
}

#[tokio::test]
async fn nothing_is_empty() {
    assert_eq!(refusal(Bytes::new()).await, CompileError::Empty);
}

#[tokio::test]
async fn what_is_not_wasm_is_named() {
    let tar = {
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        tar
    };
    let wasmtime = {
        let engine = wasmtime::Engine::default();
        engine.precompile_module(b"(module)").unwrap()
    };
    let cases: &[(&[u8], &str)] = &[
        (b"\x7fELF\x02\x01\x01\0rest", "a Linux executable"),
        (&wasmtime, "code that Wasmtime compiled"),
        (b"\x1f\x8b\x08\0\0\0", "a gzip file"),
        (b"<!DOCTYPE html><html></html>", "an HTML page"),
        (b"  <HTML>", "an HTML page"),
        (b"{\"schemaVersion\": 2}", "a JSON document"),
        (b"#!/bin/sh\n", "a script"),
        (b"print('hello')\n", "text"),
        (b"\0as", "the first 3 bytes of one"),
        (&tar, "a tar archive"),
        (&[0xde, 0xad, 0xbe, 0xef], "begins with deadbeef"),
        (&[0; 64], "zeros"),
    ];
    for (bytes, expected) in cases {
        let error = refusal(bytes.to_vec()).await;
        assert!(matches!(error, CompileError::NotWasm { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}: {expected}");
        assert!(!error.retryable());
    }
}

#[tokio::test]
async fn a_cut_module_says_where_it_ends() {
    let whole = wat::parse_str(HELLO).unwrap();
    // In the header, after a section's id, inside the second section, and in the last.
    for length in [4, 8 + 1, 20, whole.len() - 1] {
        let error = refusal(whole[..length].to_vec()).await;
        let CompileError::Truncated { size, offset } = error else {
            panic!("{length}: {error}");
        };
        assert_eq!(size, length as u64);
        assert!(offset < size);
    }
}

#[tokio::test]
async fn an_invalid_module_says_what_and_where() {
    let typed = wat_refusal("(module (func (result i32)))").await;
    assert!(matches!(typed, CompileError::Invalid { .. }), "{typed}");
    assert!(typed.to_string().contains("at offset 0x"), "{typed}");

    let mut version = wat::parse_str(HELLO).unwrap();
    version[4] = 9;
    let version = refusal(version).await;
    assert!(version.to_string().contains("version"), "{version}");

    let text = wat_refusal("(module (func (i33.const 1)))").await;
    assert!(matches!(text, CompileError::Text { .. }), "{text}");
    assert!(text.to_string().contains("(line 1, column "), "{text}");
    assert_eq!(text.to_string().lines().count(), 1, "{text}");
}

#[tokio::test]
async fn threads_are_refused_by_name() {
    for (wat, whose) in [
        ("(module (memory 1 2 shared))", "its own"),
        (
            r#"(module (import "env" "memory" (memory 1 2 shared)))"#,
            "env.memory",
        ),
    ] {
        let memory = whose.to_owned();
        assert_eq!(
            wat_refusal(wat).await,
            CompileError::SharedMemory { memory }
        );
    }
}

#[tokio::test]
async fn what_is_valid_but_not_offered_is_a_proposal() {
    // Memory control is in no engine of today.
    let wat = "(module (memory 1 1 (pagesize 1)))";
    let error = wat_refusal(wat).await;
    assert!(matches!(error, CompileError::Proposal { .. }), "{error}");
}

#[tokio::test]
async fn an_import_that_no_world_has_is_named() {
    let cases = [
        (
            r#"(module (import "env" "emscripten_sleep" (func)))"#,
            "env.emscripten_sleep",
        ),
        (
            r#"(module (import "wasi_unstable" "fd_write" (func)))"#,
            "older WASI",
        ),
        (
            r#"(module (import "wasi_snapshot_preview1" "fd_wirte" (func)))"#,
            "wasi_snapshot_preview1.fd_wirte, which is not a function",
        ),
        (
            r#"(module (import "wasi_snapshot_preview1" "sock_open" (func)))"#,
            "WasmEdge's socket extension",
        ),
        (
            r#"(module (import "js" "memory" (memory 1)))"#,
            "js.memory, which is a memory",
        ),
        (
            r#"(component (import "wasi:http/types@0.3.0-rc-2025-09-16" (instance)))"#,
            "is of a draft of preview3",
        ),
        (
            r#"(component (import "wasi:cli/stdin@0.4.0" (instance)))"#,
            "is of version 0.4.0",
        ),
        (
            r#"(component (import "wasi:nn/tensor@0.2.0" (instance)))"#,
            "wasi:nn/tensor@0.2.0",
        ),
        (
            r#"(component (import "my:own/thing" (instance)))"#,
            "compose the component",
        ),
    ];
    for (wat, expected) in cases {
        let error = wat_refusal(wat).await;
        assert!(matches!(error, CompileError::Import { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}: {expected}");
        assert_eq!(error.reason(), "CreateContainerError");
        assert!(!error.retryable());
    }
}

#[tokio::test]
async fn a_component_that_handles_requests_is_a_proxy() {
    let exporting = |name: &str| {
        let wat = format!(r#"(component (instance $i) (export "{name}" (instance $i)))"#);
        wat::parse_str(wat).unwrap()
    };
    for (name, world) in [
        ("wasi:http/incoming-handler@0.2.0", World::Proxy),
        ("wasi:http/incoming-handler@0.2.12", World::Proxy),
        ("wasi:cli/run@0.2.0", World::Component),
        ("wasi:http/handler@0.3.1", World::Proxy),
        ("wasi:cli/run@0.3.0", World::Component),
    ] {
        let info = inspect::inspect(&exporting(name)).unwrap();
        assert_eq!(info.world, world, "{name}");
        assert_eq!(info.preview3, name.contains("@0.3"), "{name}");
    }
    for (name, expected) in [
        ("wasi:http/handler@0.2.0", "of 0.3 alone"),
        ("wasi:http/incoming-handler@0.3.0", "of 0.3 alone"),
        ("wasi:http/handler@0.3.0-rc-2026-03-15", "of 0.3 alone"),
        (
            "wasi:http/incoming-handler@0.2.0-rc-2023-11-10",
            "of 0.2 or",
        ),
    ] {
        let error = inspect::inspect(&exporting(name)).unwrap_err();
        assert!(matches!(error, CompileError::Export { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_component_of_preview3_is_compiled_where_that_is_allowed_and_had_nowhere_else() {
    let cache = scratch();
    let compiler = compiler(cache.path());
    let refused = source(r#"(component (import "wasi:cli/stdin@0.3.0" (instance)))"#);
    let mut allowed = refused.clone();
    allowed.preview3 = true;
    for round in ["before", "after"] {
        let error = compiler.code(&refused, |_| ()).await.unwrap_err();
        assert_eq!(error, CompileError::Preview3, "{round} it was compiled");
        assert!(error.to_string().contains("--wasi p3"), "{error}");
        assert!(!error.retryable());
        let code = compiler.code(&allowed, |_| ()).await.unwrap();
        assert!(code.info.preview3);
        assert_eq!(code.cached, round == "after");
    }
}

#[tokio::test]
async fn a_module_that_is_another_than_its_digest_is_refused() {
    let mut module = source(HELLO);
    module.digest[0] ^= 1;
    let cache = scratch();
    let error = compiler(cache.path())
        .code(&module, |_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, CompileError::Digest { .. }), "{error}");
}

#[tokio::test]
async fn a_module_that_cannot_be_read_is_told_so() {
    let cache = scratch();
    for path in [cache.path().join("absent"), cache.path().to_owned()] {
        let module = ModuleSource {
            digest: [0; 32],
            content: ModuleContent::Path(path),
            preview3: false,
        };
        let error = compiler(cache.path())
            .code(&module, |_| ())
            .await
            .unwrap_err();
        assert!(matches!(error, CompileError::Source { .. }), "{error}");
        assert!(error.retryable());
    }
}

#[tokio::test]
async fn a_file_is_compiled_whatever_its_offset() {
    let cache = scratch();
    let path = cache.path().join("tmp-module.wat");
    std::fs::write(&path, HELLO).unwrap();
    let mut file = File::open(&path).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
    let digest = source(HELLO).digest;
    for content in [
        ModuleContent::File(Arc::new(file.into())),
        ModuleContent::Path(path.clone()),
    ] {
        let module = ModuleSource {
            digest,
            content,
            preview3: false,
        };
        let compiler = compiler(cache.path());
        assert!(!compiler.code(&module, |_| ()).await.unwrap().cached);
        compiler.discard(&digest).await.unwrap();
    }
}

#[tokio::test]
async fn one_too_large_is_not_read() {
    let cache = scratch();
    let limits = CompileLimits {
        module_bytes: 16,
        ..CompileLimits::default()
    };
    let compiler = compiler_with(cache.path(), limits);
    let error = compiler.code(&source(HELLO), |_| ()).await.unwrap_err();
    let size = HELLO.len() as u64;
    assert_eq!(error, CompileError::TooLarge { size, max: 16 });
}

proptest::proptest! {
    /// No bytes make the inspection panic or run on.
    #[test]
    fn inspection_survives_anything(cut in 0_usize..200, flip in 0_usize..200, to: u8) {
        let mut wasm = wat::parse_str(HELLO).unwrap();
        let length = wasm.len();
        wasm[flip % length] = to;
        wasm.truncate(length - cut % length);
        let _ = inspect::inspect(&wasm);
        let _ = sniff::is_text_module(&wasm);
        if !wasm.is_empty() {
            assert!(!sniff::looks_like(&wasm).is_empty());
        }
    }
}
